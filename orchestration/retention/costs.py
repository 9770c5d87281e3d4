"""What checkpoints cost: bytes of each table and each agent, and what a sweep would free. By SQL, within a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from django.db import OperationalError, connection, transaction

from console.environment import environment
from orchestration.retention import sweeping

WITHIN: Final = "4s"  # for all that is counted row by row
_TABLES = """
SELECT c.relname, pg_total_relation_size(c.oid), greatest(c.reltuples, 0)::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'agent' AND c.relname = ANY(%s) ORDER BY 2 DESC
"""
#: a row costs its value and about 120 bytes besides, in the table and its two indexes
_AGENTS = """
SELECT coalesce(r.agent, ''), count(DISTINCT kept.thread_id), sum(kept.bytes)::bigint FROM (
    SELECT thread_id, sum(coalesce(pg_column_size(blob), 0) + 120) AS bytes FROM agent.checkpoint_writes GROUP BY 1
    UNION ALL
    SELECT thread_id, sum(coalesce(pg_column_size(blob), 0) + 120) FROM agent.checkpoint_blobs GROUP BY 1
    UNION ALL
    SELECT thread_id, sum(pg_column_size(checkpoint) + pg_column_size(metadata) + 120) FROM agent.checkpoints GROUP BY 1
) kept LEFT JOIN orchestration_run r ON r.id = kept.thread_id GROUP BY 1 ORDER BY 3 DESC LIMIT 50
"""
_FREED = r"""
WITH heads AS (
    SELECT c.thread_id, c.checkpoint_ns, max(c.checkpoint_id COLLATE "C") AS head
    FROM agent.checkpoints c JOIN orchestration_run r ON r.id = c.thread_id
    WHERE r.status NOT IN ('starting', 'running', 'waiting', 'paused') AND r.swept_at IS NULL
      AND r.closed_at <= signalbox_now() - %(after)s
    GROUP BY 1, 2
)
SELECT count(DISTINCT w.thread_id), count(*), coalesce(sum(coalesce(pg_column_size(w.blob), 0) + 120), 0)::bigint
FROM agent.checkpoint_writes w JOIN heads h USING (thread_id, checkpoint_ns)
WHERE w.checkpoint_id <> h.head AND w.channel NOT LIKE '\_\_%%'
"""


@dataclass(frozen=True)
class TableCost:
    """One table with its indexes; `rows` as the database estimates them."""

    name: str
    size: int  # bytes
    rows: int


@dataclass(frozen=True)
class AgentCost:
    """What the threads of one agent take; "" is what belongs to no run."""

    agent: str
    threads: int
    size: int  # bytes, about


@dataclass(frozen=True)
class Costs:
    """What is kept, and what would go now."""

    tables: list[TableCost]
    agents: list[AgentCost] = field(default_factory=list)
    sweep_runs: int = 0
    sweep_rows: int = 0
    sweep_size: int = 0  # bytes, about
    soon_size: int = 0  # of runs that have closed and are not due yet, besides
    threads_due: int = 0  # that the policy deletes
    is_counted: bool = True  # False: there is too much to count it in time

    @property
    def size(self) -> int:
        return sum(table.size for table in self.tables)


def costs() -> Costs:
    """Return what checkpoints cost. Five queries, WITHIN at most for what is counted row by row."""
    with connection.cursor() as cursor:
        cursor.execute(_TABLES, [["checkpoints", "checkpoint_blobs", "checkpoint_writes"]])
        tables = [TableCost(*row) for row in cursor.fetchall()]
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{WITHIN}'")
            cursor.execute(_AGENTS)
            agents = [AgentCost(*row) for row in cursor.fetchall()]
            runs, rows, size = _freed(cursor, timedelta(days=environment().keep_steps_days))
            _, _, in_all = _freed(cursor, timedelta())
            due = sweeping.due_for_deletion().count()
    except OperationalError:  # the time is over
        return Costs(tables, is_counted=False)
    return Costs(tables, agents, runs, rows, size, max(0, in_all - size), due)


def _freed(cursor: Any, after: timedelta) -> tuple[int, int, int]:
    cursor.execute(_FREED, {"after": after})
    runs, rows, size = cursor.fetchone()
    return runs, rows, size


def as_json(found: Costs) -> dict[str, Any]:
    return {
        "bytes": found.size,
        "tables": [{"name": one.name, "bytes": one.size, "rows": one.rows} for one in found.tables],
        "agents": [{"agent": one.agent or None, "threads": one.threads, "bytes": one.size} for one in found.agents],
        "sweep": {"runs": found.sweep_runs, "rows": found.sweep_rows, "bytes": found.sweep_size},
        "later": {"bytes": found.soon_size},
        "threads_due": found.threads_due,
        "is_counted": found.is_counted,
        "policy": {
            "keep_steps_days": environment().keep_steps_days,
            "keep_threads_days": environment().keep_threads_days or None,
            "audit_days": environment().audit_days,
        },
    }
