"""The agent worker: a Temporal worker with our workflows and activities, and a heartbeat for the System page."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxMatcher, SandboxRestrictions

from console.environment import environment
from console.temporal_connection import CannotConnect, connect
from orchestration.activities import Activities, WatchActivities
from orchestration.checkpoint_gateway import Checkpoints
from orchestration.heartbeat import beating
from orchestration.temporal_gateway import RealTemporal
from orchestration.workflows.agent_run import AgentRun
from orchestration.workflows.watch import Watch
from orchestration.world import OutsideWorld

logger = logging.getLogger(__name__)

GRACE = timedelta(seconds=3)  # for running turns when the worker stops; `up` kills after 3.5 s
FORBIDDEN = ("django", "psycopg", "langgraph", "langchain", "langchain_core", "approvals", "dataplane")


def workflow_runner() -> SandboxedWorkflowRunner:
    """Return the sandbox, which refuses what workflow code must not touch, even when marked as passed through."""
    forbidden = SandboxMatcher(children={name: SandboxMatcher(match_self=True) for name in FORBIDDEN})
    return SandboxedWorkflowRunner(restrictions=replace(SandboxRestrictions.default, invalid_modules=forbidden))


async def run(stop: asyncio.Event) -> None:
    """Work until `stop` is set; waits for Temporal and Postgres as long as it takes."""
    checkpoints, world = Checkpoints(), OutsideWorld()
    await checkpoints.open()
    try:
        async with beating("worker", lambda: f"task queue {environment().temporal_task_queue}"):
            client = await _connect(stop)
            if client is not None:
                await _work(client, Activities(checkpoints, world), stop)
    finally:
        await world.close()
        await checkpoints.close()


async def _work(client: Client, activities: Activities, stop: asyncio.Event) -> None:
    watching = WatchActivities(RealTemporal(client))
    worker = Worker(
        client,
        task_queue=environment().temporal_task_queue,
        workflows=[AgentRun, Watch],
        activities=[
            activities.run_turn,
            activities.climb,
            activities.close_run,
            watching.deliver_answer,
            watching.give_up_answer,
        ],
        workflow_runner=workflow_runner(),
        max_concurrent_activities=20,  # each holds one connection of the checkpoint pool
        # A frozen worker keeps what its open polls are given until their time is up. Most turns need no
        # poll: the server hands them out with the workflow task that asked for them.
        max_concurrent_activity_task_polls=2,
        graceful_shutdown_timeout=GRACE,
    )
    logger.info("worker ready on task queue %s", environment().temporal_task_queue)
    async with worker:
        await stop.wait()


async def _connect(stop: asyncio.Event) -> Client | None:
    """Connect with backoff, saying each reason once; `None` when told to stop first."""
    pause, said = 0.1, ""  # seconds
    while not stop.is_set():
        try:
            return await connect()
        except CannotConnect as exc:
            if str(exc) != said:
                logger.warning("the worker waits: %s", exc)
            said = str(exc)
            await _wait(stop, pause)
            pause = min(pause * 2, 5)
    return None


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
