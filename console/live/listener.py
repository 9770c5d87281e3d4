"""One LISTEN connection per web process, handed on to the sockets that this process serves.

Facts this file relies on:
- PostgreSQL sends a notification when the transaction commits, to connections that listen at that moment
  only. So after every reconnect the sockets are told `resync`: what happened meanwhile is not known.
- A connection that a proxy or a dead host has swallowed looks idle, not broken. Only asking it finds out,
  every KEEPALIVE seconds; a kernel keepalive stands behind.
- A page subscribes a moment after it was rendered. What was announced between the two is kept for RECENT
  seconds and told again; an older page is told to resynchronise.
- A mailbox holds each topic once, so it is never larger than what its socket asked for.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import deque
from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg import sql

from console.backoff import Backoff
from console.clock import NOW_SQL, learn, reckoned
from console.database import conninfo, renew_pool
from console.live.announce import CHANNEL
from console.live.presence import Backend

logger = logging.getLogger(__name__)

KEEPALIVE = 15.0  # seconds without a notification until the connection is asked whether it lives
ANSWER_WITHIN = 5.0
RECENT = 60.0  # seconds that announcements are kept for pages that subscribe late
RECENT_KEPT = 2000
CLOCK_MARGIN = 2.0  # seconds that two web processes may differ about the database's time
WAITS = Backoff(0.2, 5)  # between attempts to connect


class Mailbox:
    """What one socket has not been told yet. Filled by the listener, emptied by the socket's own task."""

    def __init__(self) -> None:
        self._topics: dict[str, None] = {}
        self._resync = False
        self._deaf = False
        self._filled = asyncio.Event()

    def put(self, topic: str) -> None:
        self._topics[topic] = None
        self._filled.set()

    def put_resync(self) -> None:
        self._resync, self._deaf = True, False
        self._filled.set()

    def put_deaf(self) -> None:
        """Say that nothing can be heard for now; a `resync` ends that."""
        self._deaf = True
        self._filled.set()

    async def take(self) -> dict[str, Any]:
        """Wait until there is something, and return all of it as one message."""
        await self._filled.wait()
        if self._deaf:
            message: dict[str, Any] = {"deaf": True}
        else:
            message = {"resync": True} if self._resync else {"topics": list(self._topics)}
        self._topics.clear()
        self._resync = self._deaf = False
        self._filled.clear()
        return message


class LiveListener:
    """The connection and the register of who wants to hear what."""

    def __init__(self) -> None:
        self._mailboxes: dict[Mailbox, frozenset[str]] = {}
        self._by_topic: dict[str, set[Mailbox]] = {}
        self._task: asyncio.Task[None] | None = None
        self._heard_before = False
        self._recent: deque[tuple[float, str]] = deque(maxlen=RECENT_KEPT)
        self._listens_since = float("inf")  # unix time
        self.is_listening = asyncio.Event()
        self.backend: Backend | None = None  # the connection as Postgres knows it, while there is one

    def subscribe(self, mailbox: Mailbox, topics: Iterable[str], since: float | None = None) -> None:
        """Let the mailbox hear exactly these topics, and what was announced of them `since` (unix time)."""
        self._forget_topics(mailbox)
        wanted = frozenset(topics)
        self._mailboxes[mailbox] = wanted
        for topic in wanted:
            self._by_topic.setdefault(topic, set()).add(mailbox)
        if since is not None:
            self._tell_missed(mailbox, wanted, since - CLOCK_MARGIN)

    def _tell_missed(self, mailbox: Mailbox, wanted: frozenset[str], since: float) -> None:
        overflowed = len(self._recent) == RECENT_KEPT and self._recent[0][0] > since
        if since < max(self._listens_since, reckoned().timestamp() - RECENT) or overflowed:
            mailbox.put_resync()
            return
        for moment, topic in self._recent:
            if moment >= since and topic in wanted:
                mailbox.put(topic)

    def unsubscribe(self, mailbox: Mailbox) -> None:
        self._forget_topics(mailbox)
        self._mailboxes.pop(mailbox, None)

    def _forget_topics(self, mailbox: Mailbox) -> None:
        for topic in self._mailboxes.get(mailbox, ()):
            readers = self._by_topic[topic]
            readers.discard(mailbox)
            if not readers:
                del self._by_topic[topic]

    def start(self) -> None:
        """Start listening on the running loop; a second call does nothing."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="live-listener")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        """Listen, and after any failure listen again, for as long as the process lives."""
        failures = 0
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError, TimeoutError) as exc:
                if self.is_listening.is_set():
                    failures = 0
                    for mailbox in self._mailboxes:
                        mailbox.put_deaf()
                self.is_listening.clear()
                self.backend = None
                wait = WAITS.pause(failures + 1)
                logger.warning("live updates lost Postgres (%s), next attempt in %.1f s", type(exc).__name__, wait)
            failures += 1
            await asyncio.sleep(WAITS.pause(failures) * random.uniform(0.7, 1.0))

    async def _listen(self) -> None:
        async with await psycopg.AsyncConnection.connect(conninfo("signalbox live"), autocommit=True) as connection:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
            await _ask_the_time(connection)
            self.backend = await _backend_of(connection)
            if self._heard_before:
                logger.info("live updates hear Postgres again; pages resynchronise")
                await asyncio.to_thread(renew_pool)
            self._heard_before = True
            self._recent.clear()
            self._listens_since = reckoned().timestamp()
            self.is_listening.set()
            for mailbox in self._mailboxes:
                mailbox.put_resync()
            while True:
                async for notification in connection.notifies(timeout=KEEPALIVE):
                    self.hand_on(notification.payload)
                async with asyncio.timeout(ANSWER_WITHIN):
                    await _ask_the_time(connection)

    def hand_on(self, payload: str) -> None:
        """Put the topic into every mailbox that asked for it; a payload that cannot be read is dropped."""
        try:
            topic = json.loads(payload)["topic"]
        except (ValueError, KeyError, TypeError):
            topic = None
        if not isinstance(topic, str):
            logger.warning("an announcement could not be read")
            return
        self._recent.append((reckoned().timestamp(), topic))
        for mailbox in self._by_topic.get(topic, ()):
            mailbox.put(topic)


async def _ask_the_time(connection: psycopg.AsyncConnection[Any]) -> None:
    """Learn the database's time, by which pages say when they were made and announcements when they were heard."""
    told = await (await connection.execute(NOW_SQL)).fetchone()
    if told is not None:
        learn(told[0])


async def _backend_of(connection: psycopg.AsyncConnection[Any]) -> Backend | None:
    found = await connection.execute(
        "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid() AND backend_start IS NOT NULL"
    )
    row = await found.fetchone()
    return Backend(*row) if row else None


_listeners: dict[asyncio.AbstractEventLoop, LiveListener] = {}


def listener() -> LiveListener:
    """Return the running loop's listener, started. A web process has one loop, so it has one connection."""
    loop = asyncio.get_running_loop()
    for gone in [known for known in _listeners if known.is_closed()]:
        del _listeners[gone]
    found = _listeners.setdefault(loop, LiveListener())
    found.start()
    return found
