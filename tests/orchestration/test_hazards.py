"""What `check_agents` warns of: what would happen twice, or get lost."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from orchestration.agents.graphs import graph_from
from orchestration.agents.guarding import guard
from orchestration.agents.hazards import hazards_of
from orchestration.agents.runtime import Agent
from orchestration.agents.support.agent import AGENT
from orchestration.agents.support.graph import build
from tests.orchestration import foreign_graphs as foreign

AUTHORS = Agent(name="authors", title="Authors", graph="x.y")


class Order(BaseModel):
    number: str


class State(TypedDict, total=False):
    order: Order
    tags: set[str]
    answer: Any


def charge(amount: int) -> int:
    return amount


def graph_of(node: Any) -> Any:
    graph: Any = StateGraph(State)
    graph.add_node("ask", node)
    graph.add_edge(START, "ask")
    return graph


def pays_first(state: State) -> State:
    charge(3)
    return {"answer": interrupt("Was that right?")}


async def asks_twice(state: State) -> State:
    first = interrupt("One?")
    return {"answer": [first, interrupt("Two?")]}


def asks_first(state: State) -> State:
    answer = interrupt(str(state.get("answer")))
    charge(3)
    return {"answer": answer}


@pytest.mark.parametrize(
    ("node", "words"),
    [(pays_first, "calls charge before interrupt()"), (asks_twice, "has several interrupt()")],
)
def test_a_node_that_does_something_before_it_asks_is_told(node: Any, words: str) -> None:
    assert any(words in sentence for sentence in hazards_of(AUTHORS, graph_of(node)))


def test_a_node_that_asks_first_is_not_told() -> None:
    assert not [sentence for sentence in hazards_of(AUTHORS, graph_of(asks_first)) if "node" in sentence]


def test_state_that_does_not_come_back_is_told() -> None:
    told = " ".join(hazards_of(AUTHORS, graph_of(asks_first)))
    assert "“order” holds a Order" in told and "“tags” holds set" in told


def test_a_gate_with_a_when_and_a_tool_outside_the_ledger_are_told() -> None:
    gates: Any = {"send_email": {"allowed_decisions": ["approve", "reject"], "when": lambda request: True}}
    told = " ".join(hazards_of(AUTHORS, foreign.hitl(gates=gates)))
    assert "The gate of send_email has a `when`" in told
    assert "The tool send_email runs outside the ledger" in told and "delete_file" not in told
    inside = foreign.hitl(gates={"send_email": True}, tools=[guard(foreign.send_email)])
    assert "outside the ledger" not in " ".join(hazards_of(AUTHORS, inside))


def test_the_agent_that_ships_is_told_of_its_mail_only() -> None:
    assert hazards_of(AGENT, graph_from(AGENT, build)) == [
        "The tool send_email takes no key: where an attempt is cut off, people are asked whether it happened."
    ]
