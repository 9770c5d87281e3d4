"""A request is served on one thread, which is kept for the next one; requests at once have threads of their own."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from asgiref.testing import ApplicationCommunicator
from django.core.signals import request_finished, request_started
from django.http import HttpRequest, HttpResponse

from console.kept_threads import KeptThreads
from tests.waiting import until

SCOPE = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [(b"host", b"localhost")]}


class Threads(KeptThreads):
    """Tells on which thread each request is answered; `gate` keeps them from being answered one by one."""

    def __init__(self, gate: threading.Barrier | None = None) -> None:
        super().__init__()
        self.seen: list[int] = []
        self._gate = gate

    def get_response(self, request: HttpRequest) -> Any:
        if self._gate is not None:
            self._gate.wait(60)
        self.seen.append(threading.get_ident())
        return HttpResponse("here")


async def _asked(handler: Threads) -> bytes:
    call: Any = ApplicationCommunicator(handler, dict(SCOPE))  # type: ignore[no-untyped-call]
    await call.send_input({"type": "http.request", "body": b""})
    assert (await call.receive_output(60))["status"] == 200
    body: bytes = (await call.receive_output(60))["body"]
    await call.wait(60)
    return body


def test_one_request_after_the_other_is_served_on_the_same_thread(db: None) -> None:
    handler, signals = Threads(), list[int]()

    def note(**_: Any) -> None:
        signals.append(threading.get_ident())

    request_started.connect(note)
    request_finished.connect(note)
    try:

        async def scene() -> None:
            for _ in range(3):
                assert await _asked(handler) == b"here"
                await until(lambda: handler.idle)

        asyncio.run(scene())
    finally:
        request_started.disconnect(note)
        request_finished.disconnect(note)
    assert len(handler.seen) == 3 and len({*handler.seen}) == 1
    assert {*signals} == {*handler.seen}, "where Django tidies up the connection, it has been used"
    assert threading.get_ident() not in handler.seen


def test_requests_at_once_are_served_at_once(db: None) -> None:
    handler = Threads(threading.Barrier(3))

    async def scene() -> None:
        assert await asyncio.gather(*(_asked(handler) for _ in range(3))) == [b"here"] * 3

    asyncio.run(scene())
    assert len({*handler.seen}) == 3


def test_middleware_and_views_are_called_without_leaving_the_thread() -> None:
    handler: Any = KeptThreads()
    assert not asyncio.iscoroutinefunction(handler._middleware_chain)
