"""Claims: shown to the others, in nobody's way, gone by themselves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db.models import F

from approvals import services
from approvals.errors import AlreadyClaimed, AlreadyClosed, MayNotDecide, NoSuchApproval, NotTheirs
from approvals.models import Approval, AuditEvent
from approvals.pages.inbox.asked import InboxWishes
from approvals.pages.inbox.pane import inbox_for
from approvals.reading.listing import Filters, approvals_page
from approvals.reading.team import live_claims
from approvals.services.claims import CLAIM_LASTS
from tests.approvals.conftest import answer
from tests.at_once import at_once

Opener = Callable[..., Approval]


def _kinds(approval: Approval) -> list[str]:
    events = AuditEvent.objects.filter(subject=approval.pk).exclude(kind="approval.opened")
    return list(events.order_by("seq").values_list("kind", flat=True))


def _holder(approval: Approval) -> str:
    claim = live_claims([approval.pk]).get(approval.pk)
    return claim.by if claim else ""


def _listed(user: User) -> list[Approval]:
    return approvals_page(user, Filters(claimed=True)).rows


def _inbox(user: User) -> list[str]:
    return [row.claimed_by for row in inbox_for(user, InboxWishes()).rows]


def _age(approval: Approval, age: timedelta) -> None:
    Approval.objects.filter(pk=approval.pk).update(claimed_at=F("claimed_at") - age)


def test_a_claim_is_shown_and_a_second_click_changes_nothing(open_one: Opener, alice: User) -> None:
    approval = open_one()
    services.claim(approval_id=approval.pk, by=alice)
    services.claim(approval_id=approval.pk, by=alice)
    assert _holder(approval) == "alice"
    assert _kinds(approval) == ["approval.claimed"]


def test_a_claim_keeps_nobody_from_deciding_and_ends_with_the_decision(
    open_one: Opener, alice: User, bob: User
) -> None:
    approval = open_one()
    services.claim(approval_id=approval.pk, by=alice)
    services.decide(approval_id=approval.pk, reviewer=bob, given=answer(approval))
    approval.refresh_from_db()
    assert (approval.status, approval.claimed_by, approval.claimed_at) == ("decided", None, None)
    with pytest.raises(AlreadyClosed):
        services.claim(approval_id=approval.pk, by=alice)


def test_a_claim_ends_when_the_run_ends_or_time_runs_out(open_one: Opener, alice: User) -> None:
    withdrawn, expired = open_one(run_id="run-2"), open_one(run_id="run-3")
    for approval in (withdrawn, expired):
        services.claim(approval_id=approval.pk, by=alice)
    services.withdraw(run_id="run-2", reason="x", actor="worker")
    ladder = [{"step": "expire", "at": "2020-01-01T00:00:00+00:00"}]
    Approval.objects.filter(pk=expired.pk).update(ladder=ladder)
    services.climb([expired.pk])
    for approval in (withdrawn, expired):
        approval.refresh_from_db()
        assert (approval.status != "pending", approval.claimed_by) == (True, None)


def test_a_claim_lapses_by_the_databases_clock_unless_it_is_renewed(open_one: Opener, alice: User, bob: User) -> None:
    approval = open_one()
    services.claim(approval_id=approval.pk, by=alice)
    _age(approval, CLAIM_LASTS - timedelta(minutes=1))
    with pytest.raises(AlreadyClaimed, match="alice"):
        services.claim(approval_id=approval.pk, by=bob)
    services.claim(approval_id=approval.pk, by=alice)
    _age(approval, timedelta(minutes=2))
    assert _holder(approval) == "alice"
    _age(approval, CLAIM_LASTS - timedelta(minutes=2))
    assert _holder(approval) == ""
    assert _listed(alice) == [] and _inbox(bob) == [""]
    services.claim(approval_id=approval.pk, by=bob)
    assert _holder(approval) == "bob"
    assert _listed(bob) == [approval] and _listed(alice) == []
    assert _inbox(alice) == ["bob"]
    assert _kinds(approval) == ["approval.claimed", "approval.claim_renewed", "approval.claimed"]


def test_only_who_may_decide_claims(open_one: Opener, alice: User, olga: User, eve: User) -> None:
    approval = open_one(requested_by=alice)
    for person in (alice, olga):
        with pytest.raises(MayNotDecide):
            services.claim(approval_id=approval.pk, by=person)
    with pytest.raises(NoSuchApproval):
        services.claim(approval_id=approval.pk, by=eve)
    assert _kinds(approval) == []


def test_a_claim_is_given_back_by_its_holder_or_taken_by_an_operator(
    open_one: Opener, alice: User, bob: User, olga: User
) -> None:
    approval = open_one()
    services.claim(approval_id=approval.pk, by=alice)
    with pytest.raises(NotTheirs, match="alice"):
        services.release(approval_id=approval.pk, by=bob)
    services.release(approval_id=approval.pk, by=alice)
    services.release(approval_id=approval.pk, by=alice)
    services.claim(approval_id=approval.pk, by=bob)
    services.release(approval_id=approval.pk, by=olga)
    assert _holder(approval) == ""
    assert _kinds(approval) == ["approval.claimed", "approval.released"] * 2


def test_an_approval_is_handed_only_to_who_may_decide_it(
    open_one: Opener, alice: User, bob: User, olga: User, eve: User
) -> None:
    approval = open_one(requested_by=bob)
    with pytest.raises(NotTheirs):
        services.reassign(approval_id=approval.pk, by=alice, to=alice)
    for somebody in (bob, eve, olga):
        with pytest.raises(MayNotDecide, match=somebody.username):
            services.reassign(approval_id=approval.pk, by=olga, to=somebody)
    services.reassign(approval_id=approval.pk, by=olga, to=alice)
    services.reassign(approval_id=approval.pk, by=olga, to=alice)
    assert _holder(approval) == "alice"
    (event,) = AuditEvent.objects.filter(kind="approval.reassigned")
    assert (event.actor, event.body) == ("olga", {"from": None, "to": "alice"})


def test_who_holds_it_hands_it_on(open_one: Opener, alice: User, bob: User) -> None:
    approval = open_one()
    services.claim(approval_id=approval.pk, by=alice)
    services.reassign(approval_id=approval.pk, by=alice, to=bob)
    assert _holder(approval) == "bob"
    with pytest.raises(NotTheirs):
        services.reassign(approval_id=approval.pk, by=alice, to=alice)


@pytest.mark.django_db(transaction=True)
def test_of_two_who_claim_at_once_one_holds_it_and_the_other_hears_who(
    open_one: Opener, alice: User, bob: User
) -> None:
    approval = open_one()

    def click(person: User) -> str:
        try:
            services.claim(approval_id=approval.pk, by=person)
        except AlreadyClaimed as told:
            return told.by
        return person.username

    first, second = at_once(lambda: click(alice), lambda: click(bob))
    assert first == second == _holder(approval)
    assert _kinds(approval) == ["approval.claimed"]
