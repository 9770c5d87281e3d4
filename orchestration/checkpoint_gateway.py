"""The only door to LangGraph's checkpoints: its tables in the schema `agent`, and one writer per thread.

Facts this relies on (langgraph-checkpoint-postgres 3.2.0): the saver needs autocommit; `setup()` is not safe to run
twice at once; a saver object serialises its work, so each turn has its own; the tables have generic names.

Writing and holding the lock happen on the same connection. So an attempt that lost its lock, because a newer one
ended its connection, cannot write another checkpoint either.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection
from psycopg import AsyncConnection, OperationalError
from psycopg import Error as DatabaseError
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from console.database import conninfo
from console.locks import AdvisoryLock
from orchestration.errors import NoSuchCheckpoint

SCHEMA = "agent"
_POLL = 0.05  # seconds between tries for a lock that is being given up


_CONNECTION: dict[str, Any] = {
    "autocommit": True,
    "prepare_threshold": 0,
    "row_factory": dict_row,
    "options": f"-c search_path={SCHEMA}",
}


async def setup() -> None:
    """Make the schema and LangGraph's own tables, once, under a lock; safe to repeat."""
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    lock = await AsyncConnection.connect(conninfo("signalbox checkpoints"), autocommit=True)
    async with lock:
        await lock.execute("SELECT pg_advisory_lock(%s)", [AdvisoryLock.CHECKPOINT_TABLES])
        await lock.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        async with await AsyncConnection[DictRow].connect(conninfo("signalbox checkpoints"), **_CONNECTION) as writer:
            await AsyncPostgresSaver(writer).setup()


class Checkpoints:
    """The worker's side: a pool, and the right to be the one who runs a thread."""

    def __init__(self, *, size: int = 24) -> None:
        if os.environ.get("LANGGRAPH_STRICT_MSGPACK") != "true":
            raise RuntimeError("LANGGRAPH_STRICT_MSGPACK must be true before LangGraph is imported.")
        self._pool = AsyncConnectionPool[AsyncConnection[DictRow]](
            conninfo("signalbox checkpoints"),
            min_size=2,
            max_size=size,
            kwargs=_CONNECTION,
            check=AsyncConnectionPool.check_connection,
            timeout=10,
            reconnect_timeout=2,  # see DATABASES: no backoff that outlasts the outage
            max_idle=60,
            max_lifetime=900,
            open=False,
        )

    async def open(self) -> None:
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def thread(self, thread_id: str) -> AsyncIterator[Any]:
        """Hold the thread and yield a saver for it. Call it with the run's newest fence in hand.

        Temporal starts an attempt only after the one before has ended or is given up. So a lock that is still
        held belongs to a frozen or dying attempt: after a moment its connection is ended.
        """
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

        async with self._pool.connection() as held:
            await _take_lock(held, thread_id)
            try:
                yield AsyncPostgresSaver(held)
            finally:
                await _give_back(held)


async def _give_back(held: AsyncConnection[DictRow]) -> None:
    """Give up the thread; never raise, for why the graph stopped is what is to be told.

    LangGraph does not wait for the writes of nodes that it cancels, as it does when one beside them fails. The
    connection then is in the middle of a command, and is closed: that gives up the lock as well.
    """
    if held.closed:
        return
    try:
        await held.execute("SELECT pg_advisory_unlock_all()")
    except DatabaseError:
        await held.close()


async def _take_lock(held: AsyncConnection[DictRow], thread_id: str) -> None:
    for attempt in range(100):
        row = await (
            await held.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 7)) AS got", [thread_id])
        ).fetchone()
        if row and row["got"]:
            return
        if attempt >= 5:
            await held.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks, hashtextextended(%s, 7) AS key"
                " WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid <> pg_backend_pid()"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                " AND classid::bigint = (key >> 32) & 4294967295 AND objid::bigint = key & 4294967295",
                [thread_id],
            )
        await asyncio.sleep(_POLL)
    raise OperationalError(f"the thread {thread_id} is still held by another attempt")


@dataclass(frozen=True)
class CheckpointLine:
    """One checkpoint as a list shows it; read by SQL, without its values."""

    checkpoint_id: str
    parent_checkpoint_id: str | None
    step: int
    source: str  # input, loop, update or fork
    node: str  # what ran to make it; several are joined by ", "
    next: list[str]
    at: datetime  # aware, UTC
    interrupted: bool


# COLLATE: in a language's own order "~", which stands for the newest, comes before every id.
_LIST = """
SELECT c.checkpoint_id, c.parent_checkpoint_id, (c.metadata->>'step')::int, c.metadata->>'source',
       c.checkpoint->'updated_channels', (c.checkpoint->>'ts')::timestamptz,
       EXISTS (SELECT 1 FROM agent.checkpoint_writes w
               WHERE (w.thread_id, w.checkpoint_ns, w.checkpoint_id) = (c.thread_id, c.checkpoint_ns, c.checkpoint_id)
                 AND w.channel = '__interrupt__')
FROM agent.checkpoints c
WHERE c.thread_id = %s AND c.checkpoint_ns = '' AND c.checkpoint_id COLLATE "C" < %s
ORDER BY c.checkpoint_id DESC LIMIT %s
"""
_BRANCH = "branch:to:"


def checkpoints_of(thread_id: str, *, before: str = "~", limit: int = 50) -> list[CheckpointLine]:
    """Return checkpoints, newest first, those older than the id `before`. One query, no values."""
    with connection.cursor() as cursor:
        cursor.execute(_LIST, [thread_id, before, limit + 1])
        rows = cursor.fetchall()
    following = {row[0]: _nodes_after(_loaded(row[4])) for row in rows}
    return [
        CheckpointLine(
            checkpoint_id=row[0],
            parent_checkpoint_id=row[1],
            step=row[2],
            source=row[3],
            node=", ".join(following.get(row[1], [])) or ("input" if row[3] == "input" else "start"),
            next=following[row[0]],
            at=row[5],
            interrupted=row[6],
        )
        for row in rows[:limit]
    ]


def missing(named: Sequence[tuple[str, str]]) -> set[str]:
    """Return the threads of which the named checkpoint is not there. `named`: thread and checkpoint. One query."""
    if not named:
        return set()
    threads, checkpoints = zip(*named, strict=True)
    with connection.cursor() as cursor:
        cursor.execute(_MISSING, [list(threads), list(checkpoints)])
        return {row[0] for row in cursor.fetchall()}


_MISSING = """
SELECT n.thread_id FROM unnest(%s::text[], %s::text[]) AS n (thread_id, checkpoint_id)
WHERE NOT EXISTS (SELECT FROM agent.checkpoints c
                  WHERE (c.thread_id, c.checkpoint_ns, c.checkpoint_id) = (n.thread_id, '', n.checkpoint_id))
"""


_LINE = """
WITH RECURSIVE line AS (
    SELECT checkpoint_id, parent_checkpoint_id FROM agent.checkpoints
    WHERE thread_id = %(thread)s AND checkpoint_ns = '' AND checkpoint_id = %(last)s
    UNION
    SELECT c.checkpoint_id, c.parent_checkpoint_id FROM agent.checkpoints c
    JOIN line ON c.thread_id = %(thread)s AND c.checkpoint_ns = '' AND c.checkpoint_id = line.parent_checkpoint_id
)
SELECT checkpoint_id FROM line ORDER BY checkpoint_id COLLATE "C"
"""


def line_to(thread_id: str, checkpoint_id: str) -> list[str]:
    """Return the ids of a checkpoint and of all that it comes from, oldest first; none when it is not there."""
    with connection.cursor() as cursor:
        cursor.execute(_LINE, {"thread": thread_id, "last": checkpoint_id})
        return [row[0] for row in cursor.fetchall()]


def newest_of(thread_id: str) -> str:
    """Return the id of the thread's newest checkpoint, "" when there is none."""
    lines = checkpoints_of(thread_id, limit=1)
    return lines[0].checkpoint_id if lines else ""


def first_of(thread_id: str) -> str:
    """Return the id of the thread's oldest checkpoint, "" when there is none."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT checkpoint_id FROM agent.checkpoints WHERE thread_id = %s AND checkpoint_ns = ''"
            ' ORDER BY checkpoint_id COLLATE "C" LIMIT 1',
            [thread_id],
        )
        row = cursor.fetchone()
    return str(row[0]) if row else ""


def made_at(thread_id: str, checkpoint_id: str) -> datetime:
    """Return when a checkpoint was made, by its worker's clock (aware, UTC). Raises NoSuchCheckpoint."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (checkpoint->>'ts')::timestamptz FROM agent.checkpoints"
            " WHERE thread_id = %s AND checkpoint_ns = '' AND checkpoint_id = %s",
            [thread_id, checkpoint_id],
        )
        row = cursor.fetchone()
    if row is None:
        raise NoSuchCheckpoint(NoSuchCheckpoint.__doc__)
    moment: datetime = row[0]
    return moment


def copy_to(thread_id: str, checkpoint_id: str, to: str) -> None:
    """Let another thread begin with a copy of one checkpoint, without what its tasks had written.

    Part of a caller's transaction. Raises NoSuchCheckpoint.
    """
    versions = _kept(thread_id, checkpoint_id).checkpoint["channel_versions"]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO agent.checkpoints (thread_id, checkpoint_ns, checkpoint_id, type, checkpoint, metadata)"
            " SELECT %s, checkpoint_ns, checkpoint_id, type, checkpoint, metadata FROM agent.checkpoints"
            " WHERE thread_id = %s AND checkpoint_ns = '' AND checkpoint_id = %s",
            [to, thread_id, checkpoint_id],
        )
        cursor.execute(
            "INSERT INTO agent.checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)"
            " SELECT %s, checkpoint_ns, channel, version, type, blob FROM agent.checkpoint_blobs b"
            " JOIN jsonb_each_text(%s::jsonb) v ON (b.channel, b.version) = (v.key, v.value)"
            " WHERE thread_id = %s AND checkpoint_ns = ''",
            [to, json.dumps(versions), thread_id],
        )


def checkpoint_of(thread_id: str, checkpoint_id: str) -> dict[str, Any]:
    """Return one checkpoint: {"values", "next", "tasks", "metadata"}, messages as plain JSON.

    Imports LangGraph's serialiser on first use (0.5 s). Raises NoSuchCheckpoint.
    """
    from langchain_core.messages import BaseMessage
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    serde = JsonPlusSerializer()

    def plain(value: Any) -> Any:
        if isinstance(value, BaseMessage):
            return value.model_dump(mode="json", exclude_none=True)
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set):
            return [plain(item) for item in value]
        return value if isinstance(value, str | int | float | bool | None) else str(value)

    kept = _kept(thread_id, checkpoint_id)
    values = {name: plain(value) for name, value in kept.checkpoint.get("channel_values", {}).items()}
    values |= {
        name: plain(serde.loads_typed((kind, bytes(blob)))) for name, kind, blob in kept.blobs if blob is not None
    }
    tasks: dict[str, dict[str, Any]] = {}
    for task_id, channel, kind, blob in kept.writes:
        written = plain(serde.loads_typed((kind, bytes(blob)))) if blob is not None else None
        tasks.setdefault(task_id, {"id": task_id, "writes": {}})["writes"][channel] = written
    shown = {name: value for name, value in values.items() if not name.startswith((_BRANCH, "__"))}
    following = _nodes_after(kept.checkpoint.get("updated_channels"))
    return {"values": shown, "next": following, "tasks": list(tasks.values()), "metadata": kept.metadata}


@dataclass(frozen=True)
class _Kept:
    """One checkpoint as LangGraph keeps it; a blob is in its serialiser's form, of the type beside it."""

    checkpoint: dict[str, Any]
    metadata: dict[str, Any]
    blobs: list[tuple[Any, ...]]  # channel, type, blob
    writes: list[tuple[Any, ...]]  # task's id, channel, type, blob; in the order they were made


def _kept(thread_id: str, checkpoint_id: str) -> _Kept:
    """Read one checkpoint. Three queries. Raises NoSuchCheckpoint."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT checkpoint, metadata FROM agent.checkpoints"
            " WHERE thread_id = %s AND checkpoint_ns = '' AND checkpoint_id = %s",
            [thread_id, checkpoint_id],
        )
        found = cursor.fetchone()
        if found is None:
            raise NoSuchCheckpoint(NoSuchCheckpoint.__doc__)
        checkpoint, metadata = (_loaded(column) for column in found)
        cursor.execute(
            "SELECT channel, type, blob FROM agent.checkpoint_blobs b"
            " JOIN jsonb_each_text(%s::jsonb) v ON (b.channel, b.version) = (v.key, v.value)"
            " WHERE thread_id = %s AND checkpoint_ns = '' AND type <> 'empty'",
            [json.dumps(checkpoint["channel_versions"]), thread_id],
        )
        blobs = cursor.fetchall()
        cursor.execute(
            "SELECT task_id, channel, type, blob FROM agent.checkpoint_writes"
            " WHERE thread_id = %s AND checkpoint_ns = '' AND checkpoint_id = %s ORDER BY task_id, idx",
            [thread_id, checkpoint_id],
        )
        return _Kept(checkpoint, metadata, blobs, cursor.fetchall())


def _nodes_after(channels: list[str] | None) -> list[str]:
    """Return the nodes that the updated channels lead to."""
    return [channel.removeprefix(_BRANCH) for channel in channels or [] if channel.startswith(_BRANCH)]


def _loaded(column: Any) -> Any:  # whatever JSON the column holds
    """Return the value of a jsonb column, which Django hands over as text from raw queries."""
    return json.loads(column) if isinstance(column, str) else column
