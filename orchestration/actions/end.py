"""End: the row is closed in this transaction, whatever has become of the workflow, which is terminated afterwards.

The ledger begins no effect of a run that is closed; what has begun is not stopped, and its end is still written.
"""

from __future__ import annotations

from typing import Any

from console import outbox
from console.outbox import Kind
from orchestration import ending
from orchestration.actions import asked_end, facts
from orchestration.actions.base import Action, Preview, Wish
from orchestration.diagnosis.told import asked_to_end
from orchestration.models import Run


def preview(run: Run, _: Any) -> Preview:
    facts.check_open(run)
    found = facts.effects_under_way(run)
    if run.ending:
        found.append(f"{asked_to_end(run.ending)} That is under way, and this overtakes it.")
    return facts.of_closing(run, found)


def do(run: Run, wish: Wish) -> None:
    asked_end.keep(run, wish, "end")
    outbox.enqueue(kind=Kind.TERMINATE_RUN, subject=run.pk, payload={"run_id": run.pk, "era": run.era})
    cancelled = str(Run.Status.CANCELLED)
    ending.close_run(run_id=run.pk, status=cancelled, kind=ending.ENDED, message="", actor=wish.by)


ACTION = Action(
    name="end",
    title="End this run now",
    button="End it now",
    icon="circle-x",
    explains="It is closed at once, whatever has become of its workflow, which is terminated. The agent is not asked.",
    said="The run is ended. The reason is in the record.",
    kind="run.end_requested",
    preview=preview,
    do=do,
    is_same=asked_end.is_asked_by("end"),
    overtakes=True,
)
