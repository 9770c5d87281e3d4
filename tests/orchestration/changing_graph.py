"""A small agent whose code is another one at each call of `graph_with`: as after a release while a run waits."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any

from langchain_core.messages import AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Send
from typing_extensions import TypedDict

from orchestration.agents.proposals import Frozen, ModelWish, ProposalNodes
from orchestration.agents.runtime import AgentContext
from orchestration.agents.support.agent import AGENT
from tests.orchestration.conftest import REFUND

KEYS: dict[str, Any] = {
    "order_id": str,
    "message": str,
    "wish": ModelWish | None,
    "frozen": Frozen | None,
    "answer": dict[str, Any] | None,
    "rejections": int,
    "dataset_versions": list[dict[str, Any]],
    "effects": Annotated[list[dict[str, Any]], operator.add],
    "messages": Annotated[list[AnyMessage], add_messages],
    "memo": dict[str, Any],
    "result": dict[str, Any],
}
Node = Callable[..., Any]


def graph_with(
    *,
    gate: str = "gate",
    act: str = "act",
    finish: str = "finish",
    without: str = "",
    review: bool = False,
    skip_act: bool = False,
    inner: str = "",
    waits_also: bool = False,
    by_send: bool = False,
    on_propose: Node | None = None,
    on_act: Node | None = None,
) -> Any:
    """Return propose, freeze, gate, act, finish.

    `gate`, `act`, `finish`: their names. `without`: a state key that is not there. `review`: one more node at the
    beginning. `skip_act`: the gate leads to the end. `inner`: the gate is in a graph inside the graph, under this name.
    `waits_also`: the gate waits for another node too. `by_send`: the gate is started by a Send.
    """
    state: Any = TypedDict("State", {key: kind for key, kind in KEYS.items() if key != without}, total=False)  # type: ignore[misc]  # made of what a case wants
    nodes = ProposalNodes(AGENT)

    async def propose(given: Any) -> dict[str, Any]:
        if on_propose is not None:
            await on_propose()
        wish = ModelWish(kind="action", tool="issue_refund", arguments=REFUND, words="", call_id="c1", about="")
        return {"wish": wish, **({"memo": {"of": "propose"}} if without != "memo" else {})}

    # Written out, for LangGraph adds the keys of a node's own annotation to the state.
    async def freeze(given: Any) -> dict[str, Any]:
        return await nodes.freeze(given)

    async def asks(given: Any) -> dict[str, Any]:
        return await nodes.gate(given)

    async def acts(given: Any, runtime: Any) -> dict[str, Any]:
        if on_act is not None:
            await on_act()
        return await nodes.act(given, runtime)

    acts.__annotations__["runtime"] = nodes.act.__annotations__["runtime"]

    async def ends(given: Any) -> dict[str, Any]:
        return {"result": {"effects": given.get("effects", [])}}

    async def looks(given: Any) -> dict[str, Any]:
        return {}

    graph: Any = StateGraph(state, context_schema=AgentContext)
    graph.add_node("propose", propose)
    graph.add_node("freeze", freeze)
    graph.add_node(gate, _inner(state, asks, inner) if inner else asks)
    if not skip_act:
        graph.add_node(act, acts)
    graph.add_node(finish, ends)
    first = "propose"
    if review:
        graph.add_node("review", looks)
        graph.add_edge("review", "propose")
        first = "review"
    graph.add_edge(START, first)
    graph.add_edge("propose", "freeze")
    if waits_also:
        graph.add_node("besides", looks)
        graph.add_edge("propose", "besides")
        graph.add_edge(["freeze", "besides"], gate)
    elif by_send:
        graph.add_conditional_edges("freeze", lambda given: [Send(gate, given)], [gate])
    else:
        graph.add_edge("freeze", gate)
    graph.add_edge(gate, finish if skip_act else act)
    if not skip_act:
        graph.add_edge(act, finish)
    graph.add_edge(finish, END)
    return graph


def _inner(state: Any, asks: Node, name: str) -> Any:
    graph: Any = StateGraph(state)
    graph.add_node(name, asks)
    graph.add_edge(START, name)
    graph.add_edge(name, END)
    return graph.compile()
