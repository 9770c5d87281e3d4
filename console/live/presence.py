"""Who has which thing open, shared by all web processes through PostgreSQL.

Facts this file relies on:
- A row belongs to a socket, and through the process's listening connection (`console.live.listener`) to a process.
  When the process dies, however it dies, PostgreSQL ends that connection at once and forgets its row in
  pg_stat_activity; whoever asks then finds nobody. So no row needs to be renewed, and none outlives its process.
- Coming and leaving announce `presence:<id>`. A killed process announces nothing: its rows are swept, and the leaving
  told, by the processes that have somebody on a page, every SWEEP_SECONDS, and by each process that starts.
- The table is unlogged: after a crash of PostgreSQL it is empty, and the sockets that come back fill it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from channels.db import database_sync_to_async
from django.db import DatabaseError, connection, transaction

from console.live.announce import announce

logger = logging.getLogger(__name__)

KIND: Final = "approval:"  # topics that somebody can be seen at
SWEEP_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Backend:
    """A process's listening connection as PostgreSQL knows it; process ids are used again, so the start counts."""

    pid: int
    started_at: datetime


@dataclass(frozen=True)
class Looker:
    """Somebody who has the thing open."""

    user_id: int
    username: str
    name: str  # in full, or the user name


def look(socket: str, user_id: int, topics: Iterable[str], backend: Backend) -> None:
    """Note that the socket's page shows the topics; a repetition, also by a new backend, is no second looker."""
    rows = [(topic, socket, user_id, backend.pid, backend.started_at) for topic in topics]
    if not rows:
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(_LOOK, rows)
        announce(*(_told(topic) for topic, *_ in rows))


def leave(socket: str, topics: Iterable[str] | None = None) -> None:
    """Note that the socket's page shows the topics no longer, without topics: none at all."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_LEAVE, [socket, None if topics is None else list(topics)])
        _tell_gone(row[0] for row in cursor.fetchall())


def lookers_at(topic: str) -> list[Looker]:
    """Return who has the topic open now, each person's account once, by name. One query."""
    with connection.cursor() as cursor:
        cursor.execute(_LOOKERS, [topic])
        return [Looker(pk, username, f"{first} {last}".strip() or username) for pk, username, first, last in cursor]


def sweep() -> int:
    """Remove what dead processes have left behind and tell their pages' readers; return how many rows."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_SWEEP)
        gone = [row[0] for row in cursor.fetchall()]
        _tell_gone(gone)
    return len(gone)


class Sweeper:
    """Sweeps for one process, at once when somebody comes and then for as long as somebody is there."""

    def __init__(self) -> None:
        self._sockets: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def came(self, socket: str) -> None:
        self._sockets.add(socket)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._sweep(), name="presence-sweeper")

    def left(self, socket: str) -> None:
        self._sockets.discard(socket)
        if not self._sockets and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _sweep(self) -> None:
        while self._sockets:
            with contextlib.suppress(DatabaseError):  # Postgres is away: the next round finds the same rows
                await database_sync_to_async(sweep)()
            await asyncio.sleep(SWEEP_SECONDS)


def _tell_gone(topics: Iterable[str]) -> None:
    told = sorted({_told(topic) for topic in topics})
    if told:
        announce(*told)


def _told(topic: str) -> str:
    return f"presence:{topic.removeprefix(KIND)}"


_LOOK = """
INSERT INTO console_presence (topic, socket, user_id, backend_pid, backend_started_at) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (socket, topic) DO UPDATE
SET backend_pid = EXCLUDED.backend_pid, backend_started_at = EXCLUDED.backend_started_at
"""
_LEAVE = "DELETE FROM console_presence WHERE socket = %s AND topic = ANY(coalesce(%s, ARRAY[topic])) RETURNING topic"
_LIVES = """
EXISTS (SELECT FROM pg_stat_activity AS process
        WHERE process.pid = presence.backend_pid AND process.backend_start = presence.backend_started_at)
"""
_LOOKERS = f"""
SELECT DISTINCT person.id, person.username, person.first_name, person.last_name
FROM console_presence AS presence JOIN auth_user AS person ON person.id = presence.user_id
WHERE presence.topic = %s AND person.is_active AND {_LIVES}
ORDER BY person.username
"""
_SWEEP = f"DELETE FROM console_presence AS presence WHERE NOT {_LIVES} RETURNING topic"
