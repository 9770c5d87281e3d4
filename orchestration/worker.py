"""The agent worker: a Temporal worker with our workflows and activities, and a heartbeat for the System page."""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta

from django.db import ProgrammingError
from temporalio.client import Client
from temporalio.worker import Worker, WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxMatcher, SandboxRestrictions

from console.backoff import Backoff
from console.database import AWAY, renew_pool
from console.environment import environment
from console.temporal_connection import CannotConnect, connect
from orchestration.agents.registry import agents
from orchestration.batches.activity import BatchActivities
from orchestration.checkpoint_gateway import Checkpoints
from orchestration.errors import OrchestrationError
from orchestration.heartbeat import BEAT_SECONDS, beating
from orchestration.pinned_code import PinnedCode
from orchestration.state import kept_marks
from orchestration.state.secrets import marks_of
from orchestration.temporal_gateway import RealTemporal, pollers
from orchestration.threads import in_database
from orchestration.turns.activity import Activities
from orchestration.watching import WatchActivities
from orchestration.workflows.agent_run import AgentRun
from orchestration.workflows.batch import BatchFeed
from orchestration.workflows.watch import Watch
from orchestration.world import OutsideWorld

logger = logging.getLogger(__name__)

CONNECTING = Backoff(0.1, 5)  # between two tries
SPARE = 4  # connections of the checkpoint pool beside those of turns
GRACE = timedelta(seconds=3)  # for running turns when the worker stops; `up` kills after 3.5 s
FIRST_LOOK_SECONDS = 0.5  # until the server has seen a poll of ours
POLLS_WITHIN_SECONDS = 150  # two and a half polls
FORBIDDEN = ("django", "psycopg", "langgraph", "langchain", "langchain_core", "approvals", "dataplane")


class Sandbox(SandboxedWorkflowRunner):
    """Temporal's sandbox, whose workflows are not asked for whom each payload is written: our converter asks nobody.

    The SDK (temporalio 1.35) asks by code that it compiles in the sandbox anew, several times for each payload: a tenth
    of what a busy worker does.
    """

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        instance = super().create_instance(det)
        instance.get_serialization_context = _nobody  # type: ignore[method-assign]
        return instance


def _nobody(command_info: object) -> None:
    return None


def workflow_runner() -> SandboxedWorkflowRunner:
    """Return the sandbox, which refuses what workflow code must not touch, even when marked as passed through."""
    forbidden = SandboxMatcher(children={name: SandboxMatcher(match_self=True) for name in FORBIDDEN})
    return Sandbox(restrictions=replace(SandboxRestrictions.default, invalid_modules=forbidden))


def resident_mb() -> float:
    """Return how much memory this process has taken at most so far, in MB; Linux counts in kB, macOS in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e3)


class Polling:
    """Whether this worker's questions for work reach Temporal. The server is asked: it keeps who polls.

    A poll waits for a minute at most, so a worker that polls is seen again within that; the SDK tries again in silence
    where it is refused, and a connection that was swallowed looks idle.
    """

    def __init__(self, code: PinnedCode | None = None) -> None:
        self._code = code or PinnedCode()
        self._fault = "waiting for Temporal"
        self._seen_at = time.monotonic()  # when the server's last word of our polls was a new one
        self._last: datetime | None = None  # on the server's clock

    def state(self) -> tuple[bool, str]:
        """Return whether the worker is given work, and in words what it does."""
        if self._fault:
            return False, self._fault
        settings = environment()
        words = (
            f"task queue {settings.temporal_task_queue}, {settings.worker_turns} turns at once, "
            f"{resident_mb():.0f} MB at most so far, workflow code {self._code.fingerprint}"
        )
        if not self._code.is_on_disk():
            words += ", which is that of before a deploy: start the worker again to have it run the new one"
        return True, words

    def cannot_connect(self, reason: str) -> None:
        self._fault = f"waiting for Temporal: {reason}"

    def cannot_keep(self, reason: str) -> None:
        self._fault = f"waiting for the database: {reason}"

    async def watch(self, client: Client) -> None:
        """Look every few seconds for as long as the worker works."""
        while True:
            try:
                self._look(await pollers(client, environment().temporal_task_queue), client.identity)
            except OrchestrationError as exc:
                self._fault = str(exc)
            await asyncio.sleep(BEAT_SECONDS if self._last is not None else FIRST_LOOK_SECONDS)

    def _look(self, seen: dict[str, datetime], identity: str) -> None:
        last = seen.get(identity)
        if last is not None and last != self._last:
            self._last, self._seen_at, self._fault = last, time.monotonic(), ""
        elif time.monotonic() - self._seen_at > POLLS_WITHIN_SECONDS:
            self._fault = f"its polls have not reached Temporal for {time.monotonic() - self._seen_at:.0f} s"
        elif self._last is not None:
            self._fault = ""
        else:
            self._fault = "has not been given work by Temporal yet"


async def run(stop: asyncio.Event) -> None:
    """Work until `stop` is set; waits for Temporal and Postgres as long as it takes."""
    checkpoints, world = Checkpoints(size=environment().worker_turns + SPARE), OutsideWorld()
    await checkpoints.open()
    code = PinnedCode()
    polling = Polling(code)
    try:
        with code.in_force():
            async with beating("worker", polling.state):
                await _keep_marks(stop, polling)
                client = await _connect(stop, polling)
                if client is not None:
                    watching = asyncio.create_task(polling.watch(client))
                    try:
                        await _work(client, Activities(checkpoints, world), stop)
                    finally:
                        watching.cancel()
    finally:
        await world.close()
        await checkpoints.close()


async def _work(client: Client, activities: Activities, stop: asyncio.Event) -> None:
    watching = WatchActivities(RealTemporal(client))
    worker = Worker(
        client,
        task_queue=environment().temporal_task_queue,
        workflows=[AgentRun, Watch, BatchFeed],
        activities=[
            activities.run_turn,
            activities.climb,
            activities.close_run,
            watching.deliver_answer,
            watching.give_up_answer,
            BatchActivities().feed_batch,
        ],
        workflow_runner=workflow_runner(),
        max_concurrent_activities=environment().worker_turns,  # each holds one connection of the checkpoint pool
        max_cached_workflows=environment().worker_cached_workflows,
        # A frozen worker keeps what its open polls are given until their time is up. Most turns need no
        # poll: the server hands them out with the workflow task that asked for them.
        max_concurrent_activity_task_polls=2,
        max_heartbeat_throttle_interval=timedelta(seconds=5),  # so that the node of a turn is known soon
        graceful_shutdown_timeout=GRACE,
    )
    settings = environment()
    logger.info(
        "worker ready on task queue %s: %s turns at once, %s workflows in memory at most, %.0f MB now",
        settings.temporal_task_queue,
        settings.worker_turns,
        settings.worker_cached_workflows,
        resident_mb(),
    )
    async with worker:
        await stop.wait()


async def _keep_marks(stop: asyncio.Event, polling: Polling) -> None:
    """Keep what the authors of the loaded agents hide, before there is any run to hide it of."""
    marks = {name: marks_of(agent) for name, agent in agents().items()}
    failures = 0
    while not stop.is_set():
        try:
            return await in_database(kept_marks.keep, marks)
        except (*AWAY, ProgrammingError) as exc:  # the other one: its table is not there yet
            failures += 1
            polling.cannot_keep(type(exc).__name__)
            logger.warning("the worker waits for the database: %s", type(exc).__name__)
            await in_database(renew_pool)
            await _wait(stop, CONNECTING.pause(failures))


async def _connect(stop: asyncio.Event, polling: Polling) -> Client | None:
    """Connect with backoff, saying each reason once; `None` when told to stop first."""
    failures, said = 0, ""
    while not stop.is_set():
        try:
            return await connect()
        except CannotConnect as exc:
            if str(exc) != said:
                logger.warning("the worker waits: %s", exc)
            said = str(exc)
            polling.cannot_connect(said)
            failures += 1
            await _wait(stop, CONNECTING.pause(failures))
    return None


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
