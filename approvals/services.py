"""Every change of an approval. Each function is one transaction: may they, change, record, announce.

Nothing here knows an engine: what must reach one is put into the outbox and delivered by the relay.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import F

from approvals import audit
from approvals.digest import digest_of, read_canonical
from approvals.errors import (
    AlreadyClosed,
    InvalidVerdict,
    KeyReused,
    MayNotDecide,
    NoSuchApproval,
    NotAuthorised,
    StaleVersion,
)
from approvals.models import Approval, Decision, ReceiptStep, Verdict
from approvals.permissions import may_decide
from approvals.policies import policy_for
from approvals.selectors import closing_of
from console import outbox
from console.clock import DatabaseNow, database_now
from console.live import announce

NOTE_LIMIT = 4000  # characters
NEEDS_NOTE = {Verdict.REJECT, Verdict.RESPOND}


@dataclass(frozen=True)
class Proposal:
    """What an agent asks to be decided, as its turn hands it over."""

    external_id: str  # run id + interrupt id
    kind: str  # action or outcome
    canonical: bytes
    digest: str
    summary: str
    agent_words: str
    arguments_schema: dict[str, Any]
    risk: str
    agent: str
    run_id: str
    interrupt_id: str
    checkpoint_id: str
    requested_by_id: int | None
    dataset_versions: list[dict[str, Any]] = field(default_factory=list)


def open_approval(proposal: Proposal) -> Approval:
    """Open the approval for one proposal; a second call with the same `external_id` returns the first one.

    The digest is computed again from the bytes. Raises NotAuthorised when it differs from the proposal's.
    """
    if digest_of(proposal.canonical) != proposal.digest:
        raise NotAuthorised("The proposal's bytes do not match its digest.")
    tool, _ = read_canonical(proposal.canonical)
    policy = policy_for(agent=proposal.agent, tool=tool, risk=proposal.risk)
    with transaction.atomic():
        now = database_now()
        due_at = now + policy.expire_after
        approval, created = Approval.objects.get_or_create(
            external_id=proposal.external_id,
            defaults={
                "kind": proposal.kind,
                "canonical": proposal.canonical,
                "digest": proposal.digest,
                "tool": tool,
                "summary": proposal.summary[:500],
                "agent_words": proposal.agent_words,
                "arguments_schema": proposal.arguments_schema,
                "risk": proposal.risk,
                "agent": proposal.agent,
                "run_id": proposal.run_id,
                "interrupt_id": proposal.interrupt_id,
                "checkpoint_id": proposal.checkpoint_id,
                "dataset_versions": proposal.dataset_versions,
                "requested_by_id": proposal.requested_by_id,
                "policy_version": policy.version,
                "audience": list(policy.audience),
                "verdicts": list(policy.verdicts),
                "needed": policy.needed,
                "ladder": [
                    {"step": step, "at": (now + after).isoformat()}
                    for step, after in (
                        ("remind", policy.remind_after),
                        ("escalate", policy.escalate_after),
                        ("expire", policy.expire_after),
                    )
                ],
                "opened_at": now,
                "due_at": due_at,
            },
        )
        if created:
            body = {"run": proposal.run_id, "tool": tool, "digest": proposal.digest, "policy": policy.version}
            audit.record(actor=f"agent {proposal.agent}", kind="approval.opened", subject=approval.id, body=body)
            announce("inbox", f"approval:{approval.id}", f"run:{approval.run_id}", "runs")
    return approval


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


@dataclass(frozen=True)
class Rung:
    """Where one approval stands on its ladder: the next step's time (aware, UTC), `None` once it is closed."""

    approval_id: str
    next_step_at: datetime | None


def climb(approval_ids: list[str]) -> list[Rung]:
    """Take every ladder step that is due, by the database's clock, and say when the next one is.

    Remind announces again, escalate widens the audience, expire closes. Each step is a conditional update on the
    number of steps taken, so that a repeated or concurrent call takes none twice; a decision wins over a late expiry.
    """
    return [_climb_one(approval_id) for approval_id in approval_ids]


def _climb_one(approval_id: str) -> Rung:
    while True:
        with transaction.atomic():
            approval = Approval.objects.get(pk=approval_id)
            if approval.status != Approval.Status.PENDING:
                return Rung(approval_id, None)
            rung = approval.ladder[approval.steps_climbed]
            due_at = datetime.fromisoformat(rung["at"])
            if due_at > database_now():
                return Rung(approval_id, due_at)
            _take_step(approval, rung["step"])


def _take_step(approval: Approval, step: str) -> None:
    changes: dict[str, Any] = {"steps_climbed": F("steps_climbed") + 1}
    if step == "expire":
        changes = {"status": Approval.Status.EXPIRED, "closed_at": DatabaseNow()}
    elif step == "escalate":
        policy = policy_for(agent=approval.agent, tool=approval.tool, risk=approval.risk)
        changes["audience"] = sorted({*approval.audience, *policy.escalate_to})
    taken = Approval.objects.filter(
        pk=approval.pk, status=Approval.Status.PENDING, steps_climbed=approval.steps_climbed
    ).update(**changes)
    if not taken:
        return  # somebody decided, or another worker took the step
    announce("inbox", f"approval:{approval.pk}", f"run:{approval.run_id}")
    audit.record(actor="ladder", kind=f"approval.{_STEP_KINDS[step]}", subject=approval.pk, body={"step": step})


_STEP_KINDS = {"remind": "reminded", "escalate": "escalated", "expire": "expired"}


def withdraw(*, run_id: str, reason: str, actor: str) -> int:
    """Close every pending approval of a run that has ended; return how many. A repetition closes none."""
    with transaction.atomic():
        pending = list(
            Approval.objects.select_for_update().filter(run_id=run_id, status=Approval.Status.PENDING).order_by("pk")
        )
        for approval in pending:
            approval.status, approval.closed_at = Approval.Status.WITHDRAWN, database_now()
            approval.save(update_fields=["status", "closed_at"])
            announce("inbox", f"approval:{approval.pk}", f"run:{run_id}")
            audit.record(actor=actor, kind="approval.withdrawn", subject=approval.pk, body={"reason": reason})
    return len(pending)


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


def note_receipt(*, approval_ids: list[str], step: str, detail: str = "", topics: tuple[str, ...] = ()) -> None:
    """Note how far the decisions have travelled; a step is noted once, repetitions change nothing.

    `topics`: what the caller announces besides the approvals, in the same statement.
    """
    steps = [ReceiptStep(approval_id=approval_id, step=step, detail=detail[:500]) for approval_id in approval_ids]
    with transaction.atomic(savepoint=False):
        ReceiptStep.objects.bulk_create(steps, ignore_conflicts=True)
        announce(*topics, *(f"approval:{approval_id}" for approval_id in approval_ids))


def note_effect(*, approval_id: str, step: str, detail: str) -> None:
    """Note the start or the end of an approved effect, on the receipt and in the record.

    `step`: effect_started, effect_finished, or "" when its outcome is not known, which only the record tells.
    """
    kind = {"effect_started": "effect.started", "effect_finished": "effect.finished", "": "effect.unknown"}[step]
    with transaction.atomic(savepoint=False):
        if step:
            note_receipt(approval_ids=[approval_id], step=step, detail=detail)
        audit.record(actor="worker", kind=kind, subject=approval_id, body={"detail": detail[:500]})
