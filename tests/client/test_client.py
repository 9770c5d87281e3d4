"""`signalbox_client`: the same rules for its fake and for the real API, and what it does when something is wrong."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import Group, User
from signalbox_client.testing import FakeSignalbox

from approvals import services
from approvals.models import Approval
from console import tokens
from orchestration import deliveries, webhook_gateway
from signalbox_client import (
    Answer,
    AsyncSignalbox,
    BadSignature,
    FailedBefore,
    NotApproved,
    NothingHappened,
    NotReported,
    OutcomeUnknown,
    Refused,
    Rejected,
    Signalbox,
    StillPending,
    Unreachable,
    calls,
    read_webhook,
    require_approval,
)
from tests.approvals.conftest import answer as given

INDEX = {"name": "orders-2019"}


@dataclass
class World:
    """A Signalbox, and how somebody decides in it, by the key that was asked with."""

    box: Signalbox
    decide: Callable[..., None]


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.django_db(transaction=True))])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        fake = FakeSignalbox()
        yield World(fake.client(), fake.decide)
        return
    url = request.getfixturevalue("live_server").url
    robot, alice = _account("robot", "service"), _account("alice", "reviewer")
    with Signalbox(url, tokens.create_token(owner=robot)) as box:
        yield World(box, lambda *args, **more: _decide(alice, *args, **more))


def _account(name: str, role: str) -> User:
    user = User.objects.create_user(name)
    user.groups.add(Group.objects.get_or_create(name=role)[0])
    return user


def _decide(by: User, key: str, verdict: str, *, arguments: Any = None, answer: Any = None, note: str = "") -> None:
    approval = Approval.objects.get(external_id__endswith=f"/{key}")
    asked = given(approval, verdict, edited_arguments=arguments, answer=answer, note=note)
    services.decide(approval_id=approval.pk, reviewer=by, given=asked)


def ask(world: World, key: str = "job-17", **changes: Any) -> Any:
    fields: dict[str, Any] = {"tool": "delete_index", "arguments": INDEX, "risk": "low", "key": key}
    return world.box.ask("Delete the old index", **fields | changes)


def test_it_is_asked_answered_and_reported(world: World) -> None:
    asked = ask(world)
    assert asked.is_pending and asked.url
    assert world.box.answer(asked) is None
    world.decide("job-17", "approve", note="go on")
    answer = world.box.answer(asked, wait=5)
    assert answer is not None and answer.approved
    assert (answer.arguments, answer.note, answer.external_id) == (INDEX, "go on", "job-17")
    world.box.report(asked, "done", result={"deleted": 1})
    world.box.report(asked, "done", result={"deleted": 1})
    executed = world.box.get(asked).executed
    assert executed is not None and (executed["status"], executed["result"]) == ("done", {"deleted": 1})
    with pytest.raises(Refused) as told:
        world.box.report(asked, "failed")
    assert told.value.status == 409


def test_the_same_key_asks_once_and_another_question_under_it_is_refused(world: World) -> None:
    assert ask(world).id == ask(world).id
    assert ask(world, "other").id != ask(world).id
    with pytest.raises(Refused) as told:
        ask(world, arguments={"name": "orders-2020"})
    assert told.value.status == 409


def test_a_rejection_has_its_reason_and_nothing_may_be_reported(world: World) -> None:
    asked = ask(world)
    world.decide("job-17", "reject", note="keep it")
    answer = world.box.answer(asked, wait=5)
    assert answer is not None and not answer.approved
    assert (answer.verdict, answer.arguments, answer.note) == ("reject", None, "keep it")
    with pytest.raises(Refused, match="409"):
        world.box.report(asked)


def test_what_is_taken_back_is_answered_so(world: World) -> None:
    asked = ask(world)
    assert world.box.withdraw(asked, "not needed").status == "withdrawn"
    answer = world.box.answer(asked)
    assert answer is not None and (answer.status, answer.verdict) == ("withdrawn", None)


def test_who_waits_hears_when_somebody_decides(world: World) -> None:
    asked = ask(world)
    heard: list[Answer | None] = []
    waiting = threading.Thread(target=lambda: heard.append(world.box.answer(asked, wait=60)))
    waiting.start()
    world.decide("job-17", "approve")
    waiting.join()
    assert heard[0] is not None and heard[0].approved


def test_an_unknown_id_is_refused(world: World) -> None:
    with pytest.raises(Refused) as told:
        world.box.answer("apr_nobody")
    assert told.value.status == 404


def test_a_guarded_function_runs_once_for_its_key(world: World) -> None:
    ran: list[str] = []

    @require_approval(risk="low", title="Delete {name}", key="delete/{name}", box=world.box, wait=0)
    def delete_index(name: str) -> str:
        ran.append(name)
        return f"deleted {name}"

    with pytest.raises(StillPending):
        delete_index("orders-2019")
    world.decide("delete/orders-2019", "approve")
    assert [delete_index("orders-2019"), delete_index(name="orders-2019")] == ["deleted orders-2019"] * 2
    assert ran == ["orders-2019"]


def test_a_guarded_function_gets_the_changed_arguments() -> None:
    fake = FakeSignalbox()
    fake.will("edit", arguments={"name": "orders-2018", "days": 7})

    @require_approval(tool="drop", box=fake.client())
    def delete_index(name: str, days: int = 30) -> tuple[str, int]:
        """Delete an index.

        For good.
        """
        return name, days

    assert delete_index("orders-2019") == ("orders-2018", 7)
    (asked,) = fake.requests
    assert (asked["title"], asked["tool"], asked["risk"]) == ("Delete an index.", "drop", "high")
    assert asked["arguments"] == {"name": "orders-2019", "days": 30}
    assert asked["arguments_schema"]["properties"] == {"name": {"type": "string"}, "days": {"type": "integer"}}
    assert list(fake.outcomes.values()) == [{"status": "done", "result": None, "error": ""}]  # a tuple is no JSON


@pytest.mark.parametrize(
    "result", [list(range(5001)), "\u4f60" * 50_000, "a\x00b", "\ud800"], ids=["many", "long", "NUL", "half"]
)
def test_what_was_done_is_reported_though_its_result_cannot_be_kept(result: Any, world: World) -> None:
    ran = []

    @require_approval(key="k", box=world.box, wait=0)
    def work() -> Any:
        ran.append(1)
        return result

    with pytest.raises(StillPending):
        work()
    world.decide("k", "approve")
    assert work() == result
    assert work() in (None, result) and len(ran) == 1, "it is not done again"


def test_an_error_with_half_a_letter_is_told_and_reported(world: World) -> None:
    @require_approval(key="k", box=world.box, wait=0)
    def work() -> None:
        raise OSError("no \ud800")

    with pytest.raises(StillPending):
        work()
    world.decide("k", "approve")
    with pytest.raises(OSError, match="no"):
        work()
    with pytest.raises(OutcomeUnknown):
        work()


def test_without_a_key_each_call_is_a_question_of_its_own() -> None:
    fake = FakeSignalbox()
    fake.will("approve")
    guarded = require_approval(box=fake.client())(_delete)
    assert [guarded("a"), guarded("a")] == ["a", "a"]
    assert len({asked["external_id"] for asked in fake.requests}) == 2


def test_what_nobody_waits_for_any_more_is_taken_back_unless_somebody_was_faster(world: World) -> None:
    with pytest.raises(StillPending) as told:
        require_approval(box=world.box, wait=0)(_delete)("a")
    assert world.box.get(told.value.approval_id).status == "withdrawn"
    asked = world.box.ask("Delete it", tool="delete_index", arguments=INDEX, key="k")
    world.decide("k", "approve")
    answer = world.box.give_up(asked, "gone")
    assert answer is not None and answer.approved


def _delete(name: str) -> str:
    return name


def test_a_rejection_raises_and_an_answer_in_its_place_is_returned() -> None:
    fake = FakeSignalbox()
    guarded = require_approval(box=fake.client())(_fails)
    fake.will("reject", note="keep it")
    with pytest.raises(Rejected, match="keep it"):
        guarded("a")
    fake.will("respond", answer={"use": "the archive"})
    assert guarded("a") == {"use": "the archive"}
    fake.will("expired")
    with pytest.raises(NotApproved, match="expired"):
        guarded("a")


def _fails(name: str) -> Any:
    raise AssertionError("it must not run")


@pytest.mark.parametrize(("error", "status"), [(NothingHappened("locked"), "failed"), (OSError("gone"), "unknown")])
def test_what_it_raises_is_reported_and_told_the_next_time(error: Exception, status: str) -> None:
    fake = FakeSignalbox()
    fake.will("approve")

    @require_approval(key="k", box=fake.client())
    def fails() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        fails()
    assert fake.outcomes["k"]["status"] == status and str(error) in fake.outcomes["k"]["error"]
    with pytest.raises(FailedBefore if status == "failed" else OutcomeUnknown):
        fails()


def test_a_guard_inside_that_changed_nothing_says_nothing_of_the_one_around_it() -> None:
    fake = FakeSignalbox()
    box, did = fake.client(), []

    @require_approval(key="inner", box=box)
    def inner() -> None:
        raise NothingHappened("locked")

    @require_approval(key="{name}", box=box)
    def outer(name: str) -> None:
        did.append(name)
        inner()

    for name in ("first", "second"):  # the second time the inner one was tried before
        fake.will("approve")
        with pytest.raises((NothingHappened, FailedBefore)):
            outer(name)
    assert did == ["first", "second"]
    assert {key: one["status"] for key, one in fake.outcomes.items()} == {
        "inner": "failed",
        "first": "unknown",
        "second": "unknown",
    }


def test_a_change_that_the_function_does_not_take_is_reported_as_not_done() -> None:
    fake = FakeSignalbox()
    fake.will("edit", arguments={"other": "a"})

    @require_approval(key="k", box=fake.client(), schema={"type": "object"})
    def deletes(name: str) -> None:
        raise AssertionError("it must not run")

    with pytest.raises(TypeError):
        deletes("a")
    assert fake.outcomes["k"]["status"] == "failed"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_function_that_ran_and_could_not_be_reported_says_so_with_what_it_returned(
    is_async: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, did = FakeSignalbox(), []
    fake.will("approve")
    usual = calls.report

    def lost(*given: Any) -> Any:
        return replace(usual(*given), path="approvals/apr_nobody/outcome")

    monkeypatch.setattr(calls, "report", lost)
    if is_async:

        async def scene() -> None:
            async with fake.async_client() as box:

                @require_approval(key="k", box=box)
                async def pays() -> str:
                    did.append(1)
                    return "paid"

                await pays()

        with pytest.raises(NotReported) as told:
            asyncio.run(scene())
    else:

        @require_approval(key="k", box=fake.client())
        def pays() -> str:
            did.append(1)
            return "paid"

        with pytest.raises(NotReported) as told:
            pays()
    assert told.value.result == "paid" and told.value.approval_id and did == [1]


def test_an_asynchronous_function_is_guarded_with_await() -> None:
    fake = FakeSignalbox()

    async def scene() -> str:
        async with fake.async_client() as box:

            @require_approval(key="k", box=box)
            async def delete_index(name: str) -> str:
                return f"deleted {name}"

            running = asyncio.create_task(delete_index("a"))
            while not fake.requests:  # noqa: ASYNC110  a list tells nobody
                await asyncio.sleep(0)
            fake.decide("k", "edit", arguments={"name": "b"})
            return await running

    assert asyncio.run(scene()) == "deleted b"


def test_a_function_whose_arguments_have_no_names_cannot_be_guarded() -> None:
    with pytest.raises(TypeError, match="without a name"):
        require_approval()(lambda *names: names)


def _yields(name: str) -> Iterator[str]:
    yield name


async def _yields_later(name: str) -> AsyncIterator[str]:
    yield name


@pytest.mark.parametrize("function", [_yields, _yields_later])
def test_a_generator_cannot_be_guarded(function: Callable[[str], Any]) -> None:
    with pytest.raises(TypeError, match="is a generator"):
        require_approval()(function)


async def _later(name: str) -> str:
    return name


@pytest.mark.parametrize("made", [_later, _yields, _yields_later])
def test_what_is_still_to_be_done_is_not_reported_as_done(made: Callable[[str], Any]) -> None:
    def sync(name: str) -> Any:
        return made(name)

    async def awaited(name: str) -> Any:
        return made(name)

    async def scene() -> None:
        async with fake.async_client() as box:
            await require_approval(key="awaited", box=box)(awaited)("a")

    fake = FakeSignalbox()
    fake.will("approve")
    with pytest.raises(TypeError, match="is not done"):
        require_approval(key="sync", box=fake.client())(sync)("a")
    with pytest.raises(TypeError, match="is not done"):
        asyncio.run(scene())
    assert [fake.outcomes[key]["status"] for key in ("sync", "awaited")] == ["unknown", "unknown"]


# When something is wrong


def client(*answers: httpx.Response | Exception, **more: Any) -> tuple[Signalbox, list[httpx.Request]]:
    seen: list[httpx.Request] = []
    left = list(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        told = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(told, Exception):
            raise told
        return told

    return Signalbox("http://s.test", "t", transport=httpx.MockTransport(handle), **more), seen


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "pause", lambda attempt, told: 0.001)


def test_what_gets_no_answer_is_sent_again() -> None:
    ok = httpx.Response(200, json={"id": "apr_1", "status": "pending", "url": ""})
    box, seen = client(httpx.ConnectError("no"), httpx.Response(503), httpx.Response(429), httpx.ReadTimeout("no"), ok)
    assert box.get("apr_1").id == "apr_1"
    assert len(seen) == 5


@pytest.mark.parametrize("status", [500, 502, 503, 504, 507, 520, 522, 524, 529, 530, 599])
def test_whatever_a_server_or_what_stands_before_it_cannot_do_now_is_sent_again(status: int) -> None:
    ok = httpx.Response(200, json={"id": "apr_1", "status": "pending", "url": ""})
    box, seen = client(httpx.Response(status), ok)
    assert box.get("apr_1").id == "apr_1" and len(seen) == 2


@pytest.mark.parametrize("body", ["<html>welcome</html>", "[1]", ""])
def test_an_answer_of_something_else_is_told_as_that(body: str) -> None:
    box, _ = client(httpx.Response(200, text=body))
    with pytest.raises(Unreachable, match="Something else than Signalbox"):
        box.get("apr_1")


def test_a_token_out_of_a_file_may_end_with_a_line_and_no_token_is_quoted() -> None:
    assert calls.Place.of("http://signalbox.example/", "sb_secret\n").headers == {"Authorization": "Bearer sb_secret"}
    for token in ("sb_se\ncret", "sb_secret ä", "sb secret"):
        with pytest.raises(ValueError, match="no token of Signalbox") as told:
            Signalbox("http://signalbox.example", token)
        assert "sb" not in str(told.value)
    assert "sb_secret" not in repr(calls.Place.of("http://signalbox.example", "sb_secret"))
    with pytest.raises(ValueError, match="http"):
        Signalbox("signalbox.example", "sb_secret")
    box, seen = client(httpx.LocalProtocolError("Illegal header value b'Bearer sb_secret'"))
    with pytest.raises(Unreachable) as refused:
        box.get("apr_1")
    assert "sb_secret" not in str(refused.value) and refused.value.__cause__ is None and len(seen) == 1


def test_as_many_threads_may_wait_as_there_are() -> None:
    with Signalbox("http://signalbox.example", "sb_secret") as box:
        transport: Any = box._http._transport
        assert transport._pool._max_connections == sys.maxsize


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 501])
def test_what_is_refused_is_not_sent_again(status: int) -> None:
    problem = {"title": "No", "detail": "Not like this.", "errors": [{"path": "tool", "message": "too long"}]}
    box, seen = client(httpx.Response(status, json=problem))
    with pytest.raises(Refused, match="Not like this") as told:
        box.get("apr_1")
    assert (len(seen), told.value.status, told.value.errors) == (1, status, problem["errors"])
    box, _ = client(httpx.Response(status, text="<html>a proxy's page"))
    with pytest.raises(Refused):
        box.get("apr_1")


def test_it_gives_up_when_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "pause", lambda attempt, told: 1e9)
    for broken in (httpx.ConnectError("no"), httpx.Response(502)):
        box, _ = client(broken, patience=0)
        with pytest.raises(Unreachable):
            box.get("apr_1")


def test_it_says_what_signalbox_said_last() -> None:
    told = {"title": "Too many", "detail": "robot has 1,000 requests that are not decided. Wait until some are."}
    box, _ = client(httpx.Response(429, json=told), patience=0)
    with pytest.raises(Unreachable, match="429: robot has 1,000 requests"):
        box.get("apr_1")
    box, _ = client(httpx.Response(502, text="<html>a proxy's page"), patience=0)
    with pytest.raises(Unreachable, match=r"502\.$"):
        box.get("apr_1")


def test_pauses_grow_keep_to_what_is_said_and_stay_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 5 <= calls.pause(1, httpx.Response(503, headers={"Retry-After": "5"})) <= 6
    assert calls.pause(1, httpx.Response(503, headers={"Retry-After": "9999"})) <= 61
    assert calls.pause(1, None) <= 0.5 and 7 <= calls.pause(50, None) <= 15


def test_a_server_that_holds_nothing_is_not_asked_without_pause() -> None:
    assert (calls.rest(50, 49), calls.rest(50, 0.01), calls.rest(0.2, 0.01)) == (0, 1, 0.2)


def test_a_key_too_long_is_shortened_the_same_each_time_and_an_empty_one_is_refused() -> None:
    long = "k" * 500
    assert calls.key_of(long) == calls.key_of(long) != calls.key_of(long + "k")
    assert len(calls.key_of(long)) <= calls.LONGEST_KEY
    assert calls.key_of("k" * 200) == "k" * 200
    with pytest.raises(ValueError, match="empty"):
        calls.key_of("")
    for bad in ("", "a/../b"):
        with pytest.raises(ValueError, match="no id"):
            calls.get(bad)


def test_without_an_address_it_says_which_variables_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGNALBOX_TOKEN", raising=False)
    with pytest.raises(ValueError, match="SIGNALBOX_TOKEN"):
        Signalbox("http://s.test")
    monkeypatch.setenv("SIGNALBOX_TOKEN", "t")
    for url in ("http://s.test", "http://s.test/", "http://s.test/api/v1", "http://s.test/api/v1/"):
        assert calls.Place.of(url, None).url == "http://s.test/api/v1/"
    AsyncSignalbox("http://s.test")


SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()


def signed(body: bytes, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    moment, key = str(int(at or time.time())), base64.b64decode(secret.removeprefix("whsec_"))
    signature = hmac.new(key, f"dec_1.{moment}.".encode() + body, hashlib.sha256).digest()
    name = f"v1,{base64.b64encode(signature).decode()}"
    return {"Webhook-Id": "dec_1", "webhook-timestamp": moment, "webhook-signature": f"v1,AAAA v2,x {name}"}


def test_a_webhook_is_read_with_either_of_two_secrets() -> None:
    body = json.dumps({"approval_id": "apr_1", "status": "decided", "verdict": "approve", "arguments": INDEX}).encode()
    other = "whsec_" + base64.b64encode(b"another secret of 24 byte").decode()
    assert read_webhook(signed(body), body, SECRET, "").arguments == INDEX, "an old one that is retired"
    answer = read_webhook(signed(body), body, other, SECRET)
    assert (answer.approval_id, answer.arguments) == ("apr_1", INDEX)
    for headers, text, secrets in (
        (signed(body), body, (other,)),
        (signed(body), body, ()),
        (signed(body), body + b" ", (SECRET,)),
        (signed(body) | {"Webhook-Id": "dec_2"}, body, (SECRET,)),
        (signed(body, at=time.time() - 360), body, (SECRET,)),
        (signed(body, at=time.time() + 360), body, (SECRET,)),
        (signed(body) | {"webhook-signature": "v1,é v1, v1"}, body, (SECRET,)),
        (signed(body) | {"webhook-timestamp": "soon"}, body, (SECRET,)),
        (signed(body) | {"webhook-timestamp": "9" * 400}, body, (SECRET,)),
        (signed(body, "whsec_"), body, (other, "")),
        (signed(body, "whsec_"), body, (other, "whsec_")),
        (signed(body, "whsec_"), body, ("",)),
        (signed(body, "whsec_"), body, ("whsec_not base64 at all!",)),
        ({}, body, (SECRET,)),
    ):
        with pytest.raises(BadSignature):
            read_webhook(headers, text, *secrets)


def test_it_reads_what_signalbox_signs_and_sends() -> None:
    body = b'{"approval_id": "apr_1", "status": "expired", "verdict": null, "arguments": null, "new": 1}'
    headers = webhook_gateway.signed("apr_1:expired", int(time.time()), body)
    assert read_webhook(headers, body, webhook_gateway.secret()).status == "expired"


def test_an_answer_has_all_that_is_delivered(transactional_db: None, live_server: Any) -> None:
    robot, alice = _account("robot", "service"), _account("alice", "reviewer")
    with Signalbox(live_server.url, tokens.create_token(owner=robot)) as box:
        asked = box.ask("Delete it", tool="delete_index", arguments=INDEX, key="k", risk="low")
        _decide(alice, "k", "approve")
        told = box.answer(asked)
    body = deliveries.body_of(Approval.objects.get())
    assert {name: getattr(told, name) for name in Answer.__dataclass_fields__} == body
