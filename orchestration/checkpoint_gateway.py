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
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from django.db import connection
from psycopg import AsyncConnection, OperationalError
from psycopg import Error as DatabaseError
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from console.database import conninfo
from console.locks import AdvisoryLock
from orchestration.errors import NoSuchCheckpoint
from orchestration.state.values import plain, read_value

SCHEMA = "agent"
_POLL = 0.05  # seconds between tries for a lock that is being given up
_Pool: TypeAlias = AsyncConnectionPool[AsyncConnection[DictRow]]


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
        self._pool: _Pool = AsyncConnectionPool(
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
    async def reaching_for(self, thread_id: str) -> AsyncIterator[ThreadReach]:
        """Begin to reach for the thread, and yield the way to hold it, which it is until the block ends.

        The newest fence need not be in hand yet, so that a thread which nobody holds can be read while it is taken.
        """
        reach = ThreadReach(self._pool, thread_id)
        try:
            yield reach
        finally:
            await reach.end()


class ThreadReach:
    """One turn's hand on a thread. `early` is for what only reads, `held` for all else."""

    def __init__(self, pool: _Pool, thread_id: str) -> None:
        self._pool, self._thread_id = pool, thread_id
        self._saver: Any = None  # of the thread, once it is held
        self._reaching = asyncio.create_task(self._reach())

    async def early(self) -> Any:
        """Return a saver of the thread, `None` where somebody else holds it: that one may be just before its end."""
        await asyncio.shield(self._reaching)
        return self._saver

    async def held(self) -> Any:
        """Hold the thread, and return a saver for it. Call it with the run's newest fence in hand.

        Temporal starts an attempt only after the one before has ended or is given up. So a lock that is still
        held belongs to a frozen or dying attempt: after a moment its connection is ended.
        """
        connection = await self._reaching
        if self._saver is None:
            await _take_lock(connection, self._thread_id)
            self._saver = _saver(connection)
        return self._saver

    async def end(self) -> None:
        """Give the thread and the connection back, or stop reaching for them."""
        if not self._reaching.done():
            self._reaching.cancel()
        await asyncio.wait([self._reaching])
        if self._reaching.cancelled() or self._reaching.exception() is not None:
            return
        await self._put_back(self._reaching.result())

    async def _reach(self) -> AsyncConnection[DictRow]:
        connection = await self._pool.getconn()
        try:
            if await _try_lock(connection, self._thread_id):
                self._saver = _saver(connection)
        except BaseException:
            await self._put_back(connection)  # who stops reaching may have got the lock just then
            raise
        return connection

    async def _put_back(self, connection: AsyncConnection[DictRow]) -> None:
        try:
            await _give_back(connection)
        finally:
            await self._pool.putconn(connection)  # which looks whether it can be used again


def _saver(connection: AsyncConnection[DictRow]) -> Any:
    from orchestration.turns.reading_once import ReadingOnce

    return ReadingOnce(connection)


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


async def _try_lock(held: AsyncConnection[DictRow], thread_id: str) -> bool:
    asked = await held.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 7)) AS got", [thread_id])
    row = await asked.fetchone()
    return bool(row and row["got"])


async def _take_lock(held: AsyncConnection[DictRow], thread_id: str) -> None:
    for attempt in range(100):
        if await _try_lock(held, thread_id):
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
    changed: tuple[str, ...] = ()  # keys of the state that the step wrote
    failed: bool = False  # a task that began here raised
    began_at: datetime | None = None  # when the checkpoint before it was written; `None` for the first
    namespace: str = ""  # of a graph inside the graph: "node:task id", one after the other with "|"

    @property
    def took(self) -> timedelta | None:
        return self.at - self.began_at if self.began_at is not None and self.at >= self.began_at else None


# COLLATE: in a language's own order "~", which stands for the newest, comes before every id.
_LIST = """
SELECT c.checkpoint_id, c.parent_checkpoint_id, (c.metadata->>'step')::int, c.metadata->>'source',
       c.checkpoint->'updated_channels', (c.checkpoint->>'ts')::timestamptz,
       EXISTS (SELECT 1 FROM agent.checkpoint_writes w
               WHERE (w.thread_id, w.checkpoint_ns, w.checkpoint_id) = (c.thread_id, c.checkpoint_ns, c.checkpoint_id)
                 AND w.channel = '__interrupt__'),
       EXISTS (SELECT 1 FROM agent.checkpoint_writes w
               WHERE (w.thread_id, w.checkpoint_ns, w.checkpoint_id) = (c.thread_id, c.checkpoint_ns, c.checkpoint_id)
                 AND w.channel = '__error__'),
       (SELECT p.checkpoint->'updated_channels' FROM agent.checkpoints p
        WHERE (p.thread_id, p.checkpoint_ns, p.checkpoint_id) = (c.thread_id, c.checkpoint_ns, c.parent_checkpoint_id)),
       (SELECT array_agg(DISTINCT w.task_path ORDER BY w.task_path) FROM agent.checkpoint_writes w
        WHERE (w.thread_id, w.checkpoint_ns, w.checkpoint_id)
              = (c.thread_id, c.checkpoint_ns, c.parent_checkpoint_id)
          AND w.channel NOT IN ('__interrupt__', '__error__', '__resume__')),
       c.checkpoint_ns,
       (SELECT array_agg(s.key ORDER BY s.key) FROM agent.checkpoints p, jsonb_each(c.checkpoint->'versions_seen') s
        WHERE c.metadata->>'source' = 'loop' AND NOT {written}
          AND (p.thread_id, p.checkpoint_ns, p.checkpoint_id) = (c.thread_id, c.checkpoint_ns, c.parent_checkpoint_id)
          AND s.value IS DISTINCT FROM p.checkpoint->'versions_seen'->s.key)
FROM agent.checkpoints c
WHERE c.thread_id = %s AND c.checkpoint_ns = %s AND c.checkpoint_id COLLATE "C" {side} %s {only}
ORDER BY c.checkpoint_id COLLATE "C" {order} LIMIT %s
"""
_MADE_BY = """AND (EXISTS (SELECT 1 FROM agent.checkpoint_writes w
             WHERE (w.thread_id, w.checkpoint_ns, w.checkpoint_id)
                   = (c.thread_id, c.checkpoint_ns, c.parent_checkpoint_id) AND w.task_path = %s)
     OR c.parent_checkpoint_id = ANY(%s)
     OR (c.metadata->>'source' = 'loop' AND NOT {written} AND (c.checkpoint->'versions_seen'->%s) IS DISTINCT FROM
         (SELECT p.checkpoint->'versions_seen'->%s FROM agent.checkpoints p
          WHERE (p.thread_id, p.checkpoint_ns, p.checkpoint_id)
                = (c.thread_id, c.checkpoint_ns, c.parent_checkpoint_id))))"""
#: what the tasks of the step wrote is there; not of runs that are over for long, see orchestration.retention
_WRITTEN = r"""EXISTS (SELECT FROM agent.checkpoint_writes w
             WHERE (w.thread_id, w.checkpoint_ns, w.checkpoint_id)
                   = (c.thread_id, c.checkpoint_ns, c.parent_checkpoint_id) AND w.channel NOT LIKE '\_\_%%')"""
_BRANCH = "branch:to:"


def checkpoints_of(
    thread_id: str,
    *,
    before: str = "~",
    limit: int = 50,
    namespace: str = "",
    after: str | None = None,
    node: str = "",
) -> list[CheckpointLine]:
    """Return checkpoints, newest first, those older than the id `before`. One query, two where tasks were sent.

    `after`: those newer than this id in its place, oldest first; "" for the very first. `node`: only those that this
    node has made. None has its values.
    """
    newest_first = after is None
    side, order = ("<", "DESC") if newest_first else (">", "ASC")
    only = _MADE_BY.format(written=_WRITTEN) if node else ""
    ask = _LIST.format(side=side, order=order, only=only, written=_WRITTEN)
    given: list[Any] = [thread_id, namespace, before if after is None else after]
    given += [_PULLED + node, _begun_by(thread_id, namespace, node), node, node] if node else []
    with connection.cursor() as cursor:
        cursor.execute(ask, [*given, limit])
        rows = cursor.fetchall()
    parents = [row[1] for row in rows if any(path.startswith(_SENT) for path in row[9] or [])]
    sent = _sent_to(thread_id, namespace, parents) if parents else {}
    return [_line(row, sent.get(row[1], [])) for row in rows]


_SENT = "~__pregel_push"
_PULLED = "~__pregel_pull, "


def _begun_by(thread_id: str, namespace: str, node: str) -> list[str]:
    """Return the checkpoints at which a task of the node began that another one had sent. One query."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT checkpoint_id FROM agent.checkpoint_writes"
            " WHERE thread_id = %s AND checkpoint_ns = %s AND starts_with(task_path, %s)"
            " ORDER BY checkpoint_id DESC LIMIT 1000",
            [thread_id, namespace, _SENT],
        )
        begun = [row[0] for row in cursor.fetchall()]
    return [one for one, nodes in _sent_to(thread_id, namespace, begun).items() if node in nodes] if begun else []


def _sent_to(thread_id: str, namespace: str, checkpoint_ids: list[str]) -> dict[str, list[str]]:
    """Return the nodes of the tasks that were sent (`Send`) to begin at each of the checkpoints. One query."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.checkpoint_id, w.type, w.blob FROM agent.checkpoints c JOIN agent.checkpoint_writes w"
            " ON (w.thread_id, w.checkpoint_ns, w.checkpoint_id)"
            "    = (c.thread_id, c.checkpoint_ns, c.parent_checkpoint_id) AND w.channel = '__pregel_tasks'"
            " WHERE c.thread_id = %s AND c.checkpoint_ns = %s AND c.checkpoint_id = ANY(%s) ORDER BY w.task_id, w.idx",
            [thread_id, namespace, checkpoint_ids],
        )
        rows = cursor.fetchall()
    found: dict[str, list[str]] = {}
    for checkpoint_id, kind, blob in rows:
        value = read_value(kind, blob)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and isinstance(one.get("node"), str):
                nodes = found.setdefault(checkpoint_id, [])
                nodes += [] if one["node"] in nodes else [one["node"]]
    return found


def _line(row: tuple[Any, ...], sent: list[str]) -> CheckpointLine:
    updated = _loaded(row[4]) or []
    ran = list(dict.fromkeys([*_nodes_after(_loaded(row[8])), *_nodes_of_tasks(row[9]), *sent, *(row[11] or [])]))
    ran = [one for one in ran if not one.startswith("__")]  # LangGraph's own, such as what takes the input in
    return CheckpointLine(
        checkpoint_id=row[0],
        parent_checkpoint_id=row[1],
        step=row[2] if row[2] is not None else -1,
        source=row[3] or "",
        node=", ".join(ran) or ("input" if row[3] == "input" else "start"),
        next=_nodes_after(updated),
        at=row[5],
        interrupted=row[6],
        changed=tuple(sorted(name for name in updated if not name.startswith((_BRANCH, "join:", "__")))),
        failed=row[7],
        began_at=moment_of(row[1]),
        namespace=row[10],
    )


def _nodes_of_tasks(paths: list[str] | None) -> list[str]:
    """Return the nodes that the paths of tasks name, of those that a graph has sent among them.

    A path reads "~__pregel_pull, node" or "~__pregel_push, …": only the first names its node.
    """
    found = [path.removeprefix("~").split(", ") for path in paths or []]
    return list(dict.fromkeys(parts[1] for parts in found if parts[0] == "__pregel_pull" and len(parts) > 1))


_BEFORE_UNIX = 0x01B21DD213814000  # 100 ns from the beginning of the UUID's calendar to that of Unix


def moment_of(checkpoint_id: str | None) -> datetime | None:
    """Return when a checkpoint was made, as its id (a UUID of version 6) says; `None` for any other id."""
    try:
        found = UUID(checkpoint_id or "")
    except ValueError:
        return None
    if found.version != 6:
        return None
    ticks = (found.int >> 80 << 12) | (found.int >> 64 & 0xFFF)
    return datetime.fromtimestamp((ticks - _BEFORE_UNIX) / 10_000_000, UTC)


def id_at(moment: datetime) -> str:
    """Return a text that stands among the ids of checkpoints where one made at that moment would."""
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    ticks = (since // timedelta(microseconds=1)) * 10 + _BEFORE_UNIX
    digits = f"{ticks:015x}"
    return f"{digits[:8]}-{digits[8:12]}-6{digits[12:]}"


def missing(named: Sequence[tuple[str, str]]) -> set[str]:
    """Return the threads of which the named checkpoint is not there. `named`: thread and checkpoint. One query."""
    if not named:
        return set()
    threads, checkpoints = zip(*named, strict=True)
    with connection.cursor() as cursor:
        cursor.execute(_MISSING, [list(threads), list(checkpoints)])
        return {row[0] for row in cursor.fetchall()}


def runs_without(most: int) -> list[str]:
    """Return open runs whose newest pause names a checkpoint that is not there, `most` at most. One query."""
    with connection.cursor() as cursor:
        cursor.execute(_RUNS_WITHOUT, [most])
        return [row[0] for row in cursor.fetchall()]


_RUNS_WITHOUT = """
SELECT r.id FROM orchestration_run r
WHERE r.status IN ('starting', 'running', 'waiting', 'paused') AND r.checkpoint_id <> ''
  AND NOT EXISTS (SELECT FROM agent.checkpoints c
                  WHERE (c.thread_id, c.checkpoint_ns, c.checkpoint_id) = (r.id, '', r.checkpoint_id))
LIMIT %s
"""
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


@dataclass(frozen=True)
class Opened:
    """One checkpoint with all that it holds, as plain JSON."""

    checkpoint_id: str
    parent_checkpoint_id: str | None
    namespace: str
    values: dict[str, Any]
    next: list[str]
    tasks: list[dict[str, Any]]  # {"id", "path", "writes": {channel: value}}
    metadata: dict[str, Any]
    #: keys of the state of which only changes are kept, with the checkpoints before it (LangGraph's DeltaChannel)
    by_changes: Sequence[str] = ()


def checkpoint_of(thread_id: str, checkpoint_id: str) -> Opened:
    """Return one checkpoint of the thread, whichever graph inside the graph it is of. Raises NoSuchCheckpoint."""
    kept = _kept(thread_id, checkpoint_id)
    values = {name: plain(value) for name, value in kept.checkpoint.get("channel_values", {}).items()}
    values |= {name: read_value(kind, blob) for name, kind, blob in kept.blobs if blob is not None}
    tasks: dict[str, dict[str, Any]] = {}
    for task_id, channel, kind, blob, path in kept.writes:
        task = tasks.setdefault(task_id, {"id": task_id, "path": path, "writes": {}})
        task["writes"][channel] = read_value(kind, blob)
    return Opened(
        checkpoint_id=checkpoint_id,
        parent_checkpoint_id=kept.parent_checkpoint_id,
        namespace=kept.namespace,
        values={name: value for name, value in values.items() if not name.startswith((_BRANCH, "join:", "__"))},
        next=_nodes_after(kept.checkpoint.get("updated_channels")),
        tasks=list(tasks.values()),
        metadata=kept.metadata,
        by_changes=_by_changes(kept, values),
    )


def _by_changes(kept: _Kept, values: dict[str, Any]) -> list[str]:
    """Return the keys whose values only the graph could put together, from what its tasks wrote since they had one."""
    counted = kept.metadata.get("counters_since_delta_snapshot") or {}
    return sorted(name for name in counted if name in kept.checkpoint["channel_versions"] and name not in values)


@dataclass(frozen=True)
class _Kept:
    """One checkpoint as LangGraph keeps it; a blob is in its serialiser's form, of the type beside it."""

    namespace: str
    parent_checkpoint_id: str | None
    checkpoint: dict[str, Any]
    metadata: dict[str, Any]
    blobs: list[tuple[Any, ...]]  # channel, type, blob
    writes: list[tuple[Any, ...]]  # task's id, channel, type, blob, task's path; in the order they were made


def _kept(thread_id: str, checkpoint_id: str) -> _Kept:
    """Read one checkpoint. Three queries. Raises NoSuchCheckpoint."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT checkpoint_ns, parent_checkpoint_id, checkpoint, metadata FROM agent.checkpoints"
            " WHERE thread_id = %s AND checkpoint_id = %s ORDER BY checkpoint_ns LIMIT 1",
            [thread_id, checkpoint_id],
        )
        found = cursor.fetchone()
        if found is None:
            raise NoSuchCheckpoint(NoSuchCheckpoint.__doc__)
        namespace, parent, checkpoint, metadata = found[0], found[1], _loaded(found[2]), _loaded(found[3])
        cursor.execute(
            "SELECT channel, type, blob FROM agent.checkpoint_blobs b"
            " JOIN jsonb_each_text(%s::jsonb) v ON (b.channel, b.version) = (v.key, v.value)"
            " WHERE thread_id = %s AND checkpoint_ns = %s AND type <> 'empty'",
            [json.dumps(checkpoint["channel_versions"]), thread_id, namespace],
        )
        blobs = cursor.fetchall()
        cursor.execute(
            "SELECT task_id, channel, type, blob, task_path FROM agent.checkpoint_writes"
            " WHERE thread_id = %s AND checkpoint_ns = %s AND checkpoint_id = %s ORDER BY task_id, idx",
            [thread_id, namespace, checkpoint_id],
        )
        return _Kept(namespace, parent, checkpoint, metadata, blobs, cursor.fetchall())


@dataclass(frozen=True)
class Namespace:
    """A graph inside the graph: one call of it, as it has checkpoints of its own."""

    name: str  # "node:task id", one after the other with "|"
    count: int  # of its checkpoints
    first: str  # the id of its first checkpoint

    @property
    def path(self) -> str:
        """The nodes that lead to it, "outer/inner"."""
        return "/".join(part.partition(":")[0] for part in self.name.split("|"))


def namespaces_of(thread_id: str, most: int = 100) -> list[Namespace]:
    """Return the graphs inside the graph that the thread has run, newest first. One query."""
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT checkpoint_ns, count(*), min(checkpoint_id COLLATE "C") AS first FROM agent.checkpoints'
            " WHERE thread_id = %s AND checkpoint_ns <> '' GROUP BY checkpoint_ns ORDER BY first DESC LIMIT %s",
            [thread_id, most],
        )
        return [Namespace(*row) for row in cursor.fetchall()]


def count_of(thread_id: str) -> int:
    """Return how many checkpoints of the outermost graph there are. One query, over its index alone."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM agent.checkpoints WHERE thread_id = %s AND checkpoint_ns = ''", [thread_id]
        )
        (count,) = cursor.fetchone() or (0,)
    return int(count)


def newer_than(thread_id: str, namespace: str, checkpoint_id: str) -> str:
    """Return the id of the checkpoint just after this one in the same graph, "" for the newest. One query."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT checkpoint_id FROM agent.checkpoints WHERE thread_id = %s AND checkpoint_ns = %s"
            ' AND checkpoint_id COLLATE "C" > %s ORDER BY checkpoint_id COLLATE "C" LIMIT 1',
            [thread_id, namespace, checkpoint_id],
        )
        found = cursor.fetchone()
    return str(found[0]) if found else ""


def _nodes_after(channels: list[str] | None) -> list[str]:
    """Return the nodes that the updated channels lead to."""
    return [channel.removeprefix(_BRANCH) for channel in channels or [] if channel.startswith(_BRANCH)]


def _loaded(column: Any) -> Any:  # whatever JSON the column holds
    """Return the value of a jsonb column, which Django hands over as text from raw queries."""
    return json.loads(column) if isinstance(column, str) else column
