"""Answers that wait: a view says what it waits for, and its request is held here, outside of Django, until that moves.

Facts this file relies on:
- A view that waits inside Django holds a thread, for some of the middleware is not asynchronous. A request that is
  held here holds neither a thread nor a connection to the database: only what the web server keeps of it.
- Each look is a whole new request. So whoever lost their token, their role or the thing itself while they waited is
  told so, and nothing is answered from what was true earlier.
- What wakes is the process's one listening connection (`console.live.listener`). It may be deaf for a while: then it
  tells everybody to look again, which they do a few at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from django.http import HttpRequest

from console import problems
from console.asgi_types import Application, Message, Receive, Scope, Send
from console.clock import reckoned
from console.live.listener import Mailbox, listener

LONGEST_SECONDS: Final = 60
MOST_HELD: Final = 4000  # in one process
MOST_OF_ONE: Final = 1500  # of one account
LOOKS_AT_ONCE: Final = 8  # half of the pool of connections: pages go on meanwhile
HELD_PATH: Final = "/answer"  # how the addresses end whose views call `wait_for`
_KEY: Final = "signalbox.wait"


@dataclass(frozen=True)
class Wait:
    """What a request waits for: `topics` of announcements; `whose` account it counts for; `seconds` at most."""

    topics: tuple[str, ...]
    whose: str
    seconds: float


def wait_for(request: HttpRequest, wait: Wait) -> None:
    """Have the request answered anew when one of the topics moves, if this answer is a 202, until the time is over.

    Its address ends with HELD_PATH. Without a server that holds requests (in tests, say) the 202 is what the program
    gets.
    """
    scope = getattr(request, "scope", None)
    if scope is not None:
        scope[_KEY] = wait


class Held:
    """The requests of one process that wait."""

    def __init__(self, inner: Application) -> None:
        self._inner = inner
        self._held: Counter[str] = Counter()
        self._looks: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}  # a web process has one loop

    @property
    def count(self) -> int:
        return self._held.total()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        waits = scope["method"] == "GET" and str(scope.get("path", "")).endswith(HELD_PATH)
        if not (waits and b"wait=" in scope.get("query_string", b"")):  # nothing else is looked at in turn, or kept
            await self._inner(scope, receive, send)
            return
        client = _Client(receive)
        try:
            await self._answer(scope, client, send)
        finally:
            client.stop()

    async def _answer(self, scope: Scope, client: _Client, send: Send) -> None:
        since = reckoned().timestamp()
        answer = await self._look(scope, client)
        if answer.wait is None or client.is_gone.is_set():
            await answer.send(send)
            return
        wait = answer.wait
        if self.count >= MOST_HELD or self._held[wait.whose] >= MOST_OF_ONE:
            await _too_many(send)
            return
        mailbox = Mailbox()
        until = time.monotonic() + min(wait.seconds, LONGEST_SECONDS)
        self._held[wait.whose] += 1
        ears = listener()
        try:
            ears.subscribe(mailbox, wait.topics, since)
            while answer.wait is not None and not client.is_gone.is_set():
                is_over = not await _moved(mailbox, client, until)
                if client.is_gone.is_set():
                    return
                answer = await self._look(scope, client)
                if is_over:
                    break
        finally:
            ears.unsubscribe(mailbox)
            self._held[wait.whose] -= 1
            if not self._held[wait.whose]:
                del self._held[wait.whose]
        if not client.is_gone.is_set():  # it may have left during the look
            await answer.send(send)

    async def _look(self, scope: Scope, client: _Client) -> _Answer:
        asked = {name: value for name, value in scope.items() if name != _KEY}
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        looks = self._looks.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(LOOKS_AT_ONCE))
        async with looks:
            await self._inner(asked, client.receive_nothing(), keep)
        waits = bool(messages) and messages[0].get("status") == 202
        return _Answer(messages, asked.get(_KEY) if waits else None)


@dataclass(frozen=True)
class _Answer:
    messages: list[Message]
    wait: Wait | None

    async def send(self, send: Send) -> None:
        for message in self.messages:
            await send(message)


class _Client:
    """The other end: what it sends with a GET is passed over, and that it went away is noticed."""

    def __init__(self, receive: Receive) -> None:
        self.is_gone = asyncio.Event()
        self._task = asyncio.create_task(self._watch(receive))

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.is_gone.set()

    def stop(self) -> None:
        self._task.cancel()

    def receive_nothing(self) -> Receive:
        """Return what Django reads one look's body from: an empty one, and then only that the client is gone."""
        is_first = True

        async def receive() -> Message:
            nonlocal is_first
            if is_first:
                is_first = False
                return {"type": "http.request", "body": b"", "more_body": False}
            await self.is_gone.wait()
            return {"type": "http.disconnect"}

        return receive


async def _moved(mailbox: Mailbox, client: _Client, until: float) -> bool:
    """Wait until there is something to look for or the client is gone; return False when the time is over first."""
    gone = asyncio.create_task(client.is_gone.wait())
    try:
        while True:
            told = asyncio.create_task(mailbox.take())
            left = max(0.0, until - time.monotonic())
            done, _ = await asyncio.wait({gone, told}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if told not in done:
                told.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await told
                return gone in done
            if "deaf" not in told.result():  # deaf: it is told when it hears again
                return True
    finally:
        gone.cancel()


async def _too_many(send: Send) -> None:
    detail = "Too many requests wait for answers already. Send this again in a few seconds, or without `wait`."
    told = problems.problem_response(problems.too_many(detail, 5))
    headers = [(name.lower().encode(), value.encode()) for name, value in told.items()]
    await send({"type": "http.response.start", "status": told.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": told.content})
