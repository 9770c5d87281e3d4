from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from console import prepared


class Command(BaseCommand):
    help = "Bring all tables up to date, ours and LangGraph's, and note with which code; `up` does it when needed."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate and make LangGraph's tables. Safe to repeat; cut off, it begins anew."""
        call_command("migrate", interactive=False)
        call_command("setup_checkpoints")
        prepared.note()
