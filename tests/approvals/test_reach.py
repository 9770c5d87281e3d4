"""A request that nobody could decide is told of at once: on its page, in lists, at the API and for *System*."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from hypothesis import HealthCheck, event, given, settings

from approvals import services
from approvals.models import AccountPerson, Approval
from approvals.people.permissions import may_decide
from approvals.reading import reach
from console import roles
from tests.api_caller import Caller
from tests.approvals.conftest import REFUND, answer
from tests.approvals.test_policy_worlds import Plan, Undo, World, plans
from tests.page_client import signed_in

Opener = Callable[..., Approval]


def told(approval: Approval) -> str:
    approval.refresh_from_db()
    found = reach.stranded([approval]).get(approval.pk)
    return found.sentence if found else ""


def test_while_somebody_could_nothing_is_said(open_one: Opener, alice: User, bob: User) -> None:
    approval = open_one(requested_by=alice)
    assert told(approval) == "" and reach.stranded_now() == []
    assert Caller(bob).get(f"approvals/{approval.pk}").json()["nobody_can_decide"] is None


def test_when_all_are_disabled_it_is_said_everywhere(open_one: Opener, alice: User, olga: User, ada: User) -> None:
    approval = open_one(requested_by=olga)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    sentence = told(approval)
    assert sentence.startswith("Nobody can decide this: it asks the role reviewer, and no active account fits; ")
    assert "not active any more: alice." in sentence
    assert "the role admin is asked too" in sentence and "An admin can give" in sentence
    assert [one.approval_id for one in reach.stranded_now()] == [approval.pk]
    assert Caller(ada).get(f"approvals/{approval.pk}").json()["nobody_can_decide"] == sentence
    assert Caller(ada).get("approvals").json()["items"][0]["nobody_can_decide"] == sentence
    assert sentence in signed_in(ada).get(f"/approvals/{approval.pk}/").content.decode()
    assert "Nobody can decide it" in signed_in(ada).get("/inbox/").content.decode()
    assert sentence in signed_in(ada).get("/system/").content.decode()


@pytest.mark.parametrize("way", ["requester", "editor", "owner"])
def test_who_is_kept_out_counts_for_nobody(open_one: Opener, terms: Any, alice: User, way: str) -> None:
    terms(four_eyes=("requester", "editor", "owner"))
    given: dict[str, Any] = {"requested_by": alice} if way == "requester" else {}
    approval = open_one(**given, agent_owners=("alice",) if way == "owner" else ())
    if way == "editor":
        edit = answer(approval, "edit", edited_arguments=REFUND | {"amount": "40.00"})
        services.decide(approval_id=approval.pk, reviewer=alice, given=edit)
    assert "kept out by four eyes or by a vote of their own: alice" in told(approval)


def test_a_second_account_is_no_second_person(open_one: Opener, alice: User, bob: User) -> None:
    approval = open_one(requested_by=alice)
    for user in (alice, bob):
        AccountPerson.objects.create(user=user, person="one")
    assert told(approval).startswith("Nobody can decide this")


def test_a_quorum_that_cannot_be_reached_any_more(open_one: Opener, terms: Any, alice: User, bob: User) -> None:
    terms(needed=3)
    assert told(open_one()).startswith("Only 2 of 3 people who are needed can still decide this")
    terms(needed=2)
    approval = open_one()
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    assert told(approval) == "", "bob can complete it"
    User.objects.filter(pk=bob.pk).update(is_active=False)
    assert told(approval).startswith("Nobody can decide this")


def test_it_is_over_once_somebody_has_the_role(open_one: Opener, alice: User, eve: User) -> None:
    approval = open_one(requested_by=alice)
    assert told(approval)
    eve.groups.add(Group.objects.get(name="reviewer"))
    assert told(approval) == ""


def test_the_number_of_queries_does_not_grow(
    open_one: Opener, alice: User, bob: User, olga: User, django_assert_num_queries: Any
) -> None:
    rows = [open_one(requested_by=olga) for _ in range(12)]
    for some in (rows[:1], rows):
        with django_assert_num_queries(7):
            reach.stranded(some)
    with django_assert_num_queries(0):
        reach.stranded([])


@pytest.mark.django_db
def test_those_that_are_alike_are_each_told_of_in_their_own_words(open_one: Opener, alice: User, olga: User) -> None:
    rows = [open_one(requested_by=olga), open_one(requested_by=olga), open_one(requested_by=alice)]
    assert reach.stranded(rows) == {rows[2].pk: reach.stranded([rows[2]])[rows[2].pk]}
    User.objects.filter(pk=alice.pk).update(is_active=False)
    found = reach.stranded(rows)
    assert {pk: one.summary for pk, one in found.items()} == {row.pk: row.summary for row in rows}
    assert [one.approval_id for one in reach.stranded_now()] == [row.pk for row in sorted(rows, key=_by_deadline)]


def _by_deadline(row: Approval) -> tuple[Any, str]:
    return row.due_at, row.pk


@pytest.mark.django_db
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(plan=plans())
def test_in_every_world_it_says_what_asking_each_person_says(plan: Plan, open_one: Opener) -> None:
    """Ask everybody, one by one, as their click would: the short way must agree."""
    from django.db import transaction

    with pytest.raises(Undo), transaction.atomic():
        world = World(plan, open_one)
        for step in plan.steps:
            if step[0] == "vote":
                world.vote(*step[1:])
            if step[0] == "disable":
                User.objects.filter(username=step[1]).update(is_active=False)
        approval = Approval.objects.get(pk=world.approval.pk)
        if approval.status == Approval.Status.PENDING and approval.needed == 1:
            able = [
                user.username
                for user in User.objects.order_by("pk")
                if may_decide(user, approval).allowed and roles.may(user, "see")
            ]
            event(f"{len(able)} able")
            assert bool(reach.stranded([approval])) == (not able)
        raise Undo
