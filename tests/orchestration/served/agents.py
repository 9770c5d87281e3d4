"""Graphs for a LangGraph Agent Server in an environment of its own, which has nothing of Signalbox."""

from __future__ import annotations

from typing import Any, TypedDict

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt


@tool
def send_email(to: str) -> str:
    """Send an email."""
    return f"sent to {to}"


@tool
def delete_file(path: str) -> str:
    """Delete a file."""
    return f"deleted {path}"


class Told(BaseChatModel):
    """Makes two calls, then says what came of them."""

    @property
    def _llm_type(self) -> str:
        return "told"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        said: Any = AIMessage("All done.")
        if not any(isinstance(one, AIMessage) for one in messages):
            calls = [
                {"name": "send_email", "args": {"to": "bob@customers.example"}, "id": "c1"},
                {"name": "delete_file", "args": {"path": "report"}, "id": "c2"},
            ]
            said = AIMessage("I tidy up.", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=said)])


def gated(mode: Any) -> Any:
    gate = HumanInTheLoopMiddleware(interrupt_on={"send_email": True, "delete_file": True}, interrupt_mode=mode)
    return create_agent(Told(), [send_email, delete_file], middleware=[gate])


class Lines(TypedDict, total=False):
    lines: list[Any]


def asking() -> Any:
    graph: Any = StateGraph(Lines)
    graph.add_node("ask", lambda state: {"lines": [interrupt("How much?")]})
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return graph


def stopping() -> Any:
    graph: Any = StateGraph(Lines)
    graph.add_node("deploy", lambda state: {"lines": ["deployed"]})
    graph.add_edge(START, "deploy")
    graph.add_edge("deploy", END)
    return graph.compile(interrupt_before=["deploy"])


batched, per_call, question, stopped = gated("batched"), gated("per_call"), asking().compile(), stopping()
