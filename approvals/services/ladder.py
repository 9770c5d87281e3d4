"""What happens while an approval waits: remind, escalate, expire; and what happens when its run ends first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import transaction
from django.db.models import F

from approvals import audit, reminders
from approvals.models import Approval
from approvals.terms import Terms
from console.clock import DatabaseNow, database_now
from console.live import announce

NOBODY: Final[dict[str, Any]] = {"claimed_by": None, "claimed_at": None}  # a closed approval is held by nobody


@dataclass(frozen=True)
class Rung:
    """Where one approval stands on its ladder: the next step's time (aware, UTC), `None` once it is closed."""

    approval_id: str
    next_step_at: datetime | None


def climb(approval_ids: list[str]) -> list[Rung]:
    """Take every ladder step that is due, by the database's clock, and say when the next one is.

    Remind announces again, escalate widens the audience, both by mail too (`approvals.reminders`); expire closes. Each
    step is a conditional update on the number of steps taken, so that a repeated or concurrent call takes none twice,
    and on the version, so that none gives back an audience that other terms have replaced; a decision wins over a late
    expiry.
    """
    return [_climb_one(approval_id) for approval_id in approval_ids]


def _climb_one(approval_id: str) -> Rung:
    while True:
        with transaction.atomic():
            approval = Approval.objects.get(pk=approval_id)
            if approval.status != Approval.Status.PENDING:
                return Rung(approval_id, None)
            rung = approval.ladder[approval.steps_climbed]
            due_at = datetime.fromisoformat(rung["at"])
            if due_at > database_now():
                return Rung(approval_id, due_at)
            _take_step(approval, rung["step"])


def _take_step(approval: Approval, step: str) -> None:
    changes: dict[str, Any] = {"steps_climbed": F("steps_climbed") + 1}
    if step == "expire":
        changes = {"status": Approval.Status.EXPIRED, "closed_at": DatabaseNow(), **NOBODY}
    elif step == "escalate":
        changes["audience"] = sorted({*approval.audience, *Terms.from_json(approval.terms).escalate_to})
    taken = Approval.objects.filter(
        pk=approval.pk,
        status=Approval.Status.PENDING,
        steps_climbed=approval.steps_climbed,
        version=approval.version,
    ).update(**changes)
    if not taken:
        return  # somebody decided or changed it, or another worker took the step
    announce("inbox", f"approval:{approval.pk}", f"run:{approval.run_id}")
    body: dict[str, Any] = {"step": step}
    if step != "expire":
        approval.refresh_from_db()
        body["told"] = reminders.tell(approval, step)
    audit.record(actor="ladder", kind=f"approval.{_STEP_KINDS[step]}", subject=approval.pk, body=body)


_STEP_KINDS = {"remind": "reminded", "escalate": "escalated", "expire": "expired"}


def withdraw(*, run_id: str, reason: str, actor: str) -> int:
    """Close every pending approval of a run that has ended; return how many. A repetition closes none."""
    with transaction.atomic():
        pending = list(
            Approval.objects.select_for_update().filter(run_id=run_id, status=Approval.Status.PENDING).order_by("pk")
        )
        for approval in pending:
            approval.status, approval.closed_at = Approval.Status.WITHDRAWN, database_now()
            approval.claimed_by = approval.claimed_at = None
            approval.save(update_fields=["status", "closed_at", "claimed_by", "claimed_at"])
            announce("inbox", f"approval:{approval.pk}", f"run:{run_id}")
            audit.record(actor=actor, kind="approval.withdrawn", subject=approval.pk, body={"reason": reason})
    return len(pending)
