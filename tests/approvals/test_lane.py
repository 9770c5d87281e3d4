"""What took effect, what should have by now, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from approvals import lane, services
from approvals.errors import InvalidChange, NothingToRedrive, NotTheirs
from approvals.models import Approval, AuditEvent, ReceiptStep
from approvals.services import note_effect, note_receipt
from approvals.services.receipts import set_aside
from tests.approvals.conftest import answer

Opener = Callable[..., Approval]


def decided(open_one: Opener, by: User, verdict: str = "approve", **changes: Any) -> Approval:
    approval = open_one(**changes)
    note = "no" if verdict == "reject" else ""
    services.decide(approval_id=approval.pk, reviewer=by, given=answer(approval, verdict, note=note))
    approval.refresh_from_db()
    return approval


def expected_in(approval: Approval) -> timedelta | None:
    """Return how long after its newest step the next one is late."""
    approval.refresh_from_db()
    newest = approval.receipt.latest("at", "id").at
    return approval.expected_by - newest if approval.expected_by else None


def let_pass(seconds: int) -> None:
    """Let time pass for everything that is expected."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE approvals_approval SET expected_by = expected_by - make_interval(secs => %s)", [seconds])


def standing(user: User) -> list[str]:
    return [item.approval.pk for item in lane.lane_page(user).items]


def test_each_step_gives_the_next_one_its_time(open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    assert expected_in(approval) == timedelta(seconds=30)
    note_receipt(approval_ids=[approval.pk], step="signalled")
    assert expected_in(approval) == timedelta(seconds=60)
    note_receipt(approval_ids=[approval.pk], step="resumed")
    assert expected_in(approval) == timedelta(seconds=60)
    note_effect(approval_id=approval.pk, event="started", within=timedelta(seconds=45))
    assert expected_in(approval) == timedelta(seconds=45 + 60)
    note_effect(approval_id=approval.pk, event="done")
    assert expected_in(approval) is None
    assert approval.took_effect_at == approval.receipt.get(step="effect_finished").at


@pytest.mark.parametrize(
    ("verdict", "changes"),
    [
        ("reject", {}),
        ("approve", {"kind": "outcome"}),
        ("reject", {"kind": "outcome"}),
        ("approve", {"source": "program"}),
    ],
)
def test_an_answer_without_an_effect_has_taken_effect_once_it_is_heard(
    verdict: str, changes: dict[str, Any], open_one: Opener, alice: User
) -> None:
    approval = decided(open_one, alice, verdict, **changes)
    note_receipt(approval_ids=[approval.pk], step="signalled")
    approval.refresh_from_db()
    assert approval.took_effect_at is None
    note_receipt(approval_ids=[approval.pk], step="resumed")
    approval.refresh_from_db()
    assert approval.took_effect_at == approval.receipt.get(step="resumed").at
    assert approval.expected_by is None


def test_an_approval_to_act_has_not_taken_effect_when_the_run_resumes(open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    note_receipt(approval_ids=[approval.pk], step="resumed")
    approval.refresh_from_db()
    assert approval.took_effect_at is None and approval.expected_by is not None


def test_that_nobody_decided_takes_effect_when_the_run_hears_it(open_one: Opener) -> None:
    approval = open_one()
    Approval.objects.filter(pk=approval.pk).update(status="expired")
    note_receipt(approval_ids=[approval.pk], step="resumed")
    approval.refresh_from_db()
    assert approval.took_effect_at is not None and approval.expected_by is None


@pytest.mark.parametrize("event", ["failed", "refused", "unknown"])
def test_what_ends_otherwise_stands_in_the_lane_at_once(event: str, open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    note_receipt(approval_ids=[approval.pk], step="resumed")
    if event != "refused":
        note_effect(approval_id=approval.pk, event="started", within=timedelta(seconds=30))
    assert standing(alice) == []
    note_effect(approval_id=approval.pk, event=event, detail="The shop is closed.")
    approval.refresh_from_db()
    assert approval.took_effect_at is None
    assert standing(alice) == [approval.pk]


def test_an_unknown_effect_that_happened_after_all_leaves_the_lane(open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    note_effect(approval_id=approval.pk, event="started")
    note_effect(approval_id=approval.pk, event="unknown")
    assert standing(alice) == [approval.pk]
    note_effect(approval_id=approval.pk, event="done")
    assert standing(alice) == []


def test_a_step_that_comes_again_or_late_moves_nothing(open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    note_receipt(approval_ids=[approval.pk], step="resumed", detail="turn 2")
    let_pass(1000)
    approval.refresh_from_db()
    before = approval.expected_by
    note_receipt(approval_ids=[approval.pk], step="signalled")  # the relay stamps after the run has resumed
    note_receipt(approval_ids=[approval.pk], step="resumed", detail="turn 2, tried again")
    approval.refresh_from_db()
    assert approval.expected_by == before
    assert approval.receipt.get(step="resumed").detail == "turn 2"
    assert [step.step for step in approval.receipt.order_by("id")] == ["recorded", "resumed", "signalled"]


def test_a_test_of_attention_is_not_expected_to_do_anything(open_one: Opener, alice: User) -> None:
    approval = open_one()
    Approval.objects.filter(pk=approval.pk).update(is_seeded=True)
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    let_pass(1000)
    assert standing(alice) == []


def test_asking_for_an_effect_of_a_pending_request_writes_nothing_on_its_receipt(open_one: Opener) -> None:
    approval = open_one()
    note_effect(approval_id=approval.pk, event="refused", detail="The approval is pending, not decided.")
    assert not approval.receipt.exists()
    assert AuditEvent.objects.filter(kind="effect.refused", subject=approval.pk).count() == 1


def test_the_lane_shows_what_came_last_first_and_pages_by_key(open_one: Opener, alice: User) -> None:
    made = [decided(open_one, alice) for _ in range(5)]
    for place, approval in enumerate(made):
        moment = approval.opened_at - timedelta(minutes=place)
        Approval.objects.filter(pk=approval.pk).update(expected_by=moment)
    first = lane.lane_page(alice, limit=2)
    second = lane.lane_page(alice, limit=2, cursor=first.next_cursor or "")
    third = lane.lane_page(alice, limit=2, cursor=second.next_cursor or "")
    pages = [[item.approval.pk for item in page.items] for page in (first, second, third)]
    ids = [approval.pk for approval in made]
    assert pages == [ids[:2], ids[2:4], ids[4:]]
    assert third.next_cursor is None


def test_the_lane_costs_the_same_for_one_and_for_many(
    open_one: Opener, alice: User, django_assert_max_num_queries: Any
) -> None:
    decided(open_one, alice)
    let_pass(1000)
    with django_assert_max_num_queries(10) as few:
        lane.lane_page(alice)
    for _ in range(9):
        decided(open_one, alice)
    let_pass(1000)
    with django_assert_max_num_queries(10) as many:
        assert len(lane.lane_page(alice).items) == 10
    assert len(few) == len(many)


def test_who_decided_is_told_of_their_own(open_one: Opener, alice: User, bob: User, eve: User) -> None:
    decided(open_one, alice)
    decided(open_one, bob)
    decided(open_one, bob)
    assert lane.own_count(bob) == 0  # all on their way
    let_pass(1000)
    assert (lane.own_count(alice), lane.own_count(bob), lane.own_count(eve)) == (1, 2, 0)
    assert (lane.count_for(alice), lane.count_for(eve)) == (3, 0)


def test_set_aside_takes_it_out_for_good_with_the_reason_on_the_record(open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    let_pass(1000)
    set_aside(approval_id=approval.pk, by=alice, reason="The customer took the money back.")
    set_aside(approval_id=approval.pk, by=alice, reason="The second click.")
    assert standing(alice) == []
    step = approval.receipt.get(step="set_aside")
    assert step.detail == "alice: The customer took the money back."
    event = AuditEvent.objects.get(kind="approval.set_aside")
    assert (event.actor, event.subject, event.body) == (
        "alice",
        approval.pk,
        {"reason": "The customer took the money back."},
    )
    note_receipt(approval_ids=[approval.pk], step="resumed")
    let_pass(1000)
    assert standing(alice) == []
    note_effect(approval_id=approval.pk, event="started")
    note_effect(approval_id=approval.pk, event="done")  # what happens is noted all the same
    approval.refresh_from_db()
    assert approval.took_effect_at is not None


@pytest.mark.parametrize("reason", ["", "   ", "x" * 401, "a\x00b"])
def test_set_aside_needs_a_reason_that_can_be_kept(reason: str, open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    let_pass(1000)
    with pytest.raises(InvalidChange) as refused:
        set_aside(approval_id=approval.pk, by=alice, reason=reason)
    assert refused.value.field == "reason"
    assert standing(alice) == [approval.pk]


def test_only_who_took_part_operators_and_admins_set_aside(
    open_one: Opener, alice: User, bob: User, olga: User, ada: User, eve: User
) -> None:
    for person, may in [(alice, True), (bob, False), (olga, True), (ada, True), (eve, False)]:
        approval = decided(open_one, alice)
        let_pass(1000)
        if may:
            set_aside(approval_id=approval.pk, by=person, reason="Done by hand.")
        else:
            with pytest.raises(NotTheirs):
                set_aside(approval_id=approval.pk, by=person, reason="Done by hand.")
    assert ReceiptStep.objects.filter(step="set_aside").count() == 3


def test_what_is_on_its_way_or_done_is_not_set_aside(open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    with pytest.raises(NothingToRedrive, match="on its way"):
        set_aside(approval_id=approval.pk, by=alice, reason="Too slow.")
    note_effect(approval_id=approval.pk, event="started")
    note_effect(approval_id=approval.pk, event="done")
    with pytest.raises(NothingToRedrive, match="taken effect"):
        set_aside(approval_id=approval.pk, by=alice, reason="Too slow.")


def test_pages_hear_when_something_lands_in_the_lane_and_when_it_leaves(
    open_one: Opener, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(lane, "announce", lambda *topics: told.append(topics))
    approval = decided(open_one, alice)
    known = lane.announce_changes(frozenset())
    assert (known, told) == (frozenset(), [])
    let_pass(1000)
    known = lane.announce_changes(known)
    assert told == [("inbox", f"approval:{approval.pk}")]
    assert lane.announce_changes(known) == known and len(told) == 1
    note_receipt(approval_ids=[approval.pk], step="resumed")
    assert lane.announce_changes(known) == frozenset()
    assert told[1:] == [("inbox",)]
