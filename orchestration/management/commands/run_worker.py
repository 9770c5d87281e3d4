from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from orchestration.processes import run_until_stopped


class Command(BaseCommand):
    help = "Run the agent worker: a Temporal worker with our workflows and activities."

    def handle(self, *args: Any, **options: Any) -> None:
        from orchestration import worker

        run_until_stopped(worker.run)
