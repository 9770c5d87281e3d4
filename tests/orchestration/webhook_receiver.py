"""A web server of a program's, which keeps what it is sent."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.waiting import PATIENCE


@dataclass(frozen=True)
class Got:
    """One request; header names in small letters."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Answers with the statuses given, one after the other, then with 200. Use `with`."""

    def __init__(self, *statuses: int, hangs: bool = False, endless: bool = False) -> None:
        self.statuses = list(statuses)
        self.got: list[Got] = []
        self._over = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append(Got(self.path, headers, body))
                if hangs:
                    receiver._over.wait(PATIENCE)
                    return
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                try:
                    while endless and not receiver._over.is_set():
                        self.wfile.write(b"x" * 65536)
                except OSError:
                    pass

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
