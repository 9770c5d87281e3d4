"""Publishing a version of a dataset, whatever kind of content it is. Plain psycopg, used by flow processes.

What makes a refresh happen exactly once:

* one row per (dataset, key), inserted or found by whoever comes first (`dataplane.refreshes.claim`);
* the publishing transaction locks that row and does nothing when it is finished already;
* one publishing transaction per dataset at a time, and one version per content digest.

Versions become current in the order in which their refreshes began to read, not in which they came to an end: what was
read before the current version's content is kept as a version, and never current.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from console.faults import reach
from console.ids import new_id
from dataplane.catalogue import CATALOGUE, DatasetEntry
from dataplane.contents.base import Content, Difference, MadeFromVersions, Stored, Withheld
from dataplane.contents.passages import INDEX_FROM_ROWS
from dataplane.contracts import MOST_NAMES, DryRunPreview, PublishedVersion, RefreshOutcome
from dataplane.plain_sql import REFRESHES_CHANNEL, announce, connect, one
from dataplane.refreshes import states
from dataplane.refreshes.claim import ended
from dataplane.refreshes.states import Status


def publish(
    entry: DatasetEntry, content: Content, *, refresh_id: str, parameters: dict[str, Any], flow_run_id: str
) -> RefreshOutcome:
    """Make the content the dataset's current version, in one transaction, exactly once per refresh.

    1. Wait for other publishing transactions of this dataset.
    2. Lock the refresh's row; a finished or cancelled one is left as it is.
    3. The current version's content again: nothing is written but "unchanged".
       An earlier version's content again: that version becomes current.
       New content: a new version and its rows, written by the content itself; then it becomes current.
       Neither becomes current when a refresh that began to read later has published already.
    4. Record the outcome on the refresh and announce it; all of it is seen at commit, or none.

    On retry: safe to call again after any failure, also when the answer to COMMIT was lost.
    """
    digest = content.digest()
    with connect() as connection, connection.transaction():
        before = _hold(connection, entry, refresh_id)
        if before is not None:
            return before
        reach("flow.in_publish", refresh_id)
        current = connection.execute(
            "SELECT v.id, v.version, v.digest, v.rows FROM dataplane_dataset d"
            " JOIN dataplane_datasetversion v ON v.id = d.current_version_id WHERE d.name = %s",
            [entry.name],
        ).fetchone()
        if current is not None and current[2] == digest:
            sentence = f"The content is that of version {current[1]}: nothing new was published."
            outcome = RefreshOutcome("unchanged", PublishedVersion(entry.name, *current[1:]), sentence)
            version_id, note = current[0], ""
        else:
            version_id, outcome = _write(connection, entry, content, digest, parameters, flow_run_id)
            note = _read_too_early(connection, refresh_id, current)
            outcome = replace(outcome, sentence=note or outcome.sentence)
        if not note:
            connection.execute(
                "UPDATE dataplane_dataset SET current_version_id = %s, confirmed_at = signalbox_now() WHERE name = %s",
                [version_id, entry.name],
            )
        end = Status(outcome.status)
        states.move_in_sql(
            connection, refresh_id, end, version_id=version_id, note=note, error="", finished_at=states.NOW
        )
        if outcome.status == "published" and outcome.version is not None and not note:
            _ask_followers(connection, outcome.version, refresh_id)
        announce(connection)
        reach("flow.before_commit", refresh_id)
    return outcome


def withhold(entry: DatasetEntry, withheld: Withheld, *, refresh_id: str) -> RefreshOutcome:
    """End the refresh well without a version, and say why; the current version stays current.

    On retry: safe to call again. A refresh that has ended already stays as it is.
    """
    with connect() as connection, connection.transaction():
        before = _hold(connection, entry, refresh_id)
        if before is not None:
            return before
        if withheld.confirms:
            connection.execute(
                "UPDATE dataplane_dataset SET confirmed_at = signalbox_now()"
                " WHERE name = %s AND current_version_id IS NOT NULL",
                [entry.name],
            )
        states.move_in_sql(
            connection, refresh_id, Status.FINISHED, note=withheld.sentence, error="", finished_at=states.NOW
        )
        announce(connection)
    return RefreshOutcome("finished", None, withheld.sentence)


def _hold(connection: psycopg.Connection[Any], entry: DatasetEntry, refresh_id: str) -> RefreshOutcome | None:
    """Wait for other publishing transactions of the dataset, and lock the refresh; return how it ended before."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"signalbox dataset {entry.name}"])
    one(connection, "SELECT status FROM dataplane_refresh WHERE id = %s FOR UPDATE", [refresh_id])
    return ended(connection, refresh_id)


def _read_too_early(connection: psycopg.Connection[Any], refresh_id: str, current: tuple[Any, ...] | None) -> str:
    """Return in a sentence that the refresh's content does not become current; "" when it does."""
    later = connection.execute(
        "SELECT 1 FROM dataplane_refresh mine JOIN dataplane_refresh other ON other.dataset_id = mine.dataset_id"
        " WHERE mine.id = %s AND other.started_at > mine.started_at AND other.status = ANY(%s) LIMIT 1",
        [refresh_id, [status.value for status in states.DONE]],
    ).fetchone()
    if current is None or later is None:
        return ""
    return f"The content is kept, and version {current[1]} stays current: a refresh that began later has published."


def _ask_followers(connection: psycopg.Connection[Any], published: PublishedVersion, refresh_id: str) -> None:
    """Ask for what is made from this dataset when it has many rows, once for each refresh that changed it.

    The key names the refresh: a version that is current again has lost its index where that was long ago.
    """
    if published.rows < INDEX_FROM_ROWS:
        return
    for entry in CATALOGUE.values():
        if entry.follows == published.dataset:
            connection.execute(
                "INSERT INTO dataplane_dataset (name, title, fresh_for) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                [entry.name, entry.title, entry.fresh_for],
            )
            connection.execute(
                "INSERT INTO dataplane_refresh (id, dataset_id, key, parameters) VALUES (%s, %s, %s, '{}')"
                " ON CONFLICT DO NOTHING",
                [new_id("rfr"), entry.name, f"after.{published.dataset}.{published.version}.{refresh_id}"],
            )
            connection.execute("SELECT pg_notify(%s, '')", [REFRESHES_CHANNEL])


def compare(
    entry: DatasetEntry, content: Content, *, refresh_id: str, parameters: dict[str, Any], flow_run_id: str
) -> RefreshOutcome:
    """End a dry run: keep on its refresh what publishing the content would change, and publish nothing.

    The very publishing transaction is done, compared from within, and rolled back: what would make it fail fails here
    too, and no reader sees any of it. On retry: safe to call again.
    """
    with connect() as connection:
        with connection.transaction() as undone:
            before = _hold(connection, entry, refresh_id)
            if before is not None:
                return before
            preview = _preview(connection, entry, content, parameters, flow_run_id)
            raise psycopg.Rollback(undone)
        with connection.transaction():
            states.move_in_sql(
                connection,
                refresh_id,
                Status.FINISHED,
                preview=Jsonb(asdict(preview)),
                error="",
                finished_at=states.NOW,
            )
            announce(connection)
    return RefreshOutcome("finished", None, preview.sentence)


def _preview(
    connection: psycopg.Connection[Any],
    entry: DatasetEntry,
    content: Content,
    parameters: dict[str, Any],
    flow_run_id: str,
) -> DryRunPreview:
    stored = (
        "SELECT v.id, v.dataset_id, v.version, v.rows, v.embedder, v.digest, v.kind FROM dataplane_datasetversion v"
    )
    current = connection.execute(
        f"{stored} JOIN dataplane_dataset d ON v.id = d.current_version_id WHERE d.name = %s", [entry.name]
    ).fetchone()
    digest = content.digest()
    if current is not None and current[5] == digest:
        return _told(current[2], content.rows, Difference([], [], []), "")
    highest = one(connection, "SELECT last_version FROM dataplane_dataset WHERE name = %s", [entry.name])[0]
    version_id, written = _write(connection, entry, content, digest, parameters, flow_run_id)
    number = written.version.version if written.version else 0
    outcome = "publish a new version" if number > highest else f"make version {number} current again"
    new = Stored(*one(connection, f"{stored} WHERE v.id = %s", [version_id])[:5])
    with connection.cursor() as cursor:
        if current is None or current[6] != entry.content.name:
            old = Stored(0, entry.name, 0, 0, "")  # no row points at it
        else:
            old = Stored(*current[:5])
        return _told(current[2] if current else None, content.rows, entry.content.difference(cursor, old, new), outcome)


def _told(against: int | None, rows: int, found: Difference, outcome: str) -> DryRunPreview:
    """Return the preview. `outcome`: what a refresh would do; empty: nothing, the content is the current one's."""
    kinds = {"added": list(found.added), "removed": list(found.removed), "changed": list(found.changed)}
    counts = {kind: len(names) for kind, names in kinds.items()}
    told = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
    compared_with = f"version {against}" if against else "nothing, for no version is published yet"
    if outcome:
        sentence = f"A refresh would {outcome}: {told or 'no rows that differ'}, compared with {compared_with}."
    else:
        sentence = f"A refresh would publish nothing: the content is that of version {against}."
    return DryRunPreview(
        against=against,
        rows=rows,
        **{kind: names[:MOST_NAMES] for kind, names in kinds.items()},
        counts=counts,
        sentence=sentence,
    )


def _write(
    connection: psycopg.Connection[Any],
    entry: DatasetEntry,
    content: Content,
    digest: str,
    parameters: dict[str, Any],
    flow_run_id: str,
) -> tuple[int, RefreshOutcome]:
    """Find the version that has this content, or write it; return its row's id and the outcome."""
    earlier = connection.execute(
        "SELECT id, version, digest, rows FROM dataplane_datasetversion WHERE dataset_id = %s AND digest = %s",
        [entry.name, digest],
    ).fetchone()
    if earlier is not None:
        sentence = f"The content is back to that of version {earlier[1]}, which is current again."
        return earlier[0], RefreshOutcome("published", PublishedVersion(entry.name, *earlier[1:]), sentence)
    number = one(
        connection,
        "UPDATE dataplane_dataset SET last_version = last_version + 1 WHERE name = %s RETURNING last_version",
        [entry.name],
    )[0]
    rows = content.rows
    version_id = one(
        connection,
        "INSERT INTO dataplane_datasetversion"
        " (dataset_id, version, digest, rows, kind, embedder, prefect_flow_run_id, parameters, inputs)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
        [
            *(entry.name, number, digest, rows, entry.content.name, content.embedder, flow_run_id),
            *(Jsonb(parameters), Jsonb(_inputs(content))),
        ],
    )[0]
    with connection.cursor() as cursor:
        content.copy(cursor, version_id)
    published = PublishedVersion(entry.name, number, digest, rows)
    sentence = f"Version {number} is published, with {rows} {entry.content.noun}."
    return version_id, RefreshOutcome("published", published, sentence)


def _inputs(content: Content) -> list[Any]:
    return [dict(one) for one in content.inputs] if isinstance(content, MadeFromVersions) else []
