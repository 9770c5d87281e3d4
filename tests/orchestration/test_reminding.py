"""Reminders on their way out: each is sent, and none stands in the way of a decision."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from smtplib import SMTPServerDisconnected
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMessage

from approvals.models import Approval
from approvals.services import reminders
from console.clock import database_now
from console.models import OutboxEntry
from console.outbox import Kind
from orchestration.contracts import StartRun
from orchestration.relay import loop as module
from orchestration.relay.deliveries import MAIL
from orchestration.relay.loop import Relay
from orchestration.threads import in_database
from tests.at_once import at_once
from tests.fakes import FakeTemporal
from tests.orchestration.conftest import decide, make_run, open_for, reviewer
from tests.orchestration.mailing import send_next
from tests.orchestration.test_relay import make_due, quick, relaying
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


def remind(*names: str) -> Approval:
    """Open an approval and let these people be told that it waits."""
    for name in names:
        user = reviewer(name)
        user.email = f"{name}@people.example"
        user.save()
    approval = open_for(make_run(status="waiting"), summary="A refund\nof 50")
    assert reminders.tell(approval, "remind") == sorted(names)
    return approval


def waiting() -> int:
    return OutboxEntry.objects.filter(delivered_at=None).count()


def test_each_is_sent_once(transactional_db: None) -> None:
    approval = remind("alice", "bob")
    assert [send_next() for _ in range(3)] == [True, True, False]
    assert [message.to for message in mail.outbox] == [["alice@people.example"], ["bob@people.example"]]
    assert (waiting(), mail.outbox[0].from_email) == (0, "Signalbox <signalbox@localhost>")
    assert mail.outbox[0].subject == "Waits for you: A refund⟨U+000A⟩of 50"
    assert f"/approvals/{approval.pk}/" in mail.outbox[0].body
    assert len({message.message()["Message-ID"] for message in mail.outbox}) == 2


def test_two_relays_send_nothing_twice(transactional_db: None) -> None:
    remind("alice", "bob")
    assert at_once(send_next, send_next) == [True, True]
    assert sorted(message.to[0] for message in mail.outbox) == ["alice@people.example", "bob@people.example"]


@pytest.mark.parametrize("error", [ConnectionRefusedError("nobody listens"), SMTPServerDisconnected("gone")])
def test_a_mail_system_that_is_away_is_tried_again_later_and_later(
    error: Exception, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    remind("alice")

    def away(*_: Any) -> int:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(EmailMessage, "send", away)
        for minutes in (1, 2, 4):
            before = database_now()
            assert send_next() is False
            entry = OutboxEntry.objects.get()
            assert before <= entry.due_at - timedelta(minutes=minutes) <= database_now()
            assert entry.last_error == str(error)
            assert send_next() is False  # not yet
            make_due()
    assert send_next() is True
    assert (len(mail.outbox), waiting(), OutboxEntry.objects.get().last_error) == (1, 0, "")


def test_what_a_killed_relay_had_taken_is_sent_with_the_same_name(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    remind("alice")
    sent = EmailMessage.send

    def killed(message: EmailMessage) -> int:
        sent(message)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(EmailMessage, "send", killed)
        send_next()
    assert send_next() is False
    assert OutboxEntry.objects.get().due_at - database_now() <= MAIL.lease
    make_due()
    assert send_next() is True
    first, second = (message.message()["Message-ID"] for message in mail.outbox)
    assert first == second


def test_what_is_decided_meanwhile_is_not_sent_and_says_so(transactional_db: None) -> None:
    decide(remind("alice"), by=reviewer("bob"))
    assert send_next() is True
    assert mail.outbox == []
    entry = OutboxEntry.objects.get(kind=Kind.REMIND)
    assert entry.delivered_at and entry.last_error == "There was nothing to tell any more."


def test_the_relay_sends_them_while_temporal_is_away(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    temporal = FakeTemporal()
    temporal.is_away = True
    monkeypatch.setattr(module, "KNOCK_SECONDS", 0.01)
    remind("alice")
    relaying(lambda: until(lambda: not waiting()), Relay(temporal, chores=()))
    assert len(mail.outbox) == 1


def test_open_pages_are_told_while_mail_is_not_taken(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    remind("alice")
    relay = Relay(FakeTemporal(), chores=quick("ask why mails wait"))
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)

    def away(*_: Any) -> int:
        raise ConnectionRefusedError("nobody listens")

    async def scene() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(EmailMessage, "send", away)
            await until(lambda: relay._detail() == "delivering; reminders are not taken: nobody listens")
        await in_database(make_due)
        await until(lambda: relay._detail() == "delivering")

    relaying(scene, relay)
    assert len(mail.outbox) == 1


def test_a_mail_system_that_is_slow_delays_no_decision(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    temporal = FakeTemporal()
    began, over = asyncio.Event(), asyncio.Event()
    remind("alice")
    run = make_run(status="waiting")

    async def scene() -> None:
        loop = asyncio.get_running_loop()

        def slow(*_: Any) -> int:
            loop.call_soon_threadsafe(began.set)
            return asyncio.run_coroutine_threadsafe(over.wait(), loop).result(20) and 1

        monkeypatch.setattr(EmailMessage, "send", slow)
        await began.wait()
        temporal.started[run.pk] = StartRun(run.pk, "support")
        await in_database(lambda: decide(open_for(run)))
        await until(lambda: len(temporal.signals) == 1)
        await until(lambda: waiting() == 1)
        over.set()
        await until(lambda: not waiting())

    relaying(scene, Relay(temporal, chores=()))
