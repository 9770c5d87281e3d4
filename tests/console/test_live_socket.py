"""The socket: who may open it, what it takes, when it closes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asgiref.testing import ApplicationCommunicator
from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from console import consumers, live_listener
from console.asgi import application, is_trusted_origin
from console.live import announce

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]

HOST, ORIGIN = "localhost", "http://localhost"


class Socket:
    """A browser's end of the socket. (The helper of channels would need daphne.)"""

    def __init__(self, scope: dict[str, Any]) -> None:
        self._end: Any = ApplicationCommunicator(application, scope)  # type: ignore[no-untyped-call]

    async def opens(self) -> bool:
        await self._end.send_input({"type": "websocket.connect"})
        return bool((await self._output())["type"] == "websocket.accept")

    async def say(self, text: str) -> None:
        await self._end.send_input({"type": "websocket.receive", "text": text})

    async def hear(self) -> Any:
        return json.loads((await self._output())["text"])

    async def close_code(self) -> int:
        while (message := await self._output())["type"] != "websocket.close":
            pass
        await self.leave()
        return int(message["code"])

    async def leave(self) -> None:
        await self._end.send_input({"type": "websocket.disconnect", "code": 1000})
        await self._end.wait(timeout=5)

    async def _output(self) -> dict[str, Any]:
        message: dict[str, Any] = await self._end.receive_output(timeout=5)
        return message


@pytest_asyncio.fixture(autouse=True)
async def stopped_listener() -> AsyncIterator[None]:
    yield
    await live_listener.listener().stop()
    live_listener._listeners.clear()


@pytest.fixture
def session(alice: User) -> Client:
    return _signed_in(alice)


def _signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def _socket(client: Client | None, *, origin: str | None = ORIGIN, host: str = HOST) -> Socket:
    headers = [(b"host", host.encode())]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    if client is not None:
        cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
        headers.append((b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode()))
    scope = {
        "type": "websocket",
        "scheme": "ws",
        "path": "/live/",
        "query_string": b"",
        "headers": headers,
        "subprotocols": [],
    }
    return Socket(scope)


async def _open(client: Client) -> Socket:
    socket = _socket(client)
    assert await socket.opens()
    return socket


async def _subscribe(socket: Socket, *topics: str) -> None:
    await socket.say(json.dumps({"subscribe": list(topics)}))
    assert await socket.hear() == {"subscribed": list(topics)}


async def test_an_announcement_reaches_the_page(session: Client) -> None:
    socket = await _open(session)
    await _subscribe(socket, "inbox", "approval:apr_1")
    await live_listener.listener().is_listening.wait()
    await database_sync_to_async(announce)("approval:apr_1")
    heard: list[Any] = []
    while {"topics": ["approval:apr_1"]} not in heard:
        heard.append(await socket.hear())
    await socket.leave()


FOREIGN = [None, "", "null", "http://evil.example", "https://localhost", "http://localhost:81"]


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_foreign_or_missing_origin_is_refused(session: Client, origin: str | None) -> None:
    assert not await _socket(session, origin=origin).opens()


async def test_a_host_that_is_not_ours_is_refused_even_with_its_own_origin(session: Client) -> None:
    assert not await _socket(session, origin="http://evil.example", host="evil.example").opens()


async def test_the_scheme_counts_and_trusted_origins_are_exact(settings: Any) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://*.example.com"]
    assert is_trusted_origin("https://localhost", "localhost", "wss")
    assert not is_trusted_origin("http://localhost", "localhost", "wss")
    assert is_trusted_origin("https://app.example.com", "localhost", "ws")
    assert not is_trusted_origin("http://app.example.com", "localhost", "ws")
    assert not is_trusted_origin("https://example.com.evil", "localhost", "ws")


async def test_a_stranger_is_told_that_nobody_is_signed_in(db: None) -> None:
    socket = _socket(None)
    assert await socket.opens()
    assert await socket.close_code() == consumers.SIGNED_OUT


async def test_somebody_without_a_role_may_not_listen(eve: User) -> None:
    client = await database_sync_to_async(_signed_in)(eve)
    socket = _socket(client)
    assert await socket.opens()
    assert await socket.close_code() == consumers.NOT_ALLOWED


async def test_after_signing_out_the_next_message_closes_the_socket(session: Client) -> None:
    socket = await _open(session)
    await _subscribe(socket, "inbox")
    await database_sync_to_async(session.logout)()
    await socket.say('{"ping": 1}')
    assert await socket.close_code() == consumers.SIGNED_OUT


async def test_a_lost_role_closes_a_silent_socket(
    session: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "RECHECK_SECONDS", 0.05)
    socket = await _open(session)
    await database_sync_to_async(alice.groups.clear)()
    assert await socket.close_code() == consumers.NOT_ALLOWED


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[]",
        '{"decide": "approve"}',
        '{"subscribe": "inbox"}',
        '{"subscribe": ["secrets"]}',
        '{"subscribe": ["approval:../x"]}',
        json.dumps({"subscribe": ["inbox"] * 21}),
        json.dumps({"subscribe": ["approval:" + "x" * 9000]}),
        '{"subscribe": ["inbox"], "since": "now"}',
    ],
)
async def test_a_message_that_is_not_understood_closes_the_socket(session: Client, message: str) -> None:
    socket = await _open(session)
    await socket.say(message)
    assert await socket.close_code() == consumers.NOT_UNDERSTOOD


async def test_a_flood_of_messages_closes_the_socket(session: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "MOST_MESSAGES", 3)
    socket = await _open(session)
    for _ in range(4):
        await socket.say('{"ping": 1}')
    assert await socket.close_code() == consumers.TOO_MUCH


async def test_a_reader_that_does_not_keep_up_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "SEND_WITHIN", 0.05)
    consumer = consumers.LiveConsumer()
    closed: list[int] = []

    async def send(text: str) -> None:
        await asyncio.sleep(60)

    async def close(code: int) -> None:
        closed.append(code)

    monkeypatch.setattr(consumer, "send", send)
    monkeypatch.setattr(consumer, "close", close)
    consumer._mailbox = live_listener.Mailbox()
    consumer._mailbox.put("inbox")
    async with asyncio.timeout(5):
        await consumer._tell()
    assert closed == [consumers.TOO_SLOW]
