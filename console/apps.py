from __future__ import annotations

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class ConsoleConfig(AppConfig):
    name = "console"

    def ready(self) -> None:
        from allauth.account.signals import authentication_step_completed

        from console.acting import tell_database
        from console.proofs import note_time

        connection_created.connect(tell_database, dispatch_uid="console.acting")
        authentication_step_completed.connect(note_time, dispatch_uid="console.proofs")
