"""Take one person's verdict on a pending approval."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from approvals import audit
from approvals.errors import (
    AlreadyClosed,
    InvalidVerdict,
    KeyReused,
    MayNotDecide,
    NoSuchApproval,
    StaleVersion,
)
from approvals.models import Approval, Decision, ReceiptStep, Verdict
from approvals.permissions import may_decide
from approvals.selectors import closing_of
from console import outbox
from console.clock import DatabaseNow
from console.live import announce

NOTE_LIMIT = 4000  # characters
NEEDS_NOTE = {Verdict.REJECT, Verdict.RESPOND}


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


def decide(*, approval_id: str, reviewer: User, given: Answer, channel: str) -> Decision:
    """Record one reviewer's verdict on a pending approval.

    1. Check that the verdict can be taken and that the reviewer may decide.
    2. Move the approval from pending to decided; exactly one caller can. The database's clock decides the deadline.
    3. In the same transaction: the Decision, its receipt, the outbox entry for the run, the audit entry.
    4. At commit, pages and the relay hear of it.

    The run is told later by the relay; this function never calls an engine. The same `idempotency_key` with the
    same body returns the same decision. Raises NoSuchApproval, InvalidVerdict, MayNotDecide, KeyReused,
    AlreadyClosed (with who and when), StaleVersion.
    """
    approval = Approval.objects.select_related("requested_by").filter(pk=approval_id).first()
    if approval is None:
        raise NoSuchApproval
    repeated = _earlier_answer(approval_id, reviewer, given)
    if repeated is not None:
        return repeated
    _check_verdict(approval, given)
    permit = may_decide(reviewer, approval)
    if not permit.allowed:
        raise MayNotDecide(permit.rule, permit.sentence)
    try:
        with transaction.atomic():
            return _take(approval, reviewer, given, channel)
    except (IntegrityError, AlreadyClosed):
        # The same key may have arrived twice at once, and the other request was first.
        repeated = _earlier_answer(approval_id, reviewer, given)
        if repeated is not None:
            return repeated
        raise


def _take(approval: Approval, reviewer: User, given: Answer, channel: str) -> Decision:
    closed = Approval.objects.filter(
        pk=approval.pk,
        status=Approval.Status.PENDING,
        version=given.version,
        digest=given.digest,
        due_at__gt=DatabaseNow(),
    ).update(status=Approval.Status.DECIDED, closed_at=DatabaseNow())
    if not closed:
        raise _why_not(approval.pk, given)
    decision = Decision.objects.create(
        approval=approval,
        by=reviewer,
        verdict=given.verdict,
        note=given.note,
        version=given.version,
        digest=given.digest,
        edited_arguments=given.edited_arguments,
        answer=given.answer,
        channel=channel,
        idempotency_key=given.idempotency_key,
        body_digest=given.fingerprint(approval.pk),
    )
    ReceiptStep.objects.create(approval=approval, step=ReceiptStep.Step.RECORDED)
    outbox.enqueue(
        kind="decided",
        subject=approval.run_id,
        payload={"run_id": approval.run_id, "approval_id": approval.pk, "decision_id": decision.pk},
    )
    announce("inbox", f"approval:{approval.pk}", f"run:{approval.run_id}")
    body = {
        "decision": decision.pk,
        "verdict": given.verdict,
        "digest": given.digest,
        "version": given.version,
    }
    audit.record(actor=reviewer.username, kind="approval.decided", subject=approval.pk, body=body)
    return decision


def _earlier_answer(approval_id: str, reviewer: User, given: Answer) -> Decision | None:
    if not given.idempotency_key:
        return None
    earlier = Decision.objects.filter(by=reviewer, idempotency_key=given.idempotency_key).first()
    if earlier is not None and earlier.body_digest != given.fingerprint(approval_id):
        raise KeyReused("This Idempotency-Key was used for another decision. Use a new key.")
    return earlier


def _check_verdict(approval: Approval, given: Answer) -> None:
    if given.verdict not in approval.verdicts:
        allowed = ", ".join(approval.verdicts)
        raise InvalidVerdict("verdict", f"This request can be answered with: {allowed}.")
    if given.verdict in NEEDS_NOTE and not given.note.strip() and approval.kind == Approval.Kind.ACTION:
        raise InvalidVerdict("note", "Say why, so that the agent can do better.")
    if len(given.note) > NOTE_LIMIT:
        raise InvalidVerdict("note", f"At most {NOTE_LIMIT:,} characters; this has {len(given.note):,}.")
    if "\x00" in given.note:
        raise InvalidVerdict("note", "The text holds a NUL character; remove it.")


def _why_not(approval_id: str, given: Answer) -> AlreadyClosed | StaleVersion:
    """Say why no row was moved: somebody was first, the deadline passed, or another version is current."""
    approval = Approval.objects.get(pk=approval_id)
    if approval.status != Approval.Status.PENDING:
        return closing_of(approval)
    if approval.version != given.version or approval.digest != given.digest:
        return StaleVersion(approval.version)
    return AlreadyClosed(Approval.Status.EXPIRED, None, approval.due_at, None)
