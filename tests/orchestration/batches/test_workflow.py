"""The workflow of a batch on a real Temporal server, in our sandbox, with an activity that keeps what it is asked.

`RECORD_HISTORIES=1 pytest tests/orchestration/batches/test_workflow.py` writes the histories that are replayed here.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import typing
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowHandle, WorkflowHistory
from temporalio.exceptions import ApplicationError
from temporalio.testing._timeskipping import TimeSkipper
from temporalio.worker import Replayer, Worker
from ulid import ULID

from orchestration.batches.activity import BatchActivities
from orchestration.contracts import BATCH, FEED, LOOK, Fed, FeedBatch
from orchestration.worker import workflow_runner
from orchestration.workflows.batch import BatchFeed
from stack.temporal import Temporal
from tests.orchestration.conftest import EVENTS_AT_MOST, go
from tests.waiting import PATIENCE

HISTORIES = Path(__file__).resolve().parents[2] / "histories" / "batch"
RECORDING = os.environ.get("RECORD_HISTORIES") == "1"
MORE, OVER = Fed(is_over=False, made=1, look_after=300), Fed(is_over=True)


class Recorder:
    """The activity, by the same name: answers as the script says, and then `rest` for ever."""

    def __init__(self, *script: Fed | Exception) -> None:
        self.script = list(script)
        self.rest = MORE
        self.fed = 0
        self._changed = asyncio.Condition()

    @activity.defn(name=FEED)
    async def feed_batch(self, batch: FeedBatch) -> Fed:
        async with self._changed:
            self.fed += 1
            self._changed.notify_all()
        end = self.script.pop(0) if self.script else self.rest
        if isinstance(end, Exception):
            raise end
        return end

    async def until(self, fed: int) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self.fed >= fed)


class Stage:
    """One running workflow with its recorder."""

    def __init__(self, client: Client, handle: WorkflowHandle[Any, None], recorder: Recorder) -> None:
        self.client, self.handle, self.recorder = client, handle, recorder

    async def ends(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.handle.result()

    async def keep(self, name: str) -> None:
        history = await self.handle.fetch_history()
        if RECORDING:
            HISTORIES.mkdir(exist_ok=True)
            (HISTORIES / f"{name}.json").write_text(history.to_json() + "\n")


def play(temporal: Temporal, recorder: Recorder, scene: Callable[[Stage], Awaitable[None]]) -> Recorder:
    async def inside() -> None:
        client = await Client.connect(temporal.address, namespace=temporal.namespace, identity="tests")
        batch_id = f"batch_{str(ULID()).lower()}"
        async with Worker(
            client,
            task_queue=batch_id,
            workflows=[BatchFeed],
            activities=[recorder.feed_batch],
            workflow_runner=workflow_runner(),
            debug_mode=True,  # nobody is taken for stuck who is only slow
        ):
            handle: WorkflowHandle[Any, None] = await client.start_workflow(
                BATCH, FeedBatch(batch_id), id=batch_id, task_queue=batch_id
            )
            await scene(Stage(client, handle, recorder))

    go(inside())
    return recorder


def test_a_batch_is_fed_each_time_it_is_woken_until_it_is_over(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        for number in range(1, 4):
            await stage.recorder.until(number)
            await stage.handle.signal(LOOK)
        await stage.ends()
        await stage.keep("fed")

    assert play(temporal, Recorder(MORE, MORE, MORE, OVER), scene).fed == 4


def test_it_looks_by_itself_when_nobody_wakes_it(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.recorder.until(1)
        await TimeSkipper(stage.client).fast_forward(stage.handle, timedelta(seconds=301))
        await stage.ends()
        await stage.keep("looked-by-itself")

    assert play(temporal, Recorder(MORE, OVER), scene).fed == 2


def test_a_step_that_fails_is_taken_again(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.ends()
        await stage.keep("failed-once")

    assert play(temporal, Recorder(ApplicationError("the database is away"), OVER), scene).fed == 2


def test_signals_of_any_shape_only_make_it_look(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        await stage.recorder.until(1)
        for number, (name, given) in enumerate((("decided", {"a": 1}), ("look", [1]), ("x" * 500, None)), start=2):
            await stage.handle.signal(name, given)
            await stage.recorder.until(number)
        stage.recorder.rest = OVER  # whichever step is the next
        await stage.handle.signal(LOOK)
        await stage.ends()

    assert play(temporal, Recorder(), scene).fed >= 5


def test_a_long_batch_goes_on_in_a_new_history(temporal: Temporal) -> None:
    async def scene(stage: Stage) -> None:
        for number in range(1, EVENTS_AT_MOST // 5):
            await stage.recorder.until(number)
            await stage.handle.signal(LOOK)
        current = stage.client.get_workflow_handle(stage.handle.id)
        async with asyncio.timeout(PATIENCE):
            while (await current.describe()).run_id == stage.handle.first_execution_run_id:
                pass  # each look is a round trip of its own
        stage.recorder.rest = OVER  # whichever step is the next
        await current.signal(LOOK)
        await stage.ends()
        await stage.keep("continued")

    play(temporal, Recorder(), scene)


def histories() -> list[Path]:
    return sorted(HISTORIES.glob("*.json"))


def test_there_are_histories_to_replay() -> None:
    assert {"fed", "looked-by-itself", "failed-once", "continued"} == {path.stem for path in histories()}


@pytest.mark.skipif(RECORDING, reason="the histories are being written")
@pytest.mark.parametrize("path", histories(), ids=lambda path: path.stem)
def test_a_history_of_yesterday_is_replayed_by_the_code_of_today(path: Path) -> None:
    history = WorkflowHistory.from_json("batch-replayed", path.read_text())
    asyncio.run(
        Replayer(workflows=[BatchFeed], workflow_runner=workflow_runner(), debug_mode=True).replay_workflow(history)
    )


def test_the_activity_takes_what_the_workflow_sends() -> None:
    found = {}
    for _, method in inspect.getmembers(BatchActivities, inspect.isfunction):
        if (definition := getattr(method, "__temporal_activity_definition", None)) is not None:
            hints = typing.get_type_hints(method)
            found[definition.name] = (hints.pop("return"), *hints.values())
    assert found == {FEED: (Fed, FeedBatch)}
