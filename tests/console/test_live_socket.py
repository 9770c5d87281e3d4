"""The socket: who may open it, what it takes, when it closes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from asgiref.testing import ApplicationCommunicator
from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.db.models import F
from django.test import Client

from console.asgi import application, is_trusted_origin
from console.database import conninfo
from console.live import consumers, listener, presence
from console.live.announce import announce
from console.models import Presence
from tests.waiting import PATIENCE

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
        await self._end.wait(timeout=PATIENCE)

    async def _output(self) -> dict[str, Any]:
        message: dict[str, Any] = await self._end.receive_output(timeout=PATIENCE)
        return message


@pytest_asyncio.fixture(autouse=True)
async def stopped_listener() -> AsyncIterator[None]:
    yield
    await listener.listener().stop()
    listener._listeners.clear()


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
    await listener.listener().is_listening.wait()
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
        "[" * 8000,
        "[]",
        '{"decide": "approve"}',
        '{"subscribe": "inbox"}',
        '{"subscribe": ["secrets"]}',
        '{"subscribe": ["approval:../x"]}',
        json.dumps({"subscribe": ["inbox"] * 21}),
        json.dumps({"subscribe": ["approval:" + "x" * 9000]}),
        '{"subscribe": ["inbox"], "since": "now"}',
        '{"subscribe": ["inbox"], "since": NaN}',
        '{"subscribe": ["inbox"], "since": 1e400}',
        '{"subscribe": ["inbox"], "since": 1%s}' % ("0" * 400),
        '{"subscribe": ["inbox"], "since": -1}',
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
    consumer._mailbox = listener.Mailbox()
    consumer._mailbox.put("inbox")
    async with asyncio.timeout(PATIENCE):
        await consumer._tell()
    assert closed == [consumers.TOO_SLOW]


Loss = Callable[[User, Client], Any]
LOSSES: dict[str, tuple[Loss, int]] = {
    "the role is taken away": (lambda user, _: user.groups.clear(), consumers.NOT_ALLOWED),
    "the group is deleted": (lambda user, _: Group.objects.get(name="reviewer").delete(), consumers.NOT_ALLOWED),
    "the group is renamed": (lambda user, _: _renamed("reviewer"), consumers.NOT_ALLOWED),
    "the account is disabled": (lambda user, _: _saved(user, is_active=False), consumers.SIGNED_OUT),
    "it is disabled in bulk": (lambda user, _: User.objects.update(is_active=False), consumers.SIGNED_OUT),
    "the password is changed": (lambda user, _: _saved(user, password="x"), consumers.SIGNED_OUT),
    "the person signs out": (lambda user, client: client.logout(), consumers.SIGNED_OUT),
    "the session is removed": (lambda user, _: Session.objects.all().delete(), consumers.SIGNED_OUT),
}


def _renamed(group: str) -> None:
    Group.objects.filter(name=group).update(name="x")


def _saved(user: User, **changes: Any) -> None:
    for name, value in changes.items():
        setattr(user, name, value)
    user.save()


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_silent_socket_is_closed_at_once_when(
    loss: str, session: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "RECHECK_SECONDS", 3600)  # only the database can tell in time
    lose, code = LOSSES[loss]
    socket = await _open(session)
    await _subscribe(socket, "inbox")
    await listener.listener().is_listening.wait()
    await database_sync_to_async(lose)(alice, session)
    assert await socket.close_code() == code


async def test_a_right_lost_while_the_socket_opens_is_seen(
    session: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look at the session and the wish to hear of changes, a change must not be missed."""
    asked, first = consumers.access_of, True

    async def late(scope: dict[str, Any]) -> consumers.Access:
        nonlocal first
        found: consumers.Access = await asked(scope)
        if first:
            first = False
            await database_sync_to_async(alice.groups.clear)()
        return found

    monkeypatch.setattr(consumers, "access_of", late)
    socket = await _open(session)
    assert await socket.close_code() == consumers.NOT_ALLOWED


async def test_a_socket_stays_when_somebody_else_loses_a_role(session: Client, bob: User) -> None:
    socket = await _open(session)
    await _subscribe(socket, "inbox")
    await listener.listener().is_listening.wait()
    await database_sync_to_async(bob.groups.clear)()
    await socket.say('{"ping": 1}')
    heard: list[Any] = []
    while {"pong": 1} not in heard:
        heard.append(await socket.hear())
    await socket.leave()


async def _looking(topic: str = "approval:apr_1") -> list[str]:
    return [looker.username for looker in await database_sync_to_async(presence.lookers_at)(topic)]


async def _until_told(socket: Socket, topic: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while topic not in (await socket.hear()).get("topics", []):
            pass


async def test_whoever_has_the_page_open_is_seen_and_their_leaving_is_told(session: Client, bob: User) -> None:
    await _listening()
    hers = await _open(session)
    await _subscribe(hers, "inbox", "approval:apr_1", "presence:apr_1")
    await _until_told(hers, "presence:apr_1")
    assert await _looking() == ["alice"]
    his = await _open(await database_sync_to_async(_signed_in)(bob))
    await _subscribe(his, "approval:apr_1")
    await _until_told(hers, "presence:apr_1")
    assert await _looking() == ["alice", "bob"]
    await _subscribe(his, "approval:apr_2")
    await _until_told(hers, "presence:apr_1")
    assert (await _looking(), await _looking("approval:apr_2")) == (["alice"], ["bob"])
    await his.leave()
    assert await _looking("approval:apr_2") == []
    await hers.leave()
    assert await _looking() == []


async def test_a_row_of_a_process_that_had_the_number_before_is_nobody(session: Client) -> None:
    await _listening()
    socket = await _open(session)
    await _subscribe(socket, "approval:apr_1", "presence:apr_1")
    await _until_told(socket, "presence:apr_1")
    rows = Presence.objects.filter(topic="approval:apr_1")
    await rows.aupdate(backend_started_at=F("backend_started_at") - timedelta(hours=1))
    assert await _looking() == []
    await rows.aupdate(backend_started_at=F("backend_started_at") + timedelta(hours=1))
    assert await _looking() == ["alice"]
    await socket.leave()


async def test_two_pages_of_one_person_are_one_looker(session: Client) -> None:
    await _listening()
    one, other = await _open(session), await _open(session)
    for socket in (one, other):
        await _subscribe(socket, "approval:apr_1", "presence:apr_1")
        await _until_told(socket, "presence:apr_1")
    assert await _looking() == ["alice"]
    await one.leave()
    assert await _looking() == ["alice"]
    await other.leave()


async def test_who_loses_the_right_to_see_is_seen_no_longer(session: Client, alice: User) -> None:
    await _listening()
    socket = await _open(session)
    await _subscribe(socket, "approval:apr_1", "presence:apr_1")
    await _until_told(socket, "presence:apr_1")
    await database_sync_to_async(alice.groups.clear)()
    assert await socket.close_code() == consumers.NOT_ALLOWED
    assert await _looking() == []


async def test_a_killed_process_leaves_nobody_behind_and_the_others_hear_of_it(session: Client, bob: User) -> None:
    """A process that is killed says nothing. Its listening connection ends with it, and that is what counts."""
    hers = await _open(session)
    await _listening()
    await _subscribe(hers, "approval:apr_1", "presence:apr_1")
    await _until_told(hers, "presence:apr_1")
    async with await psycopg.AsyncConnection.connect(conninfo("another web process"), autocommit=True) as process:
        found = await process.execute("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        backend = presence.Backend(*(await found.fetchone() or ()))
        await database_sync_to_async(presence.look)("his", bob.pk, ["approval:apr_1"], backend)
        await _until_told(hers, "presence:apr_1")
        assert await _looking() == ["alice", "bob"]
    while await _looking() != ["alice"]:
        pass  # PostgreSQL takes a moment to end the connection
    assert await database_sync_to_async(presence.sweep)() == 1
    await _until_told(hers, "presence:apr_1")
    await hers.leave()


async def test_the_sweeper_works_while_somebody_looks_and_rests_afterwards(
    session: Client, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "SWEEP_SECONDS", 0.01)
    socket = await _open(session)
    await _listening()
    await _subscribe(socket, "approval:apr_1", "presence:apr_1")
    await _until_told(socket, "presence:apr_1")
    gone = presence.Backend(1, datetime(2020, 1, 1, tzinfo=UTC))
    await database_sync_to_async(presence.look)("his", bob.pk, ["approval:apr_1"], gone)
    await _until_told(socket, "presence:apr_1")
    async with asyncio.timeout(PATIENCE):
        while await database_sync_to_async(Presence.objects.count)() != 1:
            pass
    await socket.leave()
    assert consumers._sweeper()._task is None


async def test_after_the_listening_connection_was_lost_people_are_seen_again(session: Client) -> None:
    socket = await _open(session)
    await _listening()
    await _subscribe(socket, "approval:apr_1", "presence:apr_1")
    await _until_told(socket, "presence:apr_1")
    before = listener.listener().backend
    async with await psycopg.AsyncConnection.connect(conninfo("tests"), autocommit=True) as connection:
        assert before is not None
        await connection.execute("SELECT pg_terminate_backend(%s)", [before.pid])
    await _until_told(socket, "presence:apr_1")
    assert listener.listener().backend != before
    assert await _looking() == ["alice"]
    await socket.leave()


async def _listening() -> None:
    async with asyncio.timeout(PATIENCE):
        await listener.listener().is_listening.wait()


#: what a browser may say -> the roles whose word is taken; a new message needs a line here
MAY_SAY = {"subscribe": {"reviewer", "operator", "admin"}, "ping": {"reviewer", "operator", "admin"}}


async def test_every_message_has_been_given_a_line() -> None:
    assert set(consumers.MESSAGES) == set(MAY_SAY)


@pytest.mark.parametrize("role", ["stranger", "nobody", "reviewer", "operator", "admin", "service"])
@pytest.mark.parametrize("kind", MAY_SAY)
async def test_each_role_says_what_is_meant_for_it_and_nothing_else(kind: str, role: str) -> None:
    client = None if role == "stranger" else await database_sync_to_async(_signed_in_as)(role)
    socket = _socket(client)
    assert await socket.opens()  # a refusal is told by the close code
    await socket.say(json.dumps({kind: ["inbox"] if kind == "subscribe" else 1}))
    if role in MAY_SAY[kind]:
        assert set(await socket.hear()) <= {"subscribed", "pong"}
        await socket.leave()
    else:
        assert await socket.close_code() == (consumers.SIGNED_OUT if role == "stranger" else consumers.NOT_ALLOWED)


def _signed_in_as(role: str) -> Client:
    user = User.objects.create(username=f"somebody-{role}")
    if role != "nobody":
        user.groups.add(Group.objects.get_or_create(name=role)[0])
    return _signed_in(user)
