"""One answer for all open pages of one browser that ask for the same parts at the same time.

An announcement reaches every open page at once, and each asks. Pages with the same cookies, the same parts and the same
headers get the same bytes, so one answer is drawn and sent to all. Nobody gets one from before they asked: whoever asks
while an answer is being drawn waits for the next, which then serves all that came meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from console.asgi_types import Application, Message, Receive, Scope, Send

Key = tuple[bytes, tuple[tuple[bytes, bytes], ...]]

GATHER_SECONDS: Final = 0.03  # where many pages ask, one that waits for the others costs less than two answers
_SHARED_PATH: Final = "/frame/parts/"
#: what differs between two pages of one browser, or two tries of one page, and changes nothing in the answer
_PASSED_OVER: Final = frozenset(
    {b"hx-current-url", b"referer", b"hx-source", b"x-csrftoken", b"priority", b"connection"}
)


class Shared:
    """The answers of one process that are being drawn, or are about to be."""

    def __init__(self, inner: Application) -> None:
        self._inner = inner
        self._next: dict[Key, asyncio.Task[list[Message]]] = {}  # not begun: whoever asks now shares it
        self._drawing: dict[Key, asyncio.Task[list[Message]]] = {}
        self._asking: Counter[Key] = Counter()  # pages that wait for the next answer
        self._crowds: set[Key] = set()  # whose last answer served several pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET" or scope["path"] != _SHARED_PATH:
            await self._inner(scope, receive, send)
            return
        key = _key(scope)
        answer = self._next.get(key)
        if answer is None:
            answer = self._next[key] = asyncio.create_task(self._draw(key, scope))
        self._asking[key] += 1
        for message in await asyncio.shield(answer):  # who goes away takes nothing from the others
            await send(message)

    async def _draw(self, key: Key, scope: Scope) -> list[Message]:
        before = self._drawing.get(key)
        if before is not None:
            await asyncio.wait({before})
        if before is not None or key in self._crowds:
            await asyncio.sleep(GATHER_SECONDS)
        ours = self._drawing[key] = self._next.pop(key)
        (self._crowds.add if self._asking.pop(key) > 1 else self._crowds.discard)(key)
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        try:
            await self._inner(dict(scope), _nothing_more(), keep)
        finally:
            if self._drawing.get(key) is ours:
                del self._drawing[key]
        return messages


def _key(scope: Scope) -> Key:
    headers = sorted((name, value) for name, value in scope["headers"] if name not in _PASSED_OVER)
    return scope.get("query_string", b""), tuple(headers)


def _nothing_more() -> Receive:
    """Return what Django reads a GET's body from: an empty one, and then nothing for as long as it draws."""
    empty = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if empty:
            return empty.pop()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    return receive
