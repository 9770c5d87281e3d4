"""Do several things at the same moment, each with a database connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection, connections

from tests.waiting import eventually

T = TypeVar("T")


def at_once(*work: Callable[[], T]) -> list[T]:
    """Return what each returned, in order; the first error that one of them raised is raised here."""
    barrier = threading.Barrier(len(work))

    def one(call: Callable[[], T]) -> T:
        try:
            barrier.wait()
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(work)) as pool:
        return [future.result() for future in [pool.submit(one, call) for call in work]]


def until_somebody_waits() -> None:
    """Return when some connection waits for a lock that another one has."""

    def waits() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
            return bool(cursor.fetchone()[0])

    eventually(waits, "somebody waits for a lock")
