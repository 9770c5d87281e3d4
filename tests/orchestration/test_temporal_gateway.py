"""What the relay relies on in Temporal: the same promises asked of the double and of the real server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure, ServerFailureInfo
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import (
    DeleteWorkflowExecutionRequest,
    PauseActivityRequest,
    PauseWorkflowExecutionRequest,
    ResetActivityRequest,
)
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker
from ulid import ULID

from console import temporal_connection
from console.environment import environment
from orchestration import temporal_gateway
from orchestration.contracts import (
    CLOSE_RUN,
    RUN_TURN,
    WORKFLOW,
    CloseRun,
    ProgramSignal,
    StartRun,
    StartWatch,
    Turn,
    TurnResult,
)
from orchestration.errors import NamespaceGone, NotAnswered, TemporalAway, TemporalRefused, WorkflowGone
from orchestration.temporal_gateway import RealTemporal, histories
from orchestration.temporal_protocol import TemporalGateway, WorkflowSeen
from orchestration.worker import workflow_runner
from orchestration.workflows.agent_run import AgentRun
from stack import temporal as stack_temporal
from stack.ports import free_port
from stack.temporal import Temporal
from tests import session_postgres
from tests.at_once import at_once
from tests.fakes import FakeTemporal
from tests.orchestration.conftest import go
from tests.waiting import PATIENCE, until


class Door(TemporalGateway, Protocol):
    async def end(self, run_id: str) -> None:
        """End the workflow."""

    async def times_heard(self, run_id: str) -> int:
        """Return how many decisions the workflow has heard."""


class FakeDoor(FakeTemporal):
    async def times_heard(self, run_id: str) -> int:
        heard = [signal[0] for signal in self.signals] + [signal.workflow_id for signal in self.program_signals]
        return heard.count(run_id)


class RealDoor(RealTemporal):
    async def end(self, run_id: str) -> None:
        await self.client.get_workflow_handle(run_id).terminate()

    async def times_heard(self, run_id: str) -> int:
        history = await self.client.get_workflow_handle(run_id).fetch_history()
        return sum(event.HasField("workflow_execution_signaled_event_attributes") for event in history.events)


Scene = Callable[[Any], Awaitable[None]]
Play = Callable[[Scene], None]


@pytest.fixture(params=["double", pytest.param("server", marks=pytest.mark.engines)])
def play(request: pytest.FixtureRequest) -> Play:
    """Run a scene with the gateway under test."""
    server: Temporal | None = request.getfixturevalue("temporal") if request.param == "server" else None

    async def inside(scene: Scene) -> None:
        if server is None:
            await scene(FakeDoor())
        else:
            client = await Client.connect(server.address, namespace=server.namespace)
            await scene(RealDoor(client))

    return lambda scene: go(inside(scene))


def start() -> StartRun:
    return StartRun(f"support-{str(ULID()).lower()}", "support")


def test_a_second_start_of_the_same_run_finds_the_first(play: Play) -> None:
    async def scene(door: Door) -> None:
        given = start()
        first = await door.start_run(given)
        assert first
        assert await door.start_run(given) == first
        assert await door.start_run(start()) != first

    play(scene)


def test_a_run_that_has_ended_is_not_started_again(play: Play) -> None:
    async def scene(door: Door) -> None:
        given = start()
        await door.start_run(given)
        await door.end(given.run_id)
        assert await door.start_run(given) == ""

    play(scene)


def test_a_decision_reaches_its_run_once_however_often_it_is_sent(play: Play) -> None:
    async def scene(door: Door) -> None:
        given = start()
        await door.start_run(given)
        for _ in range(10):
            await door.signal_decided(given.run_id, "apr_1", "dec_1")
        await door.signal_decided(given.run_id, "apr_1", "dec_2")
        assert await door.times_heard(given.run_id) == 2

    play(scene)


def test_a_decision_for_a_run_that_is_not_there_says_so(play: Play) -> None:
    async def scene(door: Door) -> None:
        given = start()
        with pytest.raises(WorkflowGone):
            await door.signal_decided(given.run_id, "apr_1", "dec_1")
        await door.start_run(given)
        await door.end(given.run_id)
        with pytest.raises(WorkflowGone):
            await door.signal_decided(given.run_id, "apr_1", "dec_1")

    play(scene)


def test_a_watch_is_started_once_and_again_when_it_has_ended(play: Play) -> None:
    async def scene(door: Door) -> None:
        watch = f"watch-{str(ULID()).lower()}"
        for _ in range(2):
            await door.start_watch(watch, StartWatch("apr_1"), again=False)
        await door.signal_decided(watch, "apr_1", "dec_1")
        await door.start_watch(watch, StartWatch("apr_1"), again=False)
        assert await door.times_heard(watch) == 1  # it is the same one
        await door.end(watch)
        await door.start_watch(watch, StartWatch("apr_1"), again=False)
        await door.signal_decided(watch, "apr_1", "dec_2")
        await door.start_watch(watch, StartWatch("apr_1"), again=True)
        await door.signal_decided(watch, "apr_1", "dec_3")

    play(scene)


def test_an_answer_reaches_a_programs_workflow_once_however_often_it_is_sent(play: Play) -> None:
    async def scene(door: Door) -> None:
        theirs = start()
        answer = ProgramSignal(theirs.run_id, "approved", {"status": "decided"}, "dec_1")
        with pytest.raises(WorkflowGone):
            await door.signal_program(answer)
        await door.start_run(theirs)
        for _ in range(5):
            await door.signal_program(answer)
        assert await door.times_heard(theirs.run_id) == 1
        await door.end(theirs.run_id)
        with pytest.raises(WorkflowGone):
            await door.signal_program(replace(answer, request_id="dec_2"))

    play(scene)


def test_a_server_that_answers_is_there(play: Play) -> None:
    async def scene(door: Door) -> None:
        assert await door.is_there()

    play(scene)


def test_one_call_that_the_server_refuses_does_not_make_it_away(temporal: Temporal) -> None:
    async def scene() -> None:
        client = await Client.connect(temporal.address, namespace=temporal.namespace)
        with pytest.raises(TemporalRefused):
            await RealTemporal(client).start_run(StartRun("x" * 2000, "support"))

    go(scene())


def test_a_server_that_is_not_there_is_away_and_may_come_back() -> None:
    async def scene() -> None:
        client = await Client.connect(f"127.0.0.1:{free_port()}", lazy=True)
        door = RealTemporal(client)
        for call in (door.start_run(start()), door.signal_decided("support-1", "apr_1", "dec_1")):
            with pytest.raises(TemporalAway) as told:
                await call
            assert not told.value.permanent
        assert not await RealTemporal(client).is_there()

    go(scene())


def test_connecting_to_nothing_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    known = environment().model_copy(update={"temporal_address": f"127.0.0.1:{free_port()}"})
    monkeypatch.setattr(temporal_gateway, "environment", lambda: known)
    with pytest.raises(TemporalAway):
        go(RealTemporal.connect())


@pytest.mark.parametrize("status", list(RPCStatusCode), ids=lambda status: status.name)
def test_each_error_of_the_engine_is_one_of_ours(status: RPCStatusCode) -> None:
    async def refused() -> None:
        raise RPCError("no", status, b"")

    about_the_call = (
        "INVALID_ARGUMENT",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "DATA_LOSS",
    )
    expected = {"NOT_FOUND": WorkflowGone} | dict.fromkeys(about_the_call, TemporalRefused)
    with pytest.raises(expected.get(status.name, TemporalAway)):
        go(temporal_gateway._translated(refused))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (RPCStatusCode.DEADLINE_EXCEEDED, NotAnswered),
        (RPCStatusCode.RESOURCE_EXHAUSTED, NotAnswered),  # a workflow takes ten updates at a time
        (RPCStatusCode.PERMISSION_DENIED, TemporalRefused),
        (RPCStatusCode.UNAVAILABLE, TemporalAway),
    ],
)
def test_what_is_about_one_call_does_not_take_the_server_away(status: RPCStatusCode, expected: type[Exception]) -> None:
    async def refused() -> None:
        with temporal_gateway._for_one_call():
            raise RPCError("no", status, b"")

    with pytest.raises(expected):
        go(temporal_gateway._translated(refused))


def test_a_look_says_how_a_workflow_is_and_why_it_ended(play: Play) -> None:
    async def scene(door: Door) -> None:
        given = start()
        with pytest.raises(WorkflowGone):
            await door.look(given.run_id)
        await door.start_run(given)
        assert await door.look(given.run_id) == WorkflowSeen("running")
        await door.cancel(given.run_id, "no longer needed", "once", 0)
        await door.cancel(given.run_id, "no longer needed", "once", None)
        await door.terminate(given.run_id, "cleanup by ops", 0)
        assert await door.look(given.run_id) == WorkflowSeen("terminated", "cleanup by ops")
        never = start().run_id
        for gone in (
            door.terminate(given.run_id, "x", None),
            door.terminate(never, "x", 0),
            door.cancel(never, "x", "twice", 0),
        ):
            with pytest.raises(WorkflowGone):
                await gone

    play(scene)


def test_what_was_meant_for_a_workflow_of_before_leaves_the_one_that_was_started_anew_alone(play: Play) -> None:
    async def scene(door: Door) -> None:
        given = start()
        await door.start_run(given)
        await door.restart_run(replace(given, era=1), "set back")
        for late in (
            door.terminate(given.run_id, "x", 0),
            door.cancel(given.run_id, "x", "once", 0),
            door.fail_activity(given.run_id, RUN_TURN, "FailedByOperator", "x", 0),
        ):
            with pytest.raises(WorkflowGone):
                await late
        assert await door.look(given.run_id) == WorkflowSeen("running")
        await door.cancel(given.run_id, "x", "once", 1)
        await door.terminate(given.run_id, "over", 1)
        assert await door.look(given.run_id) == WorkflowSeen("terminated", "over")

    play(scene)


@pytest.mark.engines
def test_who_froze_between_a_look_and_the_call_ends_nothing_that_was_started_since(temporal: Temporal) -> None:
    async def inside() -> None:
        gateway, given = RealTemporal(await Client.connect(temporal.address, namespace=temporal.namespace)), start()
        await gateway.start_run(given)
        first = await gateway._described(given.run_id)
        await gateway.restart_run(replace(given, era=1), "set back")
        newest = await gateway.restart_run(replace(given, era=2), "set back once more")

        async def what_it_saw(*_: Any) -> Any:
            return first

        with pytest.MonkeyPatch.context() as frozen:
            frozen.setattr(RealTemporal, "_described", what_it_saw)
            for late in (gateway.terminate(given.run_id, "x", 0), gateway.cancel(given.run_id, "x", "once", 0)):
                with pytest.raises(WorkflowGone):
                    await late
            with pytest.raises(TemporalRefused, match="started meanwhile"):
                await gateway.restart_run(replace(given, era=1), "set back")
        described = await gateway.describe(given.run_id)
        assert (described.temporal_run_id, described.seen) == (newest, WorkflowSeen("running"))

    go(inside())


def test_a_workflow_is_described_as_it_is_now(play: Play) -> None:
    async def scene(door: Door) -> None:
        given = start()
        with pytest.raises(WorkflowGone):
            await door.describe(given.run_id)
        temporal_run_id = await door.start_run(given)
        found = await door.describe(given.run_id)
        assert (found.temporal_run_id, found.seen, found.closed_at) == (temporal_run_id, WorkflowSeen("running"), None)
        assert found.started_at.utcoffset() == timedelta(0) and found.events >= 1 and found.pending == ()
        await door.terminate(given.run_id, "cleanup by ops", None)
        ended = await door.describe(given.run_id, temporal_run_id)
        assert ended.seen == WorkflowSeen("terminated", "cleanup by ops")
        assert ended.closed_at is not None and ended.events > found.events
        with pytest.raises(WorkflowGone):
            await door.describe(given.run_id, str(uuid4()))

    play(scene)


def test_a_history_is_read_page_by_page_and_nothing_is_lost_between_them(play: Play) -> None:
    async def scene(door: Door) -> None:
        given = start()
        with pytest.raises(WorkflowGone):
            await door.history(given.run_id)
        temporal_run_id = await door.start_run(given)
        for number in range(5):
            await door.signal_decided(given.run_id, "apr_1", f"dec_{number}")
        whole = await door.history(given.run_id)
        assert whole.after == ""
        assert whole.events[0]["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_STARTED"
        assert sum(event["eventType"].endswith("EXECUTION_SIGNALED") for event in whole.events) == 5
        pages = [await door.history(given.run_id, temporal_run_id, most=2)]
        while pages[-1].after:
            pages.append(await door.history(given.run_id, temporal_run_id, after=pages[-1].after, most=2))
        assert [event for page in pages for event in page.events] == whole.events
        assert len(pages) > 1 and all(len(page.events) < len(whole.events) for page in pages)
        assert await histories(door, given.run_id) == [{"events": whole.events}]
        for nonsense in ("nonsense", "é", "bm9uc2Vuc2U="):
            with pytest.raises(TemporalRefused):
                await door.history(given.run_id, after=nonsense)

    play(scene)


def test_a_long_history_is_whole() -> None:
    async def scene() -> None:
        door, given = FakeTemporal(), start()
        await door.start_run(given)
        for number in range(250):
            await door.signal_decided(given.run_id, "apr_1", f"dec_{number}")
        (history,) = await histories(door, given.run_id)
        assert [event["eventId"] for event in history["events"]] == [str(number) for number in range(1, 252)]
        assert sum(call.startswith("history") for call in door.calls) == 3

    go(scene())


@pytest.mark.engines
def test_an_activity_that_fails_is_described_with_its_reason_and_its_next_try(temporal: Temporal) -> None:
    async def scene() -> None:
        client = await Client.connect(temporal.address, namespace=temporal.namespace)
        door, given, task_queue = RealTemporal(client), start(), f"queue-{ULID()}"

        @activity.defn(name=RUN_TURN)
        async def fails(_: Turn) -> TurnResult:
            raise ValueError("the shop is closed")

        async with Worker(
            client,
            task_queue=task_queue,
            workflows=[AgentRun],
            activities=[fails],
            workflow_runner=workflow_runner(),
        ):
            await client.start_workflow("AgentRun", given, id=given.run_id, task_queue=task_queue)
            async with asyncio.timeout(PATIENCE):
                while True:
                    found = await door.describe(given.run_id)
                    if found.pending and found.pending[0].attempt > 1 and found.pending[0].next_try_at is not None:
                        break
        (pending,) = found.pending
        assert (pending.activity, pending.state, pending.last_failure) == (RUN_TURN, "scheduled", "the shop is closed")
        assert pending.next_try_at is not None and pending.next_try_at > found.started_at
        await door.terminate(given.run_id, "over", None)

    go(scene())


@pytest.mark.engines
def test_one_connection_serves_all_loops_and_threads_of_a_process(
    temporal: Temporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = environment().model_copy(
        update={"temporal_address": temporal.address, "temporal_namespace": temporal.namespace}
    )
    monkeypatch.setattr(temporal_connection, "environment", lambda: known)
    monkeypatch.setattr(temporal_connection, "is_embedded", lambda _: True)
    made: list[Client] = []
    connect = temporal_connection.connect

    async def counted(*given: Any) -> Client:
        made.append(await connect(*given))
        return made[-1]

    monkeypatch.setattr(temporal_connection, "connect", counted)
    monkeypatch.setattr(temporal_connection, "_kept", None)

    async def inside() -> str:
        door = await RealTemporal.connect()
        assert door.client is made[0]
        return await door.home()

    home = asyncio.run(inside())
    assert at_once(*(lambda: asyncio.run(inside()) for _ in range(4))) == [home] * 4
    assert len(made) == 1
    temporal_connection.forget(made[0])
    asyncio.run(RealTemporal.connect())
    assert len(made) == 2


def test_a_home_is_the_same_at_each_look(play: Play) -> None:
    async def scene(door: Door) -> None:
        assert await door.home() == await door.home() != ""

    play(scene)


@pytest.mark.engines
def test_a_workflow_whose_time_is_up_or_that_was_deleted_is_told_apart_from_a_namespace_that_is_missing(
    temporal: Temporal,
) -> None:
    async def inside() -> None:
        client = await Client.connect(temporal.address, namespace=temporal.namespace)
        door, timed, deleted = RealTemporal(client), start(), start()
        began = datetime.now(UTC)
        policy: Any = {"task_queue": "nobody-listens", "execution_timeout": timedelta(seconds=1)}
        await client.start_workflow("AgentRun", timed, id=timed.run_id, **policy)
        await door.start_run(deleted)
        assert await door.moved_between(deleted.run_id, began - timedelta(hours=1), began + timedelta(hours=1))
        assert not await door.moved_between(deleted.run_id, began - timedelta(hours=2), began - timedelta(hours=1))
        execution = WorkflowExecution(workflow_id=deleted.run_id)
        request = DeleteWorkflowExecutionRequest(namespace=temporal.namespace, workflow_execution=execution)
        await client.workflow_service.delete_workflow_execution(request)
        async with asyncio.timeout(PATIENCE):
            while (await door.look(timed.run_id)).is_open:
                pass
            assert await door.look(timed.run_id) == WorkflowSeen("timed_out")
            with pytest.raises(WorkflowGone):
                while True:
                    await door.look(deleted.run_id)
        elsewhere = RealTemporal(await Client.connect(temporal.address, namespace="nowhere", lazy=True))
        for asked in (elsewhere.look(timed.run_id), elsewhere.home(), elsewhere.signal_decided("a", "b", "c")):
            with pytest.raises(NamespaceGone):
                await asked

    go(inside())


class Failing:
    """A turn that fails until it is let pass, and keeps its attempts."""

    def __init__(self) -> None:
        self.attempts: list[int] = []
        self.due_at: list[datetime] = []
        self.passes = False
        self.hangs = False

    @activity.defn(name=RUN_TURN)
    async def run_turn(self, turn: Turn) -> TurnResult:
        self.attempts.append(activity.info().attempt)
        self.due_at.append(activity.info().current_attempt_scheduled_time)
        if self.hangs:
            await asyncio.Event().wait()
        if not self.passes:
            delay = timedelta(hours=1) if len(self.attempts) > 1 else None
            raise ApplicationError("no route", next_retry_delay=delay)
        return TurnResult("finished")

    @activity.defn(name=CLOSE_RUN)
    async def close_run(self, close: CloseRun) -> None:
        self.closed = close


def failing_scene(temporal: Temporal, failing: Failing, scene: Callable[[RealTemporal, str], Awaitable[str]]) -> str:
    """Return how a workflow whose turn fails ends under the scene."""

    async def inside() -> str:
        client = await Client.connect(temporal.address, namespace=temporal.namespace)
        given = start()
        async with Worker(
            client,
            task_queue=given.run_id,
            workflows=[AgentRun],
            activities=[failing.run_turn, failing.close_run],
            workflow_runner=workflow_runner(),
        ):
            handle = await client.start_workflow(
                WORKFLOW, given, id=given.run_id, task_queue=given.run_id, result_type=str
            )
            await scene(RealTemporal(client), given.run_id)
            async with asyncio.timeout(PATIENCE):
                return str(await handle.result())

    return go(inside())


@pytest.mark.engines
@pytest.mark.parametrize("is_left_paused", [False, True], ids=["at once", "by a relay that is killed in between"])
def test_an_attempt_that_waits_for_an_hour_is_made_now_and_its_number_goes_on(
    temporal: Temporal, is_left_paused: bool
) -> None:
    failing = Failing()

    async def scene(gateway: RealTemporal, run_id: str) -> str:
        await until(lambda: len(failing.attempts) == 2)
        while (await gateway.describe(run_id)).pending[0].state != "scheduled":
            pass  # each look is a round trip of its own
        failing.passes = True
        if is_left_paused:
            await gateway.client.workflow_service.pause_activity(
                PauseActivityRequest(
                    namespace=gateway.client.namespace,
                    execution=WorkflowExecution(workflow_id=run_id),
                    type=RUN_TURN,
                )
            )
        await gateway.hurry(run_id, RUN_TURN)
        return ""

    assert failing_scene(temporal, failing, scene) == "finished"
    assert failing.attempts == [1, 2, 3]


@pytest.mark.engines
def test_an_attempt_that_is_counted_from_one_again_is_due_later_than_those_before(temporal: Temporal) -> None:
    failing = Failing()

    async def scene(gateway: RealTemporal, run_id: str) -> str:
        await until(lambda: len(failing.attempts) == 2)
        while (await gateway.describe(run_id)).pending[0].state != "scheduled":
            pass
        failing.passes = True
        where: Any = {"namespace": gateway.client.namespace, "execution": WorkflowExecution(workflow_id=run_id)}
        await gateway.client.workflow_service.reset_activity(ResetActivityRequest(**where, type=RUN_TURN))
        return ""

    assert failing_scene(temporal, failing, scene) == "finished"
    assert failing.attempts == [1, 2, 1]
    assert sorted(set(failing.due_at)) == failing.due_at


@pytest.mark.engines
def test_an_activity_that_is_paused_in_temporal_is_told_and_let_go_on(temporal: Temporal) -> None:
    failing = Failing()
    told: list[Any] = []

    async def scene(gateway: RealTemporal, run_id: str) -> str:
        await until(lambda: len(failing.attempts) == 2)
        while (await gateway.describe(run_id)).pending[0].state != "scheduled":
            pass
        where: Any = {"namespace": gateway.client.namespace, "execution": WorkflowExecution(workflow_id=run_id)}
        await gateway.client.workflow_service.pause_activity(PauseActivityRequest(**where, type=RUN_TURN))
        told.append((await gateway.describe(run_id)).pending[0])
        failing.passes = True
        await gateway.hurry(run_id, RUN_TURN)
        return ""

    assert failing_scene(temporal, failing, scene) == "finished"
    assert [(one.state, one.attempt, one.since is not None) for one in told] == [("paused", 3, True)]


@pytest.mark.engines
def test_an_attempt_that_hangs_and_is_paused_in_temporal_can_still_be_failed(temporal: Temporal) -> None:
    failing = Failing()
    failing.hangs = True

    async def scene(gateway: RealTemporal, run_id: str) -> str:
        await until(lambda: len(failing.attempts) == 1)
        while (await gateway.describe(run_id)).pending[0].state != "started":
            pass
        where: Any = {"namespace": gateway.client.namespace, "execution": WorkflowExecution(workflow_id=run_id)}
        await gateway.client.workflow_service.pause_activity(PauseActivityRequest(**where, type=RUN_TURN))
        assert (await gateway.describe(run_id)).pending[0].state == "pause_requested"
        await gateway.fail_activity(run_id, RUN_TURN, "FailedByOperator", "Failed by olga: it hangs", 0)
        return ""

    assert failing_scene(temporal, failing, scene) == "failed"


@pytest.mark.engines
def test_a_workflow_that_is_paused_in_temporal_is_open_and_can_be_started_anew() -> None:
    """The SDK's own `describe` knows no such status. The server offers the pause where it is told to."""

    server = Temporal(session_postgres.HOME / "temporal that pauses", time_skipping=False)
    with pytest.MonkeyPatch.context() as patched:
        usual = stack_temporal.dynamic_configuration
        patched.setattr(
            stack_temporal,
            "dynamic_configuration",
            lambda skips: usual(skips) | {"frontend.WorkflowPauseEnabled": True},
        )
        server.start()

    async def inside() -> None:
        client = await Client.connect(server.address, namespace=server.namespace)
        gateway, given = RealTemporal(client), start()
        first = await gateway.start_run(given)
        request = PauseWorkflowExecutionRequest(
            namespace=server.namespace, workflow_id=given.run_id, run_id=first, reason="wait", request_id="once"
        )
        await client.workflow_service.pause_workflow_execution(request)
        assert await gateway.look(given.run_id) == WorkflowSeen("paused")
        described = await gateway.describe(given.run_id)
        assert (described.seen.is_open, described.temporal_run_id, described.closed_at) == (True, first, None)
        await gateway.hurry(given.run_id, RUN_TURN)
        anew = await gateway.restart_run(replace(given, era=1), "reset")
        assert anew != first and await gateway.restart_run(replace(given, era=1), "reset") == anew
        assert await gateway.look(given.run_id) == WorkflowSeen("running")

    try:
        go(inside())
    finally:
        server.stop()


def test_a_status_that_only_a_newer_server_knows_fails_nothing() -> None:
    info = PendingActivityInfo(attempt=3)
    info.state = 99  # type: ignore[assignment]
    assert temporal_gateway._pending(info).state == "unspecified"


@pytest.mark.engines
def test_an_attempt_that_hangs_is_failed_for_good_and_the_workflow_closes_its_row(temporal: Temporal) -> None:
    failing = Failing()
    failing.hangs = True

    async def scene(gateway: RealTemporal, run_id: str) -> str:
        await until(lambda: len(failing.attempts) == 1)
        while (await gateway.describe(run_id)).pending[0].state != "started":
            pass
        await gateway.hurry(run_id, RUN_TURN)  # it is being tried: nothing to do
        await gateway.fail_activity(run_id, RUN_TURN, "FailedByOperator", "Failed by olga: it hangs", 0)
        return ""

    assert failing_scene(temporal, failing, scene) == "failed"
    assert (failing.closed.kind, failing.closed.message) == ("FailedByOperator", "Failed by olga: it hangs")


def test_a_failure_too_long_for_temporal_is_told_by_its_cause() -> None:
    wrapped = Failure(message="Failure exceeds size limit.", server_failure_info=ServerFailureInfo())
    wrapped.cause.CopyFrom(Failure(message="The shop is away."))
    wordless = Failure(application_failure_info=ApplicationFailureInfo(type="ReadTimeout"))
    told = ((wrapped, "The shop is away."), (Failure(message="as it is"), "as it is"), (wordless, "ReadTimeout"))
    for failure, said in told:
        info = PendingActivityInfo(attempt=3, last_failure=failure)
        assert temporal_gateway._pending(info).last_failure == said
