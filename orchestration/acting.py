"""What an operator does about one run: have it cancelled by its own workflow, or end it here and now.

To cancel is polite: Temporal asks the workflow, which closes the row; it needs a worker, and waits for Temporal. To end
is sure: the row is closed in this transaction, whatever has become of the workflow, which is terminated afterwards. The
ledger begins no effect of a run that is closed; what has begun is not stopped by either, and its end is still written.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from django.contrib.auth.models import User
from django.db import transaction

from approvals import services as approvals
from approvals.record import audit
from approvals.services.receipts import checked_reason
from console import health, outbox
from console.clock import DatabaseNow, database_now
from console.live.announce import announce
from console.models import OutboxEntry, PartHeartbeat
from console.outbox import Kind
from orchestration import ending
from orchestration.errors import ActionRefused, NoSuchRun
from orchestration.models import Effect, Run

Action = Literal["cancel", "end"]
ACTIONS: Final[tuple[Action, ...]] = ("cancel", "end")


@dataclass(frozen=True)
class Preview:
    """What an action would do, before anything is done: ids, oldest first, and sentences."""

    effects_repeated: list[str]  # approvals whose effect could happen again; neither action repeats one
    approvals_withdrawn: list[str]
    decisions_voided: list[str]
    checkpoints_dropped: list[str]
    warnings: list[str]

    @property
    def state(self) -> str:
        """Return a text that is another one as soon as the action would do something else."""
        told = json.dumps([self.approvals_withdrawn, self.decisions_voided])
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def preview(run: Run, action: Action) -> Preview:
    """Say what the action would do to the run now. Raises ActionRefused when it would not be taken."""
    _check(run, action, by=None)
    withdrawn, voided = approvals.open_of_run(run.pk), approvals.not_begun_of_run(run.pk, ending.begun(run.pk))
    return Preview([], withdrawn, approvals.decisions_of([*withdrawn, *voided]), [], _warnings(run, action))


def act(*, run_id: str, action: Action, reason: str, by: User, state: str = "") -> Run:
    """Do it, on the record; return the run. The same action again is the same answer.

    `state`: of the preview that the person saw; it is refused when the action would now do something else. Raises
    NoSuchRun, InvalidChange without a reason, ActionRefused.
    """
    reason = checked_reason(reason)
    with transaction.atomic():
        run = Run.objects.select_for_update(no_key=True).filter(pk=run_id).first()
        if run is None:
            raise NoSuchRun(NoSuchRun.__doc__)
        if _check(run, action, by=by):
            return run
        if state and state != preview(run, action).state:
            raise ActionRefused("The run has moved on since this was shown. Read again what it would do now.")
        asked = {"action": action, "by": by.username, "reason": reason, "at": database_now().isoformat()}
        Run.objects.filter(pk=run_id).update(ending=asked)
        outbox.enqueue(
            kind=Kind.CANCEL_RUN if action == "cancel" else Kind.TERMINATE_RUN,
            subject=run_id,
            payload={"run_id": run_id},
        )
        if action == "end":
            cancelled = str(Run.Status.CANCELLED)
            ending.close_run(run_id=run_id, status=cancelled, kind=ending.ENDED, message="", actor=by.username)
        else:
            announce("runs", f"run:{run_id}")
        body: dict[str, Any] = {"reason": reason}
        audit.record(actor=by.username, kind=f"run.{action}_requested", subject=run_id, body=body)
    run.refresh_from_db()
    return run


def is_told(run: Run) -> bool:
    """Return whether Temporal has taken what an operator asked for."""
    kinds = (Kind.CANCEL_RUN, Kind.TERMINATE_RUN)
    return not OutboxEntry.objects.filter(delivered_at=None, kind__in=kinds, subject=run.pk).exists()


def _check(run: Run, action: Action, by: User | None) -> bool:
    """Return whether this person has asked for just this before. Raises ActionRefused where it cannot be taken."""
    asked: dict[str, Any] = run.ending or {}
    is_same = by is not None and (asked.get("action"), asked.get("by")) == (action, by.username)
    if is_same:
        return True
    if run.status not in Run.OPEN:
        why = str((run.error or {}).get("message", ""))
        raise ActionRefused(f"The run is closed already: {run.status}. {why}".strip())
    if asked and action == "cancel":
        raise ActionRefused(f"{asked['by']} has asked to cancel it already: {asked['reason']}")
    return False


def _warnings(run: Run, action: Action) -> list[str]:
    found = []
    status = Effect.Status
    for effect in run.effects.filter(status__in=(status.EXECUTING, status.UNKNOWN)).order_by("started_at"):
        if effect.status == status.EXECUTING:
            found.append(
                f"{effect.tool} is being carried out right now. This does not stop it; how it ends is still recorded,"
                " as long as its worker lives."
            )
        else:
            found.append(
                f"Nobody knows whether {effect.tool} happened. The run will not ask any more: say it yourself."
            )
    if action == "end":
        if run.ending:
            found.append(f"{run.ending['by']} has asked to cancel it, and that is under way. This overtakes it.")
        return found
    alive = PartHeartbeat.objects.filter(last_seen_at__gt=DatabaseNow() - health.SILENT_AFTER)
    parts = dict(alive.values_list("part", "detail"))
    if "worker" not in parts:
        found.append("No worker is alive: a cancelled run ends when one is back. To close it now, end it.")
    if not parts.get("relay", "waiting").startswith("delivering"):
        found.append("Temporal cannot be told now. This is kept, and it is told as soon as it answers.")
    return found
