"""The graph of `changing_agents`: propose a refund, freeze, wait, act; after the release, as the agent's name says."""

from __future__ import annotations

from typing import Annotated, Any

from langchain_core.messages import AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime

from drills.changing_agents import is_released
from orchestration.agents.proposals import ModelWish, ProposalNodes, ProposalState
from orchestration.agents.runtime import Agent, AgentContext
from orchestration.agents.support.tools import ISSUE_REFUND, read_order


class LeanState(ProposalState, total=False):
    order_id: str
    messages: Annotated[list[AnyMessage], add_messages]
    result: dict[str, Any]


class ChangingState(LeanState, total=False):
    order: dict[str, Any]


def build(agent: Agent) -> StateGraph[Any, Any, Any, Any]:
    nodes = ProposalNodes(agent)
    changed = agent.name if is_released() else ""
    gate = "ask" if changed == "gate-renamed" else "gate"
    act = "carry_out" if changed == "act-renamed" else "act"
    has_gate, has_act = changed != "gate-removed", changed != "act-removed"
    state = LeanState if changed == "key-gone" else ChangingState

    async def propose(state: LeanState, runtime: Runtime[AgentContext]) -> dict[str, Any]:
        order = await read_order(runtime.context.world, state["order_id"])
        arguments = {"order_id": str(order["id"]), "amount": "12.50", "currency": "EUR", "reason": "It came late"}
        wish = ModelWish(kind="action", tool=ISSUE_REFUND.name, arguments=arguments, words="", call_id="one", about="")
        return {"wish": wish, **({} if changed == "key-gone" else {"order": order})}

    async def review(state: LeanState) -> dict[str, Any]:
        return {}

    async def finish(state: LeanState) -> dict[str, Any]:
        return {"result": {"effects": state.get("effects", [])}}

    steps: list[tuple[str, Any]] = [("propose", propose), ("freeze", nodes.freeze)]
    steps += [(gate, nodes.gate)] if has_gate else []
    steps += [(act, nodes.act)] if has_act else []
    steps += [("review", review)] if changed == "node-added" else []
    steps += [("finish", finish)]
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(state, context_schema=AgentContext)
    before = START
    for name, node in steps:
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return graph
