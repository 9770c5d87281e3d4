"""Answers that wait: woken by an announcement, looked at anew each time, held outside of Django, bounded in number."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from channels.db import database_sync_to_async
from django.contrib.auth.models import Group, User
from django.db import connection

from approvals import services
from approvals.models import Approval
from approvals.services.requesting import ProgramRequest, request_approval, take_back
from console import tokens
from console.asgi import application
from console.live import held, listener
from console.live.announce import announce
from console.live.held import Held, Wait
from tests.approvals.conftest import answer
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]


class Call:
    """One GET, as the web server would hand it on."""

    def __init__(self, app: Any, path: str, query: str, token: str = "") -> None:
        self._gone = asyncio.Event()
        self._sent: list[dict[str, Any]] = []
        self._is_first = True
        scope = {
            "type": "http", "method": "GET", "path": path, "query_string": query.encode(), "scheme": "http",
            "headers": [(b"host", b"localhost"), (b"authorization", f"Bearer {token}".encode())],
            "client": ("127.0.0.1", 1), "server": ("localhost", 80), "root_path": "", "http_version": "1.1",
        }  # fmt: skip
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._is_first:
            self._is_first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self._sent.append(message)

    def leave(self) -> None:
        self._gone.set()

    async def ends(self) -> tuple[int, Any]:
        async with asyncio.timeout(PATIENCE):
            await self.task
        if not self._sent:
            return 0, None
        body = b"".join(message.get("body", b"") for message in self._sent[1:])
        return self._sent[0]["status"], json.loads(body)


@pytest_asyncio.fixture(autouse=True)
async def listening() -> AsyncIterator[None]:
    async with asyncio.timeout(PATIENCE):
        await listener.listener().is_listening.wait()
    yield
    await listener.listener().stop()
    listener._listeners.clear()


def account(name: str, role: str) -> User:
    user, _ = User.objects.get_or_create(username=name)
    user.groups.add(Group.objects.get_or_create(name=role)[0])
    return user


class World:
    """A program, its token, what it asks, and a reviewer."""

    def __init__(self) -> None:
        self.robot, self.alice = account("robot", "service"), account("alice", "reviewer")
        self.token = tokens.create_token(owner=self.robot)

    def ask(self, external_id: str = "job-1") -> Approval:
        asked = ProgramRequest(
            title="Delete it", tool="delete_index", arguments={"name": "old"}, external_id=external_id, deliver_to=None,
            arguments_schema={}, verdicts=(), risk="high", agent_words="", audience=(), due_at=None,
        )  # fmt: skip
        return request_approval(asked=asked, requested_by=self.robot)[0]

    def decide(self, approval: Approval) -> None:
        given = answer(Approval.objects.get(pk=approval.pk))
        services.decide(approval_id=approval.pk, reviewer=self.alice, given=given)


@pytest.fixture
def world(transactional_db: None) -> World:
    return World()


def waiting(world: World, approval: Approval, seconds: float = 60) -> Call:
    return Call(application, f"/api/v1/approvals/{approval.pk}/answer", f"wait={seconds}", world.token)


async def is_held(count: int) -> None:
    """Wait until so many requests are held."""
    app = application.application_mapping["http"]
    async with asyncio.timeout(PATIENCE):
        while app.count != count:  # noqa: ASYNC110  a counter tells nobody
            await asyncio.sleep(0.02)


in_database = database_sync_to_async


async def test_the_answer_comes_when_it_is_decided(world: World) -> None:
    approval = await in_database(world.ask)()
    call = waiting(world, approval)
    await is_held(1)
    await in_database(announce)(f"approval:{approval.pk}")  # somebody looked at it, say: no answer yet
    await in_database(world.decide)(approval)
    status, body = await call.ends()
    assert (status, body["verdict"], body["arguments"]) == (200, "approve", {"name": "old"})
    await is_held(0)
    assert listener.listener()._by_topic == {}


async def test_the_deadline_by_the_databases_clock_ends_the_wait_with_expired(world: World) -> None:
    approval = await in_database(world.ask)()
    call = waiting(world, approval)
    await is_held(1)

    def pass_the_deadline() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE approvals_approval SET due_at = signalbox_now(), steps_climbed = 0,"
                " ladder = jsonb_build_array(jsonb_build_object('step', 'expire', 'at', signalbox_now()))"
                " WHERE id = %s",
                [approval.pk],
            )
        assert services.climb_overdue()

    await in_database(pass_the_deadline)()
    status, body = await call.ends()
    assert (status, body["status"], body["verdict"]) == (200, "expired", None)


async def test_taking_it_back_ends_the_wait(world: World) -> None:
    approval = await in_database(world.ask)()
    call = waiting(world, approval)
    await is_held(1)
    await in_database(take_back)(approval_id=approval.pk, by=world.robot, reason="not needed")
    status, body = await call.ends()
    assert (status, body["status"]) == (200, "withdrawn")


async def test_when_the_time_is_over_it_is_pending(world: World) -> None:
    approval = await in_database(world.ask)()
    assert await waiting(world, approval, 0.2).ends() == (202, {"status": "pending"})
    await is_held(0)


async def test_a_token_revoked_while_it_waits_gets_no_answer(world: World) -> None:
    approval = await in_database(world.ask)()
    call = waiting(world, approval)
    await is_held(1)
    await in_database(tokens.revoke_tokens)(owner=world.robot)
    await in_database(world.decide)(approval)
    status, body = await call.ends()
    assert (status, "verdict" in body) == (401, False)


async def test_a_role_lost_while_it_waits_ends_the_wait(world: World) -> None:
    approval = await in_database(world.ask)()
    call = waiting(world, approval)
    await is_held(1)
    await in_database(world.robot.groups.clear)()
    assert (await call.ends())[0] == 403


async def test_a_deaf_listener_that_hears_again_looks_again(world: World) -> None:
    approval = await in_database(world.ask)()
    call = waiting(world, approval)
    await is_held(1)
    ears = listener.listener()
    await ears.stop()
    await in_database(world.decide)(approval)  # nobody hears this
    ears.start()
    assert (await call.ends())[0] == 200


async def test_a_program_that_goes_away_is_forgotten(world: World) -> None:
    approval = await in_database(world.ask)()
    calls = [waiting(world, approval) for _ in range(3)]  # more may not all be held before the first one's wait is over
    await is_held(3)
    for call in calls:
        call.leave()
    assert [await call.ends() for call in calls] == [(0, None)] * 3
    await is_held(0)


async def test_another_programs_approval_is_not_waited_for(world: World) -> None:
    approval = await in_database(world.ask)()
    other = await in_database(account)("other", "service")
    token = await in_database(tokens.create_token)(owner=other)
    path = f"/api/v1/approvals/{approval.pk}/answer"
    assert (await Call(application, path, "wait=60", token).ends())[0] == 404
    assert (await Call(application, path, "wait=61", world.token).ends())[0] == 422
    assert (await Call(application, path, "wait=60", "sb_unknown").ends())[0] == 401


async def test_waiting_holds_no_connection_and_no_thread(world: World) -> None:
    approvals = [await in_database(world.ask)(f"job-{number}") for number in range(12)]
    calls = [waiting(world, approval) for approval in approvals]
    await is_held(12)

    def sessions() -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND (state <> 'idle' OR application_name = 'signalbox live') AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            )
            return int(cursor.fetchone()[0])

    async with asyncio.timeout(PATIENCE):
        while await in_database(sessions)() != 1:  # noqa: ASYNC110  the listener; one may be on its way to the pool
            await asyncio.sleep(0.02)
    await asyncio.gather(*(in_database(world.decide)(approval) for approval in approvals))
    assert [(await call.ends())[0] for call in calls] == [200] * 12


# With a view of ours, where the database has no part


def app(seen: list[int], *, whose: str = "robot") -> Held:
    async def pending(scope: Any, receive: Any, send: Any) -> None:
        seen.append(1)
        scope[held._KEY] = Wait(topics=("approval:apr_1",), whose=whose, seconds=60)
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    return Held(pending)


async def test_what_waits_for_nothing_is_sent_as_it_comes_whatever_its_address_says() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody asks")

    async def streams(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a part", "more_body": True})
        assert len(sent) == 2, "it is kept until the end"

    scope: Any = {"type": "http", "method": "GET", "path": "/audit/export", "query_string": b"wait=60"}
    await Held(streams)(scope, receive, send)
    assert len(sent) == 2


async def test_ten_thousand_that_wait_are_as_many_as_may_and_the_others_are_told() -> None:
    application = app([])
    calls = [Call(application, "/answer", "wait=60") for _ in range(10_000)]
    refused: list[tuple[int, Any]] = []
    async with asyncio.timeout(PATIENCE):
        while application.count < held.MOST_OF_ONE or sum(call.task.done() for call in calls) < 8_500:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    refused = [await call.ends() for call in calls if call.task.done()]
    assert application.count == held.MOST_OF_ONE
    assert {status for status, _ in refused} == {429}
    assert refused[0][1]["retry_after_seconds"] == 5
    for call in calls:
        call.leave()
    await asyncio.gather(*(call.ends() for call in calls))
    assert application.count == 0


async def test_one_account_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MOST_OF_ONE", 3)
    monkeypatch.setattr(held, "MOST_HELD", 5)
    application = app([])
    calls = [Call(application, "/answer", "wait=60") for _ in range(3)]
    while application.count < 3:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert (await Call(application, "/answer", "wait=60").ends())[0] == 429
    for call in calls:
        call.leave()
    await asyncio.gather(*(call.ends() for call in calls))


async def test_what_asks_for_no_wait_passes_by() -> None:
    seen: list[int] = []
    assert (await Call(app(seen), "/answer", "").ends())[0] == 202
    assert seen == [1]
