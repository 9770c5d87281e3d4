from __future__ import annotations

import signal
from typing import Any

from django.core.management.base import BaseCommand

from dataplane.flow_service import FlowService


class Command(BaseCommand):
    requires_system_checks = ()  # they would import every URL; tests do them
    help = "Serve the data plane's flows: run them, send requested refreshes to Prefect, watch over both."

    def handle(self, *args: Any, **options: Any) -> None:
        service = FlowService()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, service.stop)
        service.run()
