"""Pause: our own flag, which the run meets before its next turn. What is under way comes to its end first.

People can decide meanwhile, and what they decide is taken up when the run is resumed. Deadlines go on.
"""

from __future__ import annotations

from typing import Any

from approvals import services as approvals
from console.clock import database_now
from orchestration.actions import facts
from orchestration.actions.base import Action, Preview, Wish
from orchestration.errors import ActionRefused
from orchestration.models import Effect, Run


def preview(run: Run, _: Any) -> Preview:
    facts.check_open(run)
    if run.paused:
        raise ActionRefused(f"{run.paused['by']} has paused it already: {run.paused['reason']}")
    found = []
    if run.status == Run.Status.RUNNING:
        found.append(f"Turn {run.turn} is under way and not stopped: the run pauses before the next attempt or turn.")
    for effect in run.effects.filter(status=Effect.Status.EXECUTING).order_by("started_at"):
        found.append(f"{effect.tool} is being carried out right now and is not stopped.")
    if waiting := approvals.open_of_run(run.pk):
        ones = "1 request stays" if len(waiting) == 1 else f"{len(waiting)} requests stay"
        found.append(f"{ones} open and can be decided, and deadlines go on. Nothing is taken up before it resumes.")
    return Preview(warnings=found)


def do(run: Run, wish: Wish) -> None:
    run.paused = {"by": wish.by, "reason": wish.reason, "at": database_now().isoformat()}
    if run.status in (Run.Status.WAITING, Run.Status.STARTING):  # one that works is paused when its turn is over
        run.status = Run.Status.PAUSED
    run.save(update_fields=["paused", "status"])


def is_same(run: Run, by: str) -> bool:
    return run.status in Run.OPEN and bool(run.paused) and (run.paused or {}).get("by") == by


ACTION = Action(
    name="pause",
    title="Pause this run",
    button="Pause the run",
    icon="circle-pause",
    explains="It begins no further turn until somebody resumes it. A turn that is under way comes to its end first, "
    "with the effects that were approved for it. Nothing is lost.",
    said="The run is paused. Resume it when it may go on.",
    kind="run.paused",
    preview=preview,
    do=do,
    is_same=is_same,
    is_grave=False,
    is_offered=lambda run: run.status in Run.OPEN and not run.paused and not run.ending,
)
