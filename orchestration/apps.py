from __future__ import annotations

from django.apps import AppConfig


class OrchestrationConfig(AppConfig):
    name = "orchestration"

    def ready(self) -> None:
        from console import ports
        from orchestration import health, port

        ports.agent_plane.plug_in(port)
        ports.run_histories.plug_in(port)
        ports.dataset_readers.plug_in(port)
        ports.runs.plug_in(port)
        ports.palette.plug_in("orchestration", port)
        ports.health_checks.plug_in("temporal", health.temporal)
        ports.contracts.plug_in("orchestration", port)
