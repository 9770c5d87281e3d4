from __future__ import annotations

from django.apps import AppConfig


class DataplaneConfig(AppConfig):
    name = "dataplane"

    def ready(self) -> None:
        from console import ports
        from dataplane import health, port

        ports.data_plane.plug_in(port)
        ports.health_checks.plug_in("prefect", health.prefect)
        ports.contracts.plug_in("dataplane", port)
