"""Say what may be executed under an approval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from approvals.digest import digest_of, read_canonical
from approvals.errors import NotAuthorised
from approvals.models import Approval, Verdict
from approvals.permissions import may_decide


@dataclass(frozen=True)
class Authorised:
    """An effect that a person approved: exactly this tool with exactly these arguments."""

    approval_id: str
    kind: str
    tool: str
    arguments: dict[str, Any]
    decision_id: str
    decided_by: str
    verdict: str
    run_id: str


def authorise(*, approval_id: str, digest: str) -> Authorised:
    """Return what may be executed under the approval, read again from its canonical bytes.

    Call it inside the transaction that starts the effect. Raises NotAuthorised when the approval is not decided,
    not approved, the digest differs anywhere, or the person who decided has since lost the right.
    """
    approval = Approval.objects.select_for_update().filter(pk=approval_id).first()
    if approval is None:
        raise NotAuthorised(f"There is no approval {approval_id}.")
    canonical = bytes(approval.canonical)
    if not digest == approval.digest == digest_of(canonical):
        raise NotAuthorised("The proposal is not the one that was approved: its digest differs.")
    if approval.status != Approval.Status.DECIDED:
        raise NotAuthorised(f"The approval is {approval.status}, not decided.")
    decision = approval.decisions.select_related("by").order_by("-at").first()
    if decision is None or decision.digest != digest:
        raise NotAuthorised("The decision was about another version of the proposal.")
    if decision.verdict != Verdict.APPROVE and approval.kind == Approval.Kind.ACTION:
        raise NotAuthorised(f"The verdict was {decision.verdict}.")
    permit = may_decide(decision.by, approval)
    if not permit.allowed:
        raise NotAuthorised(f"{decision.by.username} may no longer decide this: {permit.sentence}")
    tool, arguments = read_canonical(canonical)
    by = decision.by.username
    return Authorised(approval.pk, approval.kind, tool, arguments, decision.pk, by, decision.verdict, approval.run_id)
