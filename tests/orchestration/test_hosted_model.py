"""A hosted model, by its real client, against a local server that speaks the OpenAI chat-completions protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from approvals.models import Approval
from console.environment import environment
from orchestration.agents.models import chat_model, model_name
from orchestration.contracts import Turn
from tests.fakes import FakeWorld
from tests.orchestration import test_run_turn as turns
from tests.orchestration.conftest import REFUND, decide, make_run

published = turns.published  # the handbook, as the turn's tests have it


class Server(ThreadingHTTPServer):
    """Answers chat completions with what the test put in, and keeps each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.answers: list[dict[str, Any]] = []  # messages

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def calls(self, name: str, arguments: str, words: str = "", call_id: str = "call_1") -> None:
        function = {"name": name, "arguments": arguments}
        self.answers.append(
            {"content": words, "tool_calls": [{"id": call_id, "type": "function", "function": function}]}
        )


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, **body})
        self.server.keys.append(self.headers["Authorization"])
        message = {"role": "assistant", "content": None, **self.server.answers.pop(0)}
        answer = json.dumps(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1_790_000_000,
                "model": body["model"],
                "choices": [
                    {
                        "index": 0,
                        "message": message,
                        "finish_reason": "tool_calls" if "tool_calls" in message else "stop",
                    }
                ],
                "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-only-for-tests")
        monkeypatch.setenv("SIGNALBOX_MODEL", "openai:test-model")
        for kept in (environment, chat_model):
            kept.cache_clear()
        yield server
        server.shutdown()
        thread.join()
    monkeypatch.undo()
    for kept in (environment, chat_model):
        kept.cache_clear()


@pytest.mark.django_db(transaction=True)
def test_the_support_agent_reaches_its_first_gate_through_a_hosted_model(server: Server, world: FakeWorld) -> None:
    assert model_name() == "openai:test-model"
    server.calls("list_refunds", '{"order_id": "8801"}', call_id="call_1")
    server.calls("issue_refund", '{"order_id": "88', call_id="call_2")  # cut off: not JSON
    server.calls("issue_refund", json.dumps(REFUND), "The page on damaged goods grants half.", call_id="call_3")
    run = make_run()
    result = turns.take(Turn(run.pk, "support", 1), world)
    assert result.outcome == "needs_approval"
    approval = Approval.objects.get(pk=result.waiting_for[0])
    assert json.loads(bytes(approval.canonical)) == {"tool": "issue_refund", "arguments": REFUND}
    assert approval.agent_words == "The page on damaged goods grants half."
    assert result.usage == {"model": "openai:test-model", "input_tokens": 300, "output_tokens": 60}

    first, *_, last = server.requests
    assert (first["path"], first["model"], first["temperature"]) == ("/v1/chat/completions", "test-model", 0)
    assert set(server.keys) == {"Bearer sk-only-for-tests"}
    offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in first["tools"]}
    assert set(offered) == {"list_refunds", "issue_refund", "send_email", "SearchHandbook"}
    assert set(offered["issue_refund"]["required"]) == {"order_id", "amount", "currency", "reason"}
    assert [message["role"] for message in last["messages"]] == [
        *("system", "user", "assistant", "tool", "assistant", "tool")
    ]
    asked = {call["id"] for m in last["messages"] for call in m.get("tool_calls") or []}
    answered = {m["tool_call_id"] for m in last["messages"] if m["role"] == "tool"}
    assert asked == answered == {"call_1", "call_2"}


@pytest.mark.django_db(transaction=True)
def test_a_hosted_model_hears_what_the_reviewer_said_and_ends_the_run(server: Server, world: FakeWorld) -> None:
    server.calls("issue_refund", json.dumps(REFUND))
    run = make_run()
    waiting = turns.take(Turn(run.pk, "support", 1), world).waiting_for
    decide(waiting[0], "reject", note="This customer was paid by voucher.")
    server.answers.append({"content": "I leave it to a colleague."})
    result = turns.take(Turn(run.pk, "support", 2, waiting), world)
    assert result.outcome == "finished"
    told = json.loads(server.requests[-1]["messages"][-1]["content"])
    assert told["reviewer_comment"] == "This customer was paid by voucher."
    run.refresh_from_db()
    assert run.result is not None and run.result["summary"] == "I leave it to a colleague."
    assert (run.usage["input_tokens"], run.usage["output_tokens"]) == (200, 40)


def test_a_model_of_no_provider_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNALBOX_MODEL", "nobody:model")
    environment.cache_clear()
    chat_model.cache_clear()
    try:
        with pytest.raises(ValueError, match="nobody"):
            chat_model()
    finally:
        monkeypatch.undo()
        environment.cache_clear()
        chat_model.cache_clear()
