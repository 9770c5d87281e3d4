"""Who is told by mail when an approval waits too long, and what the mail says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.urls import reverse

from approvals import services
from approvals.models import Approval, AuditEvent
from approvals.services.reminders import Mail, mail_for
from console.clock import database_now
from console.models import OutboxEntry
from console.outbox import Kind
from tests.approvals.conftest import answer
from tests.approvals.test_ladder import age

Opener = Callable[..., Approval]


@pytest.fixture(autouse=True)
def addresses(alice: User, bob: User, ada: User, olga: User) -> None:
    for user in (alice, bob, ada, olga):
        user.email = f"{user.username}@people.example"
        user.save()


def climb(approval: Approval, hours: float) -> list[str]:
    """Let hours pass and the ladder climb; return who was told by the newest step."""
    age(approval, hours)
    services.climb([approval.pk])
    told: list[str] = AuditEvent.objects.filter(subject=approval.pk).latest("seq").body.get("told", [])
    return told


def mails() -> list[Mail | None]:
    return [mail_for(**entry.payload) for entry in OutboxEntry.objects.filter(kind=Kind.REMIND).order_by("id")]


def test_all_who_may_decide_are_told_and_nobody_else(open_one: Opener, alice: User) -> None:
    carla = User.objects.create(username="carla")  # has no address
    gone = User.objects.create(username="gone", email="gone@people.example", is_active=False)
    for user in (carla, gone):
        user.groups.add(Group.objects.get(name="reviewer"))
    approval = open_one(requested_by=alice)
    assert climb(approval, 25) == ["bob"]
    assert climb(approval, 24) == ["ada", "bob"]
    assert [mail.to for mail in mails() if mail] == ["bob@people.example", "ada@people.example", "bob@people.example"]
    assert climb(approval, 24) == []
    assert mails() == [None, None, None]  # expired meanwhile


def test_a_step_tells_once_however_often_the_ladder_is_climbed(open_one: Opener) -> None:
    approval = open_one()
    climb(approval, 25)
    for _ in range(2):
        services.climb([approval.pk])
    assert OutboxEntry.objects.filter(kind=Kind.REMIND).count() == 2


def test_who_stands_in_is_told_for_whom(open_one: Opener, alice: User, bob: User, terms: Callable[..., None]) -> None:
    terms(groups=(), people=("alice",), escalate_to=())
    now = database_now()
    services.delegate(principal=alice, to=bob, starts_at=now, ends_at=now + timedelta(days=9), reason="away", by=alice)
    assert climb(open_one(), 25) == ["alice", "bob"]
    hers, his = mails()
    assert hers and "You may decide this request." in hers.text
    assert his and "on behalf of alice" in his.text


def test_two_accounts_of_one_person_get_one_mail(open_one: Opener, alice: User, bob: User) -> None:
    bob.email = "Alice@people.example"
    bob.save()
    assert climb(open_one(), 25) == ["alice"]


@pytest.mark.parametrize("change", ["decided", "role", "address", "account"])
def test_nothing_is_sent_that_is_no_longer_so(change: str, open_one: Opener, alice: User, bob: User) -> None:
    approval = open_one()
    climb(approval, 25)
    if change == "decided":
        services.decide(
            approval_id=approval.pk, reviewer=bob, given=answer(approval), circumstances=services.Circumstances("page")
        )
    elif change == "role":
        alice.groups.clear()
    elif change == "address":
        User.objects.filter(pk=alice.pk).update(email="")
    else:
        alice.delete()
    assert mails()[0] is None


def test_the_mail_says_what_waits_since_when_and_where(open_one: Opener, settings: Any) -> None:
    settings.PUBLIC_URL = "https://signalbox.example"
    approval = open_one()
    climb(approval, 25)
    mail = mails()[0]
    assert mail is not None
    assert mail.subject == "Waits for you: Refund 89.40 EUR to order 8801"
    assert "issue_refund of support, high risk" in mail.text
    assert f"was asked on {approval.opened_at:%-d %B %Y at %H:%M} UTC" in mail.text
    assert f"expires on {approval.due_at:%-d %B %Y at %H:%M} UTC" in mail.text
    link = f"https://signalbox.example{reverse('approvals:approval', args=[approval.pk])}"
    assert link in mail.text.splitlines()
    assert approval.agent_words not in mail.text  # which nobody has checked
    climb(approval, 24)
    later = mails()[-1]
    assert later is not None and "more people are asked now" in later.text
