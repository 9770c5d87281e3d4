"""What a turn's heartbeats say: the node that the graph is at, and since when."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

from orchestration.contracts import Turn
from orchestration.turns.progress import Nodes
from tests.orchestration.conftest import go

NOW = datetime(2026, 11, 28, 15, 0, tzinfo=UTC)
TURN = Turn("support-1", "support", 3)


class State(TypedDict, total=False):
    """A state of one value."""

    count: int


def test_heartbeats_say_at_which_node_the_graph_is_inner_graphs_included() -> None:
    nodes, said = Nodes(NOW), list[dict[str, Any]]()

    async def look(_: State) -> State:
        await asyncio.sleep(0)
        said.append(nodes.details(TURN))
        return {"count": 1}

    async def fail(_: State) -> State:
        said.append(nodes.details(TURN))
        raise LookupError("no such order")

    begun: Any = StateGraph(State)
    inner = begun.add_node("read", look).add_edge(START, "read").compile()
    graph: Any = StateGraph(State)
    graph.add_node("plan", look).add_node("work", inner).add_node("act", fail)
    graph.add_edge(START, "plan").add_edge("plan", "work").add_edge("work", "act").add_edge("act", END)

    async def work() -> None:
        assert nodes.details(TURN) == {"turn": 3, "node": None, "since": None}
        with suppress(LookupError):
            await graph.compile().ainvoke({"count": 0}, {"callbacks": [nodes]})

    go(work())
    assert [one["node"] for one in said] == ["plan", "work", "act"]
    assert all(datetime.fromisoformat(one["since"]) >= NOW for one in said)
    assert nodes.details(TURN) == {"turn": 3, "node": None, "since": None}
