"""The graph of `fickle_agent`: propose a refund of any amount, freeze, wait, act."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from langchain_core.messages import AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime

from console import faults
from orchestration.agents.proposals import ModelWish, ProposalNodes, ProposalState
from orchestration.agents.runtime import Agent, AgentContext
from orchestration.agents.support.tools import ISSUE_REFUND, read_order


class FickleState(ProposalState, total=False):
    order_id: str
    messages: Annotated[list[AnyMessage], add_messages]
    result: dict[str, Any]


def build(agent: Agent) -> StateGraph[Any, Any, Any, Any]:
    nodes = ProposalNodes(agent)

    async def propose(state: FickleState, runtime: Runtime[AgentContext]) -> dict[str, Any]:
        """Read the order, which the drill counts, and think of an amount."""
        order = await read_order(runtime.context.world, state["order_id"])
        amount = f"{1 + secrets.randbelow(39)}.{secrets.randbelow(100):02}"
        faults.reach("agent.proposed", state["order_id"])  # nobody else knows the amount yet
        arguments = {"order_id": str(order["id"]), "amount": amount, "currency": order["currency"], "reason": "A whim"}
        wish = ModelWish(kind="action", tool=ISSUE_REFUND.name, arguments=arguments, words="", call_id="whim", about="")
        return {"wish": wish}

    async def finish(state: FickleState) -> dict[str, Any]:
        return {"result": {"effects": state.get("effects", [])}}

    graph = StateGraph(FickleState, context_schema=AgentContext)
    graph.add_node("propose", propose)
    graph.add_node("freeze", nodes.freeze)
    graph.add_node("gate", nodes.gate)
    graph.add_node("act", nodes.act)
    graph.add_node("finish", finish)
    graph.add_edge(START, "propose")
    graph.add_edge("propose", "freeze")
    graph.add_edge("freeze", "gate")
    graph.add_edge("gate", "act")
    graph.add_edge("act", "finish")
    graph.add_edge("finish", END)
    return graph
