"""The socket behind every open page. It tells names of what changed and takes no decisions.

Close codes: 4401 signed out, 4403 no right to see, 4400 a message that is not understood, 4008 reads too
slowly, 4029 sends too much. The browser's side is `static/js/live.js`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from importlib import import_module
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib import auth
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest

from console import roles
from console.live_listener import LiveListener, Mailbox, listener

SIGNED_OUT, NOT_ALLOWED, NOT_UNDERSTOOD, TOO_SLOW, TOO_MUCH = 4401, 4403, 4400, 4008, 4029
LARGEST_MESSAGE = 8192  # characters
MOST_TOPICS = 20
MOST_MESSAGES = 60  # from one socket in a minute
RECHECK_SECONDS = 30.0
SEND_WITHIN = 10.0  # seconds until a reader counts as too slow
FOLD_SECONDS = 0.02  # announcements of one burst leave together
_TOPIC = re.compile(r"inbox|runs|data|health|(?:approval|run):[A-Za-z0-9_.:-]{1,200}")


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels ships no types
    """One browser tab. Who it belongs to is asked again with every message and every RECHECK_SECONDS."""

    async def connect(self) -> None:
        self._mailbox = Mailbox()
        self._tasks: list[asyncio.Task[None]] = []
        self._listener: LiveListener | None = None
        self._minute, self._messages = time.monotonic(), 0
        await self.accept()  # also for a refusal: before accepting, a browser is not shown the close code
        if not await self._still_allowed():
            return
        self._listener = listener()
        self._tasks = [asyncio.create_task(self._tell()), asyncio.create_task(self._watch())]

    async def disconnect(self, code: int) -> None:
        if self._listener is not None:
            self._listener.unsubscribe(self._mailbox)
        for task in self._tasks:
            task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self._sends_too_much():
            await self.close(TOO_MUCH)
            return
        message = _read(text_data)
        if message is None:
            await self.close(NOT_UNDERSTOOD)
            return
        if not await self._still_allowed() or self._listener is None:
            return
        if "subscribe" in message:
            self._listener.subscribe(self._mailbox, message["subscribe"], message.get("since"))
            await self.send(json.dumps({"subscribed": message["subscribe"]}))
        else:
            await self.send('{"pong": 1}')

    async def _tell(self) -> None:
        """Send what the mailbox holds, for as long as the reader keeps up."""
        while True:
            message = await self._mailbox.take()
            try:
                async with asyncio.timeout(SEND_WITHIN):
                    await self.send(json.dumps(message))
            except TimeoutError:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SEND_WITHIN):
                        await self.close(TOO_SLOW)  # the page connects again and resynchronises
                return
            await asyncio.sleep(FOLD_SECONDS)

    async def _watch(self) -> None:
        """Close the socket soon after its session ended or its rights were taken away."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            if not await self._still_allowed():
                return

    async def _still_allowed(self) -> bool:
        code = await refusal(self.scope)
        if code is not None:
            if self._listener is not None:
                self._listener.unsubscribe(self._mailbox)
            await self.close(code)
        return code is None

    def _sends_too_much(self) -> bool:
        now = time.monotonic()
        if now - self._minute > 60:
            self._minute, self._messages = now, 0
        self._messages += 1
        return self._messages > MOST_MESSAGES


@database_sync_to_async  # type: ignore[untyped-decorator]
def refusal(scope: dict[str, Any]) -> int | None:
    """Return the close code when the session is over or the person may not see, `None` when all is well.

    The session is read again from where sessions are kept: the one in the scope is as old as the socket.
    While Postgres is away nobody can say, and what the socket carries is no secret: it stays.
    """
    session_key = scope["session"].session_key if "session" in scope else None
    if not session_key:
        return SIGNED_OUT
    request = HttpRequest()
    try:
        request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
        user = auth.get_user(request)
        if not user.is_authenticated:
            return SIGNED_OUT
        return None if roles.may(user, "see") else NOT_ALLOWED
    except (OperationalError, InterfaceError):
        return None


def _read(text: str | None) -> dict[str, Any] | None:
    """Return `{"subscribe": [topics], "since"?: unix time}` or `{"ping": ...}`, None for anything else."""
    if text is None or len(text) > LARGEST_MESSAGE:
        return None
    try:
        message = json.loads(text)
    except ValueError:
        return None
    if not isinstance(message, dict):
        return None
    if "subscribe" not in message:
        return message if "ping" in message else None
    topics = message["subscribe"]
    if not isinstance(topics, list) or len(topics) > MOST_TOPICS:
        return None
    if not all(isinstance(topic, str) and _TOPIC.fullmatch(topic) for topic in topics):
        return None
    if not isinstance(message.get("since", 0), int | float):
        return None
    return message
