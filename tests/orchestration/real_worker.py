"""A worker of ours at a real Temporal, with a relay where decisions have to arrive, for as long as a block lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from temporalio.client import Client
from temporalio.worker import Worker

from console.environment import environment
from orchestration.checkpoint_gateway import Checkpoints
from orchestration.relay.chores import Chore
from orchestration.relay.loop import Relay
from orchestration.temporal_gateway import RealTemporal
from orchestration.turns.activity import Activities
from orchestration.worker import workflow_runner
from orchestration.workflows.agent_run import AgentRun
from stack.temporal import Temporal
from tests.fakes import FakeWorld


@asynccontextmanager
async def working(server: Temporal, world: FakeWorld, task_queue: str = "") -> AsyncIterator[Client]:
    """Run agents' workflows and turns; yields a client. `task_queue`: "" is the one that runs are started in."""
    client = await Client.connect(server.address, namespace=server.namespace)
    checkpoints = Checkpoints(size=4)
    await checkpoints.open()
    activities = Activities(checkpoints, world)
    try:
        async with Worker(
            client,
            task_queue=task_queue or environment().temporal_task_queue,
            workflows=[AgentRun],
            activities=[activities.run_turn, activities.climb, activities.close_run],
            workflow_runner=workflow_runner(),
        ):
            yield client
    finally:
        await checkpoints.close()


@asynccontextmanager
async def relaying_too(server: Temporal, world: FakeWorld, chores: Sequence[Chore] = ()) -> AsyncIterator[Client]:
    """Do the same beside a relay, which starts runs, tells decisions, and does the chores."""
    async with working(server, world) as client:
        stop = asyncio.Event()
        relay = asyncio.create_task(Relay(RealTemporal(client), chores=chores).run(stop))
        try:
            yield client
        finally:
            stop.set()
            with suppress(asyncio.CancelledError):
                await relay
