"""What the list calls mine is what the decision would allow: compared in random worlds of people and requests."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from approvals.models import AccountPerson, Approval, Decision, Delegation, ProposalVersion
from approvals.people import persons
from approvals.people.permissions import may_decide
from approvals.reading.listing import Filters, approvals_page
from approvals.reading.mine import may_be_decided_by
from approvals.services import escalate_now
from console.clock import database_now

Open = Callable[..., Approval]


def a_person(name: str, chance: random.Random) -> User:
    # Two in three share an address with somebody: second accounts of the same people.
    mail = chance.choice(["", "one@example.org", "Two@example.org", "two@example.org"])
    user = User.objects.create_user(name, email=mail, is_active=chance.random() < 0.9)
    for role in chance.sample(["reviewer", "admin", "operator"], chance.randint(0, 2)):
        user.groups.add(Group.objects.get_or_create(name=role)[0])
    if chance.random() < 0.2:
        AccountPerson.objects.update_or_create(user=user, defaults={"person": "linked"})
    return user


def some(chance: random.Random, among: list[str], most: int) -> tuple[Any, ...]:
    return tuple(chance.sample(among, chance.randint(0, most)))


def a_request(world: list[User], open_one: Open, chance: random.Random) -> Approval:
    names = [user.username for user in world]
    approval = open_one(
        requested_by=chance.choice([None, *world]),
        agent_owners=some(chance, names, 2),
        arguments={"n": chance.random()},
    )
    terms = replace(
        approval.given_terms,
        groups=some(chance, ["reviewer", "admin"], 2),
        people=some(chance, names, 2),
        four_eyes=some(chance, ["requester", "owner", "editor"], 3),
        needed=chance.randint(1, 3),
    )
    approval.terms, approval.needed = terms.to_json(), terms.needed
    approval.audience, approval.people = list(terms.groups), list(terms.people)
    if chance.random() < 0.3:  # by a program that named people, whom the policy has to name as well
        approval.asked = {"audience": names[:2]}
        approval.audience, approval.people = list(some(chance, ["reviewer", "admin"], 2)), names[:2]
    approval.steps_climbed = chance.randint(0, 2)
    approval.version = chance.randint(1, 3)
    approval.save()
    if chance.random() < 0.3:
        escalate_now(approval_id=approval.pk, actor="olga")
    for version in range(2, approval.version + 1):
        ProposalVersion.objects.create(
            approval=approval,
            version=version,
            reason=chance.choice(["edited", "terms"]),
            canonical=approval.canonical,
            digest=approval.digest,
            summary="changed",
            made_by=chance.choice(world),
        )
    if terms.needed > 1 and chance.random() < 0.6:
        voted = chance.randint(1, approval.version)
        Decision.objects.create(
            approval=approval,
            by=chance.choice(world),
            on_behalf_of=chance.choice([None, chance.choice(world)]),
            verdict="approve",
            version=voted,
            for_version=voted,
            digest=approval.digest,
            for_digest=approval.digest,
            channel="page",
            body_digest="",
        )
    return approval


@pytest.mark.parametrize("seed", range(12))
def test_the_list_and_the_decision_agree_about_everybody(seed: int, db: None, open_one: Open) -> None:
    chance = random.Random(seed)
    world = [a_person(f"p{number}", chance) for number in range(7)]
    now = database_now()
    for _ in range(4):
        principal, delegate = chance.sample(world, 2)
        Delegation.objects.create(
            principal=principal,
            delegate=delegate,
            starts_at=now - timedelta(hours=chance.choice([5, -1])),
            ends_at=now + timedelta(hours=chance.choice([5, 5, -1])),
            revoked_at=chance.choice([None, None, None, now]),
            made_by=principal,
        )
    requests = [a_request(world, open_one, chance) for _ in range(14)]
    for user in User.objects.all():
        seen = bool(user.is_active and user.groups.exists())
        fresh = Approval.objects.filter(pk__in=[one.pk for one in requests])
        allowed = {one.pk for one in fresh if seen and may_decide(user, one).allowed}
        listed = {row.pk for row in approvals_page(user, Filters(mine=True), limit=200).rows}
        assert listed == allowed, (user.username, persons.person_of(user))


def test_the_number_of_queries_does_not_grow_with_the_requests(
    alice: User, open_one: Open, django_assert_max_num_queries: Any
) -> None:
    for count in (2, 30):
        for number in range(count):
            open_one(arguments={"n": number})
        with django_assert_max_num_queries(7):
            approvals_page(User.objects.get(pk=alice.pk), Filters(mine=True))


def test_a_disabled_account_may_decide_nothing_not_even_where_it_is_named(alice: User, open_one: Open) -> None:
    approval = open_one()
    Approval.objects.filter(pk=approval.pk).update(audience=[], people=["alice"])
    assert Approval.objects.filter(may_be_decided_by(alice)).exists()
    alice.is_active = False
    assert not Approval.objects.filter(may_be_decided_by(alice)).exists()


def test_a_delegate_may_not_decide_what_their_principal_started(alice: User, ada: User, open_one: Open) -> None:
    now = database_now()
    window = {"starts_at": now - timedelta(hours=1), "ends_at": now + timedelta(hours=1)}
    Delegation.objects.create(principal=alice, delegate=ada, made_by=alice, **window)
    theirs, started = open_one(), open_one(requested_by=alice)
    for approval, allowed in ((theirs, True), (started, False)):
        assert may_decide(ada, approval).allowed is allowed
        listed = [row.pk for row in approvals_page(ada, Filters(mine=True)).rows]
        assert (approval.pk in listed) is allowed
