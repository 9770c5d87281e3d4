"""Keep in each run's row why it needs somebody: for the stuck list, its mail and its count.

Most causes are in the rows: those are examined every few seconds, a constant number of queries at a time. What only
Temporal knows comes with the relay's looks (`orchestration.reconciling`), at most five a second, and is kept with the
run until it moves. A run is written to only while it stands as it was examined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.db import connection, transaction

from approvals.reading.reach import runs_that_nobody_can_free
from console.clock import database_now
from console.live.announce import announce
from console.outbox import Kind
from orchestration import checkpoint_gateway, troubles
from orchestration.diagnosis.diagnosing import Diagnosis, diagnose_many
from orchestration.diagnosis.facts import ENDING
from orchestration.diagnosis.look import Look
from orchestration.diagnosis.parts import RESTARTS_WITHIN, note_parts, parts_now
from orchestration.models import Run

AT_ONCE: Final = 500  # runs examined in one step
AGAIN_AFTER: Final = 20  # seconds between two examinations of one run
TOLD_AT_MOST: Final = 50  # runs whose open pages hear of it in one step

#: runs that their rows make suspect, the longest unexamined first
_SUSPECTS = """
SELECT r.id FROM orchestration_run r
WHERE r.status IN ('starting', 'running', 'waiting', 'paused')
  AND (r.looked_at IS NULL OR r.looked_at < signalbox_now() - %(again)s * interval '1 second')
  AND r.id IN (
    SELECT id FROM orchestration_run WHERE failing_since IS NOT NULL
    UNION SELECT subject FROM console_outboxentry
          WHERE delivered_at IS NULL AND kind = ANY(%(kinds)s) AND created_at < signalbox_now() - interval '30 seconds'
    UNION SELECT run_id FROM approvals_approval WHERE expected_by <= signalbox_now() AND source = 'agent'
    UNION SELECT run_id FROM orchestration_effect WHERE status IN ('executing', 'unknown')
    UNION SELECT id FROM orchestration_run WHERE cause <> ''
    UNION SELECT unnest(%(others)s::text[])
    UNION SELECT id FROM orchestration_run
          WHERE %(is_idle)s AND status IN ('starting', 'running') AND look_due_at <= signalbox_now()
  )
ORDER BY r.looked_at NULLS FIRST LIMIT %(most)s
"""
_KINDS = [str(kind) for kind in (Kind.START_RUN, Kind.RESTART_RUN, Kind.DECIDED, *ENDING)]
_KEEP = """
UPDATE orchestration_run r
SET looked_at = signalbox_now(), cause = n.cause, cause_group = n.cause_group, cause_rank = n.cause_rank,
    cause_sentence = n.sentence,
    cause_since = CASE WHEN n.cause = '' THEN NULL
                       ELSE coalesce(n.since, CASE WHEN r.cause = n.cause THEN r.cause_since END, signalbox_now()) END
FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[], %s::text[], %s::int[], %s::text[], %s::timestamptz[])
     AS n (id, status, fence, cause, cause_group, cause_rank, sentence, since)
WHERE r.id = n.id AND r.status = n.status AND r.fence = n.fence
RETURNING r.id
"""


def step(temporal_fault: str | None, *, is_known: bool = True) -> bool:
    """Examine the runs that their rows make suspect; return whether there are more at once.

    `temporal_fault`: why Temporal does not answer this relay, `None` while it does; not `is_known` by one that has only
    begun to look for it. Four relays do no harm.
    """
    note_parts(temporal_fault, is_known=is_known)
    parts, now = parts_now(), database_now()
    away = [since for since in (parts.worker_since, parts.temporal_since) if since is not None]
    others = [*runs_that_nobody_can_free(), *checkpoint_gateway.runs_without(AT_ONCE)]
    asked: dict[str, Any] = {
        "again": AGAIN_AFTER,
        "kinds": _KINDS,
        "others": others,
        "is_idle": any(now - since >= RESTARTS_WITHIN for since in away),
        "most": AT_ONCE,
    }
    with connection.cursor() as cursor:
        cursor.execute(_SUSPECTS, asked)
        ids = [row[0] for row in cursor.fetchall()]
    examine(list(Run.objects.filter(pk__in=ids).defer("result").order_by("pk")))
    troubles.forget_those_that_are_over()
    return len(ids) == AT_ONCE


def seen(run_id: str, look: Look) -> None:
    """Keep what Temporal has just said of a run, and examine it with that."""
    Run.objects.filter(pk=run_id, status__in=Run.OPEN).update(seen=look.as_json())
    examine(list(Run.objects.filter(pk=run_id, status__in=Run.OPEN)))


def examine(runs: Sequence[Run]) -> list[Diagnosis]:
    """Diagnose open runs by their rows and keep what was found; return those that need somebody."""
    found = diagnose_many(runs)
    if not found:
        return []
    before = {run.pk: run for run in runs}
    stuck = {one.run_id: one for one in found if one.needs_somebody and one.cause.rank is not None}
    with transaction.atomic():
        kept = _keep([before[one.run_id] for one in found], stuck)
        changed = [pk for pk in kept if before[pk].cause_group != (stuck[pk].group if pk in stuck else "")]
        groups = {stuck[pk].group: stuck[pk].cause for pk in kept if pk in stuck}
        held = [troubles.hold(group, groups[group].name) for group in sorted(groups)]
        for trouble in held:
            members = [before[pk] for pk in kept if pk in stuck and stuck[pk].group == trouble.group]
            is_due = groups[trouble.group].told_at_once or any(run.stuck_at for run in members)
            troubles.note_held(trouble, members[0].pk, is_due=is_due, actor="relay")
        if changed:
            announce("runs", "health", *(f"run:{pk}" for pk in changed[:TOLD_AT_MOST]))
    return list(stuck.values())


def _keep(runs: Sequence[Run], stuck: dict[str, Diagnosis]) -> list[str]:
    """Write what was found; return the ids of those that still stand as they were examined."""
    rows = []
    for run in runs:
        one = stuck.get(run.pk)
        told = ("", "", 0, "", None)
        if one is not None:
            told = (one.cause.name, one.group[:200], one.cause.rank or 0, one.sentence, one.since)  # type: ignore[assignment]
        rows.append((run.pk, run.status, run.fence, *told))
    with connection.cursor() as cursor:
        cursor.execute(_KEEP, [list(column) for column in zip(*rows, strict=True)])
        return [row[0] for row in cursor.fetchall()]
