from __future__ import annotations

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class ConsoleConfig(AppConfig):
    name = "console"

    def ready(self) -> None:
        from console.acting import tell_database

        connection_created.connect(tell_database, dispatch_uid="console.acting")
