"""What a program gets when its approval is closed: the body, how often, and what is shown when nobody takes it."""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import transaction
from standardwebhooks import Webhook, WebhookVerificationError
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from approvals import services as approvals
from approvals.errors import NothingToRedrive, NotTheirs
from approvals.models import Approval, AuditEvent, ProposalVersion
from approvals.proposal.canonical import canonicalise, digest_of
from approvals.services import Answer
from approvals.services.receipts import locked_for_redrive, set_aside
from approvals.services.requesting import ProgramRequest, request_approval, take_back
from console.clock import DatabaseNow, database_now
from console.environment import Environment, environment
from console.models import OutboxEntry
from orchestration import deliveries, selectors, services, webhook_gateway
from orchestration.contracts import DeliverAnswer, GiveUpAnswer, StartRun, StartWatch
from orchestration.errors import WebhookFailed
from orchestration.models import AnswerDelivery
from orchestration.relay import loop
from orchestration.relay.loop import Relay
from orchestration.watching import WatchActivities
from tests.at_once import at_once, until_somebody_waits
from tests.fakes import FakeTemporal
from tests.orchestration.conftest import decide, go, make_run, open_for, reviewer
from tests.orchestration.test_relay import everything_delivered, relaying
from tests.orchestration.webhook_receiver import Receiver
from tests.waiting import PATIENCE, until

BODY = {
    *("approval_id", "external_id", "decision_id", "status", "verdict", "arguments", "answer", "note"),
    *("decided_by", "decided_at", "digest"),
}
SIGNAL = {"temporal": {"workflow_id": "cleanup-17", "signal": "approved", "run_id": "r-1", "namespace": "theirs"}}
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _signals_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No admin has to confirm what is signalled here; see test_signal_pairs.py."""
    monkeypatch.setattr(environment(), "signals", "*")


def robot() -> User:
    user, _ = User.objects.get_or_create(username="robot")
    user.groups.add(Group.objects.get_or_create(name="service")[0])
    return user


def asked(deliver_to: dict[str, Any] | None = None, **changes: Any) -> Approval:
    fields: dict[str, Any] = {
        "title": "Delete the old index",
        "tool": "delete_index",
        "arguments": {"name": "orders-2019"},
        "external_id": "job/17",
        "deliver_to": deliver_to or SIGNAL,
        "arguments_schema": {},
        "verdicts": (),
        "risk": "high",
        "agent_words": "",
        "audience": (),
        "due_at": None,
    }
    return request_approval(asked=ProgramRequest(**fields | changes), requested_by=robot())[0]


def answer(approval: Approval, **given: Any) -> Approval:
    fields: dict[str, Any] = {"verdict": "approve", "version": approval.version, "digest": approval.digest}
    approvals.decide(approval_id=approval.pk, reviewer=reviewer(), given=Answer(**fields | given))
    approval.refresh_from_db()
    return approval


def body_of(approval: Approval) -> dict[str, Any]:
    body = deliveries.body_of(Approval.objects.get(pk=approval.pk))
    assert set(body) == BODY
    assert json.loads(json.dumps(body)) == body
    return body


def test_an_approval_gives_the_arguments_that_may_be_used(transactional_db: None) -> None:
    approval = answer(asked(), note="go on")
    decision = approval.decisions.get()
    body = body_of(approval)
    assert datetime.fromisoformat(body.pop("decided_at")) == decision.at
    assert body == {
        "approval_id": approval.pk,
        "external_id": "job/17",
        "decision_id": decision.pk,
        "status": "decided",
        "verdict": "approve",
        "arguments": {"name": "orders-2019"},
        "answer": None,
        "note": "go on",
        "decided_by": "alice",
        "digest": approval.digest,
    }


def test_an_edit_gives_the_edited_arguments_and_their_digest(transactional_db: None) -> None:
    approval = asked()
    proposed = approval.digest
    answer(approval, verdict="edit", edited_arguments={"name": "orders-2018"}, note="the older one")
    given = Answer("approve", approval.version, approval.digest)
    approvals.decide(approval_id=approval.pk, reviewer=reviewer("bob"), given=given)
    body = body_of(approval)
    assert (body["verdict"], body["arguments"]) == ("edit", {"name": "orders-2018"})
    assert (body["note"], body["decided_by"]) == ("the older one", "bob"), "the program hears why it was changed"
    assert body["digest"] == approval.digest != proposed
    assert ProposalVersion.objects.get(approval=approval, version=1).digest == proposed


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"verdict": "reject", "note": "keep it"}, {"verdict": "reject", "note": "keep it", "answer": None}),
        ({"verdict": "respond", "answer": {"use": "new"}}, {"verdict": "respond", "answer": {"use": "new"}}),
    ],
    ids=["reject", "respond"],
)
def test_what_was_not_approved_gives_no_arguments(
    given: dict[str, Any], expected: dict[str, Any], transactional_db: None
) -> None:
    body = body_of(answer(asked(), **given))
    assert body["arguments"] is None
    assert body | expected == body


def test_of_two_at_once_the_answer_is_the_decision_that_closed_it(transactional_db: None) -> None:
    approval = asked()
    Approval.objects.filter(pk=approval.pk).update(needed=2)
    alice, bob = reviewer(), reviewer("bob")
    bob_began, alice_voted = threading.Event(), threading.Event()

    def decide_as(by: User, verdict: str, note: str = "") -> None:
        given = Answer(verdict, approval.version, approval.digest, note)
        approvals.decide(approval_id=approval.pk, reviewer=by, given=given)

    def first_to_begin() -> None:
        with transaction.atomic():
            database_now()  # the moment that his decision will bear
            bob_began.set()
            assert alice_voted.wait(PATIENCE)
            decide_as(bob, "reject", "keep it")

    def first_to_vote() -> None:
        assert bob_began.wait(PATIENCE)
        decide_as(alice, "approve")
        alice_voted.set()

    at_once(first_to_begin, first_to_vote)
    body = body_of(approval)
    assert (body["status"], body["verdict"], body["arguments"]) == ("decided", "reject", None)
    assert (body["decided_by"], body["note"]) == ("bob", "keep it")


def test_nobodys_decision_says_how_it_ended(transactional_db: None) -> None:
    withdrawn = asked(external_id="1")
    take_back(approval_id=withdrawn.pk, by=robot(), reason="gone")
    expired = asked(external_id="2")
    Approval.objects.filter(pk=expired.pk).update(status="expired")
    for approval, status in ((withdrawn, "withdrawn"), (expired, "expired")):
        body = body_of(approval)
        assert (body["status"], body["note"]) == (status, "")
        assert {body[name] for name in ("verdict", "decision_id", "arguments", "decided_by", "decided_at")} == {None}


def deliver(approval: Approval, temporal: FakeTemporal | None = None) -> None:
    activities = WatchActivities(temporal or FakeTemporal())
    go(ActivityEnvironment().run(activities.deliver_answer, DeliverAnswer(approval.pk)))


def give_up(approval: Approval) -> None:
    go(ActivityEnvironment().run(WatchActivities(FakeTemporal()).give_up_answer, GiveUpAnswer(approval.pk)))


@pytest.fixture
def theirs() -> FakeTemporal:
    """A server on which the program's workflow runs."""
    temporal = FakeTemporal()
    temporal.started["cleanup-17"] = StartRun("cleanup-17", "theirs")
    return temporal


def kinds(approval: Approval) -> list[str]:
    return list(AuditEvent.objects.filter(subject=approval.pk).order_by("seq").values_list("kind", flat=True))


def test_a_signal_goes_to_the_workflow_that_was_named_once(transactional_db: None, theirs: FakeTemporal) -> None:
    approval = answer(asked())
    for _ in range(3):
        deliver(approval, theirs)
    (signal,) = theirs.program_signals
    assert (signal.workflow_id, signal.signal, signal.run_id, signal.namespace) == (
        *("cleanup-17", "approved", "r-1", "theirs"),
    )
    assert signal.request_id == signal.body["decision_id"] == approval.decisions.get().pk
    assert len(theirs.calls) == 1
    step = approval.receipt.get(step="resumed")
    assert step.detail == "signal approved to workflow cleanup-17"
    assert kinds(approval) == ["approval.opened", "approval.decided", "approval.delivered"]
    found = selectors.delivery_of([approval.pk])[approval.pk]
    assert (found.state, found.cause, found.attempts) == ("delivered", "", 1)


def test_a_workflow_that_is_not_there_yet_is_tried_again(transactional_db: None, theirs: FakeTemporal) -> None:
    approval = answer(asked())
    with pytest.raises(ApplicationError) as told:
        deliver(approval)
    assert not told.value.non_retryable
    found = selectors.delivery_of([approval.pk])[approval.pk]
    assert (found.state, found.cause, found.attempts) == ("on_its_way", "no workflow cleanup-17", 1)
    assert not approval.receipt.filter(step="resumed").exists()
    deliver(approval, theirs)
    assert selectors.delivery_of([approval.pk])[approval.pk].attempts == 2


def test_an_open_approval_has_nothing_to_deliver(transactional_db: None, theirs: FakeTemporal) -> None:
    approval = asked()
    with pytest.raises(Exception, match="no answer to deliver"):
        deliver(approval, theirs)
    assert (theirs.program_signals, selectors.delivery_of([approval.pk])) == ([], {})


@pytest.mark.parametrize("what", ["bytes", "bytes and digest", "version"])
def test_a_program_is_not_given_what_was_changed_after_the_decision(
    what: str, transactional_db: None, theirs: FakeTemporal
) -> None:
    approval = answer(asked())
    other = canonicalise("delete_index", {"name": "orders-2024"})
    ways: dict[str, dict[str, Any]] = {
        "bytes": {"canonical": other},
        "bytes and digest": {"canonical": other, "digest": digest_of(other)},
        "version": {"version": 2},
    }
    changes = ways[what]
    before = {name: getattr(approval, name) for name in changes}
    Approval.objects.filter(pk=approval.pk).update(**changes)
    with pytest.raises(ApplicationError, match="not what was decided"):
        deliver(approval, theirs)
    assert theirs.program_signals == []
    assert "not what was decided" in selectors.delivery_of([approval.pk])[approval.pk].cause
    Approval.objects.filter(pk=approval.pk).update(**before)
    deliver(approval, theirs)
    assert [one.body["arguments"] for one in theirs.program_signals] == [{"name": "orders-2019"}]


def test_what_nobody_takes_is_shown_and_sent_again_on_a_click(transactional_db: None, theirs: FakeTemporal) -> None:
    approval, olga = answer(asked()), User.objects.create_user("olga")
    olga.groups.add(Group.objects.get_or_create(name="operator")[0])
    with pytest.raises(ApplicationError):
        deliver(approval)
    for _ in range(2):
        give_up(approval)
    assert selectors.delivery_of([approval.pk])[approval.pk].state == "undelivered"
    OutboxEntry.objects.all().delete()
    with pytest.raises(NotTheirs):
        services.redeliver(approval_id=approval.pk, by=User.objects.create_user("eve"))
    for _ in range(2):  # a second click changes nothing
        services.redeliver(approval_id=approval.pk, by=olga)
    entry = OutboxEntry.objects.get()
    assert entry.payload == {"approval_id": approval.pk, "workflow_id": approval.run_id, "again": True}
    found = selectors.delivery_of([approval.pk])[approval.pk]
    assert (found.state, found.cause, found.attempts) == ("on_its_way", "no workflow cleanup-17", 1)
    deliver(approval, theirs)
    give_up(approval)  # a watch of before that comes too late
    assert selectors.delivery_of([approval.pk])[approval.pk].state == "delivered"
    with pytest.raises(NothingToRedrive):
        services.redeliver(approval_id=approval.pk, by=olga)
    assert kinds(approval)[2:] == ["approval.undelivered", "approval.redelivered", "approval.delivered"]


@pytest.mark.parametrize("end", ["taken", "given up"])
def test_a_click_and_the_end_of_the_delivery_do_not_block_each_other(
    end: str, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval, olga, clicked = answer(asked()), User.objects.create_user("olga"), threading.Event()
    olga.groups.add(Group.objects.get_or_create(name="operator")[0])
    deliveries.begin(approval.pk)
    OutboxEntry.objects.all().delete()

    def locked(approval_id: str, by: User) -> Approval:
        found = locked_for_redrive(approval_id, by)
        clicked.set()
        until_somebody_waits()
        return found

    def deliver_to_its_end() -> None:
        assert clicked.wait(PATIENCE)
        if end == "taken":
            deliveries.delivered(approval.pk, "the program")
        else:
            deliveries.give_up(approval.pk)

    monkeypatch.setattr(services, "locked_for_redrive", locked)
    at_once(lambda: services.redeliver(approval_id=approval.pk, by=olga), deliver_to_its_end)
    assert selectors.delivery_of([approval.pk])[approval.pk].state == ("delivered" if end == "taken" else "undelivered")


def test_an_answer_that_nobody_gave_lands_in_the_lane_too(transactional_db: None) -> None:
    approval = asked()
    take_back(approval_id=approval.pk, by=robot(), reason="gone")
    with pytest.raises(ApplicationError):
        deliver(approval)
    give_up(approval)
    approval.refresh_from_db()
    assert approval.expected_by is not None


@pytest.mark.parametrize("end", ["given up", "held"])
def test_what_was_set_aside_stays_so_when_its_answer_is_sent_no_more(
    end: str, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval, olga = answer(asked()), User.objects.create_user("olga")
    olga.groups.add(Group.objects.get_or_create(name="operator")[0])
    if end == "given up":
        with pytest.raises(ApplicationError):
            deliver(approval)
    Approval.objects.filter(pk=approval.pk).update(expected_by=DatabaseNow())
    set_aside(approval_id=approval.pk, by=olga, reason="Told them by telephone.")
    if end == "given up":
        give_up(approval)
        assert kinds(approval)[-1] == "approval.undelivered"
    else:
        monkeypatch.setattr(environment(), "signals", "")
        with pytest.raises(ApplicationError):
            deliver(approval)
        assert AnswerDelivery.objects.get(pk=approval.pk).state == "held"
    approval.refresh_from_db()
    assert approval.expected_by is None


def test_deliveries_of_runs_are_told_beside_those_of_programs(transactional_db: None) -> None:
    run, ended = make_run(status="waiting"), make_run(status="failed")
    on_its_way, lost, program = decide(open_for(run)), decide(open_for(ended)), answer(asked())
    open_one = open_for(run)
    OutboxEntry.objects.filter(payload__approval_id=on_its_way.pk).update(last_error="Temporal is away", attempts=3)
    found = selectors.delivery_of([on_its_way.pk, lost.pk, program.pk, open_one.pk, "apr_none"])
    assert {pk: (one.state, one.cause, one.attempts) for pk, one in found.items()} == {
        on_its_way.pk: ("on_its_way", "Temporal is away", 3),
        lost.pk: ("ended", "the run is failed", 0),
        program.pk: ("on_its_way", "", 0),
    }


def test_how_many_are_asked_about_changes_no_number_of_questions(
    transactional_db: None, django_assert_num_queries: Callable[[int], Any]
) -> None:
    ids = [answer(asked(external_id=str(number))).pk for number in range(4)]
    for asked_for in (ids[:1], ids):
        with django_assert_num_queries(5):
            assert len(selectors.delivery_of(asked_for)) == len(asked_for)


@pytest.fixture
def temporal_double(monkeypatch: pytest.MonkeyPatch) -> FakeTemporal:
    monkeypatch.setattr(loop, "KNOCK_SECONDS", 0.01)
    return FakeTemporal()


def test_the_relay_starts_the_watch_and_tells_it_of_the_decision(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    approval = asked()
    relaying(lambda: until(everything_delivered), Relay(temporal_double, chores=()))
    assert temporal_double.watches == {approval.run_id: StartWatch(approval.pk)}
    answer(approval)
    relaying(lambda: until(everything_delivered), Relay(temporal_double, chores=()))
    assert temporal_double.signals == [(approval.run_id, approval.pk, approval.decisions.get().pk)]
    assert approval.receipt.get(step="signalled").detail == ""


def test_a_watch_that_is_gone_is_started_again_for_the_decision(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    approval = asked()
    relaying(lambda: until(everything_delivered), Relay(temporal_double, chores=()))
    temporal_double.ended.add(approval.run_id)
    temporal_double.watches.clear()
    answer(approval)
    relaying(lambda: until(everything_delivered), Relay(temporal_double, chores=()))
    assert temporal_double.watches == {approval.run_id: StartWatch(approval.pk)}
    assert approval.receipt.filter(step="signalled").exists()


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "webhooks_to_private", True)


@pytest.mark.usefixtures("private")
def test_a_webhook_gets_the_body_with_a_signature_that_fits(transactional_db: None) -> None:
    with Receiver(503, 302, 500) as receiver:
        approval = answer(asked({"webhook": {"url": f"{receiver.url}/answers?token=s3cret"}}))
        for status in (503, 302, 500):
            with pytest.raises(ApplicationError, match=str(status)):
                deliver(approval)
        deliver(approval)
        deliver(approval)  # taken already
    assert len(receiver.got) == 4
    for one in receiver.got:
        assert (one.path, one.headers["content-type"]) == ("/answers?token=s3cret", "application/json")
        assert Webhook(webhook_gateway.secret()).verify(one.body, one.headers) == body_of(approval)
        assert one.headers["webhook-id"] == approval.decisions.get().pk  # the same for each attempt
    step = approval.receipt.get(step="resumed")
    assert "s3cret" not in step.detail and "127.0.0.1 answered with status 200" in step.detail
    assert "s3cret" not in str(list(AuditEvent.objects.values("body")))


def post(url: str) -> str:
    return asyncio.run(webhook_gateway.post(url, "id", b"{}"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_an_address_inside_is_not_called(host: str) -> None:
    with Receiver() as receiver, pytest.raises(WebhookFailed, match=r"not a public address|no address"):
        post(f"http://{host}:{receiver.port}/")
    assert receiver.got == []


def test_a_name_is_called_only_when_all_its_addresses_are_public(monkeypatch: pytest.MonkeyPatch) -> None:
    async def two(*_: Any, **__: Any) -> list[Any]:
        return [(2, 1, 6, "", ("8.8.8.8", 443)), (2, 1, 6, "", ("10.0.0.1", 443))]

    async def inside() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", two)
        with pytest.raises(WebhookFailed, match=r"10\.0\.0\.1 is not a public address"):
            await webhook_gateway.post("https://rebound.example/", "id", b"{}")

    asyncio.run(inside())


@pytest.mark.usefixtures("private")
def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []

    async def inside(port: int) -> None:
        loop = asyncio.get_running_loop()

        async def once(host: str, *_: Any, **__: Any) -> list[Any]:
            looked_up.append(host)
            assert len(looked_up) == 1, "looked up a second time"
            return [(2, 1, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(loop, "getaddrinfo", once)
        await webhook_gateway.post(f"http://program.example:{port}/x", "id", b"{}")

    with Receiver() as receiver:
        asyncio.run(inside(receiver.port))
    assert receiver.got[0].headers["host"] == f"program.example:{receiver.port}"


@pytest.mark.usefixtures("private")
def test_a_receiver_that_never_answers_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_gateway, "SECONDS", 0.2)
    with Receiver(hangs=True) as receiver, pytest.raises(WebhookFailed, match="did not answer"):
        post(receiver.url)


@pytest.mark.usefixtures("private")
def test_an_answer_without_end_is_not_read() -> None:
    with Receiver(endless=True) as receiver:
        assert "200" in post(receiver.url)


@pytest.mark.usefixtures("private")
def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with Receiver() as receiver:
        post(receiver.url)
    assert len(receiver.got) == 1


def test_the_secret_is_printed_and_can_be_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: Any
) -> None:
    call_command("webhook_secret")
    derived = capsys.readouterr().out.strip()
    assert derived == webhook_gateway.secret() and len(b64decode(derived.removeprefix("whsec_"))) == 32
    assert settings.SECRET_KEY.encode() not in b64decode(derived.removeprefix("whsec_"))
    for mine, key in (("mine", b"mine"), ("whsec_" + b64encode(b"0" * 32).decode(), b"0" * 32), ("whsec_MDA", b"00")):
        monkeypatch.setattr(environment(), "webhook_secret", mine)
        call_command("webhook_secret")
        assert capsys.readouterr().out.strip() == "whsec_" + b64encode(key).decode()
        now = datetime.now(UTC).replace(microsecond=0)
        headers = webhook_gateway.signed("dec_1", int(now.timestamp()), b"{}")
        assert headers["webhook-signature"] == Webhook(key).sign("dec_1", now, "{}")
        assert Webhook(webhook_gateway.secret()).verify(b"{}", headers) == {}
        with pytest.raises(WebhookVerificationError):
            Webhook(webhook_gateway.secret()).verify(b"{} ", headers)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_====", "whsec_äöü", "whsec_not base64", "whsec_QUJ$"])
def test_a_secret_that_no_receiver_could_read_is_refused_at_the_start_and_not_quoted(secret: str) -> None:
    with pytest.raises(ValueError, match="write whsec_ and the base64") as refused:
        Environment(webhook_secret=secret)
    assert secret == "whsec_" or secret not in str(refused.value)


def test_an_answer_that_is_fetched_for_the_first_time_while_it_is_held_waits_its_turn() -> None:
    approval, held = answer(asked()), threading.Event()

    def holds() -> None:
        with transaction.atomic():
            deliveries._hold(approval.pk)
            held.set()
            until_somebody_waits()
            AnswerDelivery.objects.get_or_create(pk=approval.pk)

    def fetches() -> None:
        assert held.wait(PATIENCE)
        deliveries.taken(approval.pk, "fetched by robot", actor="robot")

    at_once(holds, fetches)
    assert AnswerDelivery.objects.get(pk=approval.pk).state == "delivered"
