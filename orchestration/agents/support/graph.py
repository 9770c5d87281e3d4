"""The support agent's graph: read, retrieve, then plan in a loop until a proposal is ready or the work is done.

    read_order -> retrieve -> plan <-> look_up
                               |  ^
                               v  |
              propose -> freeze -> gate -> act -> (plan | freeze | give_up)

State is plain JSON and LangChain messages, so that a checkpoint loads under strict deserialisation.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from pydantic import BaseModel, Field, ValidationError

from orchestration.agents.proposals import ProposalNodes, ProposalState, unreadable_calls, words_of
from orchestration.agents.runtime import Agent, AgentContext, Tool, ToolFailed
from orchestration.agents.support import prompts
from orchestration.agents.support.tools import read_order as order_from_shop

LOOK_UPS_AT_MOST = 12
HANDBOOK = "handbook"


class SupportState(ProposalState, total=False):
    """The whole state; `order_id` and `message` are the input."""

    order_id: str
    message: str
    order: dict[str, Any]
    passages: list[dict[str, Any]]
    messages: Annotated[list[AnyMessage], add_messages]
    result: dict[str, Any]


class SearchHandbook(BaseModel):
    """Search the shop's handbook for passages about a question."""

    query: str = Field(min_length=2, max_length=500)


def build(agent: Agent) -> StateGraph[Any, Any, Any, Any]:
    """Return the graph, not yet compiled: the turn gives it the saver."""
    proposals = ProposalNodes(agent)
    looks_up = {tool.name: tool for tool in agent.tools if not tool.needs_approval}
    offered = [*(_offer(tool) for tool in agent.tools), SearchHandbook]

    async def read_order(state: SupportState, runtime: Runtime[AgentContext]) -> dict[str, Any]:
        """Read the order from the shop. An unknown order ends the run in words, not in an error."""
        try:
            return {"order": await order_from_shop(runtime.context.world, state["order_id"])}
        except ToolFailed as exc:
            return {"order": {}, "result": {"summary": f"Order {state['order_id']} could not be read. {exc}"}}

    async def retrieve(state: SupportState, runtime: Runtime[AgentContext]) -> dict[str, Any]:
        """Find the passages nearest to the customer's message in the current handbook version."""
        found = await runtime.context.datasets.search(HANDBOOK, state["message"], 6)
        passages = [dict(passage) for passage in found["passages"]]
        case = prompts.case(state["order"], state["message"], passages)
        return {
            "passages": passages,
            "dataset_versions": [{"dataset": HANDBOOK, "version": found["version"]}],
            "messages": [SystemMessage(prompts.SYSTEM, id="system"), HumanMessage(case, id="case")],
        }

    async def plan(state: SupportState, runtime: Runtime[AgentContext]) -> dict[str, Any]:
        """Ask the model for the next step."""
        answer = await runtime.context.model.bind_tools(offered).ainvoke(state["messages"])
        return {"messages": [answer]}

    async def look_up(state: SupportState, runtime: Runtime[AgentContext]) -> dict[str, Any]:
        """Run the read-only calls of the model's last message; each call gets its answer, failed ones too."""
        message = state["messages"][-1]
        assert isinstance(message, AIMessage)
        answers, versions = unreadable_calls(message), list(state.get("dataset_versions", []))
        for call in message.tool_calls:
            status: Literal["success", "error"] = "success"
            try:
                if call["name"] == SearchHandbook.__name__:
                    query = SearchHandbook.model_validate(call["args"]).query
                    found = await runtime.context.datasets.search(HANDBOOK, query, 4)
                    content: Any = found["passages"]
                    read = {"dataset": HANDBOOK, "version": found["version"]}
                    versions += [] if read in versions else [read]
                elif tool := looks_up.get(call["name"]):
                    arguments = tool.arguments.model_validate(call["args"])
                    content = await tool.call(arguments, runtime.context.world, "")
                else:
                    raise ToolFailed(f"There is no tool {call['name']!r}.")
            except (ToolFailed, ValidationError) as exc:
                status, content = "error", {"error": str(exc)[:1000]}
            text = json.dumps(content, ensure_ascii=False)
            answers.append(ToolMessage(text, tool_call_id=call["id"] or "", status=status))
        return {"messages": answers, "dataset_versions": versions}

    async def finish(state: SupportState) -> dict[str, Any]:
        """Sum the run up from the model's last words."""
        return {"result": {"summary": words_of(state["messages"][-1]), "effects": state.get("effects", [])}}

    async def give_up(state: SupportState) -> dict[str, Any]:
        """End politely after too many rejections; people take over."""
        summary = (
            f"Reviewers rejected {state['rejections']} proposals, so the agent stops here. "
            f"A person has to answer the customer of order {state['order_id']}."
        )
        return {"result": {"summary": summary, "effects": state.get("effects", [])}}

    def after_read(state: SupportState) -> Literal["retrieve", "__end__"]:
        return "retrieve" if state["order"] else "__end__"

    def after_plan(state: SupportState) -> Literal["propose", "look_up", "finish"]:
        message = state["messages"][-1]
        assert isinstance(message, AIMessage)
        if proposals.wants_approval(message):
            return "propose"
        looked = sum(isinstance(earlier, ToolMessage) for earlier in state["messages"])
        has_calls = message.tool_calls or message.invalid_tool_calls
        return "look_up" if has_calls and looked < LOOK_UPS_AT_MOST else "finish"

    graph = StateGraph(SupportState, context_schema=AgentContext)
    graph.add_node("read_order", read_order, metadata={"label": "read the order"})
    graph.add_node("retrieve", retrieve, metadata={"label": "find the policy"})
    graph.add_node("plan", plan)
    graph.add_node("look_up", look_up, metadata={"label": "look up"})
    graph.add_node("propose", proposals.propose)
    graph.add_node("freeze", proposals.freeze)
    graph.add_node("gate", proposals.gate, metadata={"label": "wait for a person"})
    graph.add_node("act", proposals.act)
    graph.add_node("finish", finish)
    graph.add_node("give_up", give_up, metadata={"label": "give up"})
    graph.add_edge(START, "read_order")
    graph.add_conditional_edges("read_order", after_read)
    graph.add_edge("retrieve", "plan")
    graph.add_conditional_edges("plan", after_plan)
    graph.add_edge("look_up", "plan")
    graph.add_conditional_edges("propose", proposals.after_propose)
    graph.add_edge("freeze", "gate")
    graph.add_edge("gate", "act")
    graph.add_conditional_edges("act", proposals.after_act)
    graph.add_edge("finish", END)
    graph.add_edge("give_up", END)
    return graph


def _offer(tool: Tool) -> StructuredTool:
    """Return the tool as models see it; it is never called through this."""

    def only_described(**arguments: Any) -> str:
        raise RuntimeError("tools run in the graph's own nodes")

    return StructuredTool.from_function(
        only_described, name=tool.name, description=tool.description, args_schema=tool.arguments
    )
