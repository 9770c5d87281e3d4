"""Say what may be executed under an approval."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from approvals.errors import NotAuthorised
from approvals.models import Approval, Decision, ReceiptStep, StandingApproval, Verdict
from approvals.people.permissions import AGREEING, STANDING, agreeing_persons, may_still_decide, wants_somebody
from approvals.policies import asking
from approvals.proposal.canonical import digest_of, read_canonical
from approvals.proposal.terms import Terms
from approvals.record.closings import agreed_among
from approvals.services.editing import fixed_fault
from approvals.services.receipts import hold_all, note_not_taken


@dataclass(frozen=True)
class Authorised:
    """An effect that was approved: exactly this tool with exactly these arguments."""

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

    Call it inside the transaction that starts the effect. Everything is asked again: the status, the digest of the
    bytes, the policy as it is now, and whether those who agreed may still decide. Raises NotAuthorised with the
    reason; trying again cannot help.
    """
    rows = Approval.objects.select_for_update(no_key=True, of=("self",)).select_related("requested_by")
    approval = rows.filter(pk=approval_id).first()
    if approval is None:
        raise NotAuthorised(f"There is no approval {approval_id}.")
    canonical = bytes(approval.canonical)
    if not digest == approval.digest == digest_of(canonical):
        raise NotAuthorised("The proposal is not the one that was approved: its digest differs.")
    if approval.status != Approval.Status.DECIDED:
        raise NotAuthorised(f"The approval is {approval.status}, not decided.")
    if approval.is_seeded:
        raise NotAuthorised("This was a test of attention; it is never executed.")
    if refused := approval.receipt.filter(step=ReceiptStep.Step.REFUSED).first():
        raise NotAuthorised(refused.detail or "It was refused before.")
    votes = list(approval.decisions.select_related("by", "on_behalf_of").order_by("number"))
    decision = votes[-1] if votes else None
    if decision is None or decision.for_digest != digest or decision.for_version != approval.version:
        raise NotAuthorised("The decision was about another version of the proposal.")
    tool, arguments = read_canonical(canonical)
    if approval.kind in _RUN:
        _check_action(approval, votes, asking.terms_now(approval))
    else:
        _check_person(approval, decision)
    return Authorised(
        approval.pk, approval.kind, tool, arguments, decision.pk, decision.by_name, decision.verdict, approval.run_id
    )


def refuse_what_may_not_run(approval_ids: Collection[str], *, note: str = "") -> dict[str, str]:
    """Ask once more, before an answer is given out, what `authorise` asks; return why of each that may not run now.

    For what runs where the ledger does not see it: at a program, in a foreign graph's own tools, on an agent server.
    Call it inside the transaction that gives the answer out. What may not run is noted as refused, with the reason and
    the `note`, and stays so. Only what people agreed to is asked about. On retry: the same reasons.
    """
    hold_all(approval_ids)
    agreed = agreed_among(Approval.objects.filter(pk__in=approval_ids, kind__in=_RUN))
    refused: dict[str, str] = {}
    for approval_id, digest in agreed.order_by("pk").values_list("pk", "digest"):
        try:
            authorise(approval_id=approval_id, digest=digest)
        except NotAuthorised as exc:
            refused[approval_id] = str(exc)
            note_not_taken(approval_id=approval_id, detail=f"{exc} {note}".strip())
    return refused


#: the kinds of which something runs once they are approved
_RUN: Final = (Approval.Kind.ACTION, Approval.Kind.GO_ON)


def _check_action(approval: Approval, votes: list[Decision], terms: Terms) -> None:
    """Check that what was decided is enough under the policy as it is now; `votes`: all decisions in their order."""
    decision = votes[-1]
    if decision.verdict not in AGREEING:
        raise NotAuthorised(f"The verdict was {decision.verdict}.")
    if terms.outcome == "deny":
        raise NotAuthorised(f"The policy changed: by the rule “{terms.rule}” this is never done.")
    if fault := fixed_fault(approval, terms):
        raise NotAuthorised(f"The policy changed. {fault}")
    if terms.outcome == "allow":
        return
    if decision.by is None:
        raise NotAuthorised(f"The policy changed: by the rule “{terms.rule}” people must decide this.")
    agreed = len(agreeing_persons(approval, terms, votes))
    if agreed < terms.needed:
        _check_standing(votes, terms)
    _check_person(approval, decision)
    if not _verdicts_given(approval, votes) <= set(asking.verdicts_under(terms, approval.asked.get("verdicts", ()))):
        raise NotAuthorised(f"The policy changed: the rule “{terms.rule}” does not allow this verdict.")
    if agreed < terms.needed:
        raise NotAuthorised(
            f"{terms.needed} different people must agree; of those who did, {agreed} may decide this now."
        )


def _check_standing(votes: list[Decision], terms: Terms) -> None:
    """Where too few agree, say it plainly when what was approved in advance was taken back, or may be so no longer."""
    sources = [vote.source for vote in votes if vote.source.startswith(STANDING)]
    if not sources:
        return
    if wants_somebody(terms):
        raise NotAuthorised("The policy changed: this can no longer be approved in advance.")
    given = StandingApproval.objects.filter(pk__in=[source.removeprefix(STANDING) for source in sources])
    revoked = given.filter(revoked_at__isnull=False).select_related("revoked_by").first()
    if revoked is not None:
        by = revoked.revoked_by.username if revoked.revoked_by else "an admin"
        raise NotAuthorised(f"It was approved in advance, and {by} took that back before it began.")


def _check_person(approval: Approval, decision: Decision) -> None:
    assert decision.by is not None
    permit = may_still_decide(decision.by, decision.on_behalf_of, approval)
    if not permit.allowed:
        raise NotAuthorised(f"{decision.by.username} may no longer decide this: {permit.sentence}")


def _verdicts_given(approval: Approval, votes: list[Decision]) -> set[str]:
    """Return the verdicts that the effect rests on; an edit is one as long as its bytes are the current ones."""
    return {
        vote.verdict
        for vote in votes
        if vote.verdict in AGREEING
        and vote.for_digest == approval.digest
        and (vote.for_version == approval.version or vote.verdict == Verdict.EDIT)
    }
