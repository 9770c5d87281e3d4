from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

AGENT = '''"""__TITLE__: what it does, in a sentence."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode
from typing_extensions import TypedDict

from signalbox import effect_key, guard


class Input(TypedDict):
    """What a run starts with: the form of the page, and of the API."""

    to: str
    text: str


class State(Input, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    result: dict[str, Any]


@tool
async def send_note(to: str, text: str) -> str:
    """Send a note to somebody."""
    # Here goes what really happens. Hand `effect_key()` to whatever takes an idempotency key, and say so below; raise
    # signalbox.ToolFailed only where it is certain that nothing happened.
    return f"sent to {to} under the key {effect_key()}"


async def plan(state: State) -> dict[str, Any]:
    """Say what is to be done. A model would do this: init_chat_model(...).bind_tools([send_note])."""
    call = {"name": "send_note", "args": {"to": state["to"], "text": state["text"]}, "id": str(uuid.uuid4())}
    return {"messages": [AIMessage("This note should go out.", tool_calls=[call])]}


async def finish(state: State) -> dict[str, Any]:
    return {"result": {"said": state["messages"][-1].text}}


graph = StateGraph(State, input_schema=Input)
graph.add_node("plan", plan)
graph.add_node("tools", ToolNode([guard(send_note, risk="medium", is_idempotent=True)]))
graph.add_node("finish", finish)
graph.add_edge(START, "plan")
graph.add_edge("plan", "tools")
graph.add_edge("tools", "finish")
graph.add_edge("finish", END)
'''

TEST = """from __future__ import annotations

from __NAME__.agent import graph
from signalbox.testing import Desk

GIVEN = {"to": "ann@acme.example", "text": "Hello"}


def test_a_note_goes_out_when_it_is_approved() -> None:
    desk = Desk(graph)
    (asked,) = desk.start(GIVEN)
    assert (asked.tool, asked.arguments) == ("send_note", GIVEN)
    assert desk.effects == []
    desk.decide(asked, "approve")
    assert [effect.arguments for effect in desk.effects] == [GIVEN]


def test_what_a_reviewer_changed_is_what_goes_out() -> None:
    desk = Desk(graph)
    (asked,) = desk.start(GIVEN)
    desk.decide(asked, "edit", arguments={"to": "bob@acme.example", "text": "Hello"})
    assert [effect.arguments["to"] for effect in desk.effects] == ["bob@acme.example"]


def test_nothing_goes_out_when_it_is_rejected() -> None:
    desk = Desk(graph)
    (asked,) = desk.start(GIVEN)
    assert desk.decide(asked, "reject", note="Not today.") == []
    assert desk.effects == [] and "Not today." in desk.result["result"]["said"]
"""


class Command(BaseCommand):
    help = "Write a new agent that works, with its test, into a folder of the name given."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="of the Python package: small letters, digits and _")
        parser.add_argument("--in", dest="folder", default=".", help="the folder to write it into; default: here")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write three files; nothing that is there is written over."""
        name, folder = options["name"], Path(options["folder"])
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,60}", name):
            raise CommandError(f"{name!r} is no name of a package: use small letters, digits and _, a letter first.")
        home = folder / name
        if home.exists():
            raise CommandError(f"{home} is there already. Take another name, or remove it.")
        home.mkdir(parents=True)
        title = name.replace("_", " ").capitalize()
        for file, text in (("__init__.py", ""), ("agent.py", AGENT), (f"test_{name}.py", TEST)):
            (home / file).write_text(text.replace("__NAME__", name).replace("__TITLE__", title))
        self.stdout.write(
            f"{home}/agent.py is the agent, {home}/test_{name}.py its test: {sys.executable} -m pytest {home}"
        )
        self.stdout.write(f"To register it: SIGNALBOX_AGENTS={name}={name}.agent:graph (with {folder} on PYTHONPATH)")
