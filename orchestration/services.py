"""Every change of a run. Each function is one transaction: change, record, announce."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Case, Q, QuerySet, Value, When
from ulid import ULID

from approvals import services as approval_services
from approvals.errors import NothingToRedrive
from approvals.models import Approval
from approvals.reading import for_runs
from approvals.reading.for_runs import Settled
from approvals.record import audit
from approvals.services import Proposal
from approvals.services.receipts import hold_receipts, locked_for_redrive
from approvals.services.requesting import start_watch
from console import outbox
from console.clock import DatabaseNow, database_now
from console.environment import environment
from console.in_flight import TooManyInFlight, is_full
from console.live.announce import announce
from console.models import OutboxEntry
from console.outbox import Kind
from console.text.digests import digest_of_json
from console.text.json_text import BEYOND, beyond_every_reader
from orchestration import beginning, ending, failing, fences, redrive, selectors, spending
from orchestration.agents.arguments import Unfit, read_input
from orchestration.agents.registry import UnknownAgent, agent_named
from orchestration.contracts import Carried, StartRun, Turn
from orchestration.errors import (
    AgentCodeChanged,
    AgentsLoading,
    EffectLeftOpen,
    FailedByOperator,
    Fenced,
    InvalidInput,
    NotCarriedOut,
    RunKeyReused,
)
from orchestration.fences import Attempt
from orchestration.models import AnswerDelivery, Effect, Run
from orchestration.prices import Tokens

ASKED_AGAIN: Final = (
    "The agent held another call than the one that was approved, or may not do it any more, here or beside it, so "
    "nothing of what was decided in this step was given to it."
)
NOT_WAITED_FOR: Final = "The agent came to its end without waiting for this."
_URL_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def start_run(*, agent: str, given: Any, requested_by: User, idempotency_key: str = "") -> tuple[Run, bool]:
    """Record a run and have the relay start its workflow; return it and whether it is new.

    The same key with the same input returns the same run, however often and from however many clients at once.
    `given`: the agent's input, JSON. Raises InvalidInput with the field's name, RunKeyReused, TooManyInFlight.
    """
    checked = checked_input(agent, given)
    digest = digest_of_json(checked)
    run_id = _run_id(agent, idempotency_key)
    same = Run.objects.filter(Q(agent=agent, idempotency_key=idempotency_key) | Q(pk=run_id))
    try:
        with transaction.atomic():
            _check_room(requested_by, same)
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
            outbox.enqueue(kind=Kind.START_RUN, subject=run_id, payload=start)
            announce("runs", f"run:{run_id}")
            audit.record(
                actor=requested_by.username,
                kind="run.requested",
                subject=run_id,
                body={"input_digest": digest},
            )
    except IntegrityError:
        # The key is taken: somebody else's click, or our own again.
        run = same.get()
        if run.input_digest != digest or run.agent != agent:
            raise RunKeyReused(RunKeyReused.__doc__) from None
        return run, False
    run.refresh_from_db()
    return run, True


def _check_room(requested_by: User, same: QuerySet[Run]) -> None:
    """Refuse one more than an account may have; what was asked before, by now perhaps, is not one more."""
    mine = Run.objects.filter(requested_by=requested_by, status__in=Run.OPEN)
    if is_full(requested_by, mine) and not same.exists():
        advice = "Wait until some have ended, or have an operator end some, and start this again."
        raise TooManyInFlight(requested_by, "runs that have not ended", advice)


def checked_input(agent: str, given: Any) -> dict[str, Any]:
    """Return an agent's input as it is kept. Raises InvalidInput, whose paths begin with `input`, and AgentsLoading."""
    try:
        found = agent_named(agent)
    except UnknownAgent as exc:
        if exc.is_loading:
            raise AgentsLoading(f"{exc} {AgentsLoading.__doc__}") from exc
        raise InvalidInput([{"path": "agent", "message": str(exc)}]) from exc
    try:
        checked = read_input(found, given)
    except Unfit as exc:
        raise InvalidInput([{**one, "path": f"input.{one['path']}".rstrip(".")} for one in exc.errors]) from exc
    if path := beyond_every_reader(checked):
        raise InvalidInput([{"path": ".".join(["input", *path]), "message": BEYOND}])
    return checked


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
        Run.objects.filter(pk=run_id, started_at=None).update(started_at=DatabaseNow())
        Run.objects.filter(pk=run_id, status=Run.Status.STARTING).update(status=Run.Status.RUNNING)
        announce("runs", f"run:{run_id}")


@dataclass(frozen=True)
class TurnStart:
    """What a turn begins with: the run's row, and what became of the approvals it waited for."""

    settled: list[Settled]
    run: Run | None = None  # `None` when there is nothing to do yet
    is_paused: bool = False  # there is something to do, and an operator has paused the run or has it cancelled
    began_at: datetime | None = None  # by the database's clock; `None` without a run
    #: what was approved of the model's tool calls, see `requests.call_approvals_of`; empty without a run
    approved_calls: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def answered(self) -> dict[str, list[Settled]]:
        """The interrupts of which all places are settled, by id; their places in order."""
        places: dict[str, list[Settled]] = {}
        for one in sorted(self.settled, key=lambda settled: settled.place):
            places.setdefault(one.interrupt_id, []).append(one)
        return {name: found for name, found in places.items() if all(one.ending is not None for one in found)}

    @property
    def next_step_at(self) -> datetime | None:
        return min((one.next_step_at for one in self.settled if one.next_step_at), default=None)


def begin_turn(turn: Turn, attempt: Attempt) -> TurnStart:
    """Settle the approvals the run waits for, and take the fence when there is something to do.

    An interrupt is answered when all of its places are settled. A run that waits for each of its interrupts is left as
    it is, and so is one that is paused or to be cancelled. Raises RunClosed when the run has ended, Fenced when a newer
    attempt has begun, NoSuchRun, and FailedByOperator where an operator had the turn failed.
    """
    begun = beginning.begin_as_usual(turn, attempt)
    if begun.run is not None:
        return TurnStart(begun.settled, begun.run, began_at=begun.now, approved_calls=begun.approved_calls)
    if turn.approval_ids and not begun.is_answered:
        return TurnStart(begun.settled)
    return _begin_turn_at_length(turn, attempt)


def _begin_turn_at_length(turn: Turn, attempt: Attempt) -> TurnStart:
    """Do what `begin_turn` does in every case."""
    with transaction.atomic():
        start = TurnStart(for_runs.settled(turn.approval_ids))
        answered = [place.approval_id for places in start.answered.values() for place in places]
        if turn.approval_ids and not answered:
            return start
        held = fences.hold(turn.run_id)
        run = held.run
        if _is_paused(run) or _is_being_cancelled(run):
            return replace(start, is_paused=True)
        fences.take(run, turn, attempt)
        _check_not_failed(run)
        topics = (f"run:{turn.run_id}", "runs")
        if answered:
            detail = f"turn {turn.turn}"
            approval_services.note_receipt(approval_ids=answered, step="resumed", detail=detail, topics=topics)
        else:
            announce(*topics)
        approved = for_runs.call_approvals_of(turn.run_id)
        return replace(start, run=run, began_at=held.now, approved_calls=approved)


def _check_not_failed(run: Run) -> None:
    if run.ending and run.ending["action"] == "fail_activity":
        raise FailedByOperator(f"Failed by {run.ending['by']}: {run.ending['reason']}")


def _is_paused(run: Run) -> bool:
    """Return whether an operator has paused the run, which then shows it. The caller's transaction holds the row."""
    if run.status not in Run.OPEN or run.paused is None or run.ending:  # what ends it is not kept waiting
        return False
    if run.status != Run.Status.PAUSED:
        Run.objects.filter(pk=run.pk).update(status=Run.Status.PAUSED)
        announce("runs", f"run:{run.pk}")
    return True


def _is_being_cancelled(run: Run) -> bool:
    """Return whether an operator has had the run cancelled: what was decided by then dies, as the preview said.

    Temporal is being told, and its word ends the workflow's wait.
    """
    return run.status in Run.OPEN and run.ending is not None and run.ending["action"] == "cancel"


def let_go(turn: Turn, fence: int) -> None:
    """Note that the attempt ended early and well, for its worker is stopping; the next one does not miss it."""
    with transaction.atomic():
        fences.let_go(turn, fence)


@dataclass(frozen=True)
class TurnEnd:
    """How the graph stood when its turn ended. `pause`: as in Run, for a turn that ends by asking."""

    checkpoint_id: str
    proposals: list[Proposal] = field(default_factory=list)
    result: dict[str, Any] | None = None
    dataset_versions: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    pause: dict[str, Any] | None = None
    used: Mapping[str, Tokens] = field(default_factory=dict)  # in this attempt, by model


def pause_turn(turn: Turn, fence: int, end: TurnEnd) -> tuple[list[str], datetime]:
    """Open the approvals the graph asks for; return their ids and when the next step of a ladder is due.

    A repetition opens nothing twice. Raises Fenced when a newer attempt has begun, and FailedByOperator where an
    operator had the turn failed meanwhile: a run that waits would never come to it.
    """
    with transaction.atomic():
        _move(turn, fence, end, waits=True, status=after_asking(), pause=end.pause)
        # First, for what is opened is recorded, and nothing waits for a row while it holds the record's chain.
        approval_services.withdraw_each(
            run_id=turn.run_id,
            reason="The agent does not wait for this any more; what it asks now is another request.",
            actor="worker",
            but_for_interrupts={proposal.interrupt_id for proposal in end.proposals},
        )
        opened = [approval_services.open_approval(proposal) for proposal in end.proposals]
    open_steps = [one.next_step_at for one in opened if one.next_step_at is not None]
    # Where the policy has closed all of them, the first step of the past has the next turn begin at once.
    steps = open_steps or [datetime.fromisoformat(one.ladder[0]["at"]) for one in opened]
    return [approval.pk for approval in opened], min(steps)


def after_asking() -> Case:
    """Return the status of a run that has asked, as the database finds it: an operator may have paused it meanwhile."""
    return Case(When(paused__isnull=False, then=Value("paused")), default=Value("waiting"))


def note_asked_again(turn: Turn, fence: int, approval_ids: Sequence[str], why: str = ASKED_AGAIN) -> None:
    """Note of what was decided that the agent was not given it, or did not take it, and why; so it is asked again.

    On retry: noted once. Raises Fenced when a newer attempt has begun.
    """
    with transaction.atomic():
        _hold(turn, fence)
        hold_receipts(sorted(approval_ids))
        for approval_id in sorted(approval_ids):
            approval_services.note_not_taken(approval_id=approval_id, detail=why)


def acted_since_asked(run: Run) -> list[str]:
    """Return the interrupts of the step that the run waits in whose approved effect was begun and has not failed."""
    begun = Effect.objects.filter(run_id=run.pk).exclude(status=Effect.Status.FAILED).values("pk")
    asked = Approval.objects.filter(run_id=run.pk, checkpoint_id=run.checkpoint_id, pk__in=begun)
    return list(asked.exclude(checkpoint_id="").values_list("interrupt_id", flat=True))


def refuse_what_may_not_run(turn: Turn, fence: int, approval_ids: Sequence[str]) -> dict[str, str]:
    """Ask once more what the ledger does not ask, before the agent is given its answers; return why of each refused.

    On retry: the same. Raises Fenced when a newer attempt has begun.
    """
    with transaction.atomic():
        _hold(turn, fence)
        return approval_services.refuse_what_may_not_run(approval_ids)


def finish_turn(turn: Turn, fence: int, end: TurnEnd) -> None:
    """Close the run with its result, and withdraw what it had asked and does not wait for any more.

    Raises Fenced when a newer attempt has begun. Raises NotCarriedOut, or AgentCodeChanged where the code has changed,
    while something that was approved has neither begun nor been refused: an end without it would look like success.
    Raises EffectLeftOpen while an effect has begun and nobody has seen its end; the graph does not ask for it again.
    """
    with transaction.atomic():
        _move(turn, fence, end, status=Run.Status.FINISHED, result=end.result, closed_at=DatabaseNow())
        approval_services.withdraw_each(run_id=turn.run_id, reason=NOT_WAITED_FOR, actor="worker")
        _check_carried_out(turn.run_id)  # after that: nothing of the run can be decided any more
        audit.record(actor="worker", kind="run.finished", subject=turn.run_id, body={"turns": turn.turn})


def _check_carried_out(run_id: str) -> None:
    ended = Effect.objects.filter(run_id=run_id).exclude(status=Effect.Status.EXECUTING, is_set_back=False)
    left = list(for_runs.approved_of_run(run_id).exclude(pk__in=ended.values("pk")))
    if not left:
        return
    begun = set(ending.begun(run_id))
    undone = [approval for approval in left if approval.pk not in begun]
    if not undone:
        raise _left_open(left)
    names = _names_of(undone)
    changes = Run.objects.values_list("code_changes", flat=True).get(pk=run_id)
    if changes:
        raise AgentCodeChanged(
            f"The agent's code changed ({changes[-1]['changed']}), and it came to its end without doing what was "
            f"approved: {names}. Nothing of that was done."
        )
    raise NotCarriedOut(
        f"The agent came to its end without doing what was approved: {names}. Nothing of that was done."
    )


def _left_open(executing: list[Approval]) -> EffectLeftOpen:
    now, names = database_now(), _names_of(executing)
    if any(one.expected_by is not None and one.expected_by > now for one in executing):
        return EffectLeftOpen(
            f"The agent came to its end while this is still under way: {names}. The run ends once it is over.",
            permanent=False,
        )
    return EffectLeftOpen(
        f"The agent came to its end, and nobody knows whether what it had begun was done: {names}. Look where it would "
        "have happened, and say so where the decision is shown.",
        permanent=True,
    )


def _names_of(found: list[Approval]) -> str:
    return ", ".join(f"{approval.tool} ({approval.pk})" for approval in found[:5])


def note_code_changed(turn: Turn, fence: int, changed: str) -> None:
    """Say with the run, once for each change, that it goes on under other code than it had paused under."""
    with transaction.atomic():
        run = Run.objects.select_for_update(no_key=True).filter(pk=turn.run_id, fence=fence).first()
        if run is None or any(one["changed"] == changed for one in run.code_changes[-1:]):
            return
        change = {"turn": turn.turn, "at": database_now().isoformat(), "changed": changed}
        run.code_changes = [*run.code_changes, change][-20:]
        run.save(update_fields=["code_changes"])
        announce(f"run:{turn.run_id}")
        audit.record(actor="worker", kind="run.code_changed", subject=turn.run_id, body={"changed": changed[:500]})


def note_usage(turn: Turn, fence: int, usage: dict[str, Any], used: Mapping[str, Tokens]) -> None:
    """Keep what an attempt's models have used that comes to no end. Nothing where a newer attempt has begun."""
    with transaction.atomic():
        if Run.objects.filter(pk=turn.run_id, fence=fence).update(usage=usage):
            spending.note(turn.run_id, turn.turn, used)
            announce(f"run:{turn.run_id}")


def _move(turn: Turn, fence: int, end: TurnEnd, *, waits: bool = False, **changes: Any) -> None:
    """Write how a turn ended. `waits`: for people, which a run does not whose turn an operator had failed."""
    mine = Run.objects.filter(pk=turn.run_id, fence=fence, status__in=Run.OPEN)
    moved = (mine.exclude(ending__action="fail_activity") if waits else mine).update(
        checkpoint_id=end.checkpoint_id,
        dataset_versions=end.dataset_versions,
        usage=end.usage,
        **failing.OVER,
        **changes,
    )
    if not moved:
        for run in mine:
            _check_not_failed(run)
        raise Fenced(f"A newer attempt of {turn.run_id} has begun, or the run is closed.")
    spending.note(turn.run_id, turn.turn, end.used)
    announce("runs", f"run:{turn.run_id}")


def close_run(*, run_id: str, status: str, kind: str, message: str, era: int = 0, temporal_run_id: str = "") -> None:
    """Close a run that failed or was cancelled, by its own workflow's word. A closed run stays as it is.

    So does one that was set back into a later era than the workflow's: it is another workflow's by now.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update(no_key=True).filter(pk=run_id).first()
        if run is None or fences.era_of(run, temporal_run_id, era) < run.era:
            return
        ending.close_run(run_id=run_id, status=status, kind=kind, message=message, actor="worker")


def workflow_input(payload: dict[str, Any]) -> StartRun:
    """Return the workflow's input from an outbox entry's payload."""
    return StartRun(
        run_id=payload["run_id"],
        agent=payload["agent"],
        turn_seconds=payload["turn_seconds"],
        heartbeat_seconds=payload.get("heartbeat_seconds", 30),
        era=payload.get("era", 0),
        carried=Carried(turn=payload["turn"]) if "turn" in payload else None,
    )


def _hold(turn: Turn, fence: int) -> Run:
    """Hold the run's row for its newest attempt. The caller's transaction. Raises Fenced."""
    run = Run.objects.select_for_update(no_key=True).filter(pk=turn.run_id, fence=fence, status__in=Run.OPEN).first()
    if run is None:
        raise Fenced(f"A newer attempt of {turn.run_id} has begun, or the run is closed.")
    return run


def note_placed(turn: Turn, fence: int, checkpoint_id: str, ahead: Tokens) -> None:
    """Note the checkpoint at which the era begins, and how many tokens its state is ahead of the run's usage.

    Raises Fenced when a newer attempt has begun.
    """
    with transaction.atomic():
        run = _hold(turn, fence)
        run.restart = {**(run.restart or {}), "placed": checkpoint_id, "ahead": [ahead.given, ahead.taken]}
        run.save(update_fields=["restart"])


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
        if found.state == "held":
            raise NothingToRedrive(found.cause)
        if found.state == "kept":
            raise NothingToRedrive("Its program fetches the answer, which is there for it; nobody sends it.")
        is_asked = OutboxEntry.objects.filter(delivered_at=None, kind=Kind.START_WATCH, subject=approval.run_id)
        if is_asked.update(due_at=DatabaseNow()):
            outbox.wake()  # a second click, or the watch was never started
            return
        AnswerDelivery.objects.filter(pk=approval_id).update(state=AnswerDelivery.State.TRYING, began_at=DatabaseNow())
        start_watch(approval, again=True)
        announce("inbox", f"approval:{approval_id}")
        audit.record(actor=by.username, kind="approval.redelivered", subject=approval_id, body={"cause": found.state})
