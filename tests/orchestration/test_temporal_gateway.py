"""What the relay relies on in Temporal: the same promises asked of the double and of the real server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from ulid import ULID

from console.environment import environment
from orchestration import temporal_gateway
from orchestration.contracts import ProgramSignal, StartRun, StartWatch
from orchestration.errors import NamespaceGone, TemporalAway, TemporalRefused, WorkflowGone
from orchestration.temporal_gateway import RealTemporal, Seen, TemporalGateway
from stack.ports import free_port
from stack.temporal import Temporal
from tests.fakes import FakeTemporal
from tests.orchestration.conftest import go
from tests.waiting import PATIENCE


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


def test_a_look_says_how_a_workflow_is_and_why_it_ended(play: Play) -> None:
    async def scene(door: Door) -> None:
        given = start()
        with pytest.raises(WorkflowGone):
            await door.look(given.run_id)
        await door.start_run(given)
        assert await door.look(given.run_id) == Seen("running")
        await door.cancel(given.run_id, "no longer needed", "once")
        await door.cancel(given.run_id, "no longer needed", "once")
        await door.terminate(given.run_id, "cleanup by ops")
        assert await door.look(given.run_id) == Seen("terminated", "cleanup by ops")
        never = start().run_id
        for gone in (door.terminate(given.run_id, "x"), door.terminate(never, "x"), door.cancel(never, "x", "twice")):
            with pytest.raises(WorkflowGone):
                await gone

    play(scene)


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
            assert await door.look(timed.run_id) == Seen("timed_out")
            with pytest.raises(WorkflowGone):
                while True:
                    await door.look(deleted.run_id)
        elsewhere = RealTemporal(await Client.connect(temporal.address, namespace="nowhere", lazy=True))
        for asked in (elsewhere.look(timed.run_id), elsewhere.home(), elsewhere.signal_decided("a", "b", "c")):
            with pytest.raises(NamespaceGone):
                await asked

    go(inside())
