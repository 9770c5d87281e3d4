"""Who or what closed an approval, from its rows and the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db.models import OuterRef, QuerySet, Subquery

from approvals.models import Approval, AuditEvent, Decision, Verdict


@dataclass(frozen=True)
class Withdrawal:
    """Who took a request back and why; the reason is somebody else's text."""

    by: str
    reason: str


@dataclass(frozen=True)
class RequestClosing:
    """Who or what closed an approval, and when."""

    status: str  # decided, expired or withdrawn
    by: str | None = None  # who made the closing decision
    at: datetime | None = None
    verdict: str | None = None
    withdrawal: Withdrawal | None = None

    @property
    def sentence(self) -> str:
        """Return what happened, as everybody may read it, not only those who came late."""
        when = f" at {self.at:%H:%M:%S} UTC on {self.at:%d %B %Y}" if self.at else ""
        if self.status == "decided":
            return f"{_past(self.verdict).capitalize()} by {self.by}{when}."
        if self.status == "expired":
            return "The deadline has passed: the request expired without a decision."
        if self.withdrawal is None:
            return f"The request was withdrawn{when}: its run ended first, or who asked took it back."
        return f"The request was withdrawn{when} by {self.withdrawal.by}. The reason: {self.withdrawal.reason}"


def closing_decision(approval: Approval, decisions: Sequence[Decision] | None = None) -> Decision | None:
    """Return the decision that closed the approval, with who made it; `None` when nobody decided.

    Votes that were too few when it expired or was withdrawn closed nothing. `decisions`: all of the approval's in
    their order, where the caller has them; else a query.
    """
    if approval.status != Approval.Status.DECIDED:
        return None
    if decisions is not None:
        return decisions[-1]
    return approval.decisions.select_related("by").order_by("number").last()


#: SQL for the approval `a`, which is decided: the verdict that closed it. Votes before it may have said otherwise.
CLOSING_VERDICT: Final = (
    "(SELECT d.verdict FROM approvals_decision d WHERE d.approval_id = a.id ORDER BY d.number DESC LIMIT 1)"
)


def agreed_among(approvals: QuerySet[Approval]) -> QuerySet[Approval]:
    """Return those of decided approvals that were closed by agreement: of each, something may run."""
    verdicts = Decision.objects.filter(approval=OuterRef("pk")).order_by("-number").values("verdict")
    return approvals.alias(closing_verdict=Subquery(verdicts[:1])).filter(
        status=Approval.Status.DECIDED, closing_verdict__in=(Verdict.APPROVE, Verdict.EDIT)
    )


def closing_of(approval: Approval, decisions: Sequence[Decision] | None = None) -> RequestClosing:
    """Return who or what closed the approval; `decisions` as in `closing_decision`. A query where it was withdrawn."""
    decision = closing_decision(approval, decisions)
    by, verdict = (decision.by_name, decision.verdict) if decision else (None, None)
    return RequestClosing(approval.status, by, approval.closed_at, verdict, withdrawals_of([approval]).get(approval.pk))


def withdrawals_of(approvals: list[Approval]) -> dict[str, Withdrawal]:
    """Return by id who took each withdrawn request back and why. A query only where one is withdrawn."""
    ids = [approval.pk for approval in approvals if approval.status == Approval.Status.WITHDRAWN]
    entries = AuditEvent.objects.filter(subject__in=ids, kind="approval.withdrawn").order_by("seq") if ids else []
    return {entry.subject: Withdrawal(entry.actor, str(entry.body.get("reason", ""))) for entry in entries}


def _past(verdict: str | None) -> str:
    return {
        "approve": "approved",
        "reject": "rejected",
        "edit": "approved with change",
        "respond": "answered",
    }.get(verdict or "", "decided")
