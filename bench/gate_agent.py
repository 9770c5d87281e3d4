"""The smallest agent with a gate: what `bench.decision` measures runs through the product's own nodes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

from orchestration.agents.proposals import ModelWish, ProposalNodes, ProposalState
from orchestration.agents.runtime import Agent, AgentContext, Tool, World

STATE_BYTES = 20_000


class GateInput(BaseModel):
    number: int


async def _nothing(arguments: GateInput, world: World, key: str) -> dict[str, Any]:
    return {}


class GateState(ProposalState, total=False):
    number: int
    ballast: list[str]
    result: dict[str, Any]


def build(agent: Agent) -> StateGraph[Any, Any, Any, Any]:
    proposals = ProposalNodes(agent)

    async def propose(state: GateState) -> dict[str, Any]:
        wish = ModelWish(
            kind="action", tool="nothing", arguments={"number": state["number"]}, words="", call_id="", about=""
        )
        return {"wish": wish, "ballast": ["x" * 1000] * (STATE_BYTES // 1000)}

    async def next_node(state: GateState) -> dict[str, Any]:
        return {"result": {"reached_at_ns": time.monotonic_ns()}}

    graph = StateGraph(GateState, context_schema=AgentContext)
    graph.add_node("propose", propose)
    graph.add_node("freeze", proposals.freeze)
    graph.add_node("gate", proposals.gate)
    graph.add_node("next_node", next_node)
    graph.add_node("act", proposals.act)
    graph.add_edge(START, "propose")
    graph.add_edge("propose", "freeze")
    graph.add_edge("freeze", "gate")
    graph.add_edge("gate", "next_node")
    graph.add_edge("next_node", "act")  # after what is measured: what was approved has to be done
    graph.add_edge("act", END)
    return graph


TOOL = Tool(
    name="nothing",
    title="Nothing",
    description="Does nothing.",
    arguments=GateInput,
    render=lambda arguments: f"Do nothing, number {arguments.number}",
    call=_nothing,
)
AGENT = Agent(
    name="gate",
    title="Gate",
    input=GateInput,
    tools=(TOOL,),
    graph="bench.gate_agent.build",
)

#: the same for the other cases of `bench.decision`, which gives each a rule of its own
TWO = replace(AGENT, name="gate_two", title="Gate for two")
EDITED = replace(AGENT, name="gate_edited", title="Gate with changes")

#: the same at a risk that may be decided together: what `bench.batch` feeds
TOGETHER = replace(AGENT, name="together", title="Together", tools=(replace(TOOL, risk="medium"),))
