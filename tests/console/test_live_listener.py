"""The listener hears Postgres, hands on by topic, and after any loss says that anything may have changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from console.database import conninfo
from console.live.announce import CHANNEL
from console.live.listener import LiveListener, Mailbox
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]


@pytest_asyncio.fixture
async def running() -> AsyncIterator[LiveListener]:
    listener = LiveListener()
    listener.start()
    async with asyncio.timeout(PATIENCE):
        await listener.is_listening.wait()
    yield listener
    await listener.stop()


async def _announce(*topics: str) -> None:
    async with await psycopg.AsyncConnection.connect(conninfo("tests"), autocommit=True) as connection:
        for topic in topics:
            await connection.execute("SELECT pg_notify(%s, %s)", [CHANNEL, f'{{"topic": "{topic}"}}'])


async def _next(mailbox: Mailbox) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        return await mailbox.take()


async def test_an_announcement_reaches_only_who_asked_for_its_topic(running: LiveListener) -> None:
    inbox, other = Mailbox(), Mailbox()
    running.subscribe(inbox, ["inbox"])
    running.subscribe(other, ["approval:apr_2"])
    await _announce("inbox", "approval:apr_1", "approval:apr_2")
    assert await _next(inbox) == {"topics": ["inbox"]}
    assert await _next(other) == {"topics": ["approval:apr_2"]}


async def test_a_burst_on_one_topic_is_told_once(running: LiveListener) -> None:
    mailbox = Mailbox()
    running.subscribe(mailbox, ["inbox", "runs"])
    for _ in range(500):
        running.hand_on('{"topic": "inbox"}')
    assert await _next(mailbox) == {"topics": ["inbox"]}
    running.hand_on('{"topic": "runs"}')
    assert await _next(mailbox) == {"topics": ["runs"]}


async def test_after_the_connection_was_killed_everybody_resynchronises(running: LiveListener) -> None:
    mailbox = Mailbox()
    running.subscribe(mailbox, ["inbox"])
    async with await psycopg.AsyncConnection.connect(conninfo("tests"), autocommit=True) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'signalbox live'"
            " AND pid <> pg_backend_pid() AND datname = current_database()"
        )
    assert await _next(mailbox) == {"deaf": True}
    assert await _next(mailbox) == {"resync": True}
    await _announce("inbox")
    assert await _next(mailbox) == {"topics": ["inbox"]}


async def test_what_was_announced_between_rendering_and_subscribing_is_told(running: LiveListener) -> None:
    rendered = time.time()
    running.hand_on('{"topic": "approval:apr_1"}')
    running.hand_on('{"topic": "runs"}')
    mailbox = Mailbox()
    running._listens_since = rendered - 60
    running.subscribe(mailbox, ["approval:apr_1"], since=rendered)
    assert await _next(mailbox) == {"topics": ["approval:apr_1"]}


async def test_a_page_older_than_what_is_remembered_resynchronises(running: LiveListener) -> None:
    mailbox = Mailbox()
    running.subscribe(mailbox, ["inbox"], since=time.time() - 3600)
    assert await _next(mailbox) == {"resync": True}


async def test_an_unreadable_announcement_is_dropped(running: LiveListener) -> None:
    mailbox = Mailbox()
    running.subscribe(mailbox, ["inbox"])
    for payload in ("", "nonsense", "[]", '{"no": "topic"}', '{"topic": ["inbox"]}', '{"topic": null}'):
        running.hand_on(payload)
    running.hand_on('{"topic": "inbox"}')
    assert await _next(mailbox) == {"topics": ["inbox"]}


async def test_a_closed_socket_is_forgotten(running: LiveListener) -> None:
    mailbox = Mailbox()
    running.subscribe(mailbox, ["inbox", "runs"])
    running.unsubscribe(mailbox)
    assert running._by_topic == {}
    assert running._mailboxes == {}
