"""The socket behind every open page. It tells names of what changed and takes no decisions.

Close codes: 4401 signed out, 4403 no right to see, 4400 a message that is not understood, 4008 reads too
slowly, 4029 sends too much. The browser's side is `static/js/live.js`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import time
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from uuid import uuid4

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import User
from django.db import DatabaseError
from django.http import HttpRequest

from console import roles
from console.clock import reckoned
from console.database import AWAY
from console.live import presence
from console.live.listener import LiveListener, Mailbox, listener
from console.live.parts_watch import parts_watch

SIGNED_OUT, NOT_ALLOWED, NOT_UNDERSTOOD, TOO_SLOW, TOO_MUCH = 4401, 4403, 4400, 4008, 4029
MESSAGES = ("subscribe", "ping")  # all that a browser may say, each to who may see
LARGEST_MESSAGE = 8192  # characters
MOST_TOPICS = 20
MOST_MESSAGES = 60  # from one socket in a minute
RECHECK_SECONDS = 30.0
SEND_WITHIN = 10.0  # seconds until a reader counts as too slow
FOLD_SECONDS = 0.02  # announcements of one burst leave together
_LATEST = 1e12  # unix time; a number of 400 digits is an integer to JSON, and no float
_TOPIC = re.compile(
    r"inbox|runs|batches|data|health|system"
    r"|(?:approval|presence|run|progress|batch|flow-run):[A-Za-z0-9_.:-]{1,200}"
)


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels ships no types
    """One browser tab. Who it belongs to is asked again with every message, every RECHECK_SECONDS, and at once when
    the session ends or the person's rights change: the database itself tells of that (migration `access_is_told`).
    """

    async def connect(self) -> None:
        self._mailbox, self._access = Mailbox(), Mailbox()
        self._socket, self._looks_at = uuid4().hex, frozenset[str]()
        self._user_id: int | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._listener: LiveListener | None = None
        self._minute, self._messages = time.monotonic(), 0
        await self.accept()  # also for a refusal: before accepting, a browser is not shown the close code
        since = reckoned().timestamp()
        if not await self._still_allowed():
            return
        self._listener = listener()
        session = hashlib.sha256(self.scope["session"].session_key.encode()).hexdigest()
        self._listener.subscribe(self._access, [f"user:{self._user_id}", f"session:{session}"], since)
        self._tasks = [asyncio.create_task(self._tell()), asyncio.create_task(self._watch())]
        parts_watch().came(self._socket)

    async def disconnect(self, code: int) -> None:
        self._forget()
        parts_watch().left(self._socket)
        for task in self._tasks:
            task.cancel()
        await self._look_at(frozenset())

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
            await self._look_at(frozenset(t for t in message["subscribe"] if t.startswith(presence.KIND)))
        else:
            await self.send('{"pong": 1}')

    async def _tell(self) -> None:
        """Send what the mailbox holds, for as long as the reader keeps up."""
        while True:
            message = await self._mailbox.take()
            if "resync" in message:
                await self._note(presence.look, self._looks_at)  # the listener has a new backend
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
        """Close the socket at once when its session ends or its rights are taken away.

        What tells of it may be lost with the listening connection; RECHECK_SECONDS stand behind.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECHECK_SECONDS):
                    await self._access.take()
            if not await self._still_allowed():
                return

    async def _still_allowed(self) -> bool:
        access = await access_of(self.scope)
        if access.code is None:
            self._user_id = access.user_id or self._user_id
            return True
        self._forget()
        await self.close(access.code)
        await self._look_at(frozenset())
        return False

    def _forget(self) -> None:
        if self._listener is not None:
            self._listener.unsubscribe(self._mailbox)
            self._listener.unsubscribe(self._access)

    async def _look_at(self, topics: frozenset[str]) -> None:
        """Be seen at these topics and at no others."""
        gone, come = self._looks_at - topics, topics - self._looks_at
        self._looks_at = topics
        if topics:
            _sweeper().came(self._socket)
        elif gone:
            _sweeper().left(self._socket)
        if gone:
            await self._note(presence.leave, gone)
        await self._note(presence.look, come)

    async def _note(self, how: Any, topics: frozenset[str]) -> None:
        """Write it down. Being seen is a comfort: without Postgres the socket lives on unseen."""
        backend = self._listener.backend if self._listener else None
        with contextlib.suppress(DatabaseError):
            if how is presence.leave:
                await database_sync_to_async(presence.leave)(self._socket, topics)
            elif backend is not None and self._user_id is not None and topics:
                await database_sync_to_async(presence.look)(self._socket, self._user_id, topics, backend)

    def _sends_too_much(self) -> bool:
        now = time.monotonic()
        if now - self._minute > 60:
            self._minute, self._messages = now, 0
        self._messages += 1
        return self._messages > MOST_MESSAGES


@dataclass(frozen=True)
class Access:
    """Whether a socket may stay: the close code, `None` when all is well; whose it is, when that is known."""

    code: int | None
    user_id: int | None = None


@database_sync_to_async  # type: ignore[untyped-decorator]
def access_of(scope: dict[str, Any]) -> Access:
    """Return whether the session is over or the person may not see.

    The session is read again from where sessions are kept: the one in the scope is as old as the socket.
    While Postgres is away nobody can say, and what the socket carries is no secret: it stays.
    """
    session_key = scope["session"].session_key if "session" in scope else None
    if not session_key:
        return Access(SIGNED_OUT)
    request = HttpRequest()
    try:
        request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
        user = auth.get_user(request)
        if not isinstance(user, User):
            return Access(SIGNED_OUT)
        return Access(None if roles.may(user, "see") else NOT_ALLOWED, user.pk)
    except AWAY:
        return Access(None)


_sweepers: dict[asyncio.AbstractEventLoop, presence.Sweeper] = {}


def _sweeper() -> presence.Sweeper:
    """Return the running loop's sweeper. A web process has one loop."""
    for gone in [known for known in _sweepers if known.is_closed()]:
        del _sweepers[gone]
    return _sweepers.setdefault(asyncio.get_running_loop(), presence.Sweeper())


def _read(text: str | None) -> dict[str, Any] | None:
    """Return `{"subscribe": [topics], "since"?: unix time}` or `{"ping": ...}`, None for anything else."""
    if text is None or len(text) > LARGEST_MESSAGE:
        return None
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not set(message) & set(MESSAGES):
        return None
    if "subscribe" not in message:
        return message
    topics = message["subscribe"]
    if not isinstance(topics, list) or len(topics) > MOST_TOPICS:
        return None
    if not all(isinstance(topic, str) and _TOPIC.fullmatch(topic) for topic in topics):
        return None
    since = message.get("since", 0)
    if not isinstance(since, int | float) or not 0 <= since <= _LATEST:  # which no NaN is
        return None
    return message
