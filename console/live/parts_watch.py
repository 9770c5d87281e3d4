"""Telling this process's pages how the parts are while no relay lives to tell everybody.

The relay looks every few seconds for all who look and announces what has changed. Its own end it cannot announce, and
what comes after that neither: so each web process with somebody on a page asks whether a relay lives, one query for
all its pages, and while none does it looks for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Final

from channels.db import database_sync_to_async
from django.db import Error

from console import health
from console.live.listener import listener

LOOK_SECONDS: Final = 5.0


class PartsWatch:
    """Watches for one process, for as long as somebody is there."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """`tell`: hands a topic to the pages of this process."""
        self._tell = tell
        self._sockets: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._seen = health.Seen()  # by this process since the relay fell silent

    def came(self, socket: str) -> None:
        self._sockets.add(socket)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._watch(), name="parts-watch")

    def left(self, socket: str) -> None:
        self._sockets.discard(socket)
        if not self._sockets and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch(self) -> None:
        while self._sockets:
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(Error):  # Postgres is away: every page says so by itself
                await self.look()

    async def look(self) -> None:
        """Look once, if no relay does, and tell what has changed since the last look."""
        if await database_sync_to_async(health.relay_tells)():
            self._seen = health.Seen()
            return
        before, self._seen = self._seen, await database_sync_to_async(health.look)()
        for topic in health.changed(before, self._seen):
            self._tell(topic)


_watches: dict[asyncio.AbstractEventLoop, PartsWatch] = {}


def parts_watch() -> PartsWatch:
    """Return the running loop's watch. A web process has one loop."""
    for gone in [known for known in _watches if known.is_closed()]:
        del _watches[gone]
    return _watches.setdefault(asyncio.get_running_loop(), PartsWatch(_hand_on))


def _hand_on(topic: str) -> None:
    listener().hand_on(json.dumps({"topic": topic}))
