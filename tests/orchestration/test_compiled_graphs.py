"""Agents whose graph is compiled already: they pause and act as others do, and lose no stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from approvals.models import Approval
from orchestration.agents.graphs import graph_from
from orchestration.agents.offline_model import OfflineModel
from orchestration.agents.support.agent import AGENT
from orchestration.models import Effect, Run
from orchestration.turns import activity as module
from orchestration.turns import drive
from tests.fakes import FakeWorld
from tests.orchestration.changing_graph import graph_with
from tests.orchestration.conftest import decide, make_run
from tests.orchestration.test_run_turn import after, start, take

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(module, "chat_model", OfflineModel)
    return make_run()


def use(monkeypatch: pytest.MonkeyPatch, graph: Any) -> None:
    monkeypatch.setattr(drive, "graph_of", lambda agent: graph)


@pytest.mark.parametrize("saver", [None, False, InMemorySaver()], ids=["none", "off", "its own"])
def test_a_compiled_graph_pauses_and_acts_with_our_saver_whatever_it_was_compiled_with(
    saver: Any, run: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, graph_with().compile(checkpointer=saver))
    (approval,) = take(start(run), world).waiting_for
    decide(approval)
    assert take(after(run, 2, approval), world).outcome == "finished"
    assert [effect.status for effect in Effect.objects.filter(run=run)] == ["done"]


@pytest.mark.parametrize("stop", ["interrupt_before", "interrupt_after"])
def test_a_stop_that_was_compiled_in_is_kept_and_asked_about(
    stop: str, run: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, graph_with().compile(**{stop: ["propose"]}))
    (approval,) = take(start(run), world).waiting_for
    assert Approval.objects.get(pk=approval).kind == "go_on"
    decide(approval)
    (following,) = take(after(run, 2, approval), world).waiting_for
    assert Approval.objects.get(pk=following).kind == "action"


@dataclass
class Parcel:
    """A type of an author's own."""

    number: int


class Packing(TypedDict, total=False):
    parcel: Parcel
    read: str


def test_a_compiled_graph_reads_back_the_types_of_its_state(
    run: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = StateGraph(Packing)
    graph.add_node("pack", lambda state: {"parcel": Parcel(7)})
    graph.add_node("send", lambda state: {"read": type(state["parcel"]).__name__})
    graph.add_edge(START, "pack")
    graph.add_edge("pack", "send")
    use(monkeypatch, graph.compile(interrupt_before=["send"]))
    (approval,) = take(start(run), world).waiting_for
    decide(approval)
    assert take(after(run, 2, approval), world).outcome == "finished"
    run.refresh_from_db()
    assert run.result is not None and run.result["read"] == "Parcel"


def test_an_agent_names_a_graph_or_a_function_that_gives_one() -> None:
    graph = graph_with()
    compiled = graph.compile()
    for named in (graph, compiled, lambda agent: graph, lambda agent: compiled):
        assert graph_from(AGENT, named) in (graph, compiled)
    with pytest.raises(TypeError, match="gives a str"):
        graph_from(AGENT, lambda agent: "graph")
