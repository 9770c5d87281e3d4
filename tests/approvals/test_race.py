"""Decide, expire and withdraw in every order and at once, on real rows: one end, and everybody is told the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from approvals import audit, selectors, services
from approvals.errors import AlreadyClosed, ApprovalError, StaleVersion
from approvals.models import Approval, AuditEvent, Decision
from console.clock import database_now
from console.models import OutboxEntry
from tests.approvals.conftest import answer
from tests.at_once import at_once

Opener = Callable[..., Approval]

STEPS = st.lists(
    st.sampled_from(
        [
            *("alice approves", "alice rejects", "bob approves", "bob rejects", "alice repeats her key"),
            *("a stale click", "time passes", "the ladder", "the run ends", "the agent looks"),
        ]
    ),
    min_size=1,
    max_size=7,
)
CLOSING_KINDS = {"approval.decided", "approval.expired", "approval.withdrawn"}


class World:
    """One approval, and what must be true of it whatever is done."""

    def __init__(self, approval: Approval, alice: User, bob: User) -> None:
        self.approval, self.people = approval, {"alice": alice, "bob": bob}
        self.won: list[str] = []
        self.seen: set[str] = set()  # answers that the agent has got
        self.deadline_passed = False

    def do(self, step: str) -> None:
        match step.split():
            case [name, "approves" | "rejects" as word]:
                self._click(name, word.removesuffix("s"), f"{name} {word}")
            case ["alice", "repeats", *_]:
                self._click("alice", "approve", "alice's key", key=f"key of {self.approval.pk}")
            case ["a", "stale", "click"]:
                with pytest.raises((StaleVersion, AlreadyClosed)):
                    given = answer(self.approval, digest="0" * 64)
                    services.decide(
                        approval_id=self.approval.pk, reviewer=self.people["bob"], given=given, channel="api"
                    )
            case ["time", "passes"]:
                self.deadline_passed = True
                past = database_now() - timedelta(seconds=1)
                ladder = [{"step": "expire", "at": past.isoformat()}]
                Approval.objects.filter(pk=self.approval.pk, status="pending").update(
                    due_at=past, ladder=ladder, steps_climbed=0
                )
            case ["the", "ladder"]:
                services.climb([self.approval.pk])
            case ["the", "run", "ends"]:
                services.withdraw(run_id=self.approval.run_id, reason="x", actor="worker")
            case ["the", "agent", "looks"]:
                (settled,) = selectors.settled([self.approval.pk])
                if settled.answer is not None:
                    self.seen.add(settled.answer["verdict"])

    def _click(self, name: str, verdict: str, won: str, key: str = "") -> None:
        given = answer(self.approval, verdict, note="because", idempotency_key=key)
        try:
            services.decide(approval_id=self.approval.pk, reviewer=self.people[name], given=given, channel="api")
            self.won.append(won)
        except AlreadyClosed as told:
            self.approval.refresh_from_db()
            assert told.status in (self.approval.status, "expired")
            assert (told.by is None) == (told.status != "decided")

    def check(self) -> None:
        approval = Approval.objects.get(pk=self.approval.pk)
        decisions = Decision.objects.filter(approval=approval).count()
        closings = AuditEvent.objects.filter(subject=approval.pk, kind__in=CLOSING_KINDS)
        assert decisions == (approval.status == "decided")
        assert OutboxEntry.objects.filter(payload__approval_id=approval.pk).count() == decisions
        assert [event.kind for event in closings] == (
            [] if approval.status == "pending" else [f"approval.{approval.status}"]
        )
        assert (approval.closed_at is None) == (approval.status == "pending")
        assert len(set(self.won)) == decisions  # only a repeated key wins more than once
        assert self.won == self.won[:1] or set(self.won) == {"alice's key"}
        assert len(self.seen) <= 1  # the agent never hears two different ends


class Undo(Exception):
    """Take an example's rows back."""


@pytest.fixture
def cast(alice: User, bob: User) -> Iterator[tuple[User, User]]:
    yield alice, bob


@pytest.mark.django_db
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_in_whatever_order_there_is_one_end(
    steps: list[str], open_one: Opener, cast: tuple[User, User]
) -> None:
    try:
        with transaction.atomic():
            world = World(open_one(), *cast)
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
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.sampled_from(
            ["alice approves", "bob rejects", "alice repeats her key", "the ladder", "the run ends", "a stale click"]
        ),
        min_size=2,
        max_size=5,
    ),
    late=st.booleans(),
)
def test_whatever_happens_at_once_there_is_one_end(
    steps: list[str], late: bool, open_one: Opener, cast: tuple[User, User]
) -> None:
    world = World(open_one(), *cast)
    if late:
        world.do("time passes")
    at_once(*(partial(world.do, step) for step in steps))
    world.check()
    assert audit.verify().ok
    if late:
        assert not Decision.objects.filter(approval=world.approval).exists()


def test_every_error_of_the_app_is_one_of_its_tree() -> None:
    found: Any = ApprovalError.__subclasses__()
    assert {AlreadyClosed, StaleVersion} <= set(found)
