"""Decide, change, expire and withdraw in every order and at once, on real rows: one end, and everybody is told it.

`make nightly` runs 2,000 histories of each kind; without `--histories` there are 25.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from approvals import services
from approvals.errors import AlreadyClosed, ApprovalError, KeyReused, MayNotDecide, NotAuthorised, StaleVersion
from approvals.models import Approval, AuditEvent, Decision, Delegation
from approvals.reading import for_runs
from approvals.record import audit
from approvals.services import Answer
from console.clock import database_now
from console.models import OutboxEntry
from tests.approvals.conftest import REFUND
from tests.at_once import at_once

Opener = Callable[..., Approval]
ANY: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}

PEOPLE = ("alice", "bob", "carol", "dan")  # dan is no reviewer and stands in for alice
VERDICTS = ("approve", "edit", "reject", "respond")
#: what closes at once is rarer, so that histories get long; half of the clicks are made on an old screen
AGREE = st.tuples(st.sampled_from(PEOPLE), st.sampled_from(["approve", "approve", "edit"])).map(" ".join)
REFUSE = st.tuples(st.sampled_from(PEOPLE), st.sampled_from(["reject", "respond", "respond"])).map(" ".join)
LOOK = st.sampled_from([f"{name} looks" for name in PEOPLE])
OTHER = st.sampled_from(["alice repeats", "bob forges", "time passes", "the ladder", "the run ends", "the agent looks"])
MOSTLY = st.sampled_from([AGREE, AGREE, AGREE, AGREE, LOOK, LOOK, REFUSE, OTHER]).flatmap(lambda kind: kind)
STEPS = st.lists(MOSTLY, min_size=2, max_size=12)
AT_ONCE = st.lists(
    AGREE | REFUSE | st.sampled_from(["alice repeats", "the ladder", "the run ends", "the agent looks"]),
    min_size=2,
    max_size=6,
)
#: two of them say the same; different answers never add up
ANSWERS = {"alice": "no need", "bob": "no need", "carol": "ask again", "dan": "ask again"}
CLOSING = {"approval.decided", "approval.expired", "approval.withdrawn"}


@dataclass(frozen=True)
class Cast:
    """The people of a history, by name."""

    people: dict[str, User]


class World:
    """One approval, what each person has on the screen, and what must be true whatever is done."""

    def __init__(self, approval: Approval, cast: Cast) -> None:
        self.id, self.cast, self.run_id = approval.pk, cast, approval.run_id
        self.screens = dict.fromkeys(PEOPLE, (approval.version, approval.digest))
        self.heard: set[str] = set()  # verdicts that the agent has been given
        self.told: list[AlreadyClosed] = []
        self.lock = threading.Lock()
        self.clicks = 0

    def do(self, step: str) -> None:
        match step.split():
            case [name, "looks"] if name in PEOPLE:
                seen = Approval.objects.get(pk=self.id)
                self.screens[name] = (seen.version, seen.digest)
            case ["alice", "repeats"]:
                self._click("alice", "approve", key=f"key of {self.id}")
            case ["bob", "forges"]:
                self._click("bob", "approve", screen=(1, "0" * 64))
            case [name, verdict] if verdict in VERDICTS:
                self._click(name, verdict)
            case ["time", "passes"]:
                past = database_now() - timedelta(seconds=1)
                ladder = [{"step": "expire", "at": past.isoformat()}]
                Approval.objects.filter(pk=self.id, status="pending").update(
                    due_at=past, ladder=ladder, steps_climbed=0
                )
            case ["the", "ladder"]:
                services.climb([self.id])
            case ["the", "run", "ends"]:
                services.withdraw(run_id=self.run_id, reason="x", actor="worker")
            case ["the", "agent", "looks"]:
                (settled,) = for_runs.settled([self.id])
                if settled.ending is not None:
                    self.heard.add(settled.ending.verdict)

    def _click(self, name: str, verdict: str, *, key: str = "", screen: tuple[int, str] | None = None) -> None:
        version, digest = screen or self.screens[name]
        with self.lock:
            self.clicks += 1
            amount = f"{self.clicks}.00"
        answer = Answer(
            verdict=verdict,
            version=version,
            digest=digest,
            note="because",
            edited_arguments=REFUND | {"amount": amount} if verdict == "edit" else None,
            answer=ANSWERS[name] if verdict == "respond" else None,
            idempotency_key=key,
        )
        reviewer = User.objects.get(pk=self.cast.people[name].pk)
        try:
            services.decide(approval_id=self.id, reviewer=reviewer, given=answer)
        except AlreadyClosed as told:
            with self.lock:
                self.told.append(told)
        except StaleVersion as told:
            assert told.current_version >= version
        except MayNotDecide as told:
            assert told.rule in ("one-vote", "four-eyes")
        except KeyReused:
            assert key  # under the same key she now sends another version's digest

    def check(self) -> None:
        approval = Approval.objects.get(pk=self.id)
        decisions = list(Decision.objects.filter(approval=approval).select_related("by").order_by("number"))
        closings = list(AuditEvent.objects.filter(subject=self.id, kind__in=CLOSING).values_list("kind", flat=True))
        assert closings == ([] if approval.status == "pending" else [f"approval.{approval.status}"])
        assert OutboxEntry.objects.filter(payload__approval_id=self.id).count() == (approval.status == "decided")
        assert (approval.closed_at is None) == (approval.status == "pending")
        for told in self.told:  # every loser was told who or what was first
            if told.closing.status == "decided":
                assert (told.closing.by, told.closing.verdict) == (decisions[-1].by_name, decisions[-1].verdict)
            else:
                assert told.closing.status in ("expired", approval.status)
        assert len(self.heard) <= 1  # the agent never hears two different ends
        versions = set(approval.versions.values_list("version", "digest"))
        for decision in decisions:  # nobody decided about anything but a version that existed, and saw it
            assert {(decision.version, decision.digest), (decision.for_version, decision.for_digest)} <= versions
            assert decision.for_version - decision.version == (decision.verdict == "edit")
        self._check_agreement(approval, decisions)

    def _check_agreement(self, approval: Approval, decisions: list[Decision]) -> None:
        """Count again, in other words than the service's: who stands behind the current version?"""
        behind = {
            "alice" if decision.by_name == "dan" else decision.by_name
            for decision in decisions
            if (decision.for_version, decision.for_digest) == (approval.version, approval.digest)
            and decision.verdict in ("approve", "edit")
            and not (decision.verdict == "edit" and "editor" in approval.terms["four_eyes"])
        }
        answered: dict[Any, set[str]] = {}
        for decision in decisions:
            if decision.verdict == "respond" and decision.for_version == approval.version:
                who = "alice" if decision.by_name == "dan" else decision.by_name
                answered.setdefault(decision.answer, set()).add(who)
        is_answered = any(len(people) >= approval.needed for people in answered.values())
        refused = [decision for decision in decisions if decision.verdict == "reject"]
        assert len(refused) + is_answered <= 1
        if is_answered or refused:
            refused = refused or decisions[-1:]
            assert approval.status == "decided" and decisions[-1].verdict in ("reject", "respond")
        agreed = approval.status == "decided" and not refused
        assert agreed == (len(behind) >= approval.needed and approval.status == "decided" and not refused)
        if approval.status == "pending":
            assert len(behind) < approval.needed and not refused
        try:
            with transaction.atomic():
                allowed = services.authorise(approval_id=self.id, digest=approval.digest)
            assert agreed and allowed.decided_by == decisions[-1].by_name
        except NotAuthorised:
            assert not agreed


class Undo(Exception):
    """Take an example's rows back."""


@pytest.fixture
def cast(alice: User, bob: User) -> Cast:
    carol, dan = (User.objects.get_or_create(username=name)[0] for name in ("carol", "dan"))
    carol.groups.add(Group.objects.get(name="reviewer"))
    dan.groups.add(Group.objects.get_or_create(name="admin")[0])
    now = database_now()
    window = {"starts_at": now - timedelta(hours=1), "ends_at": now + timedelta(hours=9), "made_by": alice}
    Delegation.objects.get_or_create(principal=alice, delegate=dan, defaults=window)
    return Cast({"alice": alice, "bob": bob, "carol": carol, "dan": dan})


RULES = st.fixed_dictionaries(
    {"needed": st.sampled_from([1, 2, 2, 3]), "four_eyes": st.sampled_from([("requester",), ("requester", "editor")])}
)


@pytest.mark.django_db
@settings(**ANY)
@given(steps=STEPS, rule=RULES)
def test_whatever_happens_in_whatever_order_there_is_one_end(
    steps: list[str], rule: dict[str, Any], open_one: Opener, terms: Any, cast: Cast
) -> None:
    terms(**rule)
    try:
        with transaction.atomic():
            world = World(open_one(), cast)
            for step in steps:
                world.do(step)
                world.check()
            world.do("the agent looks")
            world.check()
            assert audit.verify().ok
            raise Undo
    except Undo:
        pass


@pytest.mark.django_db(transaction=True)
@settings(**ANY)
@given(steps=AT_ONCE, rule=RULES, late=st.booleans())
def test_whatever_happens_at_once_there_is_one_end(
    steps: list[str], rule: dict[str, Any], late: bool, open_one: Opener, terms: Any, cast: Cast
) -> None:
    terms(**rule)
    world = World(open_one(), cast)
    if late:
        world.do("time passes")
    at_once(*(partial(world.do, step) for step in steps))
    world.check()
    if late:
        assert not Decision.objects.filter(approval_id=world.id).exists()


def test_every_error_of_the_app_is_one_of_its_tree() -> None:
    found: Any = ApprovalError.__subclasses__()
    assert {AlreadyClosed, StaleVersion} <= set(found)
