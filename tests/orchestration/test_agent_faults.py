"""A bad entry of SIGNALBOX_AGENTS: named with what to write instead, and nobody else suffers."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from console.environment import environment
from orchestration.agents import loading, registry
from orchestration.agents.registry import UnknownAgent, agent_named, agents, faults
from tests.api_caller import Caller

GOOD = """
from pydantic import BaseModel
from orchestration.agents.runtime import Agent, Tool
class Input(BaseModel):
    text: str
def build(agent):
    from langgraph.graph import START, StateGraph
    graph = StateGraph(dict)
    graph.add_node("only", lambda state: state)
    graph.add_edge(START, "only")
    return graph
AGENT = Agent(name="NAME", title="T", input=Input, tools=(), graph="MODULE.build")
"""
SUPPORT = "orchestration.agents.support.agent:AGENT"
Register = Callable[..., None]


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Register]:
    """Write modules of somebody's own, and name entries in SIGNALBOX_AGENTS."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))

    def use(*entries: str, **modules: str) -> None:
        for name, text in modules.items():
            text = text.replace("MODULE", name).replace("NAME", name.replace("_", "-"))
            (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setattr(environment(), "agents", ",".join(entries))
        registry._entries.cache_clear()

    yield use
    monkeypatch.undo()
    registry._entries.cache_clear()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def only_fault(entry: str) -> str:
    (fault,) = faults()
    assert fault.entry == entry
    return f"{fault.reason} {fault.advice}"


CASES = [
    (
        "no_such.module:AGENT",
        "",
        "There is no module no_such. Check the spelling, and that its folder",
    ),
    ("acme_a:agent", GOOD, "has nothing called agent. Write acme_a:AGENT."),
    ("acme_b:nothing", "x = 1", "has nothing called nothing. Write it as package.module:NAME, where NAME is an"),
    ("acme_c:build", GOOD.replace("build(agent)", "build(one, two)"), "takes 2 arguments"),
    ("acme_d:build", GOOD.replace("    return graph", "    raise RuntimeError('no key')"), "RuntimeError: no key"),
    ("acme_y:text", GOOD + "\ntext = 'graph'", "This is a str, not an Agent."),
    ("acme_e:AGENT", "raise RuntimeError('no key')", "Its import fails: RuntimeError: no key ("),
    ("acme_f:AGENT", "def broken(:\n  pass", "acme_f.py, line 1"),
    ("acme_g:AGENT", "import pandas_of_somebody", "No module named 'pandas_of_somebody'"),
    ("acme_h:AGENT", "import sys\nsys.exit(0)", "Its import ends the process."),
    ("acme/agent.py:AGENT", "", "maybe acme.agent:AGENT."),
    ("./acme_i.py", "", "maybe acme_i:AGENT."),
    ("a b", "", "This is not the path of a Python module. Write it as package.module:NAME."),
    ("acme_j:Agent", GOOD, "Name an Agent, not its class."),
    (
        "acme_k:AGENT",
        GOOD + "\nfrom typing import Callable\nclass Odd(BaseModel):\n    f: Callable[[], int]\n"
        "TOOL = Tool(name='odd', title='', description='', arguments=Odd, render=str, call=None)\n"
        "AGENT = Agent(name='k', title='T', input=Input, tools=(TOOL,), graph='MODULE.build')",
        "The tool 'odd' ",
    ),
    (
        "acme_l:AGENT",
        GOOD + "\nAGENT = Agent(name='l', title='T', input=dict, tools=(), graph='MODULE.build')",
        "The input of 'l' is the class dict.",
    ),
    (
        "acme_m:AGENT",
        GOOD + "\nAGENT = Agent(name='m', title='T', input=Input, tools=(print,), graph='MODULE.build')",
        "A tool of 'm' is",
    ),
    (
        "acme_n:AGENT",
        GOOD + "\nAGENT = Agent(name='n', title='T', input=Input, tools=(), graph=build)",
        "The graph of 'n' is the function build.",
    ),
    ("acme_o:AGENT", GOOD.replace('"NAME"', '"a b"'), "An agent cannot be called 'a b'"),
    ("acme_y:AGENT", GOOD.replace("tools=()", "owners='ada'"), "Its owners are a tuple of user names"),
]


@pytest.mark.parametrize(("entry", "text", "words"), CASES, ids=[case[0] for case in CASES])
def test_each_kind_of_bad_entry_is_named_with_what_to_write(
    register: Register, entry: str, text: str, words: str
) -> None:
    module = entry.partition(":")[0]
    register(SUPPORT, entry, **({module: text} if text else {}))
    assert words in only_fault(entry)
    assert list(agents()) == ["support"]
    with pytest.raises(CommandError, match="cannot be used") as told:
        call_command("check_agents", stdout=io.StringIO())
    assert entry in str(told.value) and told.value.returncode == 1


def test_of_two_agents_with_one_name_the_first_works(register: Register) -> None:
    register("acme_p:AGENT", "acme_q:AGENT", "acme_p:AGENT", acme_p=GOOD, acme_q=GOOD.replace('"NAME"', '"acme-p"'))
    assert "called 'acme-p' already" in only_fault("acme_q:AGENT")
    assert list(agents()) == ["acme-p"]


def test_what_an_import_prints_is_not_what_a_command_prints(
    register: Register, capfd: pytest.CaptureFixture[str]
) -> None:
    register("acme_r:AGENT", acme_r="print('hello')\n" + GOOD)
    call_command("check_agents")
    assert capfd.readouterr().out == "acme-r: T (no tools)\n"


def test_an_import_without_end_keeps_nobody_and_is_used_once_it_ends(
    register: Register, monkeypatch: pytest.MonkeyPatch, olga: User
) -> None:
    caller = Caller(olga)
    monkeypatch.setattr(loading, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(threading, "hold_acme", gate := threading.Event(), raising=False)
    register("acme_s:AGENT", SUPPORT, acme_s="import threading\nthreading.hold_acme.wait()\n" + GOOD)
    assert "has not ended" in " ".join(fault.reason for fault in faults() if fault.entry == "acme_s:AGENT")
    body = {"agent": "acme-s", "inputs": [{"text": "x"}], "key": "k"}
    early = [caller.post("batches", body), caller.post("runs", {"agent": "acme-s", "input": {"text": "x"}})]
    assert [one.status_code for one in early] == [503, 503]
    assert early[0].json()["retry_after_seconds"] == 5
    gate.set()
    for entry in registry._entries():
        entry._thread.join()
    assert (list(agents()), faults()) == (["acme-s", "support"], [])
    assert caller.post("batches", body).status_code == 201
    assert caller.post("batches", body | {"agent": "nobody"}).status_code == 422


def test_a_graph_that_cannot_be_made_is_found_by_the_command(register: Register) -> None:
    register("acme_t:AGENT", acme_t=GOOD.replace("    return graph", "    return 'graph'"))
    with pytest.raises(CommandError, match=r"acme_t\.build gives a str and no graph of LangGraph"):
        call_command("check_agents", stdout=io.StringIO())
    register("acme_u:AGENT", acme_u=GOOD.replace(".build", ".bulid"))
    with pytest.raises(CommandError, match=r"Its graph acme_u\.bulid cannot be made"):
        call_command("check_agents", stdout=io.StringIO())


def test_a_graph_may_be_compiled_and_may_be_named_itself(register: Register) -> None:
    register("acme_w:AGENT", acme_w=GOOD.replace("    return graph", "    return graph.compile()"))
    call_command("check_agents", stdout=io.StringIO())
    itself = GOOD.replace("MODULE.build", "MODULE.GRAPH") + "\nGRAPH = build(AGENT).compile()\n"
    register("acme_x:AGENT", acme_x=itself)
    call_command("check_agents", stdout=io.StringIO())


def test_an_owner_whom_no_account_has_is_told(register: Register, olga: User) -> None:
    register("acme_z:AGENT", acme_z=GOOD.replace("tools=()", "owners=('olga', 'nobody')"))
    call_command("check_agents", stdout=io.StringIO(), stderr=(told := io.StringIO()))
    assert "No account has the name of its owner nobody:" in told.getvalue()


GRAPH = """
from typing import TypedDict
from langgraph.graph import START, StateGraph
class State(TypedDict):
    text: str
def plain():
    graph = StateGraph(State)
    graph.add_node("only", lambda state: state)
    graph.add_edge(START, "only")
    return graph
async def later():
    return plain().compile()
def configured(config):
    return plain().compile()
from contextlib import asynccontextmanager
@asynccontextmanager
async def held(config):
    yield plain().compile(name="held")
graph = plain().compile()
named = plain().compile(name="My graph")
builder = plain()
"""


def test_a_graph_or_a_function_of_one_is_an_agent_with_the_graphs_own_input(register: Register, ada: User) -> None:
    entries = ("graph", "named", "builder", "plain", "later", "configured", "held")
    register(*(f"acme_z:{entry}" for entry in entries), "chosen=acme_z:graph", acme_z=GRAPH)
    call_command("check_agents", stdout=io.StringIO())
    assert faults() == []
    assert set(agents()) == {"acme_z", "My-graph", "builder", "plain", "later", "configured", "held", "chosen"}
    for agent in agents().values():
        assert agent.input_schema is not None
        assert agent.input_schema["properties"].keys() == {"text"}, agent.name
    api = Caller(ada)
    told = api.get("agents").json()["items"]
    assert {one["name"]: one["input_schema"]["required"] for one in told}["chosen"] == ["text"]
    assert api.post("runs", {"agent": "later", "input": {"text": 7}}).status_code == 422
    assert api.post("runs", {"agent": "later", "input": {"text": "x"}}).status_code == 201


def test_no_page_and_no_call_breaks_and_system_says_what_to_write(
    register: Register, client: Client, ada: User
) -> None:
    register(SUPPORT, "acme_v:AGENT", acme_v="raise RuntimeError('<b>no key</b>')")
    client.force_login(ada)
    for path in ("/runs/new/", "/data/", "/runs/", "/inbox/", "/policy/"):
        assert client.get(path).status_code == 200, path
    page = client.get("/system/").content.decode()
    assert "Agents that cannot be used" in page and "acme_v:AGENT" in page and "&lt;b&gt;no key" in page
    api = Caller(ada)
    told = api.get("agents").json()
    assert [item["name"] for item in told["items"]] == ["support"]
    assert [fault["entry"] for fault in told["faults"]] == ["acme_v:AGENT"]
    refused = api.post("runs", {"agent": "acme-v", "input": {}})
    assert refused.status_code == 422 and "Not usable: acme_v:AGENT" in refused.content.decode()


def test_with_no_good_agent_at_all_the_form_says_why(register: Register, client: Client, ada: User) -> None:
    register("acme_w:AGENT", acme_w="1/0")
    client.force_login(ada)
    page = client.get("/runs/new/").content.decode()
    assert "ZeroDivisionError" in page and "acme_w:AGENT" in page


def test_a_run_of_an_agent_that_may_be_mended_waits_and_one_of_none_fails(register: Register) -> None:
    register(SUPPORT, "acme_x:AGENT", acme_x="1/0")
    with pytest.raises(UnknownAgent) as told:
        agent_named("acme-x")
    assert not told.value.permanent
    register(SUPPORT)
    with pytest.raises(UnknownAgent) as told:
        agent_named("acme-x")
    assert told.value.permanent
