"""The workflow on a real Temporal server, in our sandbox, with activities that keep what they are asked.

`RECORD_HISTORIES=1 pytest tests/orchestration/test_agent_run.py` writes the histories that the replay test reads.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import typing
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowHistory
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing._timeskipping import TimeSkipper
from temporalio.worker import Replayer, Worker
from ulid import ULID

from orchestration import contracts
from orchestration.contracts import (
    CLIMB,
    CLOSE_RUN,
    DECIDED,
    RESUMED,
    RUN_TURN,
    WORKFLOW,
    Carried,
    Climb,
    Climbed,
    CloseRun,
    StartRun,
    Turn,
    TurnResult,
)
from orchestration.turns.activity import Activities
from orchestration.worker import workflow_runner
from orchestration.workflows import waiting
from orchestration.workflows.agent_run import AgentRun
from stack.temporal import Temporal
from tests.orchestration.conftest import EVENTS_AT_MOST, go
from tests.waiting import PATIENCE

HISTORIES = Path(__file__).resolve().parents[1] / "histories"
RECORDING = os.environ.get("RECORD_HISTORIES") == "1"
A, B = "apr_a", "apr_b"


def waits_for(*approvals: str, until: timedelta | None = timedelta(hours=24)) -> TurnResult:
    return TurnResult("needs_approval", list(approvals), _in(until))


def still(*approvals: str) -> TurnResult:
    return TurnResult("still_waiting", list(approvals), _in(timedelta(hours=24)))


FINISHED = TurnResult("finished")


def _in(duration: timedelta | None) -> str | None:
    return (datetime.now(UTC) + duration).isoformat() if duration is not None else None


class Recorder:
    """The activities, by the same names; each turn ends as the script says, and every call is kept."""

    def __init__(self, *script: TurnResult | Exception) -> None:
        self.script = list(script)
        self.climbed: list[Climbed] = []
        self.turns: list[Turn] = []
        self.climbs: list[Climb] = []
        self.closes: list[CloseRun] = []
        self.hold: dict[int, asyncio.Event] = {}  # by turn: do not report before this is set
        self._changed = asyncio.Condition()

    @activity.defn(name=RUN_TURN)
    async def run_turn(self, turn: Turn) -> TurnResult:
        async with self._changed:
            self.turns.append(turn)
            self._changed.notify_all()
        if turn.turn in self.hold:
            await self.hold[turn.turn].wait()
        end = self.script.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    @activity.defn(name=CLIMB)
    async def climb(self, climb: Climb) -> Climbed:
        async with self._changed:
            self.climbs.append(climb)
            self._changed.notify_all()
        return self.climbed.pop(0)

    @activity.defn(name=CLOSE_RUN)
    async def close_run(self, close: CloseRun) -> None:
        self.closes.append(close)

    async def until(self, condition: Callable[[Recorder], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: condition(self))


class Stage:
    """One running workflow with its recorder."""

    def __init__(self, client: Client, handle: WorkflowHandle[Any, str], recorder: Recorder) -> None:
        self.client, self.handle, self.recorder = client, handle, recorder

    async def decided(self, approval: str, decision: str = "dec_1") -> None:
        await self.handle.signal(DECIDED, {"approval_id": approval, "decision_id": decision})

    async def signal_raw(self, name: str, *payloads: Payload) -> None:
        await self.client.workflow_service.signal_workflow_execution(
            SignalWorkflowExecutionRequest(
                namespace=self.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=self.handle.id),
                signal_name=name,
                input=Payloads(payloads=payloads) if payloads else None,
            )
        )

    async def waiting(self, *approvals: str) -> None:
        """Return once the workflow waits for the approvals: asked by query, which is answered by its state."""
        async with asyncio.timeout(PATIENCE):
            while await self.handle.query(AgentRun.waiting_for) != list(approvals):
                pass  # each look is a round trip of its own

    async def events(self) -> list[str]:
        history = await self.handle.fetch_history()
        return [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in history.events]

    async def ends(self) -> str:
        async with asyncio.timeout(PATIENCE):
            return await self.handle.result()

    async def keep(self, name: str) -> None:
        """Keep the history for the replay test, when this run records."""
        history = await self.handle.fetch_history()
        if RECORDING:
            HISTORIES.mkdir(exist_ok=True)
            text = re.sub(r'"stackTrace": "(?:[^"\\]|\\.)*"', '"stackTrace": ""', history.to_json())
            (HISTORIES / f"{name}.json").write_text(text + "\n")


def play(temporal: Temporal, recorder: Recorder, scene: Callable[[Stage], Awaitable[None]], **start: Any) -> Recorder:
    """Run one workflow under the scene, on a task queue of its own."""

    async def inside() -> None:
        client = await Client.connect(temporal.address, namespace=temporal.namespace, identity="tests")
        run_id = f"support-{str(ULID()).lower()}"
        async with Worker(
            client,
            task_queue=run_id,
            workflows=[AgentRun],
            activities=[recorder.run_turn, recorder.climb, recorder.close_run],
            workflow_runner=workflow_runner(),
            debug_mode=True,  # nobody is taken for stuck who is only slow
        ):
            given = StartRun(run_id, "support", **start)
            handle: WorkflowHandle[Any, str] = await client.start_workflow(
                WORKFLOW, given, id=run_id, task_queue=run_id, result_type=str
            )
            stage = Stage(client, handle, recorder)
            await scene(stage)
            assert "WORKFLOW_TASK_FAILED" not in await stage.events()

    go(inside())
    return recorder


def test_a_decision_wakes_the_run_and_the_next_turn_gets_its_ids(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting(A)
        await stage.decided(A)
        assert await stage.ends() == "finished"
        await stage.keep("approved")

    recorder = play(temporal, Recorder(waits_for(A), FINISHED), scene)
    assert [(turn.turn, turn.approval_ids) for turn in recorder.turns] == [(1, []), (2, [A])]
    assert {turn.agent for turn in recorder.turns} == {"support"}
    assert (recorder.climbs, recorder.closes) == ([], [])


def test_a_run_that_is_paused_takes_up_what_was_decided_once_it_is_resumed(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting(A)
        await stage.handle.signal(RESUMED)  # of a pause before it, or forged: nothing is paused
        await stage.decided(A)
        await stage.recorder.until(lambda it: len(it.turns) == 2)
        assert (await stage.events()).count("TIMER_STARTED") == 1
        await stage.handle.signal(RESUMED)
        assert await stage.ends() == "finished"
        await stage.keep("paused")

    recorder = play(temporal, Recorder(waits_for(A), TurnResult("paused", [A]), FINISHED), scene)
    assert [(turn.turn, turn.approval_ids) for turn in recorder.turns] == [(1, []), (2, [A]), (3, [A])]


def test_a_resume_that_comes_while_the_turn_finds_the_pause_is_not_lost(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.recorder.until(lambda it: len(it.turns) == 1)
        await stage.handle.signal(RESUMED)
        stage.recorder.hold[1].set()
        assert await stage.ends() == "finished"

    recorder = Recorder(TurnResult("paused"), FINISHED)
    recorder.hold[1] = asyncio.Event()
    assert [turn.approval_ids for turn in play(temporal, recorder, scene).turns] == [[], []]


def test_a_paused_run_can_be_cancelled(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.recorder.until(lambda it: len(it.turns) == 1)
        await stage.handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await stage.ends()

    recorder = play(temporal, Recorder(TurnResult("paused")), scene, era=3)
    assert [(close.status, close.era) for close in recorder.closes] == [("cancelled", 3)]


def test_a_run_that_needs_nobody_finishes_by_itself(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        assert await stage.ends() == "finished"

    assert len(play(temporal, Recorder(FINISHED), scene).turns) == 1


def test_nothing_runs_while_a_run_waits(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting(A)
        before = await stage.events()
        assert before[-1] == "TIMER_STARTED"
        assert before.count("ACTIVITY_TASK_SCHEDULED") == 1

    play(temporal, Recorder(waits_for(A)), scene)


def test_a_decision_that_comes_before_the_turn_has_reported_is_not_lost(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.recorder.until(lambda it: len(it.turns) == 1)
        await stage.decided(A)
        stage.recorder.hold[1].set()
        assert await stage.ends() == "finished"
        await stage.keep("decided-before-the-report")

    recorder = Recorder(waits_for(A), FINISHED)
    recorder.hold[1] = asyncio.Event()
    play(temporal, recorder, scene)
    assert [turn.approval_ids for turn in recorder.turns] == [[], [A]]


def test_the_same_decision_ten_times_is_one_turn(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting(A)
        for _ in range(10):
            await stage.decided(A)
        await stage.waiting(B)
        for _ in range(10):
            await stage.decided(A)
        await stage.decided(B, "dec_2")
        assert await stage.ends() == "finished"

    recorder = play(temporal, Recorder(waits_for(A), waits_for(B), FINISHED), scene)
    assert [turn.approval_ids for turn in recorder.turns] == [[], [A], [B]]


def test_made_up_ids_take_no_turn_and_the_honest_decision_still_works(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting(A)
        for number in range(5):
            await stage.decided(f"apr_made_up_{number}", f"dec_made_up_{number}")
        await stage.decided(A)
        assert await stage.ends() == "finished"

    recorder = play(temporal, Recorder(waits_for(A), FINISHED), scene)
    assert [turn.approval_ids for turn in recorder.turns] == [[], [A]]


def test_a_forged_decision_about_the_right_approval_only_makes_a_turn_look(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting(A)
        await stage.decided(A, "dec_forged")
        await stage.recorder.until(lambda it: len(it.turns) == 2)
        await stage.decided(A, "dec_honest")
        assert await stage.ends() == "finished"
        await stage.keep("still-waiting")

    recorder = play(temporal, Recorder(waits_for(A), still(A), FINISHED), scene)
    assert [turn.approval_ids for turn in recorder.turns] == [[], [A], [A]]


def json_payload(text: bytes) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=text)


HONEST = b'{"approval_id": "apr_a", "decision_id": "dec_x"}'
MALFORMED: dict[str, tuple[Payload, ...]] = {
    "no payload": (),
    "two payloads": (json_payload(HONEST), json_payload(HONEST)),
    "a string": (json_payload(b'"apr_a"'),),
    "a list": (json_payload(b'["apr_a", "dec_x"]'),),
    "null": (json_payload(b"null"),),
    "a number": (json_payload(b"1e999"),),
    "an empty object": (json_payload(b"{}"),),
    "numbers for ids": (json_payload(b'{"approval_id": 1, "decision_id": 2}'),),
    "nested ids": (json_payload(b'{"approval_id": {"approval_id": "apr_a"}, "decision_id": ["dec_x"]}'),),
    "deeply nested": (json_payload(b"[" * 50_000),),
    "half of it": (json_payload(b'{"approval_id": "apr_a"}'),),
    "broken JSON": (json_payload(b'{"approval_id": '),),
    "broken UTF-8": (json_payload(b'{"approval_id": "apr_a\xff", "decision_id": "x"}'),),
    "a lone surrogate": (json_payload(b'{"approval_id": "apr_a\\ud800", "decision_id": "dec\\udfff"}'),),
    "another encoding": (Payload(metadata={"encoding": b"binary/encrypted"}, data=b"\x00\x01"),),
    "no encoding": (Payload(data=HONEST),),
    "raw bytes": (Payload(metadata={"encoding": b"binary/plain"}, data=HONEST),),
    "a protobuf": (Payload(metadata={"encoding": b"json/protobuf", "messageType": b"no.Such"}, data=b"{}"),),
    "an endless id": (json_payload(b'{"approval_id": "apr_a", "decision_id": "' + b"x" * 300 + b'"}'),),
    "one megabyte": (json_payload(b'{"approval_id": "apr_a", "decision_id": "' + b"x" * 1_000_000 + b'"}'),),
}


@pytest.mark.parametrize("shape", MALFORMED)
def test_a_signal_of_a_wrong_shape_changes_nothing(shape: str, temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting(A)
        await stage.signal_raw(DECIDED, *MALFORMED[shape])
        await stage.waiting(A)  # a query is answered after the signal has been handled
        assert len(stage.recorder.turns) == 1
        await stage.decided(A)
        assert await stage.ends() == "finished"
        if shape == "two payloads":
            await stage.keep("malformed-signal")

    assert len(play(temporal, Recorder(waits_for(A), FINISHED), scene).turns) == 2


def test_signals_with_other_names_change_nothing(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting(A)
        for name in ("decide", "DECIDED", "approve", "any_signal", "run", "x" * 900, "\u202edediced"):
            await stage.signal_raw(name, json_payload(HONEST))
        await stage.waiting(A)
        assert len(stage.recorder.turns) == 1
        await stage.decided(A)
        assert await stage.ends() == "finished"

    play(temporal, Recorder(waits_for(A), FINISHED), scene)


def test_one_of_several_decisions_is_enough_to_look(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting(A, B)
        await stage.decided(B)
        assert await stage.ends() == "finished"

    recorder = play(temporal, Recorder(waits_for(A, B), FINISHED), scene)
    assert recorder.turns[1].approval_ids == [A, B]


def test_days_pass_the_ladder_is_climbed_when_due_and_closing_takes_a_turn(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        skipper = TimeSkipper(stage.client)
        await stage.waiting(A)
        await skipper.fast_forward(stage.handle, timedelta(hours=23))
        assert stage.recorder.climbs == []
        await skipper.fast_forward(stage.handle, timedelta(hours=2))
        await stage.recorder.until(lambda it: len(it.climbs) == 1)
        await stage.waiting(A)
        assert len(stage.recorder.turns) == 1
        await skipper.fast_forward(stage.handle, timedelta(hours=48))
        assert await stage.ends() == "finished"
        await stage.keep("expired")

    recorder = Recorder(waits_for(A), FINISHED)
    recorder.climbed = [Climbed(False, _in(timedelta(hours=72))), Climbed(True)]
    play(temporal, recorder, scene)
    assert [climb.approval_ids for climb in recorder.climbs] == [[A], [A]]
    assert [turn.approval_ids for turn in recorder.turns] == [[], [A]]


def test_a_decision_on_day_two_works(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting(A)
        await TimeSkipper(stage.client).fast_forward(stage.handle, timedelta(days=2))
        await stage.recorder.until(lambda it: len(it.climbs) == 1)
        await stage.decided(A)
        assert await stage.ends() == "finished"

    recorder = Recorder(waits_for(A), FINISHED)
    recorder.climbed = [Climbed(False, _in(timedelta(days=3)))]
    assert len(play(temporal, recorder, scene).turns) == 2


def test_an_approval_without_a_ladder_waits_without_a_timer(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting(A)
        assert "TIMER_STARTED" not in await stage.events()
        await stage.decided(A)
        assert await stage.ends() == "finished"

    play(temporal, Recorder(waits_for(A, until=None), FINISHED), scene)


def test_cancelling_a_waiting_run_closes_its_row(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting(A)
        await stage.handle.cancel()
        with pytest.raises(WorkflowFailureError) as told:
            await stage.ends()
        assert isinstance(told.value.cause, CancelledError)
        assert (await stage.events())[-1] == "WORKFLOW_EXECUTION_CANCELED"
        await stage.keep("cancelled")

    recorder = play(temporal, Recorder(waits_for(A)), scene)
    assert [(close.status, close.kind) for close in recorder.closes] == [("cancelled", "cancelled")]


def test_cancelling_during_a_turn_closes_its_row(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.recorder.until(lambda it: len(it.turns) == 1)
        await stage.handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await stage.ends()
        stage.recorder.hold[1].set()

    recorder = Recorder(FINISHED)
    recorder.hold[1] = asyncio.Event()
    assert [close.status for close in play(temporal, recorder, scene).closes] == ["cancelled"]


def test_a_permanent_failure_closes_the_row_and_the_workflow_ends_in_order(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        assert await stage.ends() == "failed"
        await stage.keep("failed")

    wrong = ApplicationError("the agent's code is wrong", type="AgentError", non_retryable=True)
    recorder = play(temporal, Recorder(wrong), scene)
    (close,) = recorder.closes
    assert (close.status, close.kind) == ("failed", "AgentError")
    assert "the agent's code is wrong" in close.message
    assert len(recorder.turns) == 1


def test_a_passing_failure_is_tried_again(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        assert await stage.ends() == "finished"

    recorder = play(temporal, Recorder(ConnectionError("away"), FINISHED), scene)
    assert [turn.turn for turn in recorder.turns] == [1, 1]
    assert recorder.closes == []


def test_a_long_run_goes_on_in_a_new_history_and_forgets_nothing(temporal: Temporal) -> None:
    turns = EVENTS_AT_MOST // 10 + 3

    async def scene(stage: Stage) -> None:
        first_run_id = stage.handle.first_execution_run_id
        for number in range(2, turns + 1):
            await stage.waiting(A)
            await stage.decided(A, f"dec_{number}")
            await stage.recorder.until(lambda it, n=number: len(it.turns) == n)  # type: ignore[misc]
        await stage.waiting(A)
        for number in range(2, turns + 1):  # delivered again, into the new history
            await stage.decided(A, f"dec_{number}")
        await stage.waiting(A)
        assert len(stage.recorder.turns) == turns
        now = await stage.handle.describe()
        assert now.run_id != first_run_id
        await stage.decided(A, "dec_last")
        assert await stage.ends() == "finished"
        await stage.keep("continued")

    script = [waits_for(A), *(still(A) for _ in range(turns - 1)), FINISHED]
    recorder = play(temporal, Recorder(*script), scene)
    assert [turn.turn for turn in recorder.turns] == list(range(1, turns + 2))
    assert recorder.turns[-1].approval_ids == [A]


def test_a_decision_during_the_last_turn_of_a_history_wakes_the_next_one(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        recorder = stage.recorder
        await stage.waiting(A)
        for number in range(EVENTS_AT_MOST):  # noise fills the history without taking a turn
            await stage.decided("apr_other", f"dec_other_{number}")
        await stage.decided(A, "dec_forged")
        await recorder.until(lambda it: len(it.turns) == 2)
        await stage.decided(A, "dec_honest")
        recorder.hold[2].set()
        assert await stage.ends() == "finished"
        described = await stage.handle.describe()
        assert described.run_id != stage.handle.first_execution_run_id

    recorder = Recorder(waits_for(A), still(A), FINISHED)
    recorder.hold[2] = asyncio.Event()
    play(temporal, recorder, scene)
    assert [turn.approval_ids for turn in recorder.turns] == [[], [A], [A]]


def test_a_run_that_is_continued_begins_where_it_was() -> None:
    carried = Carried(turn=7, waiting_for=[A], seen_decisions=["dec_1"], next_step_at=_in(timedelta(hours=1)))
    start = StartRun("support-1", "support", 60, carried)
    run = AgentRun(start)
    assert run.waiting_for() == [A]
    assert run._carry() == start


def test_only_the_newest_decisions_are_carried_along() -> None:
    seen = [f"dec_{number}" for number in range(500)]
    run = AgentRun(StartRun("support-1", "support", 60, Carried(1, [A], seen, None)))
    carried = run._carry().carried
    assert carried is not None
    assert carried.seen_decisions == seen[-200:]


def histories() -> list[Path]:
    return sorted(HISTORIES.glob("*.json"))


def test_there_are_histories_to_replay() -> None:
    assert {"approved", "expired", "cancelled", "continued", "malformed-signal"} <= {path.stem for path in histories()}


@pytest.mark.skipif(RECORDING, reason="the histories are being written")
@pytest.mark.parametrize("path", histories(), ids=lambda path: path.stem)
def test_a_history_of_yesterday_is_replayed_by_the_code_of_today(path: Path) -> None:
    history = WorkflowHistory.from_json("support-replayed", path.read_text())
    replayer = Replayer(workflows=[AgentRun], workflow_runner=workflow_runner(), debug_mode=True)
    asyncio.run(replayer.replay_workflow(history))


def test_each_activity_name_has_exactly_one_activity_of_the_same_types() -> None:
    asked = {RUN_TURN: (Turn, TurnResult), CLIMB: (Climb, Climbed), CLOSE_RUN: (CloseRun, type(None))}
    source = inspect.getsource(AgentRun) + inspect.getsource(waiting)
    found: dict[str, tuple[Any, Any]] = {}
    for _, method in inspect.getmembers(Activities, inspect.isfunction):
        if (definition := getattr(method, "__temporal_activity_definition", None)) is not None:
            hints = typing.get_type_hints(method)
            gives = hints.pop("return")
            (takes,) = hints.values()
            assert definition.name not in found, definition.name
            found[definition.name] = (takes, gives)
    assert found == asked
    for constant in ("RUN_TURN", "CLIMB", "CLOSE_RUN"):
        assert f"{constant},\n" in source
        assert getattr(contracts, constant) in found
    for takes, gives in asked.values():
        assert f"{takes.__name__}(" in source
        if gives is not type(None):
            assert f"result_type={gives.__name__}" in source


def test_the_contract_types_survive_the_journey_as_json() -> None:
    from temporalio.converter import PayloadConverter

    converter = PayloadConverter.default
    carried = Carried(3, [A], ["dec_1"], "2026-11-24T10:00:00+00:00")
    for value in (
        StartRun("support-1", "support", 60, carried),
        StartRun("support-1", "support"),
        Turn("support-1", "support", 2, [A]),
        TurnResult("needs_approval", [A], "2026-11-24T10:00:00+00:00", "c1", [{"dataset": "handbook"}], {"a": 1}),
        Climb("support-1", [A]),
        Climbed(False, None),
        CloseRun("support-1", "failed", "AgentError", "because"),
    ):
        assert converter.from_payload(converter.to_payload(value), type(value)) == value
    older = converter.to_payload({"run_id": "support-1", "agent": "support"})  # written before there were more fields
    assert converter.from_payload(older, StartRun) == replace(StartRun("support-1", "support"))
