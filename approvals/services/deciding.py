"""Take one person's verdict on a pending approval."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from approvals.errors import (
    AlreadyClosed,
    BytesChanged,
    InvalidVerdict,
    KeyReused,
    MayNotDecide,
    NoSuchApproval,
    StaleTerms,
    StaleVersion,
)
from approvals.models import Approval, Decision, ProposalVersion, ReceiptStep, Verdict
from approvals.people.permissions import AGREEING, STANDING, PeopleAround, Permit, agreeing_persons, may_decide
from approvals.policies import asking
from approvals.proposal.canonical import LIMIT_BYTES
from approvals.proposal.terms import Terms
from approvals.record.closings import RequestClosing, closing_of
from approvals.services import decision_sql
from approvals.services.closing import write_decision
from approvals.services.decision_sql import HeldApproval
from approvals.services.editing import Edit, consider_edit, fixed_fault, schema_errors
from approvals.services.renewing import changed_since, next_version, renewed
from console.text.stored import UNKEPT, all_can_be_kept, text_fault

NOTE_LIMIT = 4000  # characters
NEEDS_NOTE = {Verdict.REJECT}
LONGEST_DWELL_MS: Final = 2**31 - 1  # what the column holds: 24.8 days


@dataclass(frozen=True)
class Answer:
    """One person's answer, as it was sent."""

    verdict: str
    version: int
    digest: str
    note: str = ""
    edited_arguments: dict[str, Any] | None = None
    answer: Any = None  # JSON
    idempotency_key: str = ""

    def fingerprint(self, approval_id: str) -> str:
        """Return the digest of what was asked, to tell a repetition from another request under the same key."""
        asked = [
            approval_id,
            self.verdict,
            self.version,
            self.digest,
            self.note,
            self.edited_arguments,
            self.answer,
        ]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Circumstances:
    """How an answer came: through what, by whom signed in when, and after how long a look.

    Both times are the database's. `signed_in_at` is `None` for tokens, which cannot be asked to sign in again.
    `shown_at`: when that version was first shown to the person; `None` when nothing says so.
    """

    channel: str = "api"  # page, api or bulk
    signed_in_at: datetime | None = None
    shown_at: datetime | None = None


@dataclass(frozen=True)
class ClosedApproval:
    """A decided approval as its closing transaction left it, so that telling of it reads nothing."""

    approval: Approval
    decisions: list[Decision]  # all of the approval's, in their order, with `by` and `on_behalf_of`
    receipt: list[ReceiptStep]


@dataclass(frozen=True)
class TakenDecision:
    """A decision that was just taken. `closed`: the approval as it left it; `None` where it has to be read."""

    decision: Decision
    closed: ClosedApproval | None = None


#: how a decision comes with a token: nobody can be asked to sign in again, and nothing says what was looked at
BY_TOKEN: Final = Circumstances()


def decide(*, approval_id: str, reviewer: User, given: Answer, circumstances: Circumstances = BY_TOKEN) -> Decision:
    """Record one reviewer's verdict on a pending approval, as `take` does; return the decision."""
    taken = take(approval_id=approval_id, reviewer=reviewer, given=given, circumstances=circumstances)
    return taken.decision


def take(*, approval_id: str, reviewer: User, given: Answer, circumstances: Circumstances) -> TakenDecision:
    """Record one reviewer's verdict on a pending approval.

    1. Under the row's lock: is it open, is what was shown the current version, does the policy still say the same?
    2. Check that the verdict can be taken and that the reviewer may decide. An edit becomes a new version.
    3. Record the Decision. A rejection closes the approval; agreement, or one and the same answer, closes it once
       enough different people have given it to the current version. That something did not happen is such an answer.
       The database's clock decides the deadline.
    4. In the same transaction: receipt, outbox entry for the run, audit entry. At commit, pages and the relay hear.

    The run is told later by the relay; this function never calls an engine. The same `idempotency_key` with the
    same body returns the same decision. Raises NoSuchApproval, InvalidVerdict, MayNotDecide, KeyReused,
    AlreadyClosed (with who and when), StaleVersion, StaleTerms (the approval then stands under the new terms).
    """
    _check_shape(given)
    repeated = _earlier_answer(approval_id, reviewer, given)
    if repeated is not None:
        return TakenDecision(repeated)
    try:
        with transaction.atomic():
            held = _held(approval_id)
            _check_open(held, given)
            stale = renewed(held.approval)
            if stale is None:
                return _take(held, reviewer, given, circumstances)
    except (IntegrityError, AlreadyClosed, StaleVersion, MayNotDecide):
        # The same key may have arrived twice at once, and the other request was first.
        repeated = _earlier_answer(approval_id, reviewer, given)
        if repeated is not None:
            return TakenDecision(repeated)
        raise
    raise stale


def _held(approval_id: str) -> HeldApproval:
    held = decision_sql.hold(approval_id)
    if held is None:
        raise NoSuchApproval
    return held


def _check_open(held: HeldApproval, given: Answer) -> None:
    approval = held.approval
    if not approval.is_open:
        closing = closing_of(approval)
        raise AlreadyClosed(closing)
    if held.is_late:
        raise AlreadyClosed(RequestClosing(Approval.Status.EXPIRED, at=approval.due_at))
    if approval.shown_digest != approval.digest:
        raise BytesChanged(approval.version)
    if approval.version != given.version or approval.digest != given.digest:
        raise _outdated(approval, given)


def _outdated(approval: Approval, given: Answer) -> StaleVersion:
    """Say what the person has not seen: another proposal, or other terms for the one that they have."""
    changed = changed_since(approval, given.version) if approval.digest == given.digest else ""
    return StaleTerms(approval.version, changed) if changed else StaleVersion(approval.version)


def _take(held: HeldApproval, reviewer: User, given: Answer, circumstances: Circumstances) -> TakenDecision:
    approval = held.approval
    _check_verdict(approval, given)
    reviewer, around = decision_sql.people_around(approval, reviewer)
    permit = may_decide(reviewer, approval, around)
    if not permit.allowed:
        raise MayNotDecide(permit.rule, permit.sentence)
    look = _Look(circumstances, held.now)
    look.check(approval.given_terms, given)
    _check_data(approval, approval.given_terms, given)
    if given.verdict == Verdict.EDIT:
        edit, terms = consider_edit(approval, given.edited_arguments or {})
        look.check(terms, given)  # the edit's own rule may ask for more
        _check_data(approval, terms, given)
        _adopt(approval, edit, terms, reviewer)
    if given.verdict in AGREEING and (fault := fixed_fault(approval, approval.given_terms)):
        raise MayNotDecide("fixed", fault)
    decision = _decision(approval, reviewer, given, look, permit)
    votes = [*around.decisions, decision]
    closes = _is_enough(approval, decision, replace(around, decisions=votes))
    step = write_decision(approval, decision, reviewer.username, closes=closes)
    # Whether one in advance counts still is a matter of when it was taken back.
    if step is None or any(vote.source.startswith(STANDING) for vote in around.decisions):
        return TakenDecision(decision)
    return TakenDecision(decision, ClosedApproval(approval, votes, [step]))


def _is_enough(approval: Approval, decision: Decision, around: PeopleAround) -> bool:
    """Return whether the decision closes the approval; `around` has it with those before it.

    One person's rejection does. An answer stands in for the tool's result, so it needs as many people as an approval;
    so does "It did not happen", after which the same may be proposed again. A change into what needs no approval needs
    nobody besides.
    """
    if decision.verdict == Verdict.REJECT and approval.kind != Approval.Kind.OUTCOME:
        return True
    if decision.verdict != Verdict.EDIT and approval.needed == 1:
        return True  # `may_decide` has said that it counts; who edits may be barred from agreeing to the edit
    if decision.verdict in AGREEING and approval.given_terms.outcome == "allow":
        return True  # the rule of what it was changed into needs nobody, and may name nobody
    answer = None if decision.verdict in AGREEING else decision
    return len(agreeing_persons(approval, answer=answer, around=around)) >= approval.needed


def _decision(approval: Approval, reviewer: User, given: Answer, look: _Look, permit: Permit) -> Decision:
    return Decision(
        approval=approval,
        by=reviewer,
        on_behalf_of=permit.on_behalf_of,
        verdict=given.verdict,
        note=given.note,
        version=given.version,
        digest=given.digest,
        for_version=approval.version,
        for_digest=approval.digest,
        edited_arguments=given.edited_arguments if given.verdict == Verdict.EDIT else None,
        answer=given.answer if given.verdict == Verdict.RESPOND else None,
        channel=look.circumstances.channel,
        dwell_ms=look.dwell_ms,
        idempotency_key=given.idempotency_key,
        body_digest=given.fingerprint(approval.pk),
    )


def _adopt(approval: Approval, edit: Edit, terms: Terms, editor: User) -> None:
    """Make the edited arguments the current version, under the terms that hold for them."""
    approval.canonical, approval.digest, approval.summary = edit.canonical, edit.digest, edit.summary
    asking.under_terms(approval, terms)
    next_version(approval, ProposalVersion.Reason.EDITED, made_by=editor)


def _earlier_answer(approval_id: str, reviewer: User, given: Answer) -> Decision | None:
    if not given.idempotency_key:
        return None
    earlier = decision_sql.decided_under(given.idempotency_key, reviewer)
    if earlier is not None and earlier.body_digest != given.fingerprint(approval_id):
        raise KeyReused("This Idempotency-Key was used for another decision. Use a new key.")
    return earlier


def _check_shape(given: Answer) -> None:
    """Refuse what no approval could take, before anything is locked."""
    if fault := text_fault(given.note, NOTE_LIMIT):
        raise InvalidVerdict("note", fault)
    if given.verdict == Verdict.EDIT and given.edited_arguments is None:
        raise InvalidVerdict("edited_arguments", "Send the whole arguments as you want them, not only what changed.")
    if given.verdict != Verdict.EDIT and given.edited_arguments is not None:
        raise InvalidVerdict("edited_arguments", "Changed arguments go with the verdict edit only.")
    if given.verdict == Verdict.RESPOND:
        _check_answer(given.answer)
    elif given.answer is not None:
        raise InvalidVerdict("answer", "An answer goes with the verdict respond only.")


def _check_answer(answer: Any) -> None:
    try:
        text = json.dumps(answer, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (ValueError, TypeError, RecursionError) as exc:
        raise InvalidVerdict("answer", f"The answer cannot be written as JSON: {exc}.") from exc
    if answer is None or answer == "":
        raise InvalidVerdict("answer", "Say what the agent shall get in place of the tool's result.")
    if size > LIMIT_BYTES:
        raise InvalidVerdict("answer", f"At most {LIMIT_BYTES:,} bytes; this has {size:,}.")
    if not all_can_be_kept(answer):
        raise InvalidVerdict("answer", UNKEPT)


def _check_verdict(approval: Approval, given: Answer) -> None:
    if given.verdict not in approval.verdicts:
        allowed = ", ".join(approval.verdicts)
        raise InvalidVerdict("verdict", f"This request can be answered with: {allowed}.")
    if given.verdict in NEEDS_NOTE and not given.note.strip() and approval.kind == Approval.Kind.ACTION:
        raise InvalidVerdict("note", "Say why, so that the agent can do better.")
    if given.verdict == Verdict.RESPOND:
        errors = schema_errors(approval.answer_schema, given.answer)
        if errors:
            raise InvalidVerdict("answer", f"The agent cannot take this answer. {errors[0]['message']}", errors)


def _check_data(approval: Approval, terms: Terms, given: Answer) -> None:
    """Refuse agreement on stale data where the terms want it fresh; no question is asked of other terms."""
    if given.verdict in AGREEING and (sentence := asking.why_not_on_this_data(terms, approval.dataset_versions)):
        raise MayNotDecide("stale-data", sentence)


@dataclass(frozen=True)
class _Look:
    """The circumstances of an answer at the moment of its transaction. `now`: the database's time there."""

    circumstances: Circumstances
    now: datetime

    @property
    def dwell_ms(self) -> int | None:
        """Return how long the person has had the version before them, capped; `None` when nothing says so."""
        if self.circumstances.shown_at is None:
            return None
        passed = int((self.now - self.circumstances.shown_at).total_seconds() * 1000)
        return min(max(0, passed), LONGEST_DWELL_MS)

    def check(self, terms: Terms, given: Answer) -> None:
        """Enforce what the terms ask of the situation: a recent sign-in, a long enough look, no bulk."""
        if fault := terms.sign_in_fault(self.circumstances.signed_in_at, self.now):
            raise MayNotDecide("recent-sign-in", fault)
        if self.circumstances.channel == "bulk" and (not terms.may_bulk or terms.risk == "high"):
            raise MayNotDecide("no-bulk", "This one is decided on its own page, not together with others.")
        if terms.dwell_seconds and given.verdict in AGREEING:  # by whatever door: a token is somebody's, too
            dwell_ms = self.dwell_ms
            if dwell_ms is None or dwell_ms < terms.dwell_seconds * 1000:
                sentence = f"Take at least {terms.dwell_seconds} seconds to read this before you approve it."
                if self.circumstances.channel == "api":
                    sentence += " Get the approval, and send its `shown` back with the decision."
                raise MayNotDecide("dwell", sentence)
