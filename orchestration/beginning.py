"""The begin of a turn in one statement, for it stands in the path of every click, between the signal and the next node.

It does what is usual: an open run that nobody pauses or ends, a turn above the last one of the same Temporal run, or
the first of all. It tells the run that goes on, what became of the approvals and what was approved of its model's
calls. What is not usual changes nothing here and takes the long way (`services.begin_turn`), which knows every case;
`tests/orchestration/test_beginning.py` holds the two against each other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from approvals.reading import for_runs
from approvals.reading.for_runs import Settled
from approvals.services import receipts
from console import planned_once
from console.live.announce import CHANNEL, message
from console.plain_rows import Rows
from orchestration.contracts import Turn
from orchestration.fences import Attempt, kept_of
from orchestration.models import Run

_RUNS: Final = Rows(Run)

# The fence is taken by comparing and moving the row at once: an update that had to wait for the row compares again.
_BEGIN: Final = f"""
WITH asked AS MATERIALIZED (
    SELECT * FROM approvals_approval WHERE id = ANY(%(ids)s::text[])
), answered AS MATERIALIZED (
    SELECT a.id FROM asked a
    WHERE NOT EXISTS (SELECT FROM asked o WHERE o.interrupt_id = a.interrupt_id AND o.status = 'pending')
), begun AS (
    UPDATE orchestration_run r SET
        temporal_runs = (r.temporal_runs - -1) || (%(mine)s::jsonb || jsonb_build_object('era', r.era)),
        temporal_run_id = %(temporal_run)s, fence = r.fence + 1, turn = %(turn)s, status = 'running'
    WHERE r.id = %(run)s AND (NOT %(waits)s OR EXISTS (SELECT FROM answered))
      AND r.status = ANY(%(open)s::text[]) AND r.paused IS NULL AND r.ending IS NULL AND r.era >= %(era)s
      AND CASE jsonb_array_length(r.temporal_runs)
          WHEN 0 THEN %(turn)s > 0
          ELSE r.temporal_runs -> -1 ->> 'id' = %(temporal_run)s::text
               AND coalesce((r.temporal_runs -> -1 ->> 'era')::int, 0) = r.era
               AND (r.temporal_runs -> -1 ->> 'turn')::int < %(turn)s
          END
    RETURNING r.*
), {receipts.noting("ARRAY(SELECT id FROM answered WHERE EXISTS (SELECT FROM begun))")}
SELECT {for_runs.SETTLED_JSON},
       (SELECT count(*) FROM answered),
       {for_runs.CALL_APPROVALS_JSON},
       ARRAY(SELECT pg_notify(%(channel)s, told.message)::text
             FROM unnest(%(ids)s::text[], %(messages)s::text[]) AS told (id, message)
             WHERE told.id IN (SELECT id FROM answered) AND EXISTS (SELECT FROM begun)),
       ARRAY(SELECT pg_notify(%(channel)s, topic)::text FROM unnest(%(topics)s::text[]) AS topic
             WHERE EXISTS (SELECT FROM begun)),
       signalbox_now(), {_RUNS.columns("begun")}
FROM (SELECT) AS always LEFT JOIN begun ON true
"""


@dataclass(frozen=True)
class Begun:
    """What the statement found. `run`: as it is now; `None` where nothing was begun."""

    settled: list[Settled]
    is_answered: bool  # some interrupt
    run: Run | None
    now: datetime  # the database's time
    approved_calls: dict[str, tuple[str, str]]


def begin_as_usual(turn: Turn, attempt: Attempt) -> Begun:
    """Settle what the turn waits for; where something is answered and all is as usual, take the fence and note it."""
    values: dict[str, Any] = {
        "ids": turn.approval_ids,
        "messages": [message(f"approval:{one}") for one in turn.approval_ids],
        "topics": [message(f"run:{turn.run_id}"), message("runs")],
        "channel": CHANNEL,
        "mine": json.dumps(kept_of(attempt)),
        "temporal_run": attempt.temporal_run_id,
        "turn": turn.turn,
        "run": turn.run_id,
        "era": turn.era,
        "waits": bool(turn.approval_ids),
        "open": [str(status) for status in Run.OPEN],
    }
    values |= receipts.noting_values("resumed", detail=f"turn {turn.turn}")
    with planned_once.cursor() as cursor:
        cursor.execute(_BEGIN, values)
        settled, answered, approved, _, _, now, *row = cursor.fetchone()
    run = _RUNS.read(row) if row[0] is not None else None
    return Begun(
        settled=for_runs.read_settled(settled, turn.approval_ids),
        is_answered=bool(answered),
        run=run,
        now=now,
        approved_calls=for_runs.read_call_approvals(approved) if run is not None else {},
    )
