"""Close an approval by a decision: the row, its receipt and what tells the run. Part of a caller's transaction."""

from __future__ import annotations

from collections.abc import Callable

from approvals.models import Approval, Decision, ReceiptStep, Verdict
from approvals.record import audit
from approvals.services import decision_sql
from approvals.services.receipts import FETCHED_WITHIN, WITHIN
from console import planned_once


def write_decision(
    approval: Approval,
    decision: Decision,
    actor: str,
    *,
    closes: bool,
    record_first: Callable[[], None] | None = None,
) -> ReceiptStep | None:
    """Write and record a decision that nobody has written yet, and close the approval where it `closes` it.

    Returns the first step of the receipt, `None` for a vote that is not enough. The caller holds the row's lock, and
    commits next: the record's chain is held. `record_first` writes what led to it into the record. Raises
    IntegrityError as `decision_sql.write`.
    """
    heard_within = FETCHED_WITHIN if approval.is_fetched else WITHIN[ReceiptStep.Step.RECORDED]
    with planned_once.in_one_go():
        written = decision_sql.write(approval, decision, closes=closes, heard_within=heard_within)
        if record_first is not None:
            record_first()
        _record(approval, decision, actor, closes=closes)
    return written()


def close_by_policy(approval: Approval) -> Decision | None:
    """Decide what the policy decides without people: a rule that needs none, or that denies. Else return `None`."""
    terms = approval.given_terms
    if terms.outcome == "ask":
        return None
    verdict = Verdict.APPROVE if terms.outcome == "allow" else Verdict.REJECT
    if verdict == Verdict.APPROVE and verdict not in approval.verdicts:
        return None  # a question has no yes: people answer
    sentence = "needs no approval" if terms.outcome == "allow" else "is never done"
    decision = Decision(
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
    write_decision(approval, decision, "policy", closes=True)
    return decision


def _record(approval: Approval, decision: Decision, actor: str, *, closes: bool) -> None:
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
    audit.record(actor=actor, kind=kind, subject=approval.pk, body=body, is_held=True)
