"""Threads on LangGraph's own Agent Server, in an environment of its own, are decided here and go on there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from approvals.models import Approval
from console.environment import environment
from orchestration.agent_servers import looking
from orchestration.models import AgentServerLook, ThreadQuestion
from orchestration.relay.loop import Relay
from stack.ports import free_port
from tests.client.environments import python_with, variables
from tests.fakes import FakeTemporal
from tests.orchestration.conftest import decide, go
from tests.orchestration.test_agent_servers import answer
from tests.orchestration.test_relay import everything_delivered, relaying
from tests.waiting import PATIENCE, eventually, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]
AGENTS = Path(__file__).parent / "served" / "agents.py"
TALK = {"messages": [{"role": "user", "content": "Tidy up."}]}


@dataclass
class Server:
    """LangGraph's own server, with the graphs of `served/agents.py`."""

    http: httpx.Client

    def begin(self, graph: str, given: Any) -> str:
        """Start a thread and return its id once it waits."""
        thread: str = self.http.post("/threads", json={}).json()["thread_id"]
        self.http.post(f"/threads/{thread}/runs", json={"assistant_id": graph, "input": given}).raise_for_status()
        self.until(thread, "interrupted")
        return thread

    def until(self, thread: str, status: str) -> dict[str, Any]:
        """Return the thread's values once it has the status and no run of it is under way."""

        def look() -> Any:
            found = self.http.get(f"/threads/{thread}").json()
            return found if found["status"] == status else None

        found = eventually(look, f"{status}: {thread}")
        values: dict[str, Any] = found.get("values") or {}
        return values


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("served")
    graphs = {name: f"{AGENTS}:{name}" for name in ("batched", "per_call", "question", "stopped")}
    (home / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    python = python_with("langgraph-cli[inmem]==0.4.40", "langchain==1.4.7")
    port = free_port()
    words = ("dev", "--no-browser", "--no-reload", "--allow-blocking", "--port", str(port))
    told = variables(LANGGRAPH_CLI_NO_ANALYTICS="1", LANGSMITH_TRACING="false")
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [python.parent / "langgraph", *words], cwd=home, env=dict(told), stdout=log, stderr=subprocess.STDOUT
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False) as client:
                eventually(
                    lambda: _is_there(client, process), f"the server; it said {(home / 'log').read_text()[-2000:]}"
                )
                yield Server(client)
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _is_there(client: httpx.Client, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the server has ended"
    try:
        return client.get("/ok").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(autouse=True)
def _registered(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = tmp_path / "agent_servers.toml"
    where.write_text(f'[acme]\nurl = "{str(server.http.base_url).rstrip("/")}"\n')
    monkeypatch.setattr(environment(), "agent_servers", where)


def look() -> None:
    AgentServerLook.objects.update(begun_at=None)
    go(looking.look_around())


def asked_of(thread: str) -> list[Approval]:
    look()
    rows = Approval.objects.filter(run_id=f"thread-acme-{thread}")
    return list(rows.order_by("interrupt_id", "interrupt_place"))


def deliver() -> None:
    relaying(lambda: until(everything_delivered), Relay(FakeTemporal(), chores=()))


def took(thread: str) -> None:
    def all_taken() -> bool:
        look()
        states = set(ThreadQuestion.objects.filter(thread_id=thread).values_list("state", flat=True))
        return states == {"taken"}

    eventually(all_taken, f"the thread {thread} took its answers")


def texts(values: dict[str, Any]) -> str:
    return str([one["content"] for one in values["messages"]])


@pytest.mark.parametrize("graph", ["batched", "per_call"])
def test_calls_of_langchains_gate_are_changed_and_rejected(graph: str, server: Server) -> None:
    thread = server.begin(graph, TALK)
    found = {approval.tool: approval for approval in asked_of(thread)}
    assert set(found) == {"send_email", "delete_file"}
    assert found["send_email"].agent == f"acme/{graph}" and found["send_email"].agent_words == "I tidy up."
    decide(found["delete_file"], "reject", "Keep it.")
    decide(found["send_email"])
    deliver()
    values = server.until(thread, "idle")
    assert "sent to bob" in texts(values) and "Keep it." in texts(values) and "deleted" not in texts(values)
    took(thread)
    runs = server.http.get(f"/threads/{thread}/runs").json()
    assert any(run["metadata"].get("signalbox") for run in runs)


def test_a_plain_question_is_answered_and_a_stop_goes_on(server: Server) -> None:
    asking, stopped = server.begin("question", {}), server.begin("stopped", {})
    (question,) = asked_of(asking)
    (stop,) = asked_of(stopped)
    assert (question.kind, stop.kind) == ("question", "go_on")
    answer(question, {"amount": 12})
    decide(stop)
    deliver()
    assert server.until(asking, "idle")["lines"] == [{"amount": 12}]
    assert server.until(stopped, "idle")["lines"] == ["deployed"]
    took(asking)
    took(stopped)


def test_a_thread_that_somebody_else_answers_withdraws_its_request(server: Server) -> None:
    thread = server.begin("question", {})
    (question,) = asked_of(thread)
    resume = {"assistant_id": "question", "command": {"resume": "nothing"}}
    server.http.post(f"/threads/{thread}/runs", json=resume).raise_for_status()
    server.until(thread, "idle")
    look()
    question.refresh_from_db()
    assert question.status == "withdrawn"


def test_a_thread_that_is_deleted_withdraws_its_request(server: Server) -> None:
    thread = server.begin("question", {})
    (question,) = asked_of(thread)
    server.http.delete(f"/threads/{thread}").raise_for_status()
    look()
    question.refresh_from_db()
    assert question.status == "withdrawn"
