"""Put an open request under what the policy says of it now: a new version of the same bytes, where that differs."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction

from approvals.errors import NoSuchApproval, StaleTerms
from approvals.models import Approval, ProposalVersion
from approvals.policies import asking
from approvals.proposal.terms import WORDS
from approvals.record import audit
from approvals.services import decision_sql
from approvals.services.closing import close_by_policy
from console.live.announce import announce


def renew_terms(approval_id: str) -> None:
    """Ask the policy again about an open request, for the data that the agent had read is older or newer than before.

    Part of a caller's transaction. Nothing happens where the terms are the same, or the request is closed.
    """
    with transaction.atomic():
        held = decision_sql.hold(approval_id)
        if held is None:
            raise NoSuchApproval
        if held.approval.is_open:
            renewed(held.approval)


def renewed(approval: Approval) -> StaleTerms | None:
    """Put the approval under the policy's present terms if they differ; say so, because nobody has seen them."""
    stood, now = approval.given_terms, asking.terms_now(approval)
    different = stood.differences(now, is_escalated="escalate" in approval.climbed)
    if not different:
        return None
    changed = ", ".join(WORDS[name] for name in different)
    asking.under_terms(approval, now)
    next_version(approval, ProposalVersion.Reason.TERMS, detail=f"The policy changed: {changed}.")
    announce("inbox", f"approval:{approval.pk}", f"run:{approval.run_id}")
    body = {"version": approval.version, "policy": now.policy_version, "rule": now.rule, "changed": different}
    audit.record(actor="policy", kind="approval.terms_changed", subject=approval.pk, body=body)
    close_by_policy(approval)
    return StaleTerms(approval.version, changed)


def next_version(approval: Approval, reason: str, *, made_by: User | None = None, detail: str = "") -> None:
    """Save the approval as its next version, with the bytes and terms that were put into it."""
    approval.version += 1
    approval.save(
        update_fields=[
            "version",
            "canonical",
            "digest",
            "summary",
            "terms",
            "policy_version",
            "audience",
            "people",
            "verdicts",
            "needed",
            "risk",
        ]
    )
    ProposalVersion.objects.create(
        approval=approval,
        version=approval.version,
        reason=reason,
        canonical=approval.canonical,
        digest=approval.digest,
        summary=approval.summary,
        made_by=made_by,
        detail=detail[:500],
    )
