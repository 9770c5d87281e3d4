"""Prefect broken in ways that its own /health does not tell, and flows that nobody serves."""

from __future__ import annotations

import contextlib
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from console.environment import environment
from dataplane import flow_service, health, prefect_gateway
from dataplane.catalogue import HANDBOOK
from dataplane.flow_service import Served
from dataplane.prefect_gateway import HttpPrefectGateway
from tests.secured_engines import SecuredPrefect
from tests.waiting import PATIENCE

from .fakes import FakePrefect


def told(status: int) -> tuple[bool, str]:
    """Ask a Prefect whose /health is well and whose API answers with this status."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if request.url.path.endswith("/health") else status, json=[])

    door = HttpPrefectGateway("http://prefect.example/api", transport=httpx.MockTransport(answer))
    found = health._asked(door)
    return found["ok"], found["detail"]


def test_an_api_that_answers_us_is_ok() -> None:
    assert told(200)[0]


@pytest.mark.parametrize(("status", "words"), [(401, "PREFECT_API_AUTH_STRING"), (500, "500"), (404, "not Prefect")])
def test_a_well_server_that_does_not_serve_us_is_not_ok(status: int, words: str) -> None:
    ok, detail = told(status)
    assert not ok
    assert words in detail


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(503, json={"exception_message": "Service Unavailable"}), "is busy; refreshes are kept"),
        (httpx.Response(503, text="no server behind this proxy"), "does not answer"),
    ],
)
def test_a_busy_server_is_not_said_to_be_away(
    answer: httpx.Response, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_gateway, "BUSY_PAUSES_SECONDS", (0.0,))
    door = HttpPrefectGateway("http://prefect.example/api", transport=httpx.MockTransport(lambda request: answer))
    found = health._asked(door)
    assert not found["ok"] and found["detail"].startswith(words)


def test_flows_that_nobody_asks_for_are_late(monkeypatch: pytest.MonkeyPatch) -> None:
    prefect, served = FakePrefect(), Served()
    prefect.add_deployment(HANDBOOK.flow, HANDBOOK.deployment)
    prefect.polled_at = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
    assert served.late(lambda: prefect) == ""
    monkeypatch.setattr(flow_service, "UNSERVED", -1.0)
    assert "the runner has not asked for work" in served.late(lambda: prefect)
    prefect.is_away = True
    assert served.late(lambda: prefect).startswith("waiting for Prefect")


class Server:
    """A server on a real port that says `answers` to whoever connects, or nothing, and then holds the connection."""

    def __init__(self, answers: bytes) -> None:
        self._answers = answers
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        self.api_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/api"

    def __enter__(self) -> Server:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # ends the accept
        self._thread.join()
        self._socket.close()
        for one in self._held:
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:
                return
            self._held.append(caller)
            if self._answers:
                caller.recv(65536)
                caller.sendall(self._answers)


def asked(api_url: str, **known: Any) -> Any:
    """Ask as the health report does, and leave no connection open."""
    with contextlib.closing(HttpPrefectGateway(api_url, **known)) as door:
        return health._asked(door)


def http(status: str, body: str = "", kind: str = "application/json") -> bytes:
    length = len(body.encode())
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (b"", "does not answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "does not answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "does not answer"),
        (http("401 Unauthorized", '{"exception_message": "Unauthorized"}'), "PREFECT_API_AUTH_STRING"),
        (http("403 Forbidden"), "PREFECT_API_AUTH_STRING"),
        (http("200 OK", "<!doctype html><title>Sign in</title>", "text/html"), "is not Prefect"),
    ],
    ids=["hangs", "half", "another", "401", "403", "page"],
)
def test_a_prefect_that_cannot_be_used_is_told_over_a_real_connection(answers: bytes, words: str) -> None:
    with Server(answers) as server:
        within = 0.5 if words == "does not answer" else PATIENCE
        found = asked(server.api_url, timeout=httpx.Timeout(within))
    assert not found["ok"]
    assert words in found["detail"]


def test_nobody_at_the_port_is_told() -> None:
    with Server(b"") as server:
        url = server.api_url
    found = asked(url, timeout=health.TIMEOUT)
    assert not found["ok"] and "does not answer" in found["detail"]


@pytest.mark.engines
def test_a_wrong_password_is_told_by_a_real_prefect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SecuredPrefect(tmp_path) as server:
        assert isinstance(server, SecuredPrefect)
        for given, ok in ((server.auth_string, True), ("signalbox:wrong-one", False), ("", False)):
            monkeypatch.setenv("PREFECT_API_AUTH_STRING", given)
            environment.cache_clear()
            found = asked(server.api_url, timeout=httpx.Timeout(PATIENCE))
            assert found["ok"] == ok, found
            assert "wrong-one" not in found["detail"]
            assert ok or "PREFECT_API_AUTH_STRING" in found["detail"]
    monkeypatch.undo()
    environment.cache_clear()
