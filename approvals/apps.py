from __future__ import annotations

from django.apps import AppConfig


class ApprovalsConfig(AppConfig):
    name = "approvals"

    def ready(self) -> None:
        from approvals import port
        from console import ports

        ports.record.plug_in(port)
        ports.requests.plug_in(port)
        ports.palette.plug_in("approvals", port)
