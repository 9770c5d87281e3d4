"""Many runs that stand still in different ways under one Temporal, one relay and one worker, and what is said of them.

The agent of these runs does what its message says, so that one worker has runs of every kind at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from langgraph.graph import END, START, StateGraph
from temporalio import activity, workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, ResetWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from ulid import ULID

from approvals.models import Approval
from console.clock import database_now
from console.environment import environment
from orchestration import services
from orchestration.agents.proposals import ModelWish, ProposalNodes, ProposalState
from orchestration.agents.runtime import AgentContext
from orchestration.agents.support.agent import AGENT
from orchestration.checkpoint_gateway import Checkpoints
from orchestration.contracts import RUN_TURN, WORKFLOW, StartRun
from orchestration.diagnosis import diagnosing, look
from orchestration.diagnosis.diagnosing import Diagnosis
from orchestration.heartbeat import beating
from orchestration.models import Run
from orchestration.relay.chores import CHORES
from orchestration.relay.loop import Relay
from orchestration.temporal_gateway import RealTemporal
from orchestration.threads import in_database
from orchestration.turns.activity import Activities
from orchestration.worker import workflow_runner
from orchestration.workflows.agent_run import AgentRun
from stack.temporal import Temporal
from tests.fakes import FakeWorld
from tests.orchestration.conftest import EMAIL, REFUND
from tests.waiting import PATIENCE, until

#: what a relay does beside its deliveries that makes and keeps causes
WATCHING = ("keep why runs need somebody", "knock at Temporal")


class Moody(ProposalState, total=False):
    """What a run is told to do stands in its message."""

    message: str
    steps: int
    result: dict[str, Any]


#: a node that is told to take its time goes on when this is set
_released: list[asyncio.Event] = []


def moody_graph(gate: str = "gate") -> Any:
    """Return a graph that raises, fails, goes in circles, takes its time or asks, as it is told."""
    nodes = ProposalNodes(AGENT)

    async def plan(given: Moody) -> dict[str, Any]:
        mood = given["message"]
        if mood == "raise":
            raise KeyError("customer_tier")
        if mood == "fail":
            raise ConnectionError("the model is away")
        if mood == "circle":
            return {"steps": given.get("steps", 0) + 1}
        if mood == "slow":
            await _released[0].wait()
            return {"result": {"summary": "slow and sure"}}
        tool, arguments = ("send_email", EMAIL) if mood == "mail" else ("issue_refund", REFUND)
        wish = ModelWish(kind="action", tool=tool, arguments=arguments, words="", call_id="c", about="")
        return {"wish": wish}

    async def finish(given: Moody) -> dict[str, Any]:
        return {"result": {"effects": given.get("effects", [])}}

    def after_plan(given: Moody) -> str:
        if given["message"] == "circle":
            return "plan"
        return "finish" if given.get("result") else "freeze"

    def after_act(given: Moody) -> str:
        return "freeze" if given.get("wish") else "finish"  # nobody knows whether it happened: a person is asked

    graph: Any = StateGraph(Moody, context_schema=AgentContext)
    for name, node in (("plan", plan), ("freeze", nodes.freeze), (gate, nodes.gate), ("act", nodes.act)):
        graph.add_node(name, node)
    graph.add_node("finish", finish)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", after_plan, ["plan", "freeze", "finish"])
    graph.add_edge("freeze", gate)
    graph.add_edge(gate, "act")
    graph.add_conditional_edges("act", after_act, ["freeze", "finish"])
    graph.add_edge("finish", END)
    return graph


@workflow.defn(name=WORKFLOW)
class OtherCode:
    """The workflow of a run after a deploy that does something else first."""

    @workflow.run
    async def run(self, start: StartRun) -> str:
        await workflow.sleep(timedelta(days=1))
        return "finished"

    @workflow.signal(dynamic=True)
    async def any_signal(self, name: str, arguments: Sequence[RawValue]) -> None:
        """Take any."""


@activity.defn(name="something_else")
async def another_activity() -> None:
    """Stand for the activities of a worker that knows no turns."""


class Ward:
    """The engines, and the runs that lie there."""

    def __init__(self, client: Client, world: FakeWorld) -> None:
        self.client, self.world = client, world
        self._checkpoints = Checkpoints(size=8)
        self._activities = Activities(self._checkpoints, world)
        self._open = False

    async def run(self, message: str = "ask") -> Run:
        """Have an operator start a run; the relay carries it to Temporal."""

        def start() -> Run:
            olga = User.objects.get(username="olga")
            given = {"order_id": "8801", "message": message}
            return services.start_run(agent="support", given=given, requested_by=olga)[0]

        return await in_database(start)

    async def asks(self, run: Run) -> Approval:
        """Return what the run asks, once it waits for that."""
        waits = Run.objects.filter(pk=run.pk, status="waiting")
        await until(waits.exists)
        found: Approval = await until(Approval.objects.filter(run_id=run.pk, status="pending").first)
        return found

    @asynccontextmanager
    async def relay(self) -> AsyncIterator[None]:
        """Deliver, and keep causes, for the block."""
        stop = asyncio.Event()
        chores = [replace(one, every=0.3, again=0.3) for one in CHORES if one.name in WATCHING]
        assert len(chores) == len(WATCHING)
        task = asyncio.create_task(Relay(RealTemporal(self.client), chores=chores).run(stop))
        try:
            yield
        finally:
            stop.set()
            with suppress(asyncio.CancelledError):
                await task

    @asynccontextmanager
    async def worker(
        self, code: type = AgentRun, *, queue: str = "", turns_at_once: int = 20, knows_turns: bool = True
    ) -> AsyncIterator[None]:
        """Have a worker that beats, for the block. `queue`: "" is the one that runs are started in."""
        ours: list[Callable[..., Any]] = [self._activities.run_turn, self._activities.climb, self._activities.close_run]
        async with (
            beating("worker", lambda: (True, "works")),
            Worker(
                self.client,
                task_queue=queue or environment().temporal_task_queue,
                workflows=[code],
                activities=ours if knows_turns else [another_activity],
                workflow_runner=workflow_runner() if code is AgentRun else UnsandboxedWorkflowRunner(),
                max_cached_workflows=0,  # so that another worker's code meets the history
                max_concurrent_activities=turns_at_once,
                max_heartbeat_throttle_interval=timedelta(seconds=1),
            ),
        ):
            yield

    async def now(self, run: Run) -> Diagnosis:
        """Return what the run's page says just now: by the rows, and by what Temporal answers."""
        at = await in_database(database_now)
        seen = await look.ask(RealTemporal(self.client), run.pk, at)

        def say() -> Diagnosis:
            (found,) = diagnosing.diagnose_many([Run.objects.get(pk=run.pk)], looks={run.pk: seen})
            return found

        return await in_database(say)

    async def caused(
        self,
        run: Run,
        cause: str,
        *words: str,
        state: str = "",
        who: Sequence[str] | None = None,
        offers: Sequence[str] = (),
        now: Callable[[Run], Any] | None = None,
    ) -> Diagnosis:
        """Wait until the cause is told with these words; read since when, who, and which actions olga is offered.

        `now`: how else to ask than as the run's page does.
        """
        found = None
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while True:
                    found = await (now or self.now)(run)
                    if found.cause.name == cause and all(word in found.whole for word in words):
                        break
                    await asyncio.sleep(0.2)
        assert found is not None, f"nothing was told of {run.pk}"
        assert found.cause.name == cause, f"{cause} is not told, but {found.cause.name}: {found.whole}"
        for word in words:
            assert word in found.whole, found.whole
        assert not state or found.state == state, (found.state, found.whole)
        assert who is None or found.who == list(who), (found.who, found.whole)
        offered = await in_database(self._offered, found)
        assert set(offers) <= set(offered), f"{offered} are offered for: {found.whole}"
        return found

    def _offered(self, found: Diagnosis) -> list[str]:
        """Return the actions that olga may take at once."""
        run, olga = Run.objects.get(pk=found.run_id), User.objects.get(username="olga")
        return [one.name for one in diagnosing.offers(found, olga, run) if one.permitted]

    async def deleted(self, run: Run) -> None:
        """Delete the workflow with its history, as `temporal workflow delete` does."""
        execution = WorkflowExecution(workflow_id=run.pk)
        request = DeleteWorkflowExecutionRequest(namespace=self.client.namespace, workflow_execution=execution)
        await self.client.workflow_service.delete_workflow_execution(request)

    async def reset(self, run: Run) -> None:
        """Set the workflow back to before its first turn, as `temporal workflow reset` does."""
        history = await self.client.get_workflow_handle(run.pk).fetch_history()
        (turn,) = [
            event.activity_task_scheduled_event_attributes
            for event in history.events
            if event.activity_task_scheduled_event_attributes.activity_type.name == RUN_TURN
        ]
        await self.client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=self.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=run.pk),
                workflow_task_finish_event_id=turn.workflow_task_completed_event_id,
                reason="a test",
                request_id=str(ULID()),
            )
        )

    async def empty(self) -> None:
        """End what still runs."""
        for run_id in await in_database(lambda: list(Run.objects.values_list("pk", flat=True))):
            with suppress(RPCError):  # it has ended, or never began
                await self.client.get_workflow_handle(run_id).terminate(reason="the test is over")

    def release(self) -> None:
        """Let the nodes go on that take their time."""
        _released[0].set()


@asynccontextmanager
async def ward(server: Temporal, world: FakeWorld) -> AsyncIterator[Ward]:
    """Open a ward at the server; relay and worker are begun by whoever needs them.

    Its runs have a task queue of their own, and their workflows end with it: the server is there for other tests too.
    """
    found = Ward(await Client.connect(server.address, namespace=server.namespace), world)
    await found._checkpoints.open()
    _released[:] = [asyncio.Event()]
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("SIGNALBOX_TASK_QUEUE", f"ward-{ULID()}")
            environment.cache_clear()
            yield found
    finally:
        environment.cache_clear()
        found.release()
        await found.empty()
        await found._checkpoints.close()


@contextmanager
def later(**time: float) -> Iterator[None]:
    """Move the database's clock on for the block."""
    seconds = timedelta(**time).total_seconds()
    _set_clock(f"now() + interval '{seconds} seconds'")
    try:
        yield
    finally:
        _set_clock("now()")


def _set_clock(moment: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE OR REPLACE FUNCTION signalbox_now() RETURNS timestamptz LANGUAGE sql STABLE AS $$SELECT {moment}$$"
        )
