"""Runs whose workflow an operator resets with Temporal's own client: real server, real worker, real checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from langchain_core.messages import AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client
from ulid import ULID

from approvals.models import Approval
from orchestration.agents.offline_model import OfflineModel
from orchestration.agents.proposals import ModelWish, ProposalNodes, ProposalState
from orchestration.agents.runtime import AgentContext
from orchestration.agents.support.agent import AGENT
from orchestration.contracts import DECIDED, RUN_TURN, WORKFLOW, StartRun
from orchestration.models import Effect, Run
from orchestration.threads import in_database
from orchestration.turns import activity as module
from orchestration.turns import drive
from stack.temporal import Temporal
from tests import session_postgres
from tests.fakes import FakeWorld
from tests.orchestration.conftest import REFUND, decide, go, make_run
from tests.orchestration.real_worker import working
from tests.waiting import PATIENCE, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

REFUNDS = 7  # as many turns ask; the eighth ends


class Asks(ProposalState, total=False):
    asked: int
    messages: Annotated[list[AnyMessage], add_messages]
    result: dict[str, Any]


def graph_of_many_turns() -> Any:
    """Return a graph that asks for one refund after the other."""
    nodes = ProposalNodes(AGENT)

    async def propose(given: Asks) -> dict[str, Any]:
        asked = given.get("asked", 0) + 1
        arguments = REFUND | {"amount": f"{asked}.00"}
        wish = ModelWish(
            kind="action", tool="issue_refund", arguments=arguments, words="", call_id=f"c{asked}", about=""
        )
        return {"wish": wish, "asked": asked}

    async def finish(given: Asks) -> dict[str, Any]:
        return {"result": {"effects": given.get("effects", [])}}

    def more(given: Asks) -> Literal["propose", "finish"]:
        return "propose" if given["asked"] < REFUNDS else "finish"

    graph: Any = StateGraph(Asks, context_schema=AgentContext)
    for name, node in (("propose", propose), ("freeze", nodes.freeze), ("gate", nodes.gate), ("act", nodes.act)):
        graph.add_node(name, node)
    graph.add_node("finish", finish)
    graph.add_edge(START, "propose")
    graph.add_edge("propose", "freeze")
    graph.add_edge("freeze", "gate")
    graph.add_edge("gate", "act")
    graph.add_conditional_edges("act", more)
    graph.add_edge("finish", END)
    return graph


@pytest.fixture(scope="module")
def server() -> Iterator[Temporal]:
    """A server whose histories are long enough for eight turns."""
    found = Temporal(session_postgres.HOME / "temporal for resets", time_skipping=False)
    found.start()
    yield found
    found.stop()


async def approve(client: Client, run: Run, number: int) -> None:
    """Decide the run's n-th request once it waits, and tell the workflow as the relay does."""

    def pending() -> Approval | None:
        rows = list(Approval.objects.filter(run_id=run.pk).order_by("opened_at", "pk"))
        return rows[number - 1] if len(rows) == number and rows[-1].status == "pending" else None

    approval = await until(pending)
    decided = await in_database(decide, approval)
    decision = await in_database(lambda: decided.decisions.get().pk)
    handle = client.get_workflow_handle(run.pk)
    await handle.signal(DECIDED, {"approval_id": approval.pk, "decision_id": decision})


async def reset_before_turn(client: Client, run: Run, turn: int) -> None:
    """Reset the workflow to before it had a turn taken, as `temporal workflow reset --event-id` does."""
    history = await client.get_workflow_handle(run.pk).fetch_history()
    turns = [
        event.activity_task_scheduled_event_attributes
        for event in history.events
        if event.activity_task_scheduled_event_attributes.activity_type.name == RUN_TURN
    ]
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=run.pk),
            workflow_task_finish_event_id=turns[turn - 1].workflow_task_completed_event_id,
            reason="a test",
            request_id=str(ULID()),
        )
    )


@pytest.mark.parametrize("is_decided", [False, True], ids=["while it waits", "after its decision"])
def test_a_run_at_turn_seven_reset_to_before_turn_five_goes_on_and_does_each_thing_once(
    is_decided: bool, transactional_db: None, server: Temporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, world, graph = make_run(), FakeWorld(), graph_of_many_turns()
    monkeypatch.setattr(drive, "graph_of", lambda agent: graph)
    monkeypatch.setattr(module, "chat_model", OfflineModel)

    async def scene() -> str:
        async with working(server, world, run.pk) as client:
            given = StartRun(run.pk, "support")
            await client.start_workflow(WORKFLOW, given, id=run.pk, task_queue=run.pk)
            for number in range(1, REFUNDS):
                await approve(client, run, number)
            await until(lambda: Run.objects.filter(pk=run.pk, turn=REFUNDS, status="waiting").exists())
            await reset_before_turn(client, run, 5)
            if is_decided:  # while the new Temporal run is still on its way through the old turns
                await approve(client, run, REFUNDS)
            else:
                await until(lambda: Run.objects.filter(pk=run.pk, turn=5, status="waiting").exists())
                await approve(client, run, REFUNDS)
            handle = client.get_workflow_handle(run.pk, result_type=str)
            async with asyncio.timeout(PATIENCE):
                return str(await handle.result())

    assert go(scene()) == "finished"
    run.refresh_from_db()
    assert run.status == "finished", run.error
    assert Approval.objects.filter(run_id=run.pk).count() == REFUNDS
    effects = list(Effect.objects.filter(run=run))
    assert [(effect.status, effect.attempts) for effect in effects] == [("done", 1)] * REFUNDS
    assert sorted(refund["amount"] for refund in world.shop.refunds.values()) == [
        f"{number}.00" for number in range(1, REFUNDS + 1)
    ]
    assert len(run.temporal_run_ids) == 2 and run.temporal_run_id == run.temporal_run_ids[-1]
