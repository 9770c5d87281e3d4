"""Graphs as LangChain's and LangGraph's public documentation writes them, with a model that says what it is told to.

What their tools do is kept in `WORLD`, for they run outside the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import add
from typing import Annotated, Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

WORLD: list[tuple[str, Any]] = []
TALK = {"messages": [{"role": "user", "content": "Tidy up."}]}


class Told(BaseChatModel):
    """Says its lines in order: the one after as many as the conversation holds already."""

    lines: list[Any]

    @property
    def _llm_type(self) -> str:
        return "told"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        said = sum(isinstance(message, AIMessage) for message in messages)
        line = self.lines[min(said, len(self.lines) - 1)]
        message = AIMessage(line) if isinstance(line, str) else AIMessage("I would do this.", tool_calls=line)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


def call(name: str, number: int = 1, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "args": arguments, "id": f"call-{number}", "type": "tool_call"}


@tool
def send_email(to: str, subject: str = "Hello") -> str:
    """Send an e-mail."""
    WORLD.append(("send_email", {"to": to, "subject": subject}))
    return f"sent to {to}"


@tool
def delete_file(path: str) -> str:
    """Delete a file."""
    WORLD.append(("delete_file", {"path": path}))
    return f"deleted {path}"


@tool
def read_file(path: str) -> str:
    """Read a file; nobody is asked."""
    return f"contents of {path}"


CALLS = [
    call("send_email", 1, to="ann@acme.example"),
    call("delete_file", 2, path="report"),
    call("read_file", 3, path="notes"),
]
GATES: dict[str, Any] = {"send_email": True, "delete_file": {"allowed_decisions": ["approve", "reject"]}}


def hitl(mode: Any = "batched", lines: Any = (CALLS, "All done."), tools: Any = (), gates: Any = GATES) -> Any:
    """Shapes (a) and (b): LangChain's agent with its middleware."""
    used: list[BaseTool] = list(tools) or [send_email, delete_file, read_file]
    middleware: Any = [HumanInTheLoopMiddleware(gates, interrupt_mode=mode)]
    return create_agent(Told(lines=list(lines)), used, middleware=middleware)


class Lines(TypedDict, total=False):
    lines: Annotated[list[Any], add]


def asking(*values: Any, schema: Any = None, again: bool = False) -> Any:
    """Shapes (c) and (d): a node for each value, which interrupts with it and keeps the answer."""
    graph: Any = StateGraph(Lines)
    before: Any = START
    for number, value in enumerate(values):

        def ask(state: Lines, value: Any = value) -> Lines:
            answer = interrupt(value, response_schema=schema) if schema else interrupt(value)
            return {"lines": [answer]}

        graph.add_node(f"ask{number}", ask)
        graph.add_edge(before, f"ask{number}")
        before = f"ask{number}"
    graph.add_edge(before, END)
    return graph


HUMAN = {
    "action_request": {"action": "send_email", "args": {"to": "ann@acme.example"}},
    "config": {"allow_ignore": True, "allow_respond": True, "allow_edit": True, "allow_accept": True},
    "description": "# An e-mail",
}


class Amount(BaseModel):
    amount: int = Field(ge=1, le=100)


def parallel() -> Any:
    """Shape (e): three nodes at once, each with its question."""
    graph: Any = StateGraph(Lines)
    for name in ("finance", "legal", "press"):

        def ask(state: Lines, name: str = name) -> Lines:
            return {"lines": [[name, interrupt({"question": f"What does {name} say?"})]]}

        graph.add_node(name, ask)
        graph.add_edge(START, name)
        graph.add_edge(name, END)
    return graph.compile()


def subgraph() -> Any:
    """Shape (f): a compiled graph as a node, which interrupts twice."""
    graph: Any = StateGraph(Lines)
    graph.add_node("inner", asking("First?", "Second?").compile())
    graph.add_edge(START, "inner")
    graph.add_edge("inner", END)
    return graph.compile()


def stopped(**stops: Any) -> Any:
    """A graph of two steps that is compiled with a stop."""
    graph: Any = StateGraph(Lines)
    for name in ("first", "second"):

        def work(state: Lines, name: str = name) -> Lines:
            WORLD.append((name, None))
            return {"lines": [name]}

        graph.add_node(name, work)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", END)
    return graph.compile(**stops)


def deep() -> Any:
    """An agent whose tool runs another agent, which asks; the way of deep agents' sub-agents."""
    inner = hitl(lines=([call("delete_file", 7, path="old")], "The helper is done."))

    @tool
    async def helper(task: str) -> str:
        """Give a task to the helper."""
        said = await inner.ainvoke({"messages": [{"role": "user", "content": task}]})
        return str(said["messages"][-1].text)

    return create_agent(Told(lines=[[call("helper", 6, task="Tidy up.")], "All done."]), [helper])


def asking_tool() -> Any:
    """An agent whose tool interrupts inside itself."""

    @tool
    def book(hotel: str) -> str:
        """Book a hotel."""
        answer = interrupt({"question": f"Book {hotel}?", "hotel": hotel})
        WORLD.append(("book", answer))
        return f"booked: {answer}"

    return create_agent(Told(lines=[[call("book", 5, hotel="Ritz")], "All done."]), [book])


def wrapped_tool() -> Any:
    """An agent whose tool asks in Agent Inbox's form with what it was called with, its defaults filled in."""

    @tool("send_email")
    def wrapped(to: str, subject: str = "Hello") -> str:
        """Send an e-mail."""
        given = {"to": to, "subject": subject}
        allowed = {"allow_accept": True, "allow_edit": True, "allow_respond": True, "allow_ignore": True}
        (answer,) = interrupt([{"action_request": {"action": "send_email", "args": given}, "config": allowed}])
        if answer["type"] == "edit":
            given = answer["args"]["args"]
        elif answer["type"] != "accept":
            return str(answer["args"])
        return str(send_email.invoke(given))

    return create_agent(Told(lines=[[call("send_email", 1, to="ann@acme.example")], "All done."]), [wrapped])


def asking_about(calls: Sequence[dict[str, Any]], asked: Iterable[dict[str, Any]]) -> Any:
    """A graph whose model makes the calls, and whose next node asks about them in Agent Inbox's form, in its order."""
    entries = [
        {"action_request": {"action": one["name"], "args": one["args"]}, "config": {"allow_accept": True}}
        for one in asked
    ]
    graph: Any = StateGraph(MessagesState)
    graph.add_node("model", lambda _: {"messages": [AIMessage("I would do this.", tool_calls=list(calls))]})
    graph.add_node("ask", lambda _: {"messages": [AIMessage(str(interrupt(entries)))]})
    graph.add_edge(START, "model")
    graph.add_edge("model", "ask")
    graph.add_edge("ask", END)
    return graph


def stop_beside_a_question() -> Any:
    """A graph that asks in one branch, and beside it stops in a graph of its own before that one's node."""

    def work(_: Lines) -> Lines:
        WORLD.append(("work", None))
        return {"lines": ["worked"]}

    inner: Any = StateGraph(Lines)
    inner.add_node("work", work)
    inner.add_edge(START, "work")
    inner.add_edge("work", END)
    graph: Any = StateGraph(Lines)
    graph.add_node("ask", lambda _: {"lines": [interrupt("Which one?")]})
    graph.add_node("beside", inner.compile(interrupt_before=["work"]))
    for node in ("ask", "beside"):
        graph.add_edge(START, node)
        graph.add_edge(node, END)
    return graph


def loop(times: int = 20) -> Any:
    """A graph that asks again and again in one node."""
    graph: Any = StateGraph(Lines)

    def ask(state: Lines) -> Lines:
        return {"lines": [interrupt(f"Round {len(state.get('lines', [])) + 1}?")]}

    def more(state: Lines) -> str:
        return "ask" if len(state["lines"]) < times else END

    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_conditional_edges("ask", more, ["ask", END])
    return graph.compile()
