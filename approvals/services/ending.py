"""What becomes of a run's requests when the run ends, however it ends."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from approvals.models import Approval, Decision, ReceiptStep
from approvals.services import reminders
from approvals.services.ladder import withdraw_each
from approvals.services.receipts import note_effect, note_receipt, stand_still


@dataclass(frozen=True)
class LetGo:
    """What nobody does any more because a run has ended: ids, oldest first."""

    withdrawn: list[str]  # approvals that were open
    voided: list[str]  # approvals that were decided, and whose effect has not begun
    told: list[str]  # the people who had decided, by their user names


def open_of_run(run_id: str) -> list[str]:
    """Return the ids of a run's open approvals, oldest first."""
    rows = Approval.objects.filter(run_id=run_id, status=Approval.Status.PENDING)
    return list(rows.order_by("opened_at", "pk").values_list("pk", flat=True))


def not_begun_of_run(run_id: str, begun: list[str]) -> list[str]:
    """Return the ids of a run's approvals that were decided and did not take effect and may yet.

    `begun`: those that have begun, left out as well as what was refused for good.
    """
    refused = ReceiptStep.objects.filter(approval=OuterRef("pk"), step=ReceiptStep.Step.REFUSED)
    rows = Approval.objects.filter(run_id=run_id, status=Approval.Status.DECIDED, took_effect_at=None)
    rows = rows.exclude(Exists(refused)).exclude(pk__in=begun)
    return list(rows.order_by("opened_at", "pk").values_list("pk", flat=True))


def decisions_of(approval_ids: list[str]) -> list[str]:
    """Return the ids of all decisions on the approvals."""
    rows = Decision.objects.filter(approval_id__in=approval_ids).order_by("at", "pk")
    return list(rows.values_list("pk", flat=True))


def hold_of_run(run_id: str) -> None:
    """Hold a run's approvals that are open, or decided and not in effect yet, so that a decision under way ends first.

    Part of a caller's transaction, which holds the run's row: that comes before its approvals. What it reads from then
    on stays so.
    """
    is_not_over = Q(status=Approval.Status.PENDING) | Q(status=Approval.Status.DECIDED, took_effect_at=None)
    rows = Approval.objects.select_for_update(no_key=True).filter(is_not_over, run_id=run_id).order_by("pk")
    list(rows.values_list("pk", flat=True))


def set_back(*, run_id: str, asked: list[str], reason: str, actor: str, begun: list[str]) -> LetGo:
    """Let what a run had asked die, for it was set back to before that: it asks again, and that is decided again.

    `asked`: approvals of the run. What is open is withdrawn, and the run hears of no silence from before. What was
    decided and has not begun is refused for good, so that no effect can rest on it, and whoever decided is told, by
    mail too. Part of a caller's transaction.
    """
    with transaction.atomic():
        hold_of_run(run_id)
        voided = [pk for pk in not_begun_of_run(run_id, begun) if pk in asked]
        for approval_id in voided:
            note_effect(approval_id=approval_id, event="refused", detail=reason, actor=actor)
        expired = Approval.objects.filter(pk__in=asked, run_id=run_id, status=Approval.Status.EXPIRED)
        unheard = expired.exclude(receipt__step=ReceiptStep.Step.RESUMED)
        note_receipt(approval_ids=sorted(unheard.values_list("pk", flat=True)), step="refused", detail=reason)
        withdrawn = withdraw_each(run_id=run_id, reason=reason, actor=actor, only=asked)
        ids = (*withdrawn, *voided)
        told = sorted({name for pk in ids for name in reminders.tell_ended(pk, step=reminders.SET_BACK)})
    return LetGo(withdrawn, voided, told)


def let_go(*, run_id: str, reason: str, actor: str, begun: list[str]) -> LetGo:
    """Withdraw what a run that has ended left open, and let what was decided in vain stand in the lane at once.

    `begun`: approvals whose effect has begun; nobody here knows its end. Whoever had decided anything of this is told,
    by mail too. Call it in the transaction that closes the run. A repetition finds nothing left.
    """
    with transaction.atomic():
        hold_of_run(run_id)
        voided = not_begun_of_run(run_id, begun)
        stand_still(run_id)
        withdrawn = withdraw_each(run_id=run_id, reason=reason, actor=actor)
        told = sorted({name for approval_id in (*withdrawn, *voided) for name in reminders.tell_ended(approval_id)})
    return LetGo(withdrawn, voided, told)
