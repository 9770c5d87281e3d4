"""What a program gets when its approval is closed, and how far that has got.

The body is the same for a signal and for a webhook, as the API promises it:
{"approval_id", "external_id", "decision_id", "status", "verdict", "arguments", "answer", "note", "decided_by",
"decided_at", "digest"}. `arguments` are those that may be used, so only after an approval or an edit; `digest` is
theirs, or that of what was refused. Who decided, the verdict and the decision are null when nobody did.

Until the program has its answer, each time that it is given out asks again what the ledger asks before an effect. What
may not be done any more is refused for good: the verdict is null then, and the note says why.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import F

from approvals import services as approvals
from approvals.models import Approval, Decision, ReceiptStep
from approvals.people.permissions import AGREEING
from approvals.people.programs import external_id_of
from approvals.reading.for_runs import note_of, outcome_of, proposed_digest
from approvals.record import audit
from approvals.services.receipts import REPORTED_WITHIN
from approvals.services.requesting import note_undelivered
from console.clock import DatabaseNow
from console.live.announce import announce
from console.text.stored import storable
from orchestration import signal_pairs, signal_rules, webhook_secrets
from orchestration.contracts import ProgramSignal
from orchestration.errors import NotAsDecided, NothingToDeliver, SignalHeld
from orchestration.models import AnswerDelivery, SignalPair

State = AnswerDelivery.State
ANEW: Final = timedelta(minutes=1)  # within which a watch that was sent away has given up


@dataclass(frozen=True)
class Parcel:
    """One answer with its address: a signal, or a body for the address `url`. `id`: the same each time it is sent."""

    id: str
    signal: ProgramSignal | None
    url: str
    body: bytes
    keys: tuple[bytes, ...] = field(default=(), repr=False)  # that the body is signed with


def begin(approval_id: str) -> Parcel | None:
    """Count an attempt and return what is to be sent, `None` when it was taken before, or is fetched.

    Raises NothingToDeliver while the approval is open, NotAsDecided when other bytes were decided than are kept,
    SignalRefused when the program may not have the workflow signalled, SignalHeld while no admin has confirmed that,
    SecretLost when no webhook can be signed so that the program would take it.
    """
    if held := _held_back(approval_id):
        raise SignalHeld(held)
    with transaction.atomic():
        approval = Approval.objects.select_related("requested_by").get(pk=approval_id)
        if approval.is_open or approval.source != Approval.Source.PROGRAM:
            raise NothingToDeliver(f"The approval {approval_id} has no answer to deliver.")
        if approval.is_fetched:
            AnswerDelivery.objects.get_or_create(pk=approval_id, defaults={"state": State.KEPT})
            return None
        AnswerDelivery.objects.get_or_create(pk=approval_id)
        open_ones = AnswerDelivery.objects.filter(pk=approval_id).exclude(state=State.DELIVERED)
        if not open_ones.update(attempts=F("attempts") + 1, state=State.TRYING):
            return None
    return _parcel(approval, _given_out(approval, sent_before=_attempts(approval_id) - 1))


def _held_back(approval_id: str) -> str:
    """Hold the answer where an admin's yes is missing, and say so in a sentence; "" where it may go out."""
    approval = Approval.objects.get(pk=approval_id)
    temporal = (approval.deliver_to or {}).get("temporal")
    if temporal is None or approval.is_open:
        return ""
    if not signal_rules.needs_confirmation(approval.agent):
        return ""
    signal_pairs.note_first_use(approval.agent, temporal, approval_id)  # asked before pairs were kept, or listed
    with transaction.atomic():
        _hold(approval_id)
        pair = signal_pairs.locked(approval.agent, temporal)
        if pair.state == SignalPair.State.CONFIRMED:
            return ""
        AnswerDelivery.objects.get_or_create(pk=approval_id)
        open_ones = AnswerDelivery.objects.filter(pk=approval_id).exclude(state__in=(State.DELIVERED, State.HELD))
        if open_ones.update(state=State.HELD, last_error=""):
            note_undelivered(approval_id, at_once=True)
    return "" if AnswerDelivery.objects.filter(pk=approval_id, state=State.DELIVERED).exists() else pair.sentence


def fetched(approval: Approval, by: str) -> dict[str, Any]:
    """Return the body to the program that asks for it, noting the first time where nobody sends it any more.

    What is sent to an address is sent all the same, so that a program that also looks misses nothing. Raises
    NotAsDecided when other bytes were decided than are kept.
    """
    with transaction.atomic():
        _hold(approval.pk)
        delivery, _ = AnswerDelivery.objects.get_or_create(pk=approval.pk)
        body = _given_out(approval, sent_before=delivery.attempts)
        AnswerDelivery.objects.filter(pk=approval.pk, fetched_at=None).update(fetched_at=DatabaseNow())
        if delivery.state == State.UNDELIVERED or (approval.is_fetched and delivery.state != State.DELIVERED):
            delivered(approval.pk, f"fetched by {by}", actor=by)
    return body


def taken(approval_id: str, how: str, *, actor: str) -> None:
    """Note that the program has its answer, also where none was sent yet. A repetition changes nothing."""
    with transaction.atomic():
        _hold(approval_id)
        AnswerDelivery.objects.get_or_create(pk=approval_id)
        delivered(approval_id, how, actor=actor)


def delivered(approval_id: str, taken_by: str, *, actor: str = "worker") -> None:
    """Note that the answer was taken; `taken_by` says in words by whom. A repetition changes nothing."""
    with transaction.atomic():
        _hold(approval_id)
        open_ones = AnswerDelivery.objects.filter(pk=approval_id).exclude(state=State.DELIVERED)
        if not open_ones.update(state=State.DELIVERED, last_error="", delivered_at=DatabaseNow()):
            return
        approvals.note_receipt(approval_ids=[approval_id], step="resumed", detail=taken_by, within=REPORTED_WITHIN)
        announce("inbox")  # it may have stood in the lane
        audit.record(actor=actor, kind="approval.delivered", subject=approval_id, body={"detail": taken_by[:500]})


def failed(approval_id: str, reason: str) -> None:
    """Keep why the newest attempt failed; it is tried again."""
    with transaction.atomic():
        AnswerDelivery.objects.filter(pk=approval_id).update(last_error=storable(reason)[:500])
        announce(f"approval:{approval_id}")


def give_up(approval_id: str) -> None:
    """Show the answer as undelivered, unless it was taken after all. A repetition changes nothing."""
    with transaction.atomic():
        _hold(approval_id)
        trying = AnswerDelivery.objects.filter(pk=approval_id, state=State.TRYING)
        # A watch that was sent away for an admin's yes may come here after the yes: the new watch has only begun.
        trying = trying.exclude(attempts=0, began_at__gt=DatabaseNow() - ANEW)
        if not trying.update(state=State.UNDELIVERED):
            return
        note_undelivered(approval_id)
        audit.record(actor="worker", kind="approval.undelivered", subject=approval_id, body={})


def _hold(approval_id: str) -> None:
    """Lock the approval before its delivery, as a person does who has it sent again: else each waits for the other."""
    Approval.objects.select_for_update(no_key=True).only("pk").get(pk=approval_id)


@transaction.atomic
def _given_out(approval: Approval, *, sent_before: int) -> dict[str, Any]:
    """Return the body of an answer that is given out now; see the module. Raises NotAsDecided.

    `sent_before`: attempts to send it that nobody heard the end of.
    """
    _hold(approval.pk)
    body = body_of(approval)
    delivery = AnswerDelivery.objects.get(pk=approval.pk)
    if delivery.state == State.DELIVERED or delivery.fetched_at is not None:
        return body
    note = "An attempt before that to send the answer may have arrived." if sent_before else ""
    refused = approvals.refuse_what_may_not_run([approval.pk], note=note)
    return body_of(approval) if refused else body


def _attempts(approval_id: str) -> int:
    return AnswerDelivery.objects.values_list("attempts", flat=True).get(pk=approval_id)


def body_of(approval: Approval) -> dict[str, Any]:
    """Return the body for a closed approval; see the module. Raises NotAsDecided."""
    decisions = list(approval.decisions.select_related("by").order_by("number"))
    decision = decisions[-1] if approval.status == Approval.Status.DECIDED and decisions else None
    verdict = outcome_of(approval, decision, proposed_digest(approval)) if decision else None
    note = note_of(decisions) if decision else ""
    if decision is not None and verdict in AGREEING:
        _check_bytes(approval, decision)
        refused = approval.receipt.filter(step=ReceiptStep.Step.REFUSED).first()
        if refused is not None:
            verdict, note = None, f"It was approved, and may not be done any more. {refused.detail}"
    return {
        "approval_id": approval.pk,
        "external_id": external_id_of(approval),
        "decision_id": decision.pk if decision else None,
        "status": approval.status,
        "verdict": verdict,
        "arguments": approval.arguments if verdict in AGREEING else None,
        "answer": decision.answer if decision else None,
        "note": note,
        "decided_by": decision.by_name if decision else None,
        "decided_at": decision.at.isoformat() if decision else None,
        "digest": approval.digest,
    }


def _check_bytes(approval: Approval, decision: Decision) -> None:
    """Check that what the program would use is what was agreed to, as the ledger does before an effect."""
    decided = (decision.for_version, decision.for_digest)
    if not decided == (approval.version, approval.digest) == (approval.version, approval.shown_digest):
        raise NotAsDecided(NotAsDecided.__doc__)


def _parcel(approval: Approval, body: dict[str, Any]) -> Parcel:
    to: dict[str, Any] = approval.deliver_to or {}
    answer_id: str = body["decision_id"] or f"{approval.pk}:{approval.status}"
    if "webhook" in to:
        keys = webhook_secrets.keys_of(approval.requested_by)
        return Parcel(answer_id, None, to["webhook"]["url"], json.dumps(body, ensure_ascii=False).encode(), keys)
    temporal = to["temporal"]
    signal_rules.check(approval.agent, temporal)  # again: the list may have changed, or a run taken that id
    signal = ProgramSignal(
        workflow_id=temporal["workflow_id"],
        signal=temporal["signal"],
        body=body,
        request_id=answer_id,
        run_id=temporal.get("run_id", ""),
        namespace=temporal.get("namespace", ""),
    )
    return Parcel(answer_id, signal, "", b"")
