"""The ladder: each step once, when it is due by the database's clock, and never over a decision."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User

from approvals import services
from approvals.errors import AlreadyClosed, MayNotDecide, StaleTerms
from approvals.models import Approval, AuditEvent
from approvals.reading import for_runs
from approvals.reading.mine import may_be_decided_by
from approvals.services import ladder
from console.clock import database_now
from console.models import OutboxEntry
from tests.approvals.conftest import answer
from tests.at_once import at_once

Opener = Callable[..., Approval]


def age(approval: Approval, hours: float) -> None:
    """Let the approval have been open for some hours."""
    shift = timedelta(hours=hours)
    ladder = [rung | {"at": (datetime.fromisoformat(rung["at"]) - shift).isoformat()} for rung in approval.ladder]
    Approval.objects.filter(pk=approval.pk).update(
        ladder=ladder, due_at=approval.due_at - shift, opened_at=approval.opened_at - shift
    )
    approval.refresh_from_db()


def kinds() -> list[str]:
    events = AuditEvent.objects.exclude(kind="approval.opened").order_by("seq")
    return list(events.values_list("kind", flat=True))


def test_nothing_is_due_on_the_first_day(open_one: Opener) -> None:
    approval = open_one()
    (rung,) = services.climb([approval.pk])
    assert rung.next_step_at == datetime.fromisoformat(approval.ladder[0]["at"])
    assert kinds() == []


@pytest.mark.parametrize(
    ("hours", "taken", "audience"),
    [
        (25, ["approval.reminded"], ["reviewer"]),
        (49, ["approval.reminded", "approval.escalated"], ["admin", "reviewer"]),
    ],
)
def test_what_is_due_is_done_in_order_and_once(
    hours: int, taken: list[str], audience: list[str], open_one: Opener
) -> None:
    approval = open_one()
    age(approval, hours)
    for _ in range(3):
        (rung,) = services.climb([approval.pk])
        assert rung.next_step_at == datetime.fromisoformat(approval.ladder[len(taken)]["at"])
    assert kinds() == taken
    approval.refresh_from_db()
    assert (approval.status, approval.audience, approval.steps_climbed) == ("pending", audience, len(taken))


def test_after_escalation_an_admin_may_decide(open_one: Opener, ada: User) -> None:
    approval = open_one()
    with pytest.raises(MayNotDecide):
        services.decide(approval_id=approval.pk, reviewer=ada, given=answer(approval))
    age(approval, 49)
    services.climb([approval.pk])
    services.decide(approval_id=approval.pk, reviewer=ada, given=answer(approval))


def test_at_the_deadline_it_expires_which_is_not_a_rejection(open_one: Opener, alice: User) -> None:
    approval = open_one()
    age(approval, 72)
    (rung,) = services.climb([approval.pk])
    assert rung.next_step_at is None
    approval.refresh_from_db()
    assert (approval.status, approval.decisions.count()) == ("expired", 0)
    assert approval.closed_at is not None
    assert kinds() == ["approval.reminded", "approval.escalated", "approval.expired"]
    (settled,) = for_runs.settled([approval.pk])
    assert settled.ending is not None
    assert (settled.ending.verdict, settled.ending.decision_id) == ("expired", None)
    with pytest.raises(AlreadyClosed) as told:
        services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    assert told.value.closing.status == "expired"


@pytest.mark.parametrize("source", ["agent", "program"])
def test_a_deadline_closes_a_request_whose_workflow_is_gone_and_wakes_one_that_is_not(
    source: str, open_one: Opener
) -> None:
    approval, fresh = open_one(source=source, run_id="run-gone"), open_one()
    age(approval, 72)
    assert services.climb_overdue()
    assert not services.climb_overdue()
    approval.refresh_from_db()
    assert approval.status == "expired" and approval.closed_at is not None
    assert kinds() == ["approval.reminded", "approval.escalated", "approval.expired"]
    (entry,) = OutboxEntry.objects.filter(kind="decided")
    assert entry.payload == {
        "run_id": "run-gone",
        "approval_id": approval.pk,
        "decision_id": f"{approval.pk}:expired",
    }
    fresh.refresh_from_db()
    assert fresh.status == "pending"


def test_the_workflow_that_expires_it_itself_needs_no_waking(open_one: Opener) -> None:
    approval = open_one()
    age(approval, 72)
    services.climb([approval.pk])
    assert not services.climb_overdue(all_steps=True)
    assert not OutboxEntry.objects.filter(kind="decided").exists()


def test_steps_that_a_dead_workflow_missed_are_taken_half_a_minute_late(open_one: Opener) -> None:
    approval, young = open_one(), open_one()
    age(approval, 24.02)
    age(young, 24.001)
    assert not services.climb_overdue()
    assert services.climb_overdue(all_steps=True)
    assert not services.climb_overdue(all_steps=True)
    approval.refresh_from_db()
    young.refresh_from_db()
    assert (approval.steps_climbed, young.steps_climbed, approval.status) == (1, 0, "pending")


def test_one_ladder_that_cannot_be_climbed_does_not_keep_the_deadlines_of_the_others(open_one: Opener) -> None:
    broken, approval = open_one(), open_one()
    for one in (broken, approval):
        age(one, 72)
    Approval.objects.filter(pk=broken.pk).update(steps_climbed=9)  # its ladder has no such step
    assert services.climb_overdue()
    approval.refresh_from_db()
    assert approval.status == "expired"
    assert not services.climb_overdue()  # nor is it tried without end


def test_climbing_something_that_is_closed_changes_nothing(open_one: Opener, alice: User) -> None:
    approval = open_one()
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    age(approval, 100)
    (rung,) = services.climb([approval.pk])
    assert rung.next_step_at is None
    approval.refresh_from_db()
    assert approval.status == "decided"
    assert kinds() == ["approval.decided"]


@pytest.mark.django_db(transaction=True)
def test_an_escalation_gives_nobody_back_whom_new_terms_have_left_out_meanwhile(
    open_one: Opener, terms: Any, alice: User, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms(escalate_to=("operator",))
    approval = open_one()
    age(approval, 25)
    services.climb([approval.pk])
    age(approval, 25)
    terms(escalate_to=("operator",), groups=("admin",))
    take_step = ladder._take_step

    def click() -> None:
        with pytest.raises(StaleTerms):
            services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))

    def late(read: Approval, step: str) -> None:
        if read.version == 1:
            at_once(click)  # between reading the row and writing it
        take_step(read, step)

    monkeypatch.setattr(ladder, "_take_step", late)
    services.climb([approval.pk])
    approval.refresh_from_db()
    assert (approval.version, approval.steps_climbed, approval.audience) == (2, 2, ["admin", "operator"])
    with pytest.raises(MayNotDecide):
        services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))


@pytest.mark.django_db(transaction=True)
def test_an_escalation_asks_those_of_the_policy_that_came_to_hold_meanwhile(
    open_one: Opener, terms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms(escalate_to=("operator",))
    approval = open_one()
    age(approval, 25)
    services.climb([approval.pk])
    age(approval, 25)
    terms(escalate_to=("admin",), policy_version="test/2")
    take_step = ladder._take_step

    def late(read: Approval, step: str) -> bool:
        at_once(lambda: services.renew_under_active_policy(set()))  # between reading the row and writing it
        return take_step(read, step)

    monkeypatch.setattr(ladder, "_take_step", late)
    services.climb([approval.pk])
    approval.refresh_from_db()
    assert (approval.version, approval.steps_climbed, approval.audience) == (1, 2, ["admin", "reviewer"])


@pytest.mark.parametrize("needed", [1, 2])
@pytest.mark.parametrize("asked", [{}, {"source": "program", "audience": ("alice",)}])
@pytest.mark.parametrize("policy_changes", [False, True])
def test_who_is_asked_early_may_decide_and_it_counts_at_execution(
    needed: int, asked: dict[str, Any], policy_changes: bool, open_one: Opener, terms: Any, alice: User, ada: User
) -> None:
    terms(needed=needed)
    approval = open_one(**asked)
    assert services.escalate_now(approval_id=approval.pk, actor="olga")
    assert not services.escalate_now(approval_id=approval.pk, actor="olga")
    if policy_changes:
        terms(needed=needed, may_bulk=False)
        with pytest.raises(StaleTerms):
            services.decide(approval_id=approval.pk, reviewer=ada, given=answer(approval))
    for person in (ada, alice)[:needed]:
        approval.refresh_from_db()
        assert Approval.objects.filter(may_be_decided_by(person), pk=approval.pk).exists()
        services.decide(approval_id=approval.pk, reviewer=person, given=answer(approval))
    approval.refresh_from_db()
    assert approval.status == "decided"
    assert services.authorise(approval_id=approval.pk, digest=approval.digest).approval_id == approval.pk


@pytest.mark.parametrize(
    ("hours", "taken", "to_come"),
    [(0, [], ["remind", "expire"]), (25, ["remind"], ["expire"]), (49, ["remind", "escalate"], ["expire"])],
)
def test_what_is_asked_early_is_not_asked_again_and_the_other_steps_stay(
    hours: int, taken: list[str], to_come: list[str], open_one: Opener
) -> None:
    approval = open_one()
    age(approval, hours)
    services.climb([approval.pk])
    is_asked = services.escalate_now(approval_id=approval.pk, actor="olga")
    assert is_asked == ("escalate" not in taken)
    approval.refresh_from_db()
    assert approval.climbed == taken + ["escalate"] * is_asked
    assert [rung["step"] for rung in approval.ladder] == approval.climbed + to_come
    due_at = approval.due_at
    age(approval, 71 - hours)
    services.climb([approval.pk])
    assert kinds().count("approval.escalated") == kinds().count("approval.reminded") == 1
    age(approval, 1)
    services.climb([approval.pk])
    approval.refresh_from_db()
    assert (approval.status, approval.due_at) == ("expired", due_at - timedelta(hours=72 - hours))


def test_a_ladder_too_short_to_escalate_can_be_escalated_early(open_one: Opener, ada: User) -> None:
    approval = open_one(due_at=database_now() + timedelta(hours=30))
    services.escalate_now(approval_id=approval.pk, actor="olga")
    services.decide(approval_id=approval.pk, reviewer=ada, given=answer(approval))
    services.authorise(approval_id=approval.pk, digest=approval.digest)


def test_once_it_has_escalated_other_people_to_escalate_to_are_other_terms(
    open_one: Opener, terms: Any, ada: User
) -> None:
    terms(escalate_to=("admin",))
    early, escalated = open_one(), open_one()
    services.escalate_now(approval_id=escalated.pk, actor="olga")
    terms(escalate_to=("operator",))
    services.renew_terms(early.pk)
    early.refresh_from_db()
    assert early.version == 1, "nobody was asked besides yet"
    escalated.refresh_from_db()
    with pytest.raises(StaleTerms, match="who may decide"):
        services.decide(approval_id=escalated.pk, reviewer=ada, given=answer(escalated))
    escalated.refresh_from_db()
    assert (escalated.version, escalated.audience) == (2, ["operator", "reviewer"])
    with pytest.raises(MayNotDecide):
        services.decide(approval_id=escalated.pk, reviewer=ada, given=answer(escalated))


def test_several_are_climbed_each_for_itself(open_one: Opener) -> None:
    young, old = open_one(), open_one()
    age(old, 73)
    first, second = services.climb([young.pk, old.pk])
    assert (first.approval_id, first.next_step_at is None) == (young.pk, False)
    assert (second.approval_id, second.next_step_at) == (old.pk, None)


def test_what_is_settled_names_the_next_step_while_it_waits(open_one: Opener) -> None:
    approval = open_one()
    age(approval, 25)
    services.climb([approval.pk])
    (settled,) = for_runs.settled([approval.pk, "apr_none"])
    assert settled.ending is None
    assert settled.next_step_at == datetime.fromisoformat(approval.ladder[1]["at"])


@pytest.mark.django_db(transaction=True)
def test_many_workers_at_once_take_each_step_once(open_one: Opener) -> None:
    approval = open_one()
    age(approval, 73)
    at_once(*[lambda: services.climb([approval.pk])] * 6)
    assert kinds() == ["approval.reminded", "approval.escalated", "approval.expired"]
    assert database_now() > approval.due_at
