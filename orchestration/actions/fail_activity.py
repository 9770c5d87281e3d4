"""Fail the pending activity: the turn that hangs or fails again and again is failed for good, and the run with it.

An attempt that waits for its next try is brought on at once and meets the flag; one that is under way is failed in
Temporal. The workflow closes the row, as after any failure.
"""

from __future__ import annotations

from typing import Any

from console import outbox
from console.outbox import Kind
from orchestration import failing
from orchestration.actions import asked_end, facts
from orchestration.actions.base import Action, Preview, Wish
from orchestration.errors import ActionRefused
from orchestration.models import Run


def preview(run: Run, _: Any) -> Preview:
    facts.check_open(run)
    if run.status != Run.Status.RUNNING:
        raise ActionRefused(f"No turn is under way: the run is {run.status}. Cancel or end it instead.")
    found = facts.effects_under_way(run)
    parts = facts.parts_alive()
    if "worker" not in parts:
        found.append("No worker is alive: the run fails when one is back. To close it now, end it.")
    seen = facts.of_closing(run, [*found, *facts.temporal_away(parts)])
    return Preview(
        [], seen.approvals_withdrawn, seen.decisions_voided, [], seen.warnings, depends_on=(run.turn, run.era)
    )


def do(run: Run, wish: Wish) -> None:
    asked_end.keep(run, wish, "fail_activity")
    outbox.enqueue(kind=Kind.FAIL_TURN, subject=run.pk, payload={"run_id": run.pk, "era": run.era})


ACTION = Action(
    name="fail_activity",
    title="Fail this turn for good",
    button="Fail its turn",
    icon="octagon-alert",
    explains="The turn under way is not tried any more, and the run fails with your reason. It can be reset later.",
    said="The turn is being failed. The reason is in the record.",
    kind="run.fail_requested",
    preview=preview,
    do=do,
    is_same=asked_end.is_asked_by("fail_activity"),
    is_offered=lambda run: failing.failure_of(run) is not None and not run.ending,
)
