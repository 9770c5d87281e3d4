"""The example shop, served by the drill itself: the outside world, so it counts requests and can hold one.

The switches of the shop act on everybody; a hold acts on one request of one order, and tells when it is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import uvicorn

from drills.holds import Hold, When
from examples.shop.app import create_app
from stack import ports

OURS = "X-Drill"  # a header: the drill's own requests are not counted


class WatchedShop:
    """One shop on a port of its own, in a thread."""

    def __init__(self, database: Path) -> None:
        self._app: Any = create_app(database)  # Any: ASGI has no types of its own
        self.counts: Counter[tuple[str, str]] = Counter()  # (method and path without the id, order id)
        self._holds: list[Hold] = []  # that nothing has reached yet
        self._made: list[Hold] = []
        self.refused: set[str] = set()  # orders about which every POST is answered 503, and nothing happens
        self.port = ports.free_port()
        config = uvicorn.Config(
            self, host=ports.LOOPBACK, port=self.port, log_level="warning", lifespan="off", log_config=None
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="shop", daemon=True)

    @property
    def url(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.port}"

    def start(self) -> None:
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.02)

    def stop(self) -> None:
        for hold in self._made:
            hold.released.set()
        self._server.should_exit = True
        self._thread.join(5)

    def hold(self, method: str, order_id: str, when: When) -> Hold:
        """Hold the next request of this method about this order."""
        hold = Hold(method, order_id, when)
        self._holds.append(hold)
        self._made.append(hold)
        return hold

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI: count, hold, pass on."""
        if scope["type"] != "http" or any(name == OURS.lower().encode() for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        body = await _body(receive)
        kind, order_id = _about(scope, body)
        self.counts[kind, order_id] += 1
        hold = next((h for h in self._holds if (h.method, h.order_id) == (scope["method"], order_id)), None)
        if hold is not None:
            self._holds.remove(hold)
            if hold.when == "before":
                await asyncio.to_thread(hold.wait)

        if scope["method"] == "POST" and order_id in self.refused:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return

        async def replay() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def answer(message: dict[str, Any]) -> None:
            if hold is not None and hold.when == "after" and message["type"] == "http.response.start":
                await asyncio.to_thread(hold.wait)
            await send(message)

        await self._app(scope, replay, answer)


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


def _about(scope: Any, body: bytes) -> tuple[str, str]:
    """Return what kind of request it is and which order it is about."""
    path = str(scope["path"])
    if path.startswith("/orders/"):
        return f"{scope['method']} /orders", path.removeprefix("/orders/")
    asked = parse_qs(scope["query_string"].decode()).get("order_id", [""])[0]
    if body:
        with contextlib.suppress(ValueError, AttributeError):
            asked = str(json.loads(body).get("order_id", asked))
    return f"{scope['method']} {path}", asked
