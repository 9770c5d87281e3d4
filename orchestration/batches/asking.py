"""How many requests of a batch wait for people, and how many its runs at work are expected to add.

A run may ask several things at once, and nobody knows beforehand how many. So a run that has asked nothing yet counts
as many requests as the runs before it have asked; the first runs of a batch count one each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.db import connection

from orchestration.models import Batch

#: as many of the runs that go on after an answer, that wait, and that have finished say what a run asks
LOOKED_AT: Final = 50

_ASKED = """
WITH have_asked AS (
    SELECT run_id FROM orchestration_batchitem i
    WHERE batch_id = %(batch)s AND state = 'running'
      AND EXISTS (SELECT FROM approvals_approval a WHERE a.run_id = i.run_id)
), looked_at AS (
    (SELECT run_id FROM have_asked LIMIT %(runs)s)
    UNION ALL
    (SELECT run_id FROM orchestration_batchitem
     WHERE batch_id = %(batch)s AND state = 'waiting' ORDER BY number DESC LIMIT %(runs)s)
    UNION ALL
    (SELECT run_id FROM orchestration_batchitem
     WHERE batch_id = %(batch)s AND state = 'finished' ORDER BY number DESC LIMIT %(runs)s)
)
SELECT
    (SELECT count(*) FROM (SELECT FROM approvals_approval
                           WHERE batch = %(batch)s AND status = 'pending' LIMIT %(most)s) AS pending),
    (SELECT count(*) FROM have_asked),
    (SELECT count(*) FROM looked_at),
    (SELECT count(*) FROM looked_at JOIN approvals_approval a ON a.run_id = looked_at.run_id)
"""


@dataclass(frozen=True)
class AskedByRuns:
    """What the runs of a batch ask. `per_run`: what one of them asks in all, rounded up, at least 1."""

    pending: int  # that wait for people, counted to the batch's limit
    to_come: int  # that runs at work are expected to ask
    per_run: int


def asked_of(batch: Batch, running: int) -> AskedByRuns:
    """Return what the batch's runs ask; `running`: how many of them are at work. One query, each part by an index."""
    with connection.cursor() as cursor:
        cursor.execute(_ASKED, {"batch": batch.pk, "runs": LOOKED_AT, "most": batch.open_approvals})
        pending, have_asked, runs, requests = cursor.fetchone()
    per_run = max(1, _rounded_up(requests, runs)) if runs else 1
    # One that goes on after an answer may ask once more.
    to_come = have_asked + max(0, running - have_asked) * per_run
    return AskedByRuns(pending, to_come, per_run)


def room_for(batch: Batch, running: int) -> int:
    """Return how many runs may begin until about as many requests wait as may be; none or fewer: no room.

    The last of them may find room for a part of what it asks only: else none would begin where one asks for more than
    may wait.
    """
    asked = asked_of(batch, running)
    return _rounded_up(batch.open_approvals - asked.pending - asked.to_come, asked.per_run)


def _rounded_up(whole: int, by: int) -> int:
    return -(-whole // by)
