"""Standing in for somebody: for a while, in the open, and no further than from one person to the next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import F

from approvals import services
from approvals.errors import InvalidChange, MayNotDecide, NotTheirs
from approvals.models import AccountPerson, Approval, AuditEvent, Decision, Delegation
from approvals.people.permissions import may_decide
from approvals.reading.mine import may_be_decided_by
from approvals.reading.team import windows_of
from approvals.services import reminders
from console.clock import database_now
from console.models import OutboxEntry
from console.outbox import Kind
from tests.approvals.conftest import answer
from tests.at_once import at_once, until_somebody_waits
from tests.waiting import PATIENCE

Opener = Callable[..., Approval]
HOUR = timedelta(hours=1)


def _delegate(principal: User, to: User, by: User | None = None, **changes: Any) -> Delegation:
    now = database_now()
    fields: dict[str, Any] = {"starts_at": now - HOUR, "ends_at": now + HOUR, "reason": "away"} | changes
    return services.delegate(principal=principal, to=to, by=by or principal, **fields)


def _again(user: User) -> User:
    """Roles are kept on the user object for the length of a request."""
    return User.objects.get(pk=user.pk)


@pytest.fixture
def named_only(open_one: Opener) -> Callable[..., Approval]:
    """Open approvals that only one person may decide."""

    def named_only(person: User, **changes: Any) -> Approval:
        approval = open_one(**changes)
        Approval.objects.filter(pk=approval.pk).update(audience=[], people=[person.username])
        approval.refresh_from_db()
        return approval

    return named_only


def test_open_requests_move_too_and_the_record_names_both(
    named_only: Callable[..., Approval], alice: User, bob: User
) -> None:
    approval = named_only(alice)
    assert not may_decide(bob, approval).allowed
    _delegate(alice, bob)
    assert list(Approval.objects.filter(may_be_decided_by(_again(bob)))) == [approval]
    Approval.objects.filter(pk=approval.pk).update(terms=approval.terms | {"people": ["alice"], "groups": []})
    permit = may_decide(_again(bob), approval)
    assert (permit.allowed, permit.on_behalf_of) == (True, alice)


def test_the_decision_of_a_delegate_carries_both_names(
    open_one: Opener, ada: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from approvals.policies import asking
    from approvals.proposal.terms import Terms

    terms = Terms(rule="admins", policy_version="t/1", groups=("admin",), risk="low")
    monkeypatch.setattr(asking, "terms_for", lambda facts: terms)
    approval = open_one()
    with pytest.raises(MayNotDecide):
        services.decide(approval_id=approval.pk, reviewer=bob, given=answer(approval))
    window = _delegate(ada, bob)
    decision = services.decide(approval_id=approval.pk, reviewer=_again(bob), given=answer(approval))
    assert (decision.by, decision.on_behalf_of) == (bob, ada)
    event = AuditEvent.objects.get(kind="approval.decided")
    assert (event.actor, event.body["on_behalf_of"]) == ("bob", "ada")
    services.revoke_delegation(delegation_id=window.pk, by=ada)
    services.authorise(approval_id=approval.pk, digest=approval.digest)  # it was theirs to make when it was made


@pytest.mark.parametrize(
    ("starts", "ends", "allowed"),
    [
        (-HOUR, HOUR, True),
        (0 * HOUR, HOUR, True),
        (HOUR, 2 * HOUR, False),
        (-2 * HOUR, -HOUR, False),
        (-HOUR, 0 * HOUR, False),
    ],
)
def test_a_window_counts_between_its_ends_only_by_the_databases_clock(
    named_only: Callable[..., Approval], alice: User, bob: User, starts: timedelta, ends: timedelta, allowed: bool
) -> None:
    approval, now = named_only(alice), database_now()
    window = _delegate(alice, bob)
    Delegation.objects.filter(pk=window.pk).update(starts_at=now + starts, ends_at=now + ends)
    assert may_decide(_again(bob), approval).allowed == allowed
    assert Approval.objects.filter(may_be_decided_by(_again(bob))).exists() == allowed


def test_a_revoked_window_gives_nothing_and_is_revoked_once(
    named_only: Callable[..., Approval], alice: User, bob: User
) -> None:
    approval, window = named_only(alice), _delegate(alice, bob)
    for _ in range(2):
        services.revoke_delegation(delegation_id=window.pk, by=bob)
    assert not may_decide(_again(bob), approval).allowed
    assert [e.body["delegate"] for e in AuditEvent.objects.filter(kind="delegation.revoked")] == ["bob"]


def test_what_somebody_decides_for_others_is_not_handed_on(
    named_only: Callable[..., Approval], alice: User, bob: User, ada: User
) -> None:
    approval = named_only(alice)
    _delegate(alice, bob)
    _delegate(bob, ada)
    assert may_decide(_again(bob), approval).allowed
    assert not may_decide(_again(ada), approval).allowed
    assert not Approval.objects.filter(may_be_decided_by(_again(ada)) & may_be_decided_by(_again(bob))).exists()


def test_a_delegate_decides_nothing_that_either_of_the_two_must_not(
    named_only: Callable[..., Approval], alice: User, bob: User
) -> None:
    _delegate(alice, bob)
    for requester in (alice, bob):
        approval = named_only(alice, requested_by=requester)
        assert may_decide(_again(bob), approval).rule == "four-eyes"
        assert not Approval.objects.filter(may_be_decided_by(_again(bob)), pk=approval.pk).exists()


def test_a_delegate_who_loses_the_role_or_the_account_stands_in_for_nobody(
    named_only: Callable[..., Approval], alice: User, bob: User
) -> None:
    approval = named_only(alice)
    _delegate(alice, bob)
    bob.groups.set([Group.objects.get_or_create(name="operator")[0]])
    assert not may_decide(_again(bob), approval).allowed
    bob.groups.set([Group.objects.get(name="reviewer")])
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert not may_decide(_again(bob), approval).allowed


def test_nobody_delegates_for_others_but_an_admin(alice: User, bob: User, olga: User, ada: User) -> None:
    for somebody in (bob, olga):
        with pytest.raises(NotTheirs):
            _delegate(alice, bob, by=somebody)
    assert _delegate(alice, bob, by=ada).made_by == ada


def test_nobody_stands_in_for_themselves_not_even_by_a_second_account(alice: User, bob: User) -> None:
    for account in (alice, bob):
        AccountPerson.objects.create(user=account, person="the same")
    for to in (alice, bob):
        with pytest.raises(InvalidChange, match="somebody else"):
            _delegate(alice, to)


def test_who_may_not_decide_or_has_no_account_cannot_stand_in(alice: User, bob: User, olga: User, eve: User) -> None:
    bob.is_active = False
    for to in (bob, olga, eve):
        with pytest.raises(InvalidChange) as told:
            _delegate(alice, to)
        assert told.value.field == "to"


@pytest.mark.parametrize(
    "window",
    [
        {"starts_at": HOUR, "ends_at": HOUR},
        {"starts_at": 2 * HOUR, "ends_at": HOUR},
        {"starts_at": -2 * HOUR, "ends_at": -HOUR},
        {"starts_at": HOUR, "ends_at": 400 * 24 * HOUR},
    ],
)
def test_a_window_that_is_none_is_refused(alice: User, bob: User, window: dict[str, timedelta]) -> None:
    now = database_now()
    with pytest.raises(InvalidChange) as told:
        _delegate(alice, bob, **dict[str, Any]({name: now + after for name, after in window.items()}))
    assert told.value.field == "ends_at"
    assert not AuditEvent.objects.exists()


def test_windows_may_overlap_and_a_second_click_makes_no_second_one(alice: User, bob: User) -> None:
    now = database_now()
    window: dict[str, Any] = {"starts_at": now, "ends_at": now + HOUR}
    assert _delegate(alice, bob, **window) == _delegate(alice, bob, **window)
    _delegate(alice, bob, starts_at=now, ends_at=now + 2 * HOUR)
    assert Delegation.objects.count() == AuditEvent.objects.filter(kind="delegation.made").count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_delegation_and_a_decision_of_the_same_person_do_not_block_each_other(
    open_one: Opener, alice: User, bob: User
) -> None:
    approval, voted = open_one(), threading.Event()

    def decide() -> None:
        with transaction.atomic():
            services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
            voted.set()
            until_somebody_waits()

    def hand_on() -> None:
        assert voted.wait(PATIENCE)
        _delegate(alice, bob)

    at_once(decide, hand_on)
    assert (Decision.objects.count(), Delegation.objects.count()) == (1, 1)


def test_strangers_to_a_window_neither_see_nor_revoke_it(alice: User, bob: User, olga: User, ada: User) -> None:
    window = _delegate(alice, bob)
    assert windows_of(olga) == windows_of(olga).__class__([], [], [], set())
    assert (windows_of(alice).mine, windows_of(bob).for_me, windows_of(ada).all) == ([window], [window], [window])
    with pytest.raises(NotTheirs):
        services.revoke_delegation(delegation_id=window.pk, by=olga)
    Delegation.objects.update(ends_at=F("starts_at"))
    services.revoke_delegation(delegation_id=window.pk, by=ada)
    window.refresh_from_db()
    assert window.revoked_at is None, "what has ended is not ended again"


def _second_admin(name: str = "ivo") -> User:
    user = User.objects.create(username=name)
    user.groups.add(Group.objects.get(name="admin"))
    return user


def test_an_admin_does_not_make_herself_a_stand_in(named_only: Callable[..., Approval], alice: User, ada: User) -> None:
    twin = User.objects.create(username="ada-2")
    twin.groups.add(Group.objects.get(name="reviewer"))
    for user in (ada, twin):
        AccountPerson.objects.create(user=user, person="ada")
    for to in (ada, twin):
        with pytest.raises(InvalidChange, match="Nobody makes themselves"):
            _delegate(alice, to, by=ada)
    assert not Delegation.objects.exists()


def test_what_an_admin_makes_for_others_holds_once_another_has_confirmed_it(
    named_only: Callable[..., Approval], alice: User, bob: User, ada: User
) -> None:
    approval = named_only(alice)
    Approval.objects.filter(pk=approval.pk).update(terms=approval.terms | {"people": ["alice"], "groups": []})
    approval.refresh_from_db()
    window = _delegate(alice, bob, by=ada)
    assert not may_decide(_again(bob), approval).allowed
    assert not Approval.objects.filter(may_be_decided_by(_again(bob))).exists()
    for person in (ada, bob):
        with pytest.raises(NotTheirs):
            services.confirm_delegation(delegation_id=window.pk, by=_again(person))
    assert not may_decide(_again(bob), approval).allowed
    services.confirm_delegation(delegation_id=window.pk, by=alice)
    services.confirm_delegation(delegation_id=window.pk, by=alice)
    assert may_decide(_again(bob), approval).on_behalf_of == alice
    kinds = list(
        AuditEvent.objects.filter(subject=f"delegation:{window.pk}").order_by("seq").values_list("kind", "actor")
    )
    assert kinds == [("delegation.made", "ada"), ("delegation.confirmed", "alice")]


def test_a_second_admin_may_confirm_it_who_is_another_person_and_does_not_stand_in(
    alice: User, bob: User, ada: User
) -> None:
    window = _delegate(alice, bob, by=ada)
    twin, ivo = _second_admin("ada-2"), _second_admin()
    for user in (ada, twin):
        AccountPerson.objects.create(user=user, person="ada")
    with pytest.raises(NotTheirs):
        services.confirm_delegation(delegation_id=window.pk, by=twin)
    assert services.confirm_delegation(delegation_id=window.pk, by=ivo).confirmed_by == ivo
    for_ivo = _delegate(alice, ivo, by=ada)
    with pytest.raises(NotTheirs):
        services.confirm_delegation(delegation_id=for_ivo.pk, by=_again(ivo))


def test_what_has_ended_is_not_confirmed(alice: User, bob: User, ada: User) -> None:
    window = _delegate(alice, bob, by=ada)
    services.revoke_delegation(delegation_id=window.pk, by=alice)
    with pytest.raises(InvalidChange):
        services.confirm_delegation(delegation_id=window.pk, by=alice)


def test_whom_it_is_for_is_told_by_mail(alice: User, bob: User, ada: User) -> None:
    User.objects.filter(pk=alice.pk).update(email="alice@example.org")
    window = _delegate(_again(alice), bob, by=ada)
    (entry,) = OutboxEntry.objects.filter(kind=Kind.REMIND)
    mail = reminders.mail_for(**entry.payload)
    assert mail is not None and mail.to == "alice@example.org"
    assert "ada wants bob to decide in your place" in mail.text and "does not hold before you" in mail.text
    services.confirm_delegation(delegation_id=window.pk, by=_second_admin())
    told = reminders.mail_for(**OutboxEntry.objects.filter(kind=Kind.REMIND).order_by("-id")[0].payload)
    assert told is not None and "ivo has confirmed it" in told.text
    services.revoke_delegation(delegation_id=window.pk, by=alice)
    assert reminders.mail_for(**entry.payload) is None


def test_a_delegation_of_ones_own_needs_nobody_and_sends_no_mail(alice: User, bob: User) -> None:
    User.objects.filter(pk=alice.pk).update(email="alice@example.org")
    assert _delegate(_again(alice), bob).is_confirmed
    assert not OutboxEntry.objects.filter(kind=Kind.REMIND).exists()


def test_a_circle_of_delegations_hands_nothing_on(named_only: Callable[..., Approval], alice: User, bob: User) -> None:
    carol = User.objects.create(username="carol")
    carol.groups.add(Group.objects.get(name="reviewer"))
    approval = named_only(alice, requested_by=bob)
    Approval.objects.filter(pk=approval.pk).update(terms=approval.terms | {"people": ["alice"], "groups": []})
    approval.refresh_from_db()
    for principal, to in ((alice, bob), (bob, carol), (carol, alice), (bob, alice)):
        _delegate(principal, to)
    assert not may_decide(_again(bob), approval).allowed, "he asked for it"
    assert not may_decide(_again(carol), approval).allowed, "what bob decides for alice is not handed on"
