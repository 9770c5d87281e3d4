from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import OperationalError, ProgrammingError
from django.db.migrations.exceptions import MigrationSchemaMissing
from psycopg.errors import InsufficientPrivilege

from console import app_role, postgres_refusal, prepared
from console.database import conninfo


class Command(migrate.Command):
    help = "Bring the tables up to date, as their owner, and give the app's role its rights on them."

    def handle(self, *args: Any, **options: Any) -> None:
        with app_role.as_owner() as role:
            if reason := postgres_refusal.refusal(conninfo("signalbox migrate")):
                raise CommandError(f"PostgreSQL at {_place()} cannot be used: {reason}")
            try:
                app_role.make_extension()
                prepared.forget()
                with _without_collections():
                    super().handle(*args, **options)
            except app_role.NoExtension as exc:
                raise CommandError(str(exc)) from exc
            except ProgrammingError as exc:
                if isinstance(exc.__cause__, InsufficientPrivilege):
                    raise CommandError(app_role.what_is_missing(str(exc))) from exc
                raise
            except MigrationSchemaMissing as exc:  # Django's word for a first table that may not be made
                raise CommandError(app_role.what_is_missing(str(exc))) from exc
            except OperationalError as exc:
                reason = postgres_refusal.in_words(str(exc))
                raise CommandError(f"PostgreSQL at {_place()} went away: {reason}") from exc
            if role:
                app_role.grant(role, "public")
                app_role.let_make_tables(role)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Collect no garbage: Django makes thousands of classes anew, and looking through them is a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _place() -> str:
    return f"{settings.DATABASES['default']['HOST']}:{settings.DATABASES['default']['PORT']}"
