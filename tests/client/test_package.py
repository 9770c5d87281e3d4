"""The client as others get it: a wheel that installs alone, the examples of its README, and the recipes beside it.

Each runs in a virtual environment of its own, against the real API; somebody decides meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connections

from approvals import services
from approvals.models import Approval
from console import tokens
from console.environment import PROJECT, environment
from orchestration import webhook_gateway
from orchestration.errors import WebhookFailed
from stack.ports import free_port
from tests.approvals.conftest import answer
from tests.client.environments import CLIENT, RECIPES, build, python_with, variables
from tests.waiting import PATIENCE, eventually

README = CLIENT / "README.md"
OPENAI, PYDANTIC = "openai-agents==0.24.0", "pydantic-ai-slim==2.68.0"
CLAUDE, MCP = "claude-agent-sdk==0.2.184", "mcp==2.3.0"


@dataclass
class Api:
    """The API with a program's account and a reviewer."""

    url: str
    token: str
    reviewers: list[User]  # as many as a high risk needs

    def start(self, *words: str | Path, **more: str) -> subprocess.Popen[str]:
        """Start a program that knows where Signalbox is."""
        told = variables(**{"SIGNALBOX_URL": self.url, "SIGNALBOX_TOKEN": self.token} | more)
        pipe = subprocess.PIPE
        return subprocess.Popen([*map(str, words)], env=told, cwd="/", stdout=pipe, stderr=pipe, text=True)

    def ends(self, program: subprocess.Popen[str]) -> str:
        """Return what the program has printed when it has ended well."""
        said, complained = program.communicate(timeout=PATIENCE)
        assert program.returncode == 0, complained
        return said

    def stops(self, program: subprocess.Popen[str]) -> str:
        """Return what the program has complained of when it has ended badly."""
        try:
            _, complained = program.communicate(timeout=PATIENCE)
        finally:
            program.kill()
        assert program.returncode != 0
        return complained

    def decide(self, verdict: str, **given: Any) -> Approval:
        """Decide the one open request, when it is there."""
        approval = eventually(lambda: Approval.objects.filter(status="pending").first(), "the program asked")
        assert approval is not None
        for reviewer in self.reviewers:
            asked = answer(approval, verdict, **given)
            services.decide(approval_id=approval.pk, reviewer=reviewer, given=asked)
            approval.refresh_from_db()
            if approval.status != Approval.Status.PENDING:
                break
        return approval


def account(name: str, role: str) -> User:
    user = User.objects.create_user(name)
    user.groups.add(Group.objects.get_or_create(name=role)[0])
    return user


@pytest.fixture
def api(transactional_db: None, live_server: Any) -> Iterator[Api]:
    reviewers = [account("alice", "reviewer"), account("bob", "reviewer")]
    yield Api(live_server.url, tokens.create_token(owner=account("robot", "service")), reviewers)
    connections.close_all()


def examples(path: Path) -> list[str]:
    return [block.split("```")[0] for block in path.read_text().split("```python\n")[1:]]


def test_the_wheel_holds_the_package_its_types_and_nothing_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(build(tmp_path)) as wheel:
        names = wheel.namelist()
    assert "signalbox_client/py.typed" in names and "signalbox_client/testing.py" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"signalbox_client"}


def test_it_installs_alone_and_the_readmes_first_example_works(api: Api) -> None:
    python = python_with()
    installed = subprocess.run(
        [python, "-c", "import importlib.metadata as m; print(*(d.name for d in m.distributions()))"],
        capture_output=True, text=True, check=True, cwd="/",
    ).stdout.split()  # fmt: skip
    assert "signalbox-client" in installed and "httpx" in installed
    assert not {"django", "temporalio", "langchain", "pydantic", "mcp"} & {name.lower() for name in installed}
    program = api.start(python, "-c", examples(README)[0])
    approval = api.decide("approve")
    assert api.ends(program) == "deleting orders-2019\n"
    approval.refresh_from_db()
    assert approval.took_effect_at is not None
    steps = approval.receipt.order_by("at", "id").values_list("step", flat=True)
    assert list(steps) == ["recorded", "resumed", "effect_finished"]
    again = api.start(python, "-c", examples(README)[0])  # it was asked, answered and done before
    assert api.ends(again) == "deleting orders-2019\n"
    assert Approval.objects.count() == 1


def test_the_readmes_function_is_guarded(api: Api) -> None:
    program = api.start(python_with(), "-c", examples(README)[1])
    api.decide("reject", note="it is still used")
    assert api.ends(program) == "not deleted: it is still used\n"


def test_the_readmes_other_examples_run(tmp_path: Path) -> None:
    (workflow, testing) = examples(README)[2:]
    compile(workflow, "README", "exec")  # what it does is in test_temporal.py
    subprocess.run([python_with(), "-c", testing], check=True, cwd="/", env=dict(variables()))


def test_the_shell_recipe(api: Api) -> None:
    program = api.start("sh", RECIPES / "shell.sh", "cleanup-1")
    api.decide("approve")
    assert api.ends(program) == "deleting orders-2019\n"
    assert Approval.objects.get().receipt.filter(step="effect_finished").exists()
    refused = api.start("sh", RECIPES / "shell.sh", "cleanup-2")
    api.decide("reject", note="no")
    assert api.ends(refused) == "kept\n"


def five_lines() -> str:
    lines = (PROJECT / "docs" / "programs.md").read_text().split("```sh\n")[1].split("```")[0]
    assert len(lines.strip().splitlines()) == 5
    return lines


@pytest.fixture(params=["recipe", "page"])
def in_the_shell(request: pytest.FixtureRequest, tmp_path: Path) -> list[str | Path]:
    if request.param == "recipe":
        return ["sh", RECIPES / "shell.sh"]
    return ["bash", "-c", f"cd {tmp_path}\n{five_lines()}"]


def test_a_shell_that_is_refused_stops_and_says_why(api: Api, in_the_shell: list[str | Path]) -> None:
    assert "401" in api.stops(api.start(*in_the_shell, SIGNALBOX_TOKEN="sb_wrong"))


def test_a_shell_whose_token_is_taken_away_waits_no_more(api: Api, in_the_shell: list[str | Path]) -> None:
    program = api.start(*in_the_shell)
    eventually(lambda: Approval.objects.filter(status="pending").first(), "the program asked")
    tokens.revoke_tokens(owner=User.objects.get(username="robot"))
    assert "401" in api.stops(program)


@pytest.mark.parametrize(("recipe", "package"), [("openai_agents", OPENAI), ("pydantic_ai_tools", PYDANTIC)])
def test_an_agents_tool_runs_when_it_was_approved_only(api: Api, recipe: str, package: str) -> None:
    words = (python_with(package), RECIPES / f"{recipe}.py")
    program = api.start(*words, THREAD="1", OPENAI_AGENTS_DISABLE_TRACING="1")
    api.decide("approve")
    assert json.loads(api.ends(program)) == {"said": "That was all.", "deleted": ["orders-2019"]}
    program = api.start(*words, THREAD="2", OPENAI_AGENTS_DISABLE_TRACING="1")
    api.decide("reject", note="no")
    assert json.loads(api.ends(program)) == {"said": "That was all.", "deleted": []}


#: a Claude that asks over the SDK's own protocol whether it may use a tool, and prints what it was told
CLAUDE_ASKS = """
import asyncio, json, sys
sys.path.insert(0, {recipes!r})
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, Transport
from claude_agent import asks_signalbox
from signalbox_client import AsyncSignalbox

class Claude(Transport):
    def __init__(self): self.says, self.told = asyncio.Queue(), asyncio.Queue()
    async def connect(self): pass
    async def close(self): await self.says.put(None)
    def is_ready(self): return True
    async def end_input(self): pass
    async def write(self, data):
        for line in data.splitlines():
            message = json.loads(line)
            if message["type"] == "control_request":
                answer = {{"subtype": "success", "request_id": message["request_id"], "response": {{}}}}
                await self.says.put({{"type": "control_response", "response": answer}})
            elif message["type"] == "control_response":
                await self.told.put(message["response"]["response"])
    async def _read(self):
        while (message := await self.says.get()) is not None: yield message
    def read_messages(self): return self._read()

async def main():
    claude = Claude()
    async with AsyncSignalbox() as box:
        options = ClaudeAgentOptions(can_use_tool=asks_signalbox(box))
        async with ClaudeSDKClient(options, transport=claude):
            asks = {{"subtype": "can_use_tool", "tool_name": "Bash", "input": {{"command": "rm -r old"}},
                    "permission_suggestions": [], "tool_use_id": sys.argv[1]}}
            await claude.says.put({{"type": "control_request", "request_id": "1", "request": asks}})
            print(json.dumps(await claude.told.get()))

asyncio.run(main())
"""


def test_claude_uses_a_tool_when_it_was_approved_only(api: Api) -> None:
    words = (python_with(CLAUDE), "-c", CLAUDE_ASKS.format(recipes=str(RECIPES)))
    program = api.start(*words, "toolu_1")
    api.decide("approve")
    told = json.loads(api.ends(program))
    assert (told["behavior"], told["updatedInput"]) == ("allow", {"command": "rm -r old"})
    program = api.start(*words, "toolu_2")
    api.decide("reject", note="keep it")
    told = json.loads(api.ends(program))
    assert (told["behavior"], told["message"]) == ("deny", "keep it")


def test_the_webhook_recipe_takes_what_is_signed_and_asked_for_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "webhooks_to_private", True)
    secrets = {"SIGNALBOX_WEBHOOK_SECRET": webhook_gateway.secret(), "ASKED": "apr_1"}
    program = api.start(python_with(), RECIPES / "webhook_receiver.py", **secrets)
    assert program.stderr is not None and program.stdout is not None
    url = f"http://127.0.0.1:{int(program.stderr.readline())}/resume/1"
    body = {"approval_id": "apr_1", "status": "decided", "verdict": "approve", "arguments": {"name": "a"}}
    try:
        for _ in range(2):
            asyncio.run(webhook_gateway.post(url, "dec_1", json.dumps(body).encode()))
        with pytest.raises(WebhookFailed, match="403"):
            asyncio.run(webhook_gateway.post(url, "dec_2", json.dumps(body | {"approval_id": "apr_2"}).encode()))
        assert json.loads(program.stdout.readline()) == {"verdict": "approve", "arguments": {"name": "a"}}
    finally:
        program.terminate()
    rest, _ = program.communicate(timeout=PATIENCE)
    assert rest == ""


MCP_CALLS = """
import asyncio, json, os, sys
from mcp import Client
from mcp.client.stdio import StdioServerParameters

async def main(target):
    async with Client(target) as client:
        names = sorted(tool.name for tool in (await client.list_tools()).tools)
        asked = await client.call_tool("request_approval", {
            "title": "Delete it", "tool": "delete_index", "arguments": {"name": "a"}, "key": sys.argv[1]})
        approval_id = asked.structured_content["approval_id"]
        answer = await client.call_tool("get_answer", {"approval_id": approval_id, "wait": 300})
        prompt = await client.call_tool("permission_prompt", {
            "tool_name": "Bash", "input": {"command": "ls"}, "tool_use_id": sys.argv[1]})
        bad = await client.call_tool("get_answer", {"approval_id": "apr_nobody"})
        (block,) = prompt.content
        assert prompt.structured_content is None, prompt.structured_content
        print(json.dumps([names, answer.structured_content, json.loads(block.text), bad.is_error]))

if sys.argv[2] == "stdio":
    known = {name: os.environ[name] for name in ("SIGNALBOX_URL", "SIGNALBOX_TOKEN")}
    target = StdioServerParameters(command=sys.argv[3], args=[], env=known)
else:
    target = sys.argv[3]
asyncio.run(main(target))
"""


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_the_mcp_server_asks_and_answers(api: Api, transport: str) -> None:
    python = python_with(MCP)
    server, target = None, str(python.parent / "signalbox-mcp")
    if transport == "http":
        port = free_port()
        server = api.start(target, "--http", "--port", str(port))
        target = f"http://127.0.0.1:{port}/mcp"
        eventually(lambda: _answers(port), "the MCP server listens")
    try:
        program = api.start(python, "-c", MCP_CALLS, f"k-{transport}", transport, target)
        api.decide("approve")
        api.decide("reject", note="not that")
        names, told, prompt, is_error = json.loads(api.ends(program))
    finally:
        if server is not None:
            server.terminate()
            server.communicate(timeout=PATIENCE)
    assert names == ["get_answer", "permission_prompt", "request_approval"]
    assert (told["approved"], told["arguments"], told["decided_by"]) == (True, {"name": "a"}, "alice")
    assert prompt == {"behavior": "deny", "message": "not that"}
    assert is_error


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_the_first_lines_of_the_page_work(api: Api, tmp_path: Path) -> None:
    program = api.start("bash", "-euc", f"cd {tmp_path}\n{five_lines()}")
    api.decide("approve")
    assert "delete it now" in api.ends(program)
    assert Approval.objects.get().receipt.filter(step="effect_finished").exists()
