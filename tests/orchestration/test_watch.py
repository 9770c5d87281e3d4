"""A program's watch on a real Temporal server, in our sandbox, with activities that keep what they are asked.

`RECORD_HISTORIES=1 pytest tests/orchestration/test_watch.py` writes the histories that the replay test reads.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import typing
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle, WorkflowHistory
from temporalio.testing._timeskipping import TimeSkipper
from temporalio.worker import Replayer, Worker
from ulid import ULID

from orchestration.contracts import (
    CLIMB,
    DECIDED,
    DELIVER,
    GIVE_UP,
    WATCH,
    Climb,
    Climbed,
    DeliverAnswer,
    GiveUpAnswer,
    StartWatch,
)
from orchestration.watching import WatchActivities
from orchestration.worker import workflow_runner
from orchestration.workflows.watch import Watch
from stack.temporal import Temporal
from tests.orchestration.conftest import EVENTS_AT_MOST, go
from tests.waiting import PATIENCE

HISTORIES = Path(__file__).resolve().parents[1] / "histories" / "watch"
RECORDING = os.environ.get("RECORD_HISTORIES") == "1"
A = "apr_a"


def opened(next_step: timedelta = timedelta(hours=24)) -> Climbed:
    return Climbed(False, (datetime.now(UTC) + next_step).isoformat())


CLOSED = Climbed(True)


class Recorder:
    """The activities, by the same names; each look ends as the script says, each delivery fails as often as it says."""

    def __init__(self, *looks: Climbed, failures: int = 0) -> None:
        self.looks = list(looks)
        self.failures = failures
        self.looked: list[Climb] = []
        self.sent: list[DeliverAnswer] = []
        self.given_up: list[GiveUpAnswer] = []
        self._changed = asyncio.Condition()

    @activity.defn(name=CLIMB)
    async def climb(self, climb: Climb) -> Climbed:
        async with self._changed:
            self.looked.append(climb)
            self._changed.notify_all()
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    @activity.defn(name=DELIVER)
    async def deliver_answer(self, deliver: DeliverAnswer) -> None:
        async with self._changed:
            self.sent.append(deliver)
            self._changed.notify_all()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("nobody takes it")

    @activity.defn(name=GIVE_UP)
    async def give_up_answer(self, give_up: GiveUpAnswer) -> None:
        self.given_up.append(give_up)

    async def until(self, condition: Callable[[Recorder], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: condition(self))


class Stage:
    """One running watch with its recorder."""

    def __init__(self, client: Client, handle: WorkflowHandle[Any, str], recorder: Recorder) -> None:
        self.client, self.handle, self.recorder = client, handle, recorder

    async def decided(self, body: Any = None) -> None:
        await self.handle.signal(DECIDED, body or {"approval_id": A, "decision_id": "dec_1"})

    async def waiting(self) -> None:
        """Return once the watch has looked and waits for the next step: asked by query."""
        async with asyncio.timeout(PATIENCE):
            while await self.handle.query(Watch.waits_until) is None:
                pass  # each look is a round trip of its own

    async def events(self) -> list[str]:
        history = await self.handle.fetch_history()
        return [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in history.events]

    async def ends(self) -> str:
        async with asyncio.timeout(PATIENCE):
            return await self.handle.result()

    async def keep(self, name: str) -> None:
        history = await self.handle.fetch_history()
        if RECORDING:
            HISTORIES.mkdir(exist_ok=True)
            text = re.sub(r'"stackTrace": "(?:[^"\\]|\\.)*"', '"stackTrace": ""', history.to_json())
            (HISTORIES / f"{name}.json").write_text(text + "\n")


def play(temporal: Temporal, recorder: Recorder, scene: Callable[[Stage], Awaitable[None]], **start: Any) -> Recorder:
    async def inside() -> None:
        client = await Client.connect(temporal.address, namespace=temporal.namespace, identity="tests")
        workflow_id = f"watch-{str(ULID()).lower()}"
        async with Worker(
            client,
            task_queue=workflow_id,
            workflows=[Watch],
            activities=[recorder.climb, recorder.deliver_answer, recorder.give_up_answer],
            workflow_runner=workflow_runner(),
            debug_mode=True,  # nobody is taken for stuck who is only slow
        ):
            handle: WorkflowHandle[Any, str] = await client.start_workflow(
                WATCH, StartWatch(A, **start), id=workflow_id, task_queue=workflow_id, result_type=str
            )
            stage = Stage(client, handle, recorder)
            await scene(stage)
            assert "WORKFLOW_TASK_FAILED" not in await stage.events()

    go(inside())
    return recorder


def test_a_decision_is_heard_looked_up_and_sent(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting()
        assert stage.recorder.sent == []
        stage.recorder.looks = [CLOSED]
        await stage.decided()
        assert await stage.ends() == "delivered"
        await stage.keep("decided")

    recorder = play(temporal, Recorder(opened()), scene)
    assert [climb.approval_ids for climb in recorder.looked] == [[A], [A]]
    assert (recorder.sent, recorder.given_up) == ([DeliverAnswer(A)], [])


def test_what_was_decided_before_the_watch_began_is_sent_at_once(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        assert await stage.ends() == "delivered"

    assert len(play(temporal, Recorder(CLOSED), scene).looked) == 1


@pytest.mark.parametrize(
    "body",
    [{"approval_id": "apr_b", "decision_id": "dec_1"}, {"approval_id": A}, [A], "apr_a", 7, {"approval_id": [A]}],
    ids=str,
)
def test_a_forged_signal_changes_nothing(body: Any, temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting()
        await stage.decided(body)
        await stage.handle.signal("DECIDED", {"approval_id": A, "decision_id": "dec_1"})
        await stage.waiting()  # a query is answered after the signals have been handled
        assert len(stage.recorder.looked) == 1
        stage.recorder.looks = [CLOSED]
        await stage.decided()
        assert await stage.ends() == "delivered"

    assert len(play(temporal, Recorder(opened()), scene).looked) == 2


def test_a_forged_decision_about_the_right_approval_only_makes_it_look(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting()
        await stage.decided()
        await stage.recorder.until(lambda it: len(it.looked) == 2)
        assert stage.recorder.sent == []
        await stage.waiting()
        stage.recorder.looks = [CLOSED]
        await stage.decided({"approval_id": A, "decision_id": "dec_honest"})
        assert await stage.ends() == "delivered"
        await stage.keep("forged")

    assert len(play(temporal, Recorder(opened()), scene).sent) == 1


def test_days_pass_and_the_end_of_the_ladder_is_sent_too(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.waiting()
        skipper = TimeSkipper(stage.client)
        await skipper.fast_forward(stage.handle, timedelta(hours=23))
        assert len(stage.recorder.looked) == 1
        await skipper.fast_forward(stage.handle, timedelta(hours=2))
        await stage.recorder.until(lambda it: len(it.looked) == 2)
        await skipper.fast_forward(stage.handle, timedelta(hours=48))
        assert await stage.ends() == "delivered"
        await stage.keep("expired")

    recorder = play(temporal, Recorder(opened(), opened(timedelta(hours=72)), CLOSED), scene)
    assert (len(recorder.looked), len(recorder.sent)) == (3, 1)


def test_a_delivery_that_fails_is_tried_again(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        assert await stage.ends() == "delivered"
        await stage.keep("delivered-late")

    recorder = play(temporal, Recorder(CLOSED, failures=2), scene)
    assert (len(recorder.sent), recorder.given_up) == (3, [])


def test_when_nobody_takes_it_in_the_time_promised_it_is_given_up(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        assert await stage.ends() == "undelivered"
        await stage.keep("given-up")

    recorder = play(temporal, Recorder(CLOSED, failures=100), scene, tried_for_seconds=3)
    assert recorder.sent
    assert recorder.given_up == [GiveUpAnswer(A)]


def test_the_time_promised_is_a_day() -> None:
    assert StartWatch(A).tried_for_seconds == 24 * 3600


def test_many_forged_signals_are_carried_over_into_a_new_history(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        for number in range(EVENTS_AT_MOST // 5):
            await stage.decided({"approval_id": A, "decision_id": f"dec_{number}"})
            await stage.recorder.until(lambda it, n=number: len(it.looked) > n)  # type: ignore[misc]
        await stage.waiting()
        assert (await stage.handle.describe()).run_id != stage.handle.first_execution_run_id
        stage.recorder.looks = [CLOSED]
        await stage.decided()
        assert await stage.ends() == "delivered"
        await stage.keep("continued")

    assert len(play(temporal, Recorder(opened()), scene).sent) == 1


def histories() -> list[Path]:
    return sorted(HISTORIES.glob("*.json"))


def test_there_are_histories_to_replay() -> None:
    assert {"decided", "expired", "forged", "delivered-late", "given-up", "continued"} == {p.stem for p in histories()}


@pytest.mark.skipif(RECORDING, reason="the histories are being written")
@pytest.mark.parametrize("path", histories(), ids=lambda path: path.stem)
def test_a_history_of_yesterday_is_replayed_by_the_code_of_today(path: Path) -> None:
    history = WorkflowHistory.from_json("watch-replayed", path.read_text())
    replayer = Replayer(workflows=[Watch], workflow_runner=workflow_runner(), debug_mode=True)
    asyncio.run(replayer.replay_workflow(history))


def test_each_activity_of_a_watch_takes_what_the_workflow_sends() -> None:
    found = {}
    for _, method in inspect.getmembers(WatchActivities, inspect.isfunction):
        if (definition := getattr(method, "__temporal_activity_definition", None)) is not None:
            hints = typing.get_type_hints(method)
            found[definition.name] = (hints.pop("return"), *hints.values())
    assert found == {DELIVER: (type(None), DeliverAnswer), GIVE_UP: (type(None), GiveUpAnswer)}
