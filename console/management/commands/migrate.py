from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import ProgrammingError
from psycopg.errors import InsufficientPrivilege

from console import app_role


class Command(migrate.Command):
    help = "Bring the tables up to date, as their owner, and give the app's role its rights on them."

    def handle(self, *args: Any, **options: Any) -> None:
        with app_role.as_owner() as role:
            try:
                super().handle(*args, **options)
            except ProgrammingError as exc:
                if isinstance(exc.__cause__, InsufficientPrivilege):
                    raise CommandError(
                        f"This database role may not change tables ({exc}). Set SIGNALBOX_OWNER_DATABASE_URL "
                        "to the address of the role that owns them."
                    ) from exc
                raise
            if role:
                app_role.grant(role, "public")
