"""Writing the outcome of a flow into Postgres: claim a refresh, publish a version, or say that it failed.

Plain psycopg, used by flow processes: no Django here. What makes a refresh happen exactly once:

* one row per (dataset, key), inserted or found by whoever comes first;
* the publishing transaction locks that row and does nothing when it is finished already;
* one publishing transaction per dataset at a time, and one version per content digest.

The session lock held by `claim` is not needed for that. It says "somebody is alive and working on this", so
that a second run waits instead of computing the same, and `dataplane.refreshes.watch` knows dead from slow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg.types.json import Jsonb

from console.environment import environment
from console.ids import new_id
from dataplane.catalogue import DatasetEntry
from dataplane.contracts import Outcome, PublishedVersion, Refresh
from dataplane.embedding import Vectors
from dataplane.errors import RefreshHeldElsewhere
from dataplane.refreshes import states
from dataplane.refreshes.states import Status

LIVE_CHANNEL = "signalbox_live"


@dataclass(frozen=True)
class PassageRow:
    """One passage as it is stored, without its vector."""

    document: str
    title: str
    heading: str
    text: str
    effective: date | None
    status: str
    topics: str  # comma-separated


@dataclass(frozen=True)
class Content:
    """Everything a version consists of."""

    passages: Sequence[PassageRow]
    vectors: Vectors  # one row per passage
    embedder: str
    digest: str  # SHA-256, hex


@dataclass(frozen=True)
class Claim:
    """A refresh that this flow run works on."""

    refresh_id: str
    parameters: dict[str, Any]  # the row's: what was asked for first counts
    done: Outcome | None  # how it had ended before; None when there is work to do


def connect() -> psycopg.Connection[Any]:
    """Return a connection in autocommit mode. Raises psycopg.OperationalError when Postgres is away."""
    return psycopg.connect(
        environment().database_url,
        autocommit=True,
        connect_timeout=5,
        application_name="signalbox flow",
        options="-c statement_timeout=120s",
    )


def lock_key(refresh_id: str) -> str:
    """Return the text whose 64-bit hash is the advisory lock of a refresh."""
    return f"signalbox refresh {refresh_id}"


@contextmanager
def claim(entry: DatasetEntry, order: Refresh, *, flow_run_id: str, wait_seconds: float = 300) -> Iterator[Claim]:
    """Insert or find the refresh, wait for its lock, and mark it as running; holds the lock inside the block.

    `claim.done` is set when the refresh has ended well or was cancelled: the caller then has nothing to do.
    A failed refresh is taken up again: only Prefect's own retry or a person starts a flow run twice.
    Raises RefreshHeldElsewhere when another run still holds it after `wait_seconds`.
    """
    with connect() as connection:
        connection.execute(
            "INSERT INTO dataplane_dataset (name, title, fresh_for) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [entry.name, entry.title, entry.fresh_for],
        )
        connection.execute(
            "INSERT INTO dataplane_refresh (id, dataset_id, key, parameters, prefect_flow_run_id)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [new_id("rfr"), entry.name, order.key, Jsonb(order.parameters), flow_run_id],
        )
        refresh_id = _one(
            connection,
            "SELECT id FROM dataplane_refresh WHERE dataset_id = %s AND key = %s",
            [entry.name, order.key],
        )[0]
        _hold(connection, refresh_id, wait_seconds)
        # The lock is ours: nobody else moves this row now but a person who cancels it.
        if states.move_in_sql(connection, refresh_id, Status.RUNNING, error="", finished_at=None):
            connection.execute(
                "UPDATE dataplane_refresh SET started_at = coalesce(started_at, signalbox_now()),"
                " prefect_flow_run_id = coalesce(nullif(prefect_flow_run_id, ''), %s) WHERE id = %s",
                [flow_run_id, refresh_id],
            )
        _announce(connection)
        kept = _one(connection, "SELECT parameters FROM dataplane_refresh WHERE id = %s", [refresh_id])
        yield Claim(refresh_id, kept[0], _ended(connection, refresh_id))


def _hold(connection: psycopg.Connection[Any], refresh_id: str, wait_seconds: float) -> None:
    """Take the session lock; it goes when the connection does, also by SIGKILL."""
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = {int(wait_seconds * 1000)}")
            connection.execute("SET LOCAL statement_timeout = 0")
            connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [lock_key(refresh_id)])
    except psycopg.errors.LockNotAvailable as exc:
        raise RefreshHeldElsewhere from exc


def _ended(connection: psycopg.Connection[Any], refresh_id: str) -> Outcome | None:
    """Return how the refresh ended; None while there is work to do."""
    status, dataset, version, digest, rows = _one(
        connection,
        "SELECT r.status, r.dataset_id, v.version, v.digest, v.rows FROM dataplane_refresh r"
        " LEFT JOIN dataplane_datasetversion v ON v.id = r.version_id WHERE r.id = %s",
        [refresh_id],
    )
    if status == Status.CANCELLED:
        return Outcome("cancelled", None, "This refresh was cancelled.", was_done=True)
    if status not in states.DONE:
        return None
    published = PublishedVersion(dataset, version, digest, rows)
    return Outcome(status, published, f"This refresh was done already: version {version}.", was_done=True)


def publish(
    entry: DatasetEntry, content: Content, *, refresh_id: str, parameters: dict[str, Any], flow_run_id: str
) -> Outcome:
    """Make the content the dataset's current version, in one transaction, exactly once per refresh.

    1. Wait for other publishing transactions of this dataset.
    2. Lock the refresh's row; a finished or cancelled one is left as it is.
    3. The current version's content again: nothing is written but "unchanged".
       An earlier version's content again: that version becomes current.
       New content: a new version and its passages, by COPY; then it becomes current.
    4. Record the outcome on the refresh and announce it; all of it is seen at commit, or none.

    On retry: safe to call again after any failure, also when the answer to COMMIT was lost.
    """
    with connect() as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"signalbox dataset {entry.name}"])
        _one(connection, "SELECT status FROM dataplane_refresh WHERE id = %s FOR UPDATE", [refresh_id])
        ended = _ended(connection, refresh_id)
        if ended is not None:
            return ended
        current = connection.execute(
            "SELECT v.id, v.version, v.digest, v.rows FROM dataplane_dataset d"
            " JOIN dataplane_datasetversion v ON v.id = d.current_version_id WHERE d.name = %s",
            [entry.name],
        ).fetchone()
        if current is not None and current[2] == content.digest:
            sentence = f"The content is that of version {current[1]}: nothing new was published."
            outcome = Outcome("unchanged", PublishedVersion(entry.name, *current[1:]), sentence)
            version_id = current[0]
        else:
            version_id, outcome = _write(connection, entry, content, parameters, flow_run_id)
        connection.execute(
            "UPDATE dataplane_dataset SET current_version_id = %s, confirmed_at = signalbox_now() WHERE name = %s",
            [version_id, entry.name],
        )
        end = Status(outcome.status)
        states.move_in_sql(connection, refresh_id, end, version_id=version_id, error="", finished_at=states.NOW)
        _announce(connection)
    return outcome


def _write(
    connection: psycopg.Connection[Any],
    entry: DatasetEntry,
    content: Content,
    parameters: dict[str, Any],
    flow_run_id: str,
) -> tuple[int, Outcome]:
    """Find the version that has this content, or write it; return its row's id and the outcome."""
    earlier = connection.execute(
        "SELECT id, version, digest, rows FROM dataplane_datasetversion WHERE dataset_id = %s AND digest = %s",
        [entry.name, content.digest],
    ).fetchone()
    if earlier is not None:
        sentence = f"The content is back to that of version {earlier[1]}, which is current again."
        return earlier[0], Outcome("published", PublishedVersion(entry.name, *earlier[1:]), sentence)
    number = _one(
        connection,
        "UPDATE dataplane_dataset SET last_version = last_version + 1 WHERE name = %s RETURNING last_version",
        [entry.name],
    )[0]
    rows = len(content.passages)
    version_id = _one(
        connection,
        "INSERT INTO dataplane_datasetversion"
        " (dataset_id, version, digest, rows, embedder, prefect_flow_run_id, parameters)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id",
        [entry.name, number, content.digest, rows, content.embedder, flow_run_id, Jsonb(parameters)],
    )[0]
    _copy(connection, version_id, content)
    published = PublishedVersion(entry.name, number, content.digest, rows)
    sentence = f"Version {number} is published, with {rows} passages."
    return version_id, Outcome("published", published, sentence)


def _copy(connection: psycopg.Connection[Any], version_id: int, content: Content) -> None:
    """Write the passages with binary COPY: one round trip, the vectors as they lie in memory."""
    register_vector(connection)
    columns = "version_id, position, document, title, heading, text, effective, status, topics, embedding"
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY dataplane_passage ({columns}) FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types(["int8", "int4", *["text"] * 4, "date", "text", "text", "vector"])
        for position, (row, vector) in enumerate(zip(content.passages, content.vectors, strict=True)):
            copy.write_row(
                (
                    version_id, position, row.document, row.title, row.heading, row.text,
                    row.effective, row.status, row.topics, vector,
                )
            )  # fmt: skip


def fail(refresh_id: str, error: str) -> None:
    """Record that the refresh failed, in words. A refresh that has ended otherwise stays as it is."""
    with connect() as connection, connection.transaction():
        states.move_in_sql(connection, refresh_id, Status.FAILED, error=error, finished_at=states.NOW)
        _announce(connection)


def _announce(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SELECT pg_notify(%s, %s)", [LIVE_CHANNEL, json.dumps({"topic": "data"})])


def _one(connection: psycopg.Connection[Any], query: str, values: Sequence[Any]) -> tuple[Any, ...]:
    """Return the one row that the query must find. Raises LookupError when it is not there."""
    row = connection.execute(query, values).fetchone()
    if row is None:
        raise LookupError(f"no row: {query}")
    found: tuple[Any, ...] = row
    return found
