"""A flow run and its refresh: claim it, and say that it failed. Plain psycopg, used by flow processes.

The session lock held by `claim` says "somebody is alive and working on this", so that a second run waits instead of
computing the same, and `dataplane.refreshes.watch` knows dead from slow. That a refresh happens exactly once does not
rest on it: see `dataplane.versions`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from console.ids import new_id
from dataplane.catalogue import DatasetEntry
from dataplane.contracts import PublishedVersion, RefreshOrder, RefreshOutcome
from dataplane.errors import RefreshHeldElsewhere
from dataplane.plain_sql import announce, connect, one
from dataplane.refreshes import due as due_times
from dataplane.refreshes import states
from dataplane.refreshes.states import Status

LOOK_SECONDS = 0.2  # between two looks whether the lock is free


@dataclass(frozen=True)
class RefreshClaim:
    """A refresh that this flow run works on."""

    refresh_id: str
    parameters: dict[str, Any]  # the row's: what was asked for first counts
    is_dry_run: bool
    done: RefreshOutcome | None  # how it had ended before; None when there is work to do


def lock_key(refresh_id: str) -> str:
    """Return the text whose 64-bit hash is the advisory lock of a refresh."""
    return f"signalbox refresh {refresh_id}"


def scheduled_key(entry: DatasetEntry, due: datetime, parameters: dict[str, Any], *, flow_run_id: str) -> str:
    """Return the key of the refresh that a run of the schedule does, due at that time (aware).

    Again, also under another flow run: the same key, see `dataplane.refreshes.due`.
    """
    with connect() as connection:
        rows = connection.execute(
            "SELECT key, prefect_flow_run_id, CASE WHEN status = ANY(%s) THEN NULL"
            " ELSE coalesce(finished_at, created_at) END, parameters = %s AND NOT is_dry_run"
            " FROM dataplane_refresh WHERE dataset_id = %s AND (key = ANY(%s) OR prefect_flow_run_id = %s)",
            [
                *([one.value for one in states.OPEN], Jsonb(parameters)),
                *(entry.name, list(due_times.possible_keys(entry, due)), flow_run_id),
            ],
        ).fetchall()
    earlier = [due_times.Earlier(*row) for row in rows]
    return due_times.key_when_due(entry, due, earlier, flow_run_id=flow_run_id)


@contextmanager
def claim(
    entry: DatasetEntry, order: RefreshOrder, *, flow_run_id: str, wait_seconds: float = 300
) -> Iterator[RefreshClaim]:
    """Insert or find the refresh, wait for its lock, and mark it as running; holds the lock inside the block.

    `started_at` is when this run begins to read, also where an earlier run of the refresh died or failed.
    Where the flow builds on the dataset's current version, one refresh of the dataset does so at a time: the next one
    waits, with its own lock in hand, so that `dataplane.refreshes.watch` does not take it for dead.
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
        refresh_id, is_dry_run = one(
            connection,
            "SELECT id, is_dry_run FROM dataplane_refresh WHERE dataset_id = %s AND key = %s",
            [entry.name, order.key],
        )
        _hold(connection, lock_key(refresh_id), wait_seconds)
        if entry.builds_on_current and not is_dry_run and ended(connection, refresh_id) is None:
            _hold(connection, f"signalbox making {entry.name}", wait_seconds)
        # The lock is ours: nobody else moves this row now but a person who cancels it.
        if states.move_in_sql(connection, refresh_id, Status.RUNNING, error="", finished_at=None):
            connection.execute(
                "UPDATE dataplane_refresh SET started_at = signalbox_now(),"
                " prefect_flow_run_id = coalesce(nullif(prefect_flow_run_id, ''), %s) WHERE id = %s",
                [flow_run_id, refresh_id],
            )
        announce(connection)
        kept = one(connection, "SELECT parameters FROM dataplane_refresh WHERE id = %s", [refresh_id])[0]
        yield RefreshClaim(refresh_id, kept, is_dry_run, ended(connection, refresh_id))


def _hold(connection: psycopg.Connection[Any], lock: str, wait_seconds: float) -> None:
    """Take the session lock of this text; it goes when the connection does, also by SIGKILL.

    Asked again and again rather than waited for: a statement that waits has a snapshot, and the flow that holds the
    lock may be building an index CONCURRENTLY, which waits for every snapshot of before. Neither would ever end, and
    PostgreSQL cannot see it, for the two hold and wait on different connections.
    """
    until = time.monotonic() + wait_seconds
    while not one(connection, "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [lock])[0]:
        if time.monotonic() > until:
            raise RefreshHeldElsewhere
        time.sleep(LOOK_SECONDS)


def ended(connection: psycopg.Connection[Any], refresh_id: str) -> RefreshOutcome | None:
    """Return how the refresh ended; None while there is work to do."""
    status, note, dataset, version, digest, rows = one(
        connection,
        "SELECT r.status, r.note, r.dataset_id, v.version, v.digest, v.rows FROM dataplane_refresh r"
        " LEFT JOIN dataplane_datasetversion v ON v.id = r.version_id WHERE r.id = %s",
        [refresh_id],
    )
    if status == Status.CANCELLED:
        return RefreshOutcome("cancelled", None, "This refresh was cancelled.", was_done=True)
    if status == Status.FINISHED:
        return RefreshOutcome("finished", None, f"This refresh was done already. {note}".strip(), was_done=True)
    if status not in states.DONE:
        return None
    published = PublishedVersion(dataset, version, digest, rows)
    return RefreshOutcome(status, published, f"This refresh was done already: version {version}.", was_done=True)


def fail(refresh_id: str, error: str) -> None:
    """Record that the refresh failed, in words. A refresh that has ended otherwise stays as it is."""
    with connect() as connection, connection.transaction():
        if ended(connection, refresh_id) is None:
            states.move_in_sql(connection, refresh_id, Status.FAILED, error=error, finished_at=states.NOW)
        announce(connection)
