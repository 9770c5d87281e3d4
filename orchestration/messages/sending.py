"""Say what a signal, a query or an update would do, and send it: recorded first, carried by the relay, answered once.

The id of the message is Temporal's own key for it, so a relay that dies between sending and noting sends nothing twice:
the server drops a second signal, and gives an update's first answer again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from ulid import ULID

from approvals.errors import NotTheirs
from approvals.record import audit
from approvals.services.receipts import checked_reason
from console import outbox, roles
from console.clock import DatabaseNow, database_now
from console.environment import environment
from console.live.announce import announce
from console.outbox import Kind
from console.text.stored import UNKEPT, all_can_be_kept, can_be_kept, storable
from orchestration.contracts import WORKFLOW, HandWritten
from orchestration.errors import ActionRefused, InvalidOptions, NoSuchMessage
from orchestration.messages import rules
from orchestration.messages.known import KINDS, fault_of, find
from orchestration.models import Run, WorkflowMessage

NAME_LIMIT: Final = 200  # characters
ID_LIMIT: Final = 500
ARGUMENTS_LIMIT: Final = 16_384  # characters of JSON
ANSWER_LIMIT: Final = 20_000  # characters that are kept of an answer
SHOWN: Final = 20
#: for so long a message is tried to be asked or, for a query, worth an answer at all
ASKED_FOR: Final = {"query": timedelta(seconds=60), "update": timedelta(minutes=2)}
State = WorkflowMessage.State


@dataclass(frozen=True)
class WorkflowLetter:
    """One message and where it goes, as it is asked for. `workflow_type`: where it is known."""

    kind: str
    namespace: str
    workflow_id: str
    name: str
    arguments: list[Any]
    workflow_type: str = ""


def to_run(run: Run, kind: str, name: str, arguments: list[Any]) -> WorkflowLetter:
    return WorkflowLetter(kind, environment().temporal_namespace, run.pk, name, arguments, WORKFLOW)


def warnings_of(letter: WorkflowLetter) -> list[str]:
    """Say what sending it would do. Raises ActionRefused, and InvalidOptions for what cannot be sent at all."""
    _check(letter)
    if refusal := rules.refusal_of(letter.kind, letter.namespace, letter.workflow_id, letter.name):
        raise ActionRefused(refusal)
    told = find(letter.workflow_type, letter.kind, letter.name) if letter.workflow_type else None
    if told is not None and (fault := fault_of(told, letter.arguments)):
        raise InvalidOptions([{"path": "arguments", "message": fault}])
    count = len(letter.arguments)
    taking = f"with {count} argument{'' if count == 1 else 's'}" if count else "without an argument"
    found = [_WHAT[letter.kind].format(name=letter.name, to=letter.workflow_id, taking=taking)]
    if told is not None and told.explains:
        found.append(told.explains)
    if told is None and letter.workflow_type:
        found.append(_UNKNOWN[letter.kind])
    return found


_WHAT: Final = {
    "signal": "Temporal gives the signal “{name}” to the workflow {to}, {taking}. What the workflow does with it is "
    "its own, and a signal cannot be taken back.",
    "query": "A worker answers the query “{name}” of the workflow {to}, {taking}, from what it knows. That changes "
    "nothing. Without an answer within 8 seconds it says so.",
    "update": "The workflow {to} is given the update “{name}”, {taking}, and may refuse it. What it does with it is "
    "its own, and cannot be taken back.",
}
_UNKNOWN: Final = {
    "signal": "Its workflow is not known to take this signal. What it does not take stays in its history, ignored.",
    "query": "Its workflow is not known to take this query. One that it does not take is answered with an error.",
    "update": "Its workflow is not known to take this update. One that it does not take is refused by it.",
}


def _check(letter: WorkflowLetter) -> None:
    errors = []
    if letter.kind not in KINDS:
        errors.append({"path": "kind", "message": f"One of {', '.join(KINDS)}."})
    for path, value, most in (
        ("name", letter.name, NAME_LIMIT),
        ("workflow_id", letter.workflow_id, ID_LIMIT),
        ("namespace", letter.namespace, NAME_LIMIT),
    ):
        if not value.strip() or len(value) > most or not can_be_kept(value):
            errors.append({"path": path, "message": f"Between 1 and {most} characters."})
    if not all_can_be_kept(letter.arguments):
        errors.append({"path": "arguments", "message": UNKEPT})
    if len(json.dumps(letter.arguments)) > ARGUMENTS_LIMIT:
        errors.append({"path": "arguments", "message": f"At most {ARGUMENTS_LIMIT:,} characters of JSON."})
    if errors:
        raise InvalidOptions(errors)


def send(letter: WorkflowLetter, *, reason: str, by: User, key: str = "") -> WorkflowMessage:
    """Record the message and have it carried; return it. The same again is the same message; another `key` another.

    Raises as `warnings_of` does, NotTheirs for who may not act on runs, and InvalidChange without a reason.
    """
    reason = checked_reason(reason)
    if not may_send(by.pk):
        raise NotTheirs("This is for operators and admins.")
    _check(letter)
    whole = _key(letter, by, reason, key)
    with transaction.atomic():
        if (before := WorkflowMessage.objects.filter(key=whole).first()) is not None:
            return before
        warnings_of(letter)
        try:
            with transaction.atomic():
                kept = _kept(letter, reason, by, whole)
        except IntegrityError:  # the same click a moment earlier
            return WorkflowMessage.objects.get(key=whole)
        body: dict[str, Any] = {
            "namespace": letter.namespace,
            "workflow_id": letter.workflow_id,
            "name": letter.name,
            "reason": reason,
        }
        body |= {"arguments": audit.as_told(letter.arguments), "message": kept.pk}
        subject = kept.run_id or kept.pk
        audit.record(actor=by.username, kind=f"workflow.{letter.kind}", subject=subject, body=body)
    return kept


def keep(letter: WorkflowLetter, *, reason: str, by: User, run: Run | None = None, key: str = "") -> WorkflowMessage:
    """Keep a message that was looked at, in the caller's transaction, which records it."""
    return _kept(letter, reason, by, hashlib.sha256(f"{ULID()}{key}".encode()).hexdigest(), run)


def _kept(letter: WorkflowLetter, reason: str, by: User, key: str, run: Run | None = None) -> WorkflowMessage:
    kept = WorkflowMessage.objects.create(
        id=f"msg_{ULID()}".lower(),
        kind=letter.kind,
        run=run,
        namespace=letter.namespace,
        workflow_id=letter.workflow_id,
        name=letter.name,
        arguments=letter.arguments,
        by=by,
        reason=reason,
        key=key,
    )
    outbox.enqueue(kind=Kind.SEND_MESSAGE, subject=run.pk if run else kept.pk, payload={"message": kept.pk})
    announce("runs", *([f"run:{run.pk}"] if run else []))
    return kept


def _key(letter: WorkflowLetter, by: User, reason: str, key: str) -> str:
    told = [letter.kind, letter.namespace, letter.workflow_id, letter.name, letter.arguments, by.pk, reason, key]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def may_send(user_id: int) -> bool:
    """Return whether the account, as it is now, may write to workflows."""
    user = User.objects.filter(pk=user_id).first()
    return user is not None and roles.may(user, "act_on_run")


def to_carry(message_id: str) -> WorkflowMessage | None:
    """Return a message that is to be sent now; `None` when it is settled, or is settled here because it may not go."""
    found = WorkflowMessage.objects.filter(pk=message_id, state=State.WAITING).first()
    if found is None:
        return None
    longest = ASKED_FOR.get(found.kind)
    if longest is not None and database_now() > found.created_at + longest:
        settle(message_id, State.UNANSWERED, _TOO_LATE[found.kind])
        return None
    if not may_send(found.by_id):
        settle(message_id, State.REFUSED, f"{found.by.username} may not act on runs any more.")
        return None
    if refusal := rules.refusal_of(found.kind, found.namespace, found.workflow_id, found.name):
        settle(message_id, State.REFUSED, refusal)
        return None
    return found


NO_ANSWER: Final = "No worker has answered in time. Where one is alive, ask again."
_TOO_LATE: Final = {
    "query": NO_ANSWER,
    "update": "The workflow has not answered in time. It may have taken the update: look at its history first.",
}


def written(message: WorkflowMessage) -> HandWritten:
    return HandWritten(
        message.kind,  # type: ignore[arg-type]  # one of KINDS: it was checked
        message.namespace,
        message.workflow_id,
        message.name,
        message.arguments,
        message.pk,
    )


def settle_answered(message: WorkflowMessage, answer: Any) -> None:
    if message.kind == "signal":
        settle(message.pk, State.SENT)
    else:
        settle(message.pk, State.ANSWERED, answer=answer, has_answer=True)


def settle(message_id: str, state: str, detail: str = "", answer: Any = None, *, has_answer: bool = False) -> None:
    """Keep what came of a message, once; a long answer is cut."""
    text = shown(answer) if has_answer else ""
    with transaction.atomic():
        found = WorkflowMessage.objects.select_for_update(no_key=True).get(pk=message_id)
        if found.state != State.WAITING:
            return
        WorkflowMessage.objects.filter(pk=message_id).update(
            state=state,
            detail=storable(detail)[:2000],
            answer=text[:ANSWER_LIMIT],
            answer_size=len(text),
            settled_at=DatabaseNow(),
        )
        announce("runs", *([f"run:{found.run_id}"] if found.run_id else []))


def shown(value: Any) -> str:
    """Return what a workflow has said as text that can be kept and shown."""
    return storable(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def of_run(run: Run) -> Sequence[WorkflowMessage]:
    """Return the newest messages to a run's workflow, the newest first. One query."""
    return list(WorkflowMessage.objects.filter(run=run).select_related("by").order_by("-created_at", "-pk")[:SHOWN])


def of_workflow(namespace: str, workflow_id: str) -> Sequence[WorkflowMessage]:
    """Return the newest messages to a workflow of somebody else's, the newest first. One query."""
    rows = WorkflowMessage.objects.filter(namespace=namespace, workflow_id=workflow_id).select_related("by")
    return list(rows.order_by("-created_at", "-pk")[:SHOWN])


def message_for(message_id: str) -> WorkflowMessage:
    """Return one message. Raises NoSuchMessage."""
    found = WorkflowMessage.objects.filter(pk=message_id).select_related("by").first()
    if found is None:
        raise NoSuchMessage(NoSuchMessage.__doc__)
    return found


def as_json(message: WorkflowMessage) -> dict[str, Any]:
    return {
        "id": message.pk,
        "kind": message.kind,
        "namespace": message.namespace,
        "workflow_id": message.workflow_id,
        "name": message.name,
        "arguments": message.arguments,
        "by": message.by.username,
        "reason": message.reason,
        "state": message.state,
        "detail": message.detail,
        "answer": message.answer if message.state == State.ANSWERED else None,
        "is_cut": message.is_cut,
        "created_at": message.created_at,
        "settled_at": message.settled_at,
    }
