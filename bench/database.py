"""A PostgreSQL of a benchmark's own, in an empty folder, with the product's tables and Django at it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command

from console.environment import environment
from stack.postgres import Postgres


@contextmanager
def empty_database(*commands: str) -> Iterator[None]:
    """Start it, make the tables, run the commands, and take it away again at the end."""
    with tempfile.TemporaryDirectory(prefix="signalbox-bench-") as folder:
        server = Postgres(Path(folder))
        server.prepare()
        server.start()
        try:
            os.environ |= {
                "SIGNALBOX_HOME": folder,
                "DATABASE_URL": server.url(),
                "DJANGO_SETTINGS_MODULE": "console.settings",
            }
            environment.cache_clear()  # an engine that was started before has asked for it
            django.setup()
            for command in ("migrate", *commands):
                call_command(command, verbosity=0)
            from django.db import connections

            from console import health

            health._noticed = (float("inf"), [])  # the absent parts are not what is measured
            try:
                yield
            finally:
                connections.close_all()
        finally:
            server.stop()


@dataclass
class Counted:
    """How many statements were sent."""

    statements: int = 0


@contextmanager
def counted() -> Iterator[Counted]:
    """Count the statements that this thread sends meanwhile, without keeping their words: that would be measured."""
    from django.db import connection

    asked = Counted()

    def count(execute: Callable[..., Any], *given: Any) -> Any:
        asked.statements += 1
        return execute(*given)

    with connection.execute_wrapper(count):
        yield asked
