"""What happens while an approval waits: remind, escalate, expire; and what happens when its run ends first."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F

from approvals.models import Approval
from approvals.record import audit
from approvals.services import reminders
from console import outbox
from console.clock import DatabaseNow, database_now
from console.live.announce import announce
from console.outbox import Kind

logger = logging.getLogger(__name__)

AT_ONCE: Final = 50  # approvals in one look at what is overdue
NOBODY: Final[dict[str, Any]] = {"claimed_by": None, "claimed_at": None}  # a closed approval is held by nobody


@dataclass(frozen=True)
class Rung:
    """Where one approval stands on its ladder: the next step's time (aware, UTC), `None` once it is closed."""

    approval_id: str
    next_step_at: datetime | None


# The first looks at one index, the second reads every pending row. A workflow that is alive takes its own steps, and
# gets half a minute for those that close nothing.
_PAST_DEADLINE = """
SELECT id FROM approvals_approval WHERE status = 'pending' AND due_at <= signalbox_now() ORDER BY due_at, id LIMIT %s
"""
_STEP_MISSED = """
SELECT id FROM approvals_approval
WHERE status = 'pending'
  AND (ladder -> steps_climbed::int ->> 'at')::timestamptz <= signalbox_now() - interval '30 seconds'
ORDER BY due_at, id LIMIT %s
"""


def climb_overdue(*, all_steps: bool = False) -> bool:
    """Close what is past its deadline although nobody closed it, at most AT_ONCE of it; return whether any was.

    Whoever should have done so, a run's workflow or a program's watch, may be gone; if it is not, it is woken.
    `all_steps`: also remind and escalate where that is overdue. Call it again while it returns True.
    """
    with connection.cursor() as cursor:
        cursor.execute(_STEP_MISSED if all_steps else _PAST_DEADLINE, [AT_ONCE])
        overdue = [row[0] for row in cursor.fetchall()]
    return sum(_climbs(approval_id) for approval_id in overdue) > 0


def _climbs(approval_id: str) -> bool:
    """Climb one; return whether that went well. One that cannot be climbed must not keep the deadlines of others."""
    try:
        _climb_one(approval_id, wake=True)
    except (OperationalError, InterfaceError):
        raise  # the database is away, for all of them
    except Exception:
        logger.exception("the ladder of %s cannot be climbed", approval_id)
        return False
    return True


def climb(approval_ids: list[str]) -> list[Rung]:
    """Take every ladder step that is due, by the database's clock, and say when the next one is.

    Remind announces again, escalate widens the audience, both by mail too (`approvals.services.reminders`); expire
    closes. Each step is a conditional update on the number of steps taken, so that a repeated or concurrent call takes
    none twice, and on the version and its policy, so that none gives back an audience that other terms have replaced; a
    decision wins over a late expiry.
    """
    return [_climb_one(approval_id) for approval_id in approval_ids]


def _climb_one(approval_id: str, *, wake: bool = False) -> Rung:
    while True:
        with transaction.atomic():
            approval = Approval.objects.get(pk=approval_id)
            if not approval.is_open:
                return Rung(approval_id, None)
            rung = approval.ladder[approval.steps_climbed]
            due_at = datetime.fromisoformat(rung["at"])
            if due_at > database_now():
                return Rung(approval_id, due_at)
            if _take_step(approval, rung["step"]) and wake and rung["step"] == "expire":
                _wake_who_waits(approval)


def _take_step(approval: Approval, step: str) -> bool:
    """Take one step; return False when it was taken or overtaken meanwhile."""
    changes: dict[str, Any] = {"steps_climbed": F("steps_climbed") + 1}
    if step == "expire":
        changes = {"status": Approval.Status.EXPIRED, "closed_at": DatabaseNow(), **NOBODY}
    elif step == "escalate":
        changes["audience"] = sorted({*approval.audience, *approval.given_terms.escalate_to})
    taken = Approval.objects.filter(
        pk=approval.pk,
        status=Approval.Status.PENDING,
        steps_climbed=approval.steps_climbed,
        version=approval.version,
        policy_version=approval.policy_version,
    ).update(**changes)
    if not taken:
        return False  # somebody decided or changed it, or another worker took the step
    announce("inbox", f"approval:{approval.pk}", f"run:{approval.run_id}")
    body: dict[str, Any] = {"step": step}
    if step != "expire":
        approval.refresh_from_db()
        body["told"] = reminders.tell(approval, step)
    audit.record(actor="ladder", kind=f"approval.{_STEP_KINDS[step]}", subject=approval.pk, body=body)
    return True


def escalate_now(*, approval_id: str, actor: str) -> bool:
    """Ask those whom the policy escalates to, before the ladder does; return False when they are asked already.

    Nobody else is: the terms of the request say who. The ladder's step counts as taken, so that it is not taken again.
    """
    with transaction.atomic():
        approval = Approval.objects.select_for_update(no_key=True, of=("self",)).get(pk=approval_id)
        further = sorted(set(approval.given_terms.escalate_to) - set(approval.audience))
        if not approval.is_open or not further:
            return False
        approval.audience = sorted({*approval.audience, *further})
        _bring_escalation_forward(approval)
        approval.save(update_fields=["audience", "ladder", "steps_climbed"])
        announce("inbox", f"approval:{approval.pk}", f"run:{approval.run_id}")
        body = {"step": "escalate", "early": True, "told": reminders.tell(approval, "escalate")}
        audit.record(actor=actor, kind="approval.escalated", subject=approval.pk, body=body)
    return True


def _bring_escalation_forward(approval: Approval) -> None:
    """Put the step "escalate" among those taken, without saving it: they say who may decide, also at execution."""
    if "escalate" in approval.climbed:
        return
    taken, to_come = approval.ladder[: approval.steps_climbed], approval.ladder[approval.steps_climbed :]
    now = {"step": "escalate", "at": database_now().isoformat()}
    approval.ladder = [*taken, now, *(rung for rung in to_come if rung["step"] != "escalate")]
    approval.steps_climbed += 1


def _wake_who_waits(approval: Approval) -> None:
    """Have the relay tell the run, or the program's watch, that the approval is closed; it reads the row."""
    if approval.is_seeded:
        return
    closed = {"run_id": approval.run_id, "approval_id": approval.pk, "decision_id": f"{approval.pk}:expired"}
    outbox.enqueue(
        kind=Kind.ANSWER_THREAD if approval.agent_server else Kind.DECIDED, subject=approval.run_id, payload=closed
    )


_STEP_KINDS = {"remind": "reminded", "escalate": "escalated", "expire": "expired"}


def withdraw(*, run_id: str, reason: str, actor: str) -> int:
    """Close every pending approval of a run that has ended; return how many. A repetition closes none."""
    return len(withdraw_each(run_id=run_id, reason=reason, actor=actor))


def withdraw_each(
    *,
    run_id: str,
    reason: str,
    actor: str,
    only: list[str] | None = None,
    but_for_interrupts: Collection[str] | None = None,
) -> list[str]:
    """Close every pending approval of a run that has ended, or `only` these; return their ids, oldest first.

    `but_for_interrupts`: of a run that goes on, the interrupts that it still waits for; those without one stay too.
    """
    with transaction.atomic(savepoint=False):
        rows = Approval.objects.select_for_update(no_key=True).filter(run_id=run_id, status=Approval.Status.PENDING)
        if only is not None:
            rows = rows.filter(pk__in=only)
        if but_for_interrupts is not None:
            rows = rows.exclude(interrupt_id__in={*but_for_interrupts, ""})
        pending = list(rows.order_by("pk"))
        for approval in pending:
            approval.status, approval.closed_at = Approval.Status.WITHDRAWN, database_now()
            approval.claimed_by = approval.claimed_at = None
            approval.save(update_fields=["status", "closed_at", "claimed_by", "claimed_at"])
            announce("inbox", f"approval:{approval.pk}", f"run:{run_id}")
            audit.record(actor=actor, kind="approval.withdrawn", subject=approval.pk, body={"reason": reason})
    return [approval.pk for approval in sorted(pending, key=lambda one: (one.opened_at, one.pk))]
