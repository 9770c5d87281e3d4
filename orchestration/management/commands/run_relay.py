from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from orchestration.processes import run_until_stopped


class Command(BaseCommand):
    requires_system_checks = ()  # they would import every URL; tests do them
    help = "Run the relay, which delivers runs and decisions to Temporal."

    def handle(self, *args: Any, **options: Any) -> None:
        from orchestration.relay.loop import Relay

        run_until_stopped(Relay().run)
