"""Several answers at once, of which some have landed already: only those still pending are given again.

Two nodes ask side by side and act on their answers. An attempt dies when one answer, both, or neither has come to its
end; the next attempt, on the real saver, goes on with what is left, and each is done once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from typing_extensions import TypedDict

from approvals.errors import AlreadyClosed
from approvals.models import Approval, AuditEvent
from orchestration import dialects
from orchestration.agents.offline_model import OfflineModel
from orchestration.agents.runtime import AgentContext
from orchestration.checkpoint_gateway import Checkpoints
from orchestration.models import Effect, Run
from orchestration.turns import activity as module
from orchestration.turns import drive
from tests.fakes import FakeWorld
from tests.orchestration.ballot import Ballot
from tests.orchestration.conftest import decide, make_run
from tests.orchestration.test_run_turn import after, start, take

pytestmark = pytest.mark.django_db(transaction=True)

AMOUNTS = {"left": "10.00", "right": "20.00"}
Dying = Callable[[str], Any]  # awaited with a node's name when it has acted; may raise


async def nobody(name: str) -> None:
    """Let every node end."""


class State(TypedDict, total=False):
    left: Any
    right: Any
    result: Any


@dataclass
class Graph:
    """Nodes that ask, act, and note what they were answered; `dies` says which of them do not come to their end."""

    dies: Dying = nobody
    silent: set[str] = field(default_factory=set)  # nodes that do not ask any more
    answered: list[tuple[str, str]] = field(default_factory=list)  # node and verdict, once for each time it ran so far

    def node(self, name: str) -> Any:
        async def ask(given: State, runtime: Runtime[AgentContext]) -> Any:
            if name in self.silent:
                return {name: "not asked"}
            (answer,) = interrupt({"ballot": [AMOUNTS[name]]})
            self.answered.append((name, answer["verdict"]))
            if answer["verdict"] == "approve":
                await runtime.context.effects.perform(answer["approval"], answer["digest"])
            await self.dies(name)
            return {name: answer["verdict"]}

        return ask

    def build(self) -> Any:
        async def close(given: State) -> Any:
            return {"result": {name: given.get(name) for name in AMOUNTS}}

        graph: Any = StateGraph(State, context_schema=AgentContext)
        for name in AMOUNTS:
            graph.add_node(name, self.node(name))
            graph.add_edge(START, name)
        graph.add_node("close", close)
        graph.add_edge([*AMOUNTS], "close")
        graph.add_edge("close", END)
        return graph


@pytest.fixture(autouse=True)
def graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    made = Graph()
    built = made.build()
    monkeypatch.setattr(dialects, "DIALECTS", (Ballot(), *dialects.DIALECTS))
    monkeypatch.setattr(module, "chat_model", OfflineModel)
    monkeypatch.setattr(drive, "graph_of", lambda agent: built)
    yield made


@pytest.fixture
def run(transactional_db: None) -> Run:
    return make_run()


def asked(run: Run) -> dict[str, str]:
    """Return the approval of each node."""
    found = {row.summary: row.pk for row in Approval.objects.filter(run_id=run.pk)}
    return {name: found[f"Refund {amount}"] for name, amount in AMOUNTS.items()}


async def landed(run_id: str, name: str) -> None:
    """Wait until the saver has kept what a node came to: an answer that has landed and ended."""
    checkpoints = Checkpoints(size=2)
    await checkpoints.open()
    try:
        async with checkpoints.reaching_for(run_id) as reach:
            saver = await reach.held()
            while True:
                head = await saver.aget_tuple({"configurable": {"thread_id": run_id, "checkpoint_ns": ""}})
                if head and any(channel == name for _, channel, _ in head.pending_writes or []):
                    return
                await asyncio.sleep(0.05)
    finally:
        await checkpoints.close()


def dead_once(*names: str) -> Dying:
    async def dies(name: str) -> None:
        if name in names:
            raise ConnectionError("the process is gone")

    return dies


def done_once(run: Run, world: FakeWorld, *, times: int = 2) -> None:
    run.refresh_from_db()
    assert run.status == "finished"
    assert sorted(refund["amount"] for refund in world.shop.refunds.values()) == sorted(AMOUNTS.values())[:times]
    assert Effect.objects.filter(run=run, status="done").count() == times


def test_one_of_two_answers_came_to_its_end_before_the_attempt_died(run: Run, world: FakeWorld, graph: Graph) -> None:
    take(start(run), world)
    approvals = asked(run)

    async def dies(name: str) -> None:
        if name == "right":
            await landed(run.pk, "left")
            raise ConnectionError("the process is gone")

    for approval in approvals.values():
        decide(approval)
    graph.dies = dies
    with pytest.raises(ConnectionError):
        take(after(run, 2, *approvals.values()), world)
    graph.dies = nobody
    graph.answered.clear()
    assert take(after(run, 2, *approvals.values()), world, attempt=2).outcome == "finished"
    assert graph.answered == [("right", "approve")]
    done_once(run, world)


@pytest.mark.parametrize("dying", [("left",), ("left", "right")], ids="-".join)
def test_answers_that_landed_in_nodes_that_died_are_found_there(
    dying: tuple[str, ...], run: Run, world: FakeWorld, graph: Graph
) -> None:
    take(start(run), world)
    approvals = asked(run)
    for approval in approvals.values():
        decide(approval)
    graph.dies = dead_once(*dying)
    with pytest.raises(ConnectionError):
        take(after(run, 2, *approvals.values()), world)
    graph.dies = nobody
    assert take(after(run, 2, *approvals.values()), world, attempt=2).outcome == "finished"
    done_once(run, world)


def test_a_second_answer_that_comes_while_the_first_one_is_tried_again_lands_beside_it(
    run: Run, world: FakeWorld, graph: Graph
) -> None:
    """The first answer is in the checkpoint, its node died; the next attempt has two answers, one of them known."""
    take(start(run), world)
    approvals = asked(run)
    decide(approvals["left"])
    graph.dies = dead_once("left")
    with pytest.raises(ConnectionError):
        take(after(run, 2, *approvals.values()), world)
    decide(approvals["right"], "reject")
    graph.dies = nobody
    graph.answered.clear()
    result = take(after(run, 2, *approvals.values()), world, attempt=2)
    assert result.outcome == "finished"
    assert sorted(graph.answered) == [("left", "approve"), ("right", "reject")]
    done_once(run, world, times=1)
    assert run.result == {"left": "approve", "right": "reject"}


def test_a_second_answer_that_comes_after_the_first_one_has_ended_is_given_alone(
    run: Run, world: FakeWorld, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report of the first answer's attempt was lost, so its approval is named again."""
    take(start(run), world)
    approvals = asked(run)
    decide(approvals["left"])

    def lost(*_: Any) -> None:
        raise ConnectionError("the process is gone")

    with monkeypatch.context() as dying:
        dying.setattr(drive, "end_of", lost)
        with pytest.raises(ConnectionError):
            take(after(run, 2, *approvals.values()), world)
    assert graph.answered == [("left", "approve")]
    decide(approvals["right"])
    given: list[set[str]] = []
    usual = drive.call

    async def watched(graph: Any, agent: Any, run: Any, before: Any, answers: dict[str, Any], *rest: Any) -> None:
        given.append(set(answers))
        await usual(graph, agent, run, before, answers, *rest)

    monkeypatch.setattr(drive, "call", watched)
    assert take(after(run, 2, *approvals.values()), world, attempt=2).outcome == "finished"
    assert given == [{Approval.objects.get(pk=approvals["right"]).interrupt_id}]
    assert graph.answered == [("left", "approve"), ("right", "approve")]
    done_once(run, world)


def test_all_answers_have_landed_and_only_the_report_was_lost(
    run: Run, world: FakeWorld, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(start(run), world)
    approvals = asked(run)
    for approval in approvals.values():
        decide(approval)

    def lost(*_: Any) -> None:
        raise ConnectionError("the process is gone")

    with monkeypatch.context() as dying:
        dying.setattr(drive, "end_of", lost)
        with pytest.raises(ConnectionError):
            take(after(run, 2, *approvals.values()), world)
    ran = list(graph.answered)
    assert take(after(run, 2, *approvals.values()), world, attempt=2).outcome == "finished"
    assert graph.answered == ran
    done_once(run, world)


def test_what_the_agent_ends_without_waiting_for_is_withdrawn_and_cannot_be_approved(
    run: Run, world: FakeWorld, graph: Graph
) -> None:
    take(start(run), world)
    approvals = asked(run)
    decide(approvals["left"])
    graph.silent = {"right"}
    assert take(after(run, 2, *approvals.values()), world).outcome == "finished"
    done_once(run, world, times=1)
    left_open = Approval.objects.get(pk=approvals["right"])
    assert (left_open.status, left_open.closed_at is not None) == ("withdrawn", True)
    withdrawn = AuditEvent.objects.get(kind="approval.withdrawn", subject=left_open.pk)
    assert withdrawn.body == {"reason": "The agent came to its end without waiting for this."}
    with pytest.raises(AlreadyClosed):
        decide(left_open)
