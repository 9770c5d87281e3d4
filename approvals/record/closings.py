"""Who or what closed an approval, from its rows and the record."""

from __future__ import annotations

from approvals.errors import AlreadyClosed, Withdrawal
from approvals.models import Approval, AuditEvent, Decision


def closing_decision(approval: Approval) -> Decision | None:
    """Return the decision that closed the approval, with who made it; `None` when nobody decided.

    Votes that were too few when it expired or was withdrawn closed nothing.
    """
    if approval.status != Approval.Status.DECIDED:
        return None
    return approval.decisions.select_related("by").order_by("number").last()


def closing_of(approval: Approval) -> AlreadyClosed:
    """Say who or what closed the approval, as the error that a late click gets."""
    decision = closing_decision(approval)
    by, verdict = (decision.by_name, decision.verdict) if decision else (None, None)
    return AlreadyClosed(approval.status, by, approval.closed_at, verdict, withdrawal_of(approval))


def withdrawal_of(approval: Approval) -> Withdrawal | None:
    """Return who took the request back and why, as the record has it; `None` for one that was not withdrawn."""
    return withdrawals_of([approval]).get(approval.pk)


def withdrawals_of(approvals: list[Approval]) -> dict[str, Withdrawal]:
    """Return by id who took each withdrawn request back and why. A query only where one is withdrawn."""
    ids = [approval.pk for approval in approvals if approval.status == Approval.Status.WITHDRAWN]
    entries = AuditEvent.objects.filter(subject__in=ids, kind="approval.withdrawn").order_by("seq") if ids else []
    return {entry.subject: Withdrawal(entry.actor, str(entry.body.get("reason", ""))) for entry in entries}
