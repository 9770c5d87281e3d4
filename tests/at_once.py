"""Do several things at the same moment, each with a database connection of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection, connections

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
    for _ in range(500):
        with connection.cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
            if cursor.fetchone()[0]:
                return
        time.sleep(0.01)
    raise AssertionError("Nobody waits for a lock.")
