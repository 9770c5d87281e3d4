"""Cancel: Temporal asks the workflow to stop, which closes the row. It needs a worker, and waits for Temporal."""

from __future__ import annotations

from typing import Any

from console import outbox
from console.outbox import Kind
from orchestration.actions import asked_end, facts
from orchestration.actions.base import Action, Preview, Wish
from orchestration.models import Run


def preview(run: Run, _: Any) -> Preview:
    facts.check_open(run)
    found = facts.effects_under_way(run)
    parts = facts.parts_alive()
    if "worker" not in parts:
        found.append("No worker is alive: a cancelled run ends when one is back. To close it now, end it.")
    return facts.of_closing(run, [*found, *facts.temporal_away(parts)])


def do(run: Run, wish: Wish) -> None:
    asked_end.keep(run, wish, "cancel")
    outbox.enqueue(kind=Kind.CANCEL_RUN, subject=run.pk, payload={"run_id": run.pk, "era": run.era})


ACTION = Action(
    name="cancel",
    title="Cancel this run",
    button="Cancel the run",
    icon="circle-slash",
    explains="Its workflow is asked to stop, and closes it. That needs a worker; where none is alive, end it instead.",
    said="The run is being cancelled. The reason is in the record.",
    kind="run.cancel_requested",
    preview=preview,
    do=do,
    is_same=asked_end.is_asked_by("cancel"),
    is_offered=lambda run: run.status in Run.OPEN and not run.ending,
)
