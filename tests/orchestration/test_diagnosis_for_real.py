"""What a real Temporal tells of a run that stands still, as its diagnosis reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from ulid import ULID

from console.clock import database_now
from orchestration.diagnosis import look
from orchestration.temporal_gateway import RealTemporal
from stack.temporal import Temporal
from tests.orchestration.conftest import go
from tests.waiting import PATIENCE

QUEUE = "diagnosis"


@workflow.defn(name="Changing")
class Before:
    """Waits for a signal with a timer."""

    @workflow.run
    async def run(self) -> None:
        await workflow.sleep(timedelta(days=3))

    @workflow.signal
    async def decided(self) -> None:
        """Wake it."""


@workflow.defn(name="Changing")
class After:
    """The same workflow after a deploy that changed what it does first."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity("run_turn", start_to_close_timeout=timedelta(minutes=1))

    @workflow.signal
    async def decided(self) -> None:
        """Wake it."""


@activity.defn(name="run_turn")
async def slow_turn() -> None:
    """Say at which node it is, and go on for long."""
    activity.heartbeat({"turn": 1, "node": "plan", "since": "2026-11-28T15:00:00+00:00"})
    await asyncio.sleep(PATIENCE)


def worker(client: Client, code: type) -> Worker:
    return Worker(
        client,
        task_queue=QUEUE,
        workflows=[code],
        activities=[slow_turn],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=0,
    )


async def seen(client: Client, workflow_id: str, at: datetime, is_it: Callable[[look.Look], object]) -> look.Look:
    """Ask Temporal until the answer is the one that is waited for."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await look.ask(RealTemporal(client), workflow_id, at)
            if is_it(found):
                return found
            await asyncio.sleep(0.1)


def test_a_workflow_whose_code_changed_is_told_with_its_cause_its_words_and_its_worker(
    temporal: Temporal, db: None
) -> None:
    at = database_now()

    async def play() -> look.Look:
        client = await Client.connect(temporal.address, namespace=temporal.namespace)
        async with worker(client, Before):
            handle = await client.start_workflow("Changing", id=f"changing-{ULID()}", task_queue=QUEUE)
            await seen(client, handle.id, at, lambda found: found.events >= 5)  # its timer runs
        await handle.signal("decided")
        async with worker(client, After):
            found = await seen(client, handle.id, at, lambda found: found.fault)
        await handle.terminate()
        return found

    found = go(play())
    assert found.task_attempt >= look.TASK_FAILS_FROM
    assert found.fault["cause"] == "NON_DETERMINISTIC_ERROR" and "@" in found.fault["worker"]
    assert "machine does not handle" in found.fault["words"]


def test_a_turn_under_way_tells_its_node(temporal: Temporal, db: None) -> None:
    at = database_now()

    async def play() -> look.Look:
        client = await Client.connect(temporal.address, namespace=temporal.namespace)
        async with worker(client, After):
            handle = await client.start_workflow("Changing", id=f"changing-{ULID()}", task_queue=QUEUE)
            found = await seen(client, handle.id, at, lambda found: found.turn and found.turn.node)
            await handle.terminate()
        return found

    turn = go(play()).turn
    assert turn is not None
    assert (turn.state, turn.node, turn.node_since) == ("started", "plan", "2026-11-28T15:00:00+00:00")
