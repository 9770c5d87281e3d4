"""Retry now: a turn that fails waits longer after each attempt, and one paused in Temporal for good; this ends it."""

from __future__ import annotations

from typing import Any

from console import outbox
from console.outbox import Kind
from orchestration import failing
from orchestration.actions import facts
from orchestration.actions.base import Action, Preview, Wish
from orchestration.diagnosis import look
from orchestration.errors import ActionRefused
from orchestration.models import Effect, Run


def preview(run: Run, _: Any) -> Preview:
    facts.check_open(run)
    failure, is_held = failing.failure_of(run), _is_held(run)
    if run.paused:
        raise ActionRefused(f"{run.paused['by']} has paused it: {run.paused['reason']} Resume it first.")
    found = []
    if is_held:
        found.append(f"Somebody has paused turn {run.turn} in Temporal itself. It goes on.")
    elif failure is None:
        raise ActionRefused("Its turn does not fail, so nothing waits to be tried again.")
    if failure is not None:
        found.append(
            f"Turn {run.turn} has failed {failure.attempt} time{'' if failure.attempt == 1 else 's'}. What is still"
            " wrong fails again, and the wait begins again."
        )
    begun = run.effects.filter(status=Effect.Status.EXECUTING).order_by("started_at")
    for effect in begun:
        if effect.is_idempotent:
            found.append(f"{effect.tool} is asked again under its key, which makes it happen once.")
        else:
            found.append(f"{effect.tool} was cut off. It is not repeated: a person is asked whether it happened.")
    parts = facts.parts_alive()
    if "worker" not in parts:
        found.append("No worker is alive: it is tried when one is back.")
    return Preview(warnings=[*found, *facts.temporal_away(parts)], depends_on=(run.turn, run.era))


def _is_held(run: Run) -> bool:
    seen = look.read(run.seen)  # what the relay saw last: an action asks Temporal nothing while it holds the run
    return seen is not None and seen.turn is not None and seen.turn.is_held


def _is_offered(run: Run) -> bool:
    waits = failing.failure_of(run) is not None or _is_held(run)
    return waits and not run.paused and not run.ending


def do(run: Run, wish: Wish) -> None:
    outbox.enqueue(kind=Kind.RETRY_TURN, subject=run.pk, payload={"run_id": run.pk})


ACTION = Action(
    name="retry_now",
    title="Try again now",
    button="Try again now",
    icon="rotate-cw",
    explains="Its turn fails and is tried again by itself, after a wait that grows, or somebody has paused it in"
    " Temporal. This ends the wait.",
    said="It is tried again now.",
    kind="run.retry_requested",
    preview=preview,
    do=do,
    is_grave=False,
    may_be_repeated=True,
    is_offered=_is_offered,
)
