"""A server that speaks what we use of LangGraph's Agent Server API, with threads as a test sets them.

That the real one speaks so too is what tests/orchestration/test_agent_servers_for_real.py holds.
"""

from __future__ import annotations

import json
import socket
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.waiting import PATIENCE, eventually


@dataclass
class ServedThread:
    """One thread: what it waits for, and what it was told."""

    interrupts: list[dict[str, Any]]
    messages: list[dict[str, Any]] = field(default_factory=list)
    status: str = "interrupted"
    graph: str = "agent"
    next: list[str] = field(default_factory=lambda: ["tools"])
    checkpoint: str = "c-1"
    runs: list[dict[str, Any]] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)  # the resume maps, None for a run without one
    node: str = "tools"  # whose task asks
    is_told_by_tasks: bool = True  # else, as of an error handler, only the thread itself tells what it waits for
    is_stubborn: bool = False  # its runs end without taking the answer
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def go_on(self, resume: dict[str, Any] | None) -> None:
        if resume is not None and not resume.keys() <= {one["id"] for one in self.interrupts}:
            return  # in strict mode such a run fails, and nothing is written
        self.told.append(resume)
        if self.is_stubborn:
            return
        self.interrupts = [one for one in self.interrupts if resume is not None and one["id"] not in resume]
        self.next = ["tools"] if self.interrupts else []
        self.status = "interrupted" if self.interrupts else "idle"

    def take(self, key: str) -> None:
        """Take the answer that was sent under the key."""
        self.runs.insert(0, {"run_id": str(uuid.uuid4()), "metadata": {"signalbox": key}})
        self.go_on({one["id"]: None for one in self.interrupts})

    def json(self) -> dict[str, Any]:
        return {
            "thread_id": self.id,
            "status": self.status,
            "metadata": {"graph_id": self.graph, "assistant_id": f"assistant-of-{self.graph}"},
            "interrupts": {"task-1": self.interrupts} if self.interrupts else {},
            "values": {"messages": self.messages},
        }

    def state(self) -> dict[str, Any]:
        told = self.interrupts if self.is_told_by_tasks else []
        return {
            "values": {"messages": self.messages},
            "next": self.next,
            "checkpoint": {"checkpoint_id": self.checkpoint},
            "metadata": {},
            "tasks": [{"id": "task-1", "name": self.node, "interrupts": told, "state": None}],
            "interrupts": told,
        }


class AgentServerDouble:
    """Use `with`. `status`: answered to everything, 0 for the truth; `hangs`: no answer while it is set.

    `refusals`: the status that is answered to a path.
    `takes_at`: answers to threads are taken when it is set, however long ago they were sent.
    """

    def __init__(self, *threads: ServedThread, key: str = "") -> None:
        self.threads = {one.id: one for one in threads}
        self.key = key
        self.status = 0
        self.refusals: dict[str, int] = {}
        self.hangs = False
        self.breaks_off_after_taking = False
        self.takes_at: threading.Event | None = None
        self.asked: list[str] = []
        self._over = threading.Event()
        self._lock = threading.Lock()
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                double._serve(self, None)

            def do_POST(self) -> None:
                double._serve(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def process_request_thread(self, request: Any, client_address: Any) -> None:
                try:
                    super().process_request_thread(request, client_address)
                finally:
                    double._in_hand.discard(client_address)

            def process_request(self, request: Any, client_address: Any) -> None:
                double._in_hand.add(client_address)
                super().process_request(request, client_address)

        self._in_hand: set[Any] = set()  # the connections that are being answered
        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._serving = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._serving.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def wait_for_what_was_sent(self) -> None:
        """Return when everything that was sent before this call is answered; connections are taken in their order."""
        with socket.create_connection(("127.0.0.1", self._server.server_address[1])) as last:
            own = last.getsockname()
            eventually(lambda: own in self._in_hand, "the server takes connections")
            before = set(self._in_hand) - {own}
        eventually(lambda: not before & self._in_hand, "what was sent before is answered")

    @property
    def waiting(self) -> list[ServedThread]:
        return [one for one in self.threads.values() if one.status == "interrupted"]

    def _serve(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        path = handler.path.partition("?")[0]
        self.asked.append(f"{handler.command} {path}")
        if self.hangs:
            self._over.wait(PATIENCE)
            return
        if status := self.status or self.refusals.get(path, 0):
            _send(handler, status, {"detail": f"no, and your key is {handler.headers.get('x-api-key')}"})
        elif self.key and handler.headers.get("x-api-key") != self.key:
            _send(handler, 401, {"detail": "unauthorized"})
        elif path == "/threads/search":
            found = [one.json() for one in self.threads.values() if _is_meant(one, body)]
            found = [{name: one[name] for name in body.get("select", one)} for one in found]
            _send(handler, 200, found[body["offset"] : body["offset"] + body["limit"]])
        else:
            if self.takes_at is not None and body is not None:
                self.takes_at.wait(PATIENCE)
            with self._lock, suppress(ConnectionError):  # who asked may have gone since
                self._about_one(handler, path.split("/")[2:], body)

    def _about_one(self, handler: BaseHTTPRequestHandler, parts: list[str], body: Any) -> None:
        thread = self.threads.get(parts[0])
        if thread is None:
            _send(handler, 404, {"detail": "Thread not found"})
        elif parts[1:] == []:
            _send(handler, 200, thread.json())
        elif parts[1:] == ["state"]:
            _send(handler, 200, thread.state())
        elif body is None:
            _send(handler, 200, thread.runs)
        elif thread.status == "busy":
            _send(handler, 409, {"detail": "Thread is already running a task."})
        else:
            assert body["multitask_strategy"] == "reject" and body["assistant_id"] == f"assistant-of-{thread.graph}"
            run = {"run_id": str(uuid.uuid4()), "metadata": body["metadata"]}
            thread.runs.insert(0, run)
            thread.go_on(body["command"]["resume"] if "command" in body else None)
            if self.breaks_off_after_taking:
                handler.close_connection = True
                return
            _send(handler, 200, run)


def _is_meant(thread: ServedThread, search: dict[str, Any]) -> bool:
    return thread.status == search.get("status", thread.status) and thread.id in search.get("ids", [thread.id])


def _send(handler: BaseHTTPRequestHandler, status: int, body: Any) -> None:
    data = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
