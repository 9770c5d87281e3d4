from __future__ import annotations

import logging
from typing import Any

from django.core.management.base import BaseCommand

from orchestration.processes import run_until_stopped

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    requires_system_checks = ()  # they would import every URL; tests do them
    help = "Run the agent worker: a Temporal worker with our workflows and activities."

    def handle(self, *args: Any, **options: Any) -> None:
        from orchestration import worker
        from orchestration.agents.registry import faults

        for fault in faults():
            logger.warning("SIGNALBOX_AGENTS: %s cannot be used. %s %s", fault.entry, fault.reason, fault.advice)
        run_until_stopped(worker.run)
