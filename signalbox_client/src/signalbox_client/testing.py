"""A Signalbox in memory, for tests of programs that ask: no server, no network, no person.

    fake = FakeSignalbox()
    fake.will("approve")                         # the next request that is asked, and those after it
    box = fake.client()                          # or fake.async_client()
    ...
    assert fake.requests[0]["tool"] == "delete_index"

It keeps the promises of the real one that a program can notice; the tests of Signalbox hold both to the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from typing import Any, Literal

import httpx

from signalbox_client.client import AsyncSignalbox, Signalbox

Verdict = Literal["approve", "edit", "reject", "respond", "expired", "withdrawn"]


class FakeSignalbox:
    """Requests by id, and what shall be said to them. Safe to use from several threads."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []  # as they were asked, oldest first
        self.outcomes: dict[str, dict[str, Any]] = {}  # as they were reported, by the key that was asked with
        self._approvals: dict[str, dict[str, Any]] = {}
        self._answers: dict[str, dict[str, Any]] = {}
        self._bodies: dict[str, str] = {}
        self._by_key: dict[str, str] = {}
        self._next: tuple[Verdict, dict[str, Any]] | None = None
        self._changed = threading.Condition(threading.RLock())

    def client(self) -> Signalbox:
        return Signalbox("http://signalbox.test", "sb_test", transport=_Transport(self))

    def async_client(self) -> AsyncSignalbox:
        return AsyncSignalbox("http://signalbox.test", "sb_test", transport=_Transport(self))

    def will(
        self, verdict: Verdict | None, *, arguments: dict[str, Any] | None = None, answer: Any = None, note: str = ""
    ) -> None:
        """Say what is answered to all that is asked from now on; None lets it wait for `decide`."""
        said = {"arguments": arguments, "answer": answer, "note": note}
        self._next = (verdict, said) if verdict is not None else None

    def decide(
        self,
        key: str,
        verdict: Verdict,
        *,
        arguments: dict[str, Any] | None = None,
        answer: Any = None,
        note: str = "",
    ) -> None:
        """Answer the request that was asked with this key. `arguments`: for `edit`, the changed ones."""
        with self._changed:
            approval = self._approvals[self._by_key[key]]
            is_decided = verdict in ("approve", "edit", "reject", "respond")
            agreed = {"approve": approval["arguments"], "edit": arguments}.get(verdict)
            approval["status"] = "decided" if is_decided else verdict
            self._answers[approval["id"]] = {
                "approval_id": approval["id"],
                "external_id": key,
                "decision_id": f"dec_{approval['id']}" if is_decided else None,
                "status": approval["status"],
                "verdict": verdict if is_decided else None,
                "arguments": agreed,
                "answer": answer,
                "note": note,
                "decided_by": "somebody" if is_decided else None,
                "decided_at": "2026-01-01T00:00:00+00:00" if is_decided else None,
                "digest": approval["digest"],
            }
            self._changed.notify_all()

    # What the transport asks

    def respond(self, request: httpx.Request) -> tuple[int, dict[str, Any]]:
        parts = request.url.path.removeprefix("/api/v1/").split("/")
        body = json.loads(request.content) if request.content else {}
        with self._changed:
            if parts == ["approvals"]:
                return self._asked(body)
            approval = self._approvals.get(parts[1])
            if approval is None:
                return _problem(404, "Not found")
            if parts[2:] == ["answer"]:
                found = self._answers.get(approval["id"])
                return (200, found) if found else (202, {"status": "pending"})
            if parts[2:] == ["outcome"]:
                return self._reported(approval, body)
            if parts[2:] == ["withdraw"]:
                if approval["status"] not in ("pending", "withdrawn"):
                    return _problem(409, "Already closed")
                self.decide(approval["external_id"], "withdrawn")
            return 200, approval

    def wait(self, until: float) -> None:
        with self._changed:
            self._changed.wait(max(0.0, until - time.monotonic()))

    def _asked(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        key, told = body["external_id"], json.dumps(body, sort_keys=True)
        if key in self._by_key:
            approval = self._approvals[self._by_key[key]]
            return (200, approval) if self._bodies[key] == told else _problem(409, "External id used before")
        approval_id = f"apr_{len(self._approvals) + 1}"
        self.requests.append(body)
        self._bodies[key], self._by_key[key] = told, approval_id
        approval = {
            "id": approval_id,
            "status": "pending",
            "external_id": key,
            "tool": body["tool"],
            "arguments": body["arguments"],
            "digest": hashlib.sha256(told.encode()).hexdigest(),
            "executed": None,
            "url": f"http://signalbox.test/approvals/{approval_id}",
        }
        self._approvals[approval_id] = approval
        if self._next is not None:
            self.decide(key, self._next[0], **self._next[1])
        return 201, approval

    def _reported(self, approval: dict[str, Any], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        found = self._answers.get(approval["id"], {})
        if found.get("verdict") not in ("approve", "edit"):
            return _problem(409, "Nothing was approved")
        earlier = self.outcomes.setdefault(approval["external_id"], body)
        if earlier != body:
            return _problem(409, "Another outcome was reported before")
        approval["executed"] = {"result": None, "error": "", **body}
        return 200, approval


class _Transport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    def __init__(self, fake: FakeSignalbox) -> None:
        self._fake = fake

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        until = _until(request)
        while True:
            status, body = self._fake.respond(request)
            if status != 202 or time.monotonic() >= until:
                return httpx.Response(status, json=body)
            self._fake.wait(until)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        until = _until(request)
        while True:
            status, body = self._fake.respond(request)
            if status != 202 or time.monotonic() >= until:
                return httpx.Response(status, json=body)
            await asyncio.sleep(0.01)


def _until(request: httpx.Request) -> float:
    return time.monotonic() + float(request.url.params.get("wait", 0))


def _problem(status: int, title: str) -> tuple[int, dict[str, Any]]:
    return status, {"type": "about:blank", "title": title, "status": status, "detail": title}
