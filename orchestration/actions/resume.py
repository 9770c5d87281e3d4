"""Resume: take the pause's flag away, and wake the workflow."""

from __future__ import annotations

from typing import Any

from approvals import services as approvals
from console import outbox
from console.outbox import Kind
from orchestration.actions import facts
from orchestration.actions.base import Action, Preview, Wish
from orchestration.errors import ActionRefused
from orchestration.models import Run


def preview(run: Run, _: Any) -> Preview:
    facts.check_open(run)
    if not run.paused:
        raise ActionRefused("The run is not paused.")
    parts = facts.parts_alive()
    found = facts.temporal_away(parts)
    if "worker" not in parts:
        found.append("No worker is alive: the run goes on when one is back.")
    taken_up = len(approvals.not_begun_of_run(run.pk, []))
    if taken_up:
        word = "decision was" if taken_up == 1 else "decisions were"
        found.append(f"{taken_up} {word} made and did not take effect yet: the run takes up what is decided.")
    return Preview(warnings=found)


def do(run: Run, wish: Wish) -> None:
    run.paused = None
    if run.status == Run.Status.PAUSED:
        is_waiting = bool(approvals.open_of_run(run.pk))
        has_begun = run.started_at is not None or run.turn > 0
        run.status = Run.Status.WAITING if is_waiting else Run.Status.RUNNING if has_begun else Run.Status.STARTING
    run.save(update_fields=["paused", "status"])
    outbox.enqueue(kind=Kind.RESUME_RUN, subject=run.pk, payload={"run_id": run.pk})


ACTION = Action(
    name="resume",
    title="Resume this run",
    button="Resume the run",
    icon="play",
    explains="It goes on where it paused, and takes up what was decided meanwhile.",
    said="The run goes on.",
    kind="run.resumed",
    preview=preview,
    do=do,
    is_grave=False,
    is_offered=lambda run: run.status in Run.OPEN and bool(run.paused) and not run.ending,
)
