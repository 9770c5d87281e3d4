"""Close an approval by a decision: the row, its receipt and what tells the run. Part of a caller's transaction."""

from __future__ import annotations

from datetime import timedelta

from approvals.models import Approval, Decision, ReceiptStep, Verdict
from approvals.policies.terms import Terms
from approvals.record import audit
from approvals.services.receipts import FETCHED_WITHIN, WITHIN
from console import outbox
from console.clock import DatabaseNow
from console.live.announce import announce
from console.outbox import Kind


def close(approval: Approval, decision: Decision) -> ReceiptStep:
    """Close a pending approval by the decision that completes it; return its receipt's first step.

    The caller holds the row's lock.
    """
    Approval.objects.filter(pk=approval.pk, status=Approval.Status.PENDING).update(
        status=Approval.Status.DECIDED,
        closed_at=DatabaseNow(),
        expected_by=None if approval.is_seeded else DatabaseNow() + _heard_within(approval),
        claimed_by=None,
        claimed_at=None,
    )
    step = ReceiptStep.objects.create(approval=approval, step=ReceiptStep.Step.RECORDED)
    # For whoever goes on with this object; the database's time is the same all through a transaction.
    approval.status, approval.closed_at = Approval.Status.DECIDED, step.at
    if not approval.is_seeded:  # no run waits for it
        outbox.enqueue(
            kind=Kind.DECIDED,
            subject=approval.run_id,
            payload={"run_id": approval.run_id, "approval_id": approval.pk, "decision_id": decision.pk},
        )
    announce("inbox", f"approval:{approval.pk}", f"run:{approval.run_id}")
    return step


def _heard_within(approval: Approval) -> timedelta:
    return FETCHED_WITHIN if approval.is_fetched else WITHIN[ReceiptStep.Step.RECORDED]


def close_by_policy(approval: Approval) -> Decision | None:
    """Decide what the policy decides without people: a rule that needs none, or that denies. Else return `None`."""
    terms = Terms.from_json(approval.terms)
    if terms.outcome == "ask":
        return None
    verdict = Verdict.APPROVE if terms.outcome == "allow" else Verdict.REJECT
    if verdict == Verdict.APPROVE and verdict not in approval.verdicts:
        return None  # a question has no yes: people answer
    sentence = "needs no approval" if terms.outcome == "allow" else "is never done"
    decision = Decision.objects.create(
        approval=approval,
        by=None,
        source=f"policy:{terms.rule}@{terms.policy_version}",
        verdict=verdict,
        note=f"By the rule “{terms.rule}” this {sentence}.",
        version=approval.version,
        digest=approval.digest,
        for_version=approval.version,
        for_digest=approval.digest,
        channel="policy",
        body_digest="",
    )
    close(approval, decision)
    record_decision(approval, decision, "policy", closes=True)
    return decision


def record_decision(approval: Approval, decision: Decision, actor: str, *, closes: bool) -> None:
    """Write the decision's entry into the record; `closes` tells the last vote from those before."""
    body = {
        "decision": decision.pk,
        "verdict": decision.verdict,
        "digest": decision.for_digest,
        "version": decision.for_version,
        "channel": decision.channel,
    }
    if decision.for_digest != decision.digest or decision.for_version != decision.version:
        body |= {"shown_digest": decision.digest, "shown_version": decision.version}
    if decision.note or decision.answer is not None:
        body["words"] = audit.digest_of_words(decision.note, decision.answer)
    if decision.on_behalf_of:
        body["on_behalf_of"] = decision.on_behalf_of.username
    if decision.source:
        body["source"] = decision.source
    kind = "approval.decided" if closes else "approval.voted"
    audit.record(actor=actor, kind=kind, subject=approval.pk, body=body)
