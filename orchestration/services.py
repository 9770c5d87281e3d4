"""Every change of a run. Each function is one transaction: change, record, announce."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import rfc8785
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Q
from ulid import ULID

from approvals import audit
from approvals import selectors as approval_selectors
from approvals import services as approval_services
from approvals.digest import LARGEST
from approvals.errors import NothingToRedrive
from approvals.models import Approval
from approvals.requesting import start_watch
from approvals.selectors import Settled
from approvals.services import Proposal
from approvals.services.receipts import locked_for_redrive
from console import outbox
from console.clock import DatabaseNow, database_now
from console.environment import environment
from console.live import announce
from console.models import OutboxEntry
from orchestration import redrive, selectors
from orchestration.agents.arguments import Unfit, read_asked
from orchestration.agents.registry import UnknownAgent, agent_named
from orchestration.contracts import DELIVER_START, DELIVER_WATCH, StartRun, Turn
from orchestration.errors import Fenced, InvalidInput, RunClosed, RunKeyReused
from orchestration.models import AnswerDelivery, Run

ATTEMPTS_PER_TURN = 1_000_000  # room between two turns' fences
_URL_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def start_run(*, agent: str, given: Any, requested_by: User, idempotency_key: str = "") -> tuple[Run, bool]:
    """Record a run and have the relay start its workflow; return it and whether it is new.

    The same key with the same input returns the same run, however often and from however many clients at once.
    `given`: the agent's input, JSON. Raises InvalidInput with the field's name, RunKeyReused.
    """
    checked = _checked_input(agent, given)
    digest = hashlib.sha256(rfc8785.dumps(checked)).hexdigest()
    run_id = _run_id(agent, idempotency_key)
    try:
        with transaction.atomic():
            run = Run.objects.create(
                id=run_id,
                agent=agent,
                input=checked,
                input_digest=digest,
                idempotency_key=idempotency_key or None,
                requested_by=requested_by,
            )
            start = {
                "run_id": run_id,
                "agent": agent,
                "turn_seconds": agent_named(agent).turn_seconds,
                "heartbeat_seconds": environment().heartbeat_seconds,
            }
            outbox.enqueue(kind=DELIVER_START, subject=run_id, payload=start)
            announce("runs", f"run:{run_id}")
            audit.record(
                actor=requested_by.username,
                kind="run.requested",
                subject=run_id,
                body={"input_digest": digest},
            )
    except IntegrityError:
        # The key is taken: somebody else's click, or our own again.
        run = Run.objects.get(Q(agent=agent, idempotency_key=idempotency_key) | Q(pk=run_id))
        if run.input_digest != digest or run.agent != agent:
            raise RunKeyReused(RunKeyReused.__doc__) from None
        return run, False
    run.refresh_from_db()
    return run, True


def _checked_input(agent: str, given: Any) -> dict[str, Any]:
    try:
        model = agent_named(agent).input
    except UnknownAgent as exc:
        raise InvalidInput([{"path": "agent", "message": str(exc)}]) from exc
    try:
        checked = read_asked(model, "input", given).arguments
    except Unfit as exc:
        raise InvalidInput([{**one, "path": f"input.{one['path']}".rstrip(".")} for one in exc.errors]) from exc
    if path := _beyond_every_reader(checked):
        message = "a number beyond 2^53 (9007199254740992) cannot be kept exactly: send it as text"
        raise InvalidInput([{"path": ".".join(["input", *path]), "message": message}])
    return checked


def _beyond_every_reader(value: Any, path: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the path of a number that PostgreSQL's JSON gives back as another one: 1e21 comes back in digits."""
    if isinstance(value, dict | list):
        parts: Any = value.items() if isinstance(value, dict) else enumerate(value)
        return next((found for step, one in parts if (found := _beyond_every_reader(one, (*path, str(step))))), ())
    return path if isinstance(value, float) and abs(value) > LARGEST else ()


def _run_id(agent: str, idempotency_key: str) -> str:
    """Return the workflow id: agent and key, so that a person who knows the key finds the run."""
    if not idempotency_key:
        return f"{agent}-{str(ULID()).lower()}"
    if _URL_SAFE.fullmatch(idempotency_key):
        return f"{agent}-{idempotency_key}"
    return f"{agent}-{hashlib.sha256(idempotency_key.encode()).hexdigest()[:32]}"


def workflow_started(*, run_id: str, temporal_run_id: str) -> None:
    """Note that Temporal has the run. A run that is already further on keeps its status."""
    with transaction.atomic():
        Run.objects.filter(pk=run_id, temporal_run_id="").update(temporal_run_id=temporal_run_id)
        Run.objects.filter(pk=run_id, status=Run.Status.STARTING).update(
            status=Run.Status.RUNNING, started_at=DatabaseNow()
        )
        announce("runs", f"run:{run_id}")


@dataclass(frozen=True)
class TurnStart:
    """What a turn begins with: the run's input, and what became of the approvals it waited for."""

    input: dict[str, Any]
    requested_by_id: int | None
    settled: list[Settled]

    @property
    def answers(self) -> dict[str, dict[str, Any]]:
        """The answers by interrupt id."""
        return {one.interrupt_id: one.answer for one in self.settled if one.answer is not None}

    @property
    def next_step_at(self) -> datetime | None:
        return min((one.next_step_at for one in self.settled if one.next_step_at), default=None)


def begin_turn(turn: Turn, fence: int) -> TurnStart:
    """Settle the approvals the run waits for, and take the fence when there is something to do.

    A run that still waits for all of them is left as it is. Raises RunClosed when the run has ended, Fenced when a
    newer attempt has begun.
    """
    with transaction.atomic():
        settled = approval_selectors.settled(turn.approval_ids)
        answered = [one.approval_id for one in settled if one.answer is not None]
        if turn.approval_ids and not answered:
            return TurnStart({}, None, settled)
        run = _take_fence(turn, fence)
        topics = (f"run:{turn.run_id}", "runs")
        if answered:
            detail = f"turn {turn.turn}"
            approval_services.note_receipt(approval_ids=answered, step="resumed", detail=detail, topics=topics)
        else:
            announce(*topics)
        return TurnStart(run.input, run.requested_by_id, settled)


def note_failure(turn: Turn, fence: int, message: str) -> None:
    """Keep why the newest attempt of a turn failed, for who asks why a run stands still. Older ones change nothing."""
    failure = {
        "turn": turn.turn,
        "attempt": fence - turn.turn * ATTEMPTS_PER_TURN,
        "at": database_now().isoformat(),
        "message": message.replace("\x00", "")[:2000],
    }
    with transaction.atomic():
        if Run.objects.filter(pk=turn.run_id, fence=fence, status__in=Run.OPEN).update(failure=failure):
            announce(f"run:{turn.run_id}")


_TAKE_FENCE = """
UPDATE orchestration_run SET fence = %(fence)s, turn = %(turn)s, status = %(running)s
WHERE id = %(run_id)s AND fence < %(fence)s AND status = ANY(%(open)s)
RETURNING *
"""


def _take_fence(turn: Turn, fence: int) -> Run:
    """Take the fence and read the run, in one statement. Raises RunClosed, Fenced."""
    asked = {
        "run_id": turn.run_id,
        "turn": turn.turn,
        "fence": fence,
        "running": str(Run.Status.RUNNING),
        "open": [str(status) for status in Run.OPEN],
    }
    for run in Run.objects.raw(_TAKE_FENCE, asked):
        return run
    status = Run.objects.values_list("status", flat=True).get(pk=turn.run_id)
    if status not in Run.OPEN:
        raise RunClosed(turn.run_id, status)
    raise Fenced(f"A newer attempt of {turn.run_id} has begun.")


@dataclass(frozen=True)
class TurnEnd:
    """How the graph stood when its turn ended."""

    checkpoint_id: str
    proposals: list[Proposal] = field(default_factory=list)
    result: dict[str, Any] | None = None
    dataset_versions: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)


def pause_turn(turn: Turn, fence: int, end: TurnEnd) -> tuple[list[str], datetime]:
    """Open the approvals the graph asks for; return their ids and the first ladder step's time.

    A repetition opens nothing twice. Raises Fenced when a newer attempt has begun.
    """
    with transaction.atomic():
        _move(turn, fence, end, status=Run.Status.WAITING)
        opened = [approval_services.open_approval(proposal) for proposal in end.proposals]
    return [approval.pk for approval in opened], min(datetime.fromisoformat(a.ladder[0]["at"]) for a in opened)


def finish_turn(turn: Turn, fence: int, end: TurnEnd) -> None:
    """Close the run with its result. Raises Fenced when a newer attempt has begun."""
    with transaction.atomic():
        _move(turn, fence, end, status=Run.Status.FINISHED, result=end.result, closed_at=DatabaseNow())
        audit.record(actor="worker", kind="run.finished", subject=turn.run_id, body={"turns": turn.turn})


def _move(turn: Turn, fence: int, end: TurnEnd, **changes: Any) -> None:
    moved = Run.objects.filter(pk=turn.run_id, fence=fence, status__in=Run.OPEN).update(
        checkpoint_id=end.checkpoint_id, dataset_versions=end.dataset_versions, usage=end.usage, **changes
    )
    if not moved:
        raise Fenced(f"A newer attempt of {turn.run_id} has begun, or the run is closed.")
    announce("runs", f"run:{turn.run_id}")


def close_run(*, run_id: str, status: str, kind: str, message: str) -> None:
    """Close a run that failed or was cancelled, and withdraw what still waits. A closed run stays as it is."""
    with transaction.atomic():
        closed = Run.objects.filter(pk=run_id, status__in=Run.OPEN).update(
            status=status, error={"kind": kind, "message": message[:2000]}, closed_at=DatabaseNow()
        )
        if not closed:
            return
        announce("runs", f"run:{run_id}")
        approval_services.withdraw(run_id=run_id, reason=f"the run {status}", actor="worker")
        audit.record(actor="worker", kind=f"run.{status}", subject=run_id, body={"kind": kind})


def workflow_input(payload: dict[str, Any]) -> StartRun:
    """Return the workflow's input from an outbox entry's payload."""
    return StartRun(
        run_id=payload["run_id"],
        agent=payload["agent"],
        turn_seconds=payload["turn_seconds"],
        heartbeat_seconds=payload.get("heartbeat_seconds", 30),
    )


def redeliver(*, approval_id: str, by: User) -> None:
    """Have the answer sent again to who asked, for as long as was promised. A program may get it twice, a run may not.

    Raises NoSuchApproval, NotTheirs, and NothingToRedrive where sending again cannot help or is not needed yet.
    """
    source = Approval.objects.filter(pk=approval_id).values_list("source", flat=True).first()
    if source != Approval.Source.PROGRAM:
        redrive.deliver_again(approval_id=approval_id, by=by)
        return
    with transaction.atomic():
        approval = locked_for_redrive(approval_id, by)
        found = selectors.delivery_of([approval_id]).get(approval_id)
        if found is None or found.state == "delivered":
            raise NothingToRedrive("There is no answer that its program does not have.")
        is_asked = OutboxEntry.objects.filter(delivered_at=None, kind=DELIVER_WATCH, subject=approval.run_id)
        if is_asked.update(due_at=DatabaseNow()):
            outbox.wake()  # a second click, or the watch was never started
            return
        AnswerDelivery.objects.filter(pk=approval_id).update(state=AnswerDelivery.State.TRYING, began_at=DatabaseNow())
        start_watch(approval, again=True)
        announce("inbox", f"approval:{approval_id}")
        audit.record(actor=by.username, kind="approval.redelivered", subject=approval_id, body={"cause": found.state})
