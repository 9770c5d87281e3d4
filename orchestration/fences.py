"""The fence of a run: only its newest attempt may start an effect or move the run.

Which of two attempts is newer says (era, turn, attempt), compared as one. A run that is set back or forked gets another
era, in which turns begin below those that were taken before. Of two attempts of one turn the one that Temporal made due
later is newer too: somebody may have it count from 1 again (`temporal activity reset`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from console import planned_once
from console.plain_rows import Rows
from orchestration import failing
from orchestration.contracts import Turn
from orchestration.errors import Fenced, NoSuchRun, RunClosed
from orchestration.models import Run

TEMPORAL_RUNS_AT_MOST: Final = 500  # kept of one run, the newest


@dataclass(frozen=True)
class Attempt:
    """One attempt of a turn, as Temporal names it. After a reset the same turn comes again, in another Temporal run."""

    temporal_run_id: str
    turn: int
    number: int  # from 1
    due_at: float = 0.0  # when Temporal made it due, seconds since 1970 by its clock; 0.0: not known


@dataclass(frozen=True)
class HeldRun:
    """A run whose row is locked until the transaction ends."""

    run: Run
    now: datetime  # the database's time


_RUNS: Final = Rows(Run)
# By hand, for both stand in the path of every click, between the signal and the agent's next node.
_HOLD = f"SELECT {_RUNS.columns('r')}, signalbox_now() FROM orchestration_run r WHERE r.id = %s FOR NO KEY UPDATE"
_TAKE = """
UPDATE orchestration_run
SET temporal_runs = %s, temporal_run_id = %s, era = %s, fence = %s, turn = %s, status = 'running' WHERE id = %s
"""


def hold(run_id: str) -> HeldRun:
    """Lock the run and read it. Part of a caller's transaction. Raises NoSuchRun."""
    with planned_once.cursor() as cursor:
        cursor.execute(_HOLD, [run_id])
        found = cursor.fetchone()
    if found is None:
        raise NoSuchRun("This database does not know the run; it may be older than the engines.")
    *row, now = found
    return HeldRun(_RUNS.read(row), now)


def take(run: Run, turn: Turn, attempt: Attempt) -> None:
    """Take the fence of a run that the caller's transaction holds.

    An attempt takes it when it is newer than all that have begun in the same Temporal run, and of no older era than the
    run. A Temporal run belongs to the era in which its first turn began, or to a later one that its turns name. Two
    Temporal runs of one workflow are never both alive: a late attempt of a run that was reset takes the fence once more
    at most, and the next attempt of the living run takes it back. Raises RunClosed, Fenced.
    """
    if run.status not in Run.OPEN:
        raise RunClosed(turn.run_id, run.status)
    before = next((one for one in run.temporal_runs if one["id"] == attempt.temporal_run_id), None)
    era = max(turn.era, run.era if before is None else _order_of(before)[0])
    newest = max((run.era, 0, 0), (0, 0, 0) if before is None else _order_of(before))
    if (era, attempt.turn, attempt.number) <= newest and not _counts_anew(before, era, run.era, attempt):
        raise Fenced(f"A newer attempt of {turn.run_id} has begun.")
    if before is not None and _ended_without_a_word(run, before, attempt):
        failing.note_lost(run, turn, before["attempt"])
    others = [one for one in run.temporal_runs if one["id"] != attempt.temporal_run_id]
    mine = {"era": era, **kept_of(attempt)}
    run.temporal_runs = [*others, mine][-TEMPORAL_RUNS_AT_MOST:]
    run.temporal_run_id = attempt.temporal_run_id
    run.era, run.fence, run.turn, run.status = era, run.fence + 1, turn.turn, Run.Status.RUNNING
    moved: list[Any] = [json.dumps(run.temporal_runs), run.temporal_run_id, run.era, run.fence, run.turn, run.pk]
    with planned_once.cursor() as cursor:
        cursor.execute(_TAKE, moved)


def kept_of(attempt: Attempt) -> dict[str, Any]:
    """Return what the run's row keeps of an attempt, beside its era."""
    return {
        "id": attempt.temporal_run_id,
        "turn": attempt.turn,
        "attempt": attempt.number,
        "due": attempt.due_at,
    }


def era_of(run: Run, temporal_run_id: str, started_for: int) -> int:
    """Return the era that a Temporal run of the run's workflow belongs to; `started_for`: the era of its StartRun."""
    before = next((one for one in run.temporal_runs if one["id"] == temporal_run_id), None)
    return started_for if before is None else max(started_for, _order_of(before)[0])


def begin_era(run: Run) -> None:
    """Raise the run's era: no attempt that has begun may start an effect or move the run any more.

    Part of a caller's transaction, which holds the row. Who takes the next turn is a Temporal run that has taken none.
    """
    run.era, run.fence = run.era + 1, run.fence + 1
    run.save(update_fields=["era", "fence"])


def let_go(turn: Turn, fence: int) -> None:
    """Note that the attempt ended early and well, for its worker is stopping; the next one does not miss it.

    Part of a caller's transaction.
    """
    run = Run.objects.select_for_update(no_key=True).filter(pk=turn.run_id, fence=fence).first()
    if run is not None and run.temporal_runs:
        run.temporal_runs[-1]["ended"] = True
        run.save(update_fields=["temporal_runs"])


def _order_of(entry: dict[str, Any]) -> tuple[int, int, int]:
    return int(entry.get("era", 0)), int(entry["turn"]), int(entry["attempt"])  # older rows have no era


def _counts_anew(before: dict[str, Any] | None, era: int, era_of_run: int, attempt: Attempt) -> bool:
    """Return whether the attempt is newer than the one before though its number is not."""
    if before is None or (era, attempt.turn) != (_order_of(before)[0], before["turn"]) or era < era_of_run:
        return False
    due_before = float(before.get("due", 0.0))  # older rows have none
    return attempt.due_at > due_before > 0.0


def _ended_without_a_word(run: Run, before: dict[str, Any], attempt: Attempt) -> bool:
    """Return whether the attempt just before this one has said neither why it failed nor that it was let go."""
    is_the_one_before = (before["turn"], before["attempt"]) == (attempt.turn, attempt.number - 1)
    told: dict[str, Any] = run.failure or {}
    has_told = (told.get("turn"), told.get("attempt")) == (before["turn"], before["attempt"])
    return is_the_one_before and not has_told and not before.get("ended")
