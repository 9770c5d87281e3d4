"""Indexes over the vectors of one version: built beside what is in service, checked, put into service, dropped later.

Plain psycopg, used by flow processes. Each index has a table of its own in the schema `signalbox_index`, with copies of
one version's vectors: an HNSW index over the passages of all versions would be asked for one version's rows and give
those of others, and a partial one is not used by a prepared statement. So nobody reads the table before its row says
"serving", and one commit moves that word. A row is written before its table is made: a table without a row, or whose
row says "building" while nobody holds the lock, was left behind by a process that died.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from pgvector import Vector
from psycopg import sql

from console.faults import reach
from console.ids import new_id
from dataplane.contents.base import Stored
from dataplane.embedding import Vectors
from dataplane.errors import IndexHeldUp, IndexRefused
from dataplane.plain_sql import connect, one

SCHEMA: Final = "signalbox_index"
LINKS, EFFORT = 16, 100  # pgvector's m and ef_construction
NEAREST: Final = 5  # of so many rows recall is measured
KEPT_MINUTES: Final = 10  # after it was replaced, or was checked and its flow run ended without a word
VERSIONS_KEPT: Final = 2  # newest ones with an index: going back one version is quick
_COPY: Final = "CREATE TABLE {} AS SELECT position, embedding FROM dataplane_passage WHERE version_id = {}"
_LOCK: Final = "signalbox search index"
_LONGEST_BUILD: Final = "9min"  # the flow itself may take 10


@dataclass(frozen=True)
class BuiltIndex:
    """One index that is complete, with what was measured."""

    relation: str
    rows: int
    recall: float
    questions: int
    links: int = LINKS
    effort: int = EFFORT


@contextmanager
def building_alone(*, wait_seconds: float = 120) -> Iterator[psycopg.Connection[Any]]:
    """Hold the one lock of all builders inside the block, on a connection whose statements end with this process.

    Raises IndexHeldUp when another flow run builds for longer than `wait_seconds`.
    """
    with connect() as connection:
        # Else a build whose client was killed goes on for minutes, and holds the lock.
        connection.execute("SET client_connection_check_interval = '1s'")
        connection.execute(f"SET statement_timeout = '{_LONGEST_BUILD}'")
        # One worker: parallel ones want shared memory, of which containers give 64 MB.
        connection.execute("SET max_parallel_maintenance_workers = 0")
        connection.execute("SET maintenance_work_mem = '256MB'")
        until = time.monotonic() + wait_seconds
        # Asked again and again rather than waited for: CREATE INDEX CONCURRENTLY waits for every statement under way.
        while not one(connection, "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [_LOCK])[0]:
            if time.monotonic() > until:
                raise IndexHeldUp("Another flow run is building a search index and did not finish in time.")
            time.sleep(0.2)
        yield connection


def clear_away(connection: psycopg.Connection[Any], dataset: str) -> list[str]:
    """Drop what nobody needs: half-built tables, replaced ones, those of old versions. Return sentences.

    The caller holds the builders' lock, so nobody else is building. One that cannot be dropped now, for somebody reads
    it, is left for the next time.
    """
    said = []
    for relation, state in connection.execute(_UNNEEDED, {"dataset": dataset, "kept": VERSIONS_KEPT}).fetchall():
        reach("index.before_drop", relation)
        if _drop(connection, relation):
            words = "was left half-built" if state == "building" else "is not needed any more"
            said.append(f"The index {relation} {words} and was dropped.")
            connection.execute(
                "UPDATE dataplane_searchindex SET ended_at = coalesce(ended_at, signalbox_now()),"
                " state = CASE state WHEN 'refused' THEN state ELSE 'dropped' END WHERE relation = %s",
                [relation],
            )
    for (relation,) in connection.execute(_WITHOUT_ROW, [SCHEMA]).fetchall():
        if _drop(connection, relation):
            said.append(f"The table {relation} belonged to no index and was dropped.")
    return said


_UNNEEDED: Final = f"""
WITH kept AS (
    SELECT v.id FROM dataplane_datasetversion v JOIN dataplane_searchindex i ON i.version_id = v.id
    WHERE v.dataset_id = %(dataset)s AND i.state = 'serving' ORDER BY v.version DESC LIMIT %(kept)s
)
SELECT i.relation, i.state FROM dataplane_searchindex i JOIN dataplane_datasetversion v ON v.id = i.version_id
WHERE v.dataset_id = %(dataset)s
AND (i.state = 'building' OR (to_regclass('{SCHEMA}.' || quote_ident(i.relation)) IS NOT NULL AND (
    i.state = 'refused'
    OR (i.state = 'replaced' AND i.ended_at < signalbox_now() - interval '{KEPT_MINUTES} minutes')
    OR (i.state = 'checked' AND i.begun_at < signalbox_now() - interval '{2 * KEPT_MINUTES} minutes')
    OR (i.state = 'serving' AND i.version_id NOT IN (SELECT id FROM kept)
        AND i.version_id NOT IN (SELECT current_version_id FROM dataplane_dataset WHERE current_version_id IS NOT NULL))
)))
"""
_WITHOUT_ROW: Final = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind = 'r' AND pg_has_role(c.relowner, 'USAGE')
AND NOT EXISTS (SELECT FROM dataplane_searchindex i WHERE i.relation = c.relname)
"""


def _drop(connection: psycopg.Connection[Any], relation: str) -> bool:
    """Drop the table and its index; return whether it could be. A reader is not kept waiting behind the drop."""
    try:
        with connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '2s'")
            connection.execute(
                sql.SQL("DROP TABLE IF EXISTS {}.{}").format(sql.Identifier(SCHEMA), sql.Identifier(relation))
            )
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def usable(connection: psycopg.Connection[Any], version: Stored) -> BuiltIndex | None:
    """Return the version's complete index, in service or checked and not yet; None when there is none that works."""
    found = connection.execute(
        "SELECT i.relation, i.rows, i.recall, i.questions, i.links, i.effort FROM dataplane_searchindex i"
        " JOIN pg_index x ON x.indexrelid = to_regclass(%s || quote_ident(i.relation || '_hnsw'))"
        " WHERE i.version_id = %s AND i.state IN ('serving', 'checked') AND x.indisvalid AND x.indisready"
        " AND i.links = %s AND i.effort = %s ORDER BY i.state DESC LIMIT 1",
        [f"{SCHEMA}.", version.id, LINKS, EFFORT],
    ).fetchone()
    return BuiltIndex(*found) if found else None


def serving(connection: psycopg.Connection[Any], version: Stored) -> str:
    """Return the table of the version's index in service; empty when none is."""
    found = connection.execute(
        "SELECT relation FROM dataplane_searchindex WHERE version_id = %s AND state = 'serving'", [version.id]
    ).fetchone()
    return str(found[0]) if found else ""


def build(
    connection: psycopg.Connection[Any],
    version: Stored,
    questions: Vectors,
    *,
    least_recall: float,
    flow_run_id: str,
) -> BuiltIndex:
    """Build an index of the version beside what is in service, and check it. Nobody reads it yet.

    1. Write its row, then copy the version's vectors into a table of its own.
    2. CREATE INDEX CONCURRENTLY, so that no lock stands in anybody's way, also where the table is not new.
    3. See that the index is valid, that the planner uses it, and how much of an exact search it finds.

    On retry: what an earlier attempt left is found by `clear_away`. `questions`: one vector a row.
    Raises IndexRefused when the planner leaves it or it finds less than `least_recall`, IndexHeldUp.
    """
    relation = f"{version.dataset[:20].replace('-', '_')}_{version.number}_{new_id('ix')[-8:]}".lower()
    connection.execute(
        "INSERT INTO dataplane_searchindex (version_id, relation, state, rows, links, effort, prefect_flow_run_id)"
        " VALUES (%s, %s, 'building', %s, %s, %s, %s)",
        [version.id, relation, version.rows, LINKS, EFFORT, flow_run_id],
    )
    reach("index.before_build", relation)
    table, index = sql.Identifier(SCHEMA, relation), sql.Identifier(f"{relation}_hnsw")
    try:
        connection.execute(
            sql.SQL(_COPY).format(table, sql.Literal(version.id)),
        )
        reach("index.during_build", relation)
        connection.execute(
            sql.SQL(
                "CREATE INDEX CONCURRENTLY {} ON {} USING hnsw (embedding vector_cosine_ops)"
                " WITH (m = {}, ef_construction = {})"
            ).format(index, table, sql.Literal(LINKS), sql.Literal(EFFORT))
        )
        connection.execute(sql.SQL("ANALYZE {}").format(table))
    except psycopg.errors.QueryCanceled as exc:
        raise IndexHeldUp(
            f"The index was not complete within {_LONGEST_BUILD}: a statement that runs for so long on this "
            "database holds it up, or it has more rows than that takes."
        ) from exc
    except psycopg.errors.InsufficientPrivilege as exc:
        raise IndexRefused(
            f"The app's database role may not make tables in the schema {SCHEMA}. Let the owner of the tables run "
            "`manage.py migrate` once more, which gives it that right."
        ) from exc
    reach("index.before_check", relation)
    recall = _checked(connection, version, relation, questions, least_recall)
    connection.execute(
        "UPDATE dataplane_searchindex SET state = 'checked', recall = %s, questions = %s WHERE relation = %s",
        [recall, len(questions), relation],
    )
    reach("index.before_swap", relation)
    return BuiltIndex(relation, version.rows, recall, len(questions))


def _checked(
    connection: psycopg.Connection[Any], version: Stored, relation: str, questions: Vectors, least_recall: float
) -> float:
    """Return the recall of the index. Raises IndexRefused, and marks its row so, when it is not good enough."""
    why = ""
    recall = recall_of(connection, version, relation, questions)
    if not is_used(connection, relation, questions[0]):
        why = "PostgreSQL's planner does not use the new index."
    elif recall < least_recall:
        why = (
            f"The new index finds {recall:.1%} of the {NEAREST} nearest passages that an exact search finds, over "
            f"{len(questions)} questions; {least_recall:.1%} are needed."
        )
    if not why:
        return recall
    connection.execute(
        "UPDATE dataplane_searchindex SET state = 'refused', recall = %s, questions = %s, note = %s,"
        " ended_at = signalbox_now() WHERE relation = %s",
        [recall, len(questions), why, relation],
    )
    _drop(connection, relation)
    raise IndexRefused(f"{why} It was not put into service: search goes on as before.")


def is_used(connection: psycopg.Connection[Any], relation: str, question: Any) -> bool:
    """Return whether the planner answers a question by the index: a scan of the table would be slow, and unseen."""
    with connection.transaction():
        connection.execute("SET LOCAL enable_seqscan = off")  # as `signalbox_nearest_by` has it
        plan = connection.execute(
            sql.SQL("EXPLAIN SELECT position FROM {} ORDER BY embedding <=> {}::vector LIMIT {}").format(
                sql.Identifier(SCHEMA, relation), sql.Literal(Vector(question).to_text()), sql.Literal(NEAREST)
            )
        ).fetchall()
    return any(f"Index Scan using {relation}_hnsw" in line for (line,) in plan)


def recall_of(connection: psycopg.Connection[Any], version: Stored, relation: str, questions: Vectors) -> float:
    """Return how much of the nearest rows by an exact search the index finds too, 0 to 1, over all questions.

    A row as near as the farthest of the exact ones counts: of equals, either may be given.
    """
    found = wanted = 0
    for question in questions:
        text = Vector(question).to_text()
        exact = _distances(connection, "signalbox_nearest(%s, %s::vector, %s, true)", [version.id, text, NEAREST])
        by_index = _distances(connection, "signalbox_nearest_by(%s, %s::vector, %s)", [relation, text, NEAREST])
        wanted += len(exact)
        found += min(len(exact), sum(distance <= exact[-1] + 1e-6 for distance in by_index)) if exact else 0
    return found / wanted if wanted else 1.0


def _distances(connection: psycopg.Connection[Any], function: Any, values: Sequence[Any]) -> list[float]:
    rows = connection.execute(f"SELECT distance FROM {function} ORDER BY distance", values).fetchall()
    return [float(distance) for (distance,) in rows]
