"""Graphs of others, whose own input says what a table for them holds."""

from __future__ import annotations

from typing import Any, NotRequired

from langgraph.graph import START, MessagesState, StateGraph
from typing_extensions import TypedDict


class Counted(TypedDict):
    n: int
    note: NotRequired[str]


def graph_of(state: Any) -> Any:
    graph: Any = StateGraph(state)
    graph.add_node("only", lambda state: {})
    graph.add_edge(START, "only")
    return graph.compile()


counted, talk = graph_of(Counted), graph_of(MessagesState)
