"""How many requests one web process works on at a time; the others wait their turn, first come, first served.

Facts this file relies on:
- Python runs one thread at a time. Two hundred pages that ask at once, each in a thread of its own, are all answered
  late, and most find the database's pool empty: it looks as if PostgreSQL were away. In turn, each is answered sooner.
- Django reads a request's body before it does anything else. A turn begins when the body is here, so whoever sends
  slowly keeps nobody waiting; it ends when the answer begins, so whoever reads slowly does not either.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from console import problems
from console.asgi_types import Application, Message, Receive, Scope, Send

AT_ONCE: Final = 12  # below the pool's size: nobody who has a turn waits for a connection
LONGEST_WAIT_SECONDS: Final = 30.0
_COME_BACK_SECONDS: Final = 5


class Admission:
    """Gives turns. What waits for longer than LONGEST_WAIT_SECONDS is told to come again: 503 with Retry-After."""

    def __init__(self, inner: Application) -> None:
        self._inner = inner
        self._turns: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}  # a web process has one loop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        turn = _Turn(self._turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)))

        async def receive_and_wait() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                await turn.begin()
            return message

        async def send_and_end(message: Message) -> None:
            turn.end()
            await send(message)

        try:
            await self._inner(scope, receive_and_wait, send_and_end)
        except _NoTurn:
            await _come_again(scope, send)
        finally:
            turn.end()


class _NoTurn(Exception):
    """The request has waited for too long."""


class _Turn:
    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._is_ours = False
        self._is_over = False

    async def begin(self) -> None:
        if self._is_ours or self._is_over:
            return
        try:
            await asyncio.wait_for(self._turns.acquire(), LONGEST_WAIT_SECONDS)
        except TimeoutError:
            raise _NoTurn from None
        self._is_ours = True

    def end(self) -> None:
        self._is_over = True
        if self._is_ours:
            self._is_ours = False
            self._turns.release()


async def _come_again(scope: Scope, send: Send) -> None:
    detail = "Too many people and programs ask at this moment; nothing was done. Send this again in a few seconds."
    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers = {"Retry-After": str(_COME_BACK_SECONDS), "Cache-Control": "no-store"}
    if scope["path"].startswith("/api/"):
        told = problems.problem_response(problems.Problem(status, status.phrase, detail))
        content, headers["Content-Type"] = told.content, told["Content-Type"]
    else:
        content, headers["Content-Type"] = detail.encode(), "text/plain; charset=utf-8"
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(status), "headers": raw})
    await send({"type": "http.response.body", "body": content})
