from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections

from approvals import services
from approvals.errors import AlreadyClosed, InvalidVerdict, KeyReused, MayNotDecide, NoSuchApproval, StaleVersion
from approvals.models import Approval, AuditEvent, Decision
from approvals.record import audit
from console.clock import database_now
from console.models import OutboxEntry
from tests.approvals.conftest import REFUND, answer
from tests.at_once import at_once

Opener = Callable[..., Approval]


def test_a_decision_closes_the_approval_and_leaves_its_whole_trace(open_one: Opener, alice: User) -> None:
    approval = open_one()
    decision = services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    approval.refresh_from_db()
    assert (approval.status, decision.digest) == ("decided", approval.digest)
    assert [step.step for step in approval.receipt.all()] == ["recorded"]
    entry = OutboxEntry.objects.get(kind="decided")
    assert entry.payload == {"run_id": "run-1", "approval_id": approval.pk, "decision_id": decision.pk}
    assert list(AuditEvent.objects.order_by("seq").values_list("kind", flat=True)) == [
        "approval.opened",
        "approval.decided",
    ]
    assert audit.verify().ok


def test_the_second_reviewer_is_told_who_was_first(open_one: Opener, alice: User, bob: User) -> None:
    approval = open_one()
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    with pytest.raises(AlreadyClosed) as told:
        services.decide(approval_id=approval.pk, reviewer=bob, given=answer(approval, "reject", note="no"))
    assert (told.value.closing.by, told.value.closing.verdict) == ("alice", "approve")
    assert told.value.closing.at is not None
    assert Decision.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_reviewers_at_once_exactly_one_decides(open_one: Opener, alice: User, bob: User) -> None:
    approval = open_one()
    barrier = threading.Barrier(12)
    outcomes: list[str] = []

    def click(reviewer: User, verdict: str) -> None:
        barrier.wait()
        try:
            given = answer(approval, verdict, note="because")
            services.decide(approval_id=approval.pk, reviewer=reviewer, given=given)
            outcomes.append("won")
        except AlreadyClosed as exc:
            outcomes.append(exc.closing.by or "")
        finally:
            connections.close_all()

    clicks = [
        threading.Thread(target=click, args=((alice, bob)[number % 2], ("approve", "reject")[number % 2]))
        for number in range(12)
    ]
    for thread in clicks:
        thread.start()
    for thread in clicks:
        thread.join()
    winner = Decision.objects.get().by_name
    assert sorted(outcomes) == sorted(["won"] + [winner] * 11)
    assert OutboxEntry.objects.count() == 1


def test_the_same_key_gets_the_same_decision_and_another_body_is_refused(open_one: Opener, alice: User) -> None:
    approval = open_one()
    given = answer(approval, idempotency_key="k1")
    first = services.decide(approval_id=approval.pk, reviewer=alice, given=given)
    assert services.decide(approval_id=approval.pk, reviewer=alice, given=given) == first
    other = answer(approval, "reject", note="no", idempotency_key="k1")
    with pytest.raises(KeyReused):
        services.decide(approval_id=approval.pk, reviewer=alice, given=other)


LESS, LEAST = ({"verdict": "edit", "edited_arguments": REFUND | {"amount": amount}} for amount in ("40.00", "30.00"))


@pytest.mark.parametrize(
    ("first", "other"),
    [
        ({"note": "Paid twice."}, {"note": "Paid once."}),
        (LESS, LEAST),
        ({"verdict": "respond", "answer": "ask again"}, {"verdict": "respond", "answer": "wait"}),
    ],
    ids=["note", "arguments", "answer"],
)
def test_a_key_stands_for_one_body_to_its_last_word(
    first: dict[str, Any], other: dict[str, Any], open_one: Opener, alice: User
) -> None:
    approval = open_one()
    given = answer(approval, **{"idempotency_key": "k1"} | first)
    kept = services.decide(approval_id=approval.pk, reviewer=alice, given=given)
    assert services.decide(approval_id=approval.pk, reviewer=alice, given=given) == kept
    changed = answer(approval, **{"idempotency_key": "k1"} | other)
    with pytest.raises(KeyReused):
        services.decide(approval_id=approval.pk, reviewer=alice, given=changed)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("needed", "given"), [(1, {}), (2, {}), (2, LESS)], ids=["closes", "votes", "changes"])
def test_the_same_key_many_times_at_once_is_one_decision_and_one_answer(
    needed: int, given: dict[str, Any], open_one: Opener, terms: Any, alice: User
) -> None:
    terms(needed=needed)
    approval = open_one()
    sent = answer(approval, **{"idempotency_key": "k1"} | given)

    def click() -> str:
        return services.decide(approval_id=approval.pk, reviewer=alice, given=sent).pk

    assert set(at_once(*[click] * 10)) == {Decision.objects.get().pk}


@pytest.mark.parametrize("changes", [{"digest": "0" * 64}, {"version": 2}])
def test_a_decision_about_something_else_than_the_current_proposal_is_refused(
    open_one: Opener, alice: User, changes: dict[str, Any]
) -> None:
    approval = open_one()
    with pytest.raises(StaleVersion) as told:
        services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval, **changes))
    assert told.value.current_version == 1
    approval.refresh_from_db()
    assert approval.status == "pending"


@pytest.mark.parametrize("late", [timedelta(0), timedelta(milliseconds=1)])
def test_from_the_deadline_on_nobody_decides_even_before_the_ladder_has_closed_it(
    late: timedelta, open_one: Opener, alice: User
) -> None:
    approval = open_one()
    Approval.objects.filter(pk=approval.pk).update(due_at=database_now() - late)
    with pytest.raises(AlreadyClosed) as told:
        services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    assert told.value.closing.status == "expired"
    assert not Decision.objects.exists()


def test_strangers_and_requesters_do_not_decide(open_one: Opener, alice: User, eve: User) -> None:
    approval = open_one(requested_by=alice)
    for person, rule in ((eve, "audience"), (alice, "four-eyes")):
        with pytest.raises(MayNotDecide) as told:
            services.decide(approval_id=approval.pk, reviewer=person, given=answer(approval))
        assert told.value.rule == rule
    assert not Decision.objects.exists()


def test_a_disabled_account_decides_nothing_not_even_where_it_is_named(
    open_one: Opener, terms: Any, alice: User
) -> None:
    terms(groups=(), people=("alice",))
    approval = open_one()
    alice.is_active = False
    with pytest.raises(MayNotDecide) as told:
        services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    assert told.value.rule == "active-account"


def test_verdicts_that_are_not_allowed_or_lack_a_reason_are_refused(open_one: Opener, alice: User) -> None:
    approval = open_one()
    for given, path in (
        (answer(approval, "edit"), "edited_arguments"),
        (answer(approval, "respond"), "answer"),
        (answer(approval, "delete"), "verdict"),
        (answer(approval, "reject"), "note"),
        (answer(approval, "reject", note=" \n "), "note"),
        (answer(approval, note="x" * 4001), "note"),
        (answer(approval, note="a\x00b"), "note"),
    ):
        with pytest.raises(InvalidVerdict) as told:
            services.decide(approval_id=approval.pk, reviewer=alice, given=given)
        assert told.value.errors[0]["path"] == path


def test_that_something_did_not_happen_needs_no_reason(open_one: Opener, alice: User) -> None:
    approval = open_one(kind="outcome")
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval, "reject"))
    approval.refresh_from_db()
    assert approval.status == "decided"


def test_who_has_looked_at_it_for_longer_than_can_be_counted_decides_all_the_same(
    open_one: Opener, alice: User
) -> None:
    approval = open_one()
    looked = services.Circumstances("page", shown_at=database_now() - timedelta(days=40))
    decision = services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval), circumstances=looked)
    assert Decision.objects.get(pk=decision.pk).dwell_ms == 2**31 - 1


def test_an_unknown_approval_is_not_found(alice: User) -> None:
    with pytest.raises(NoSuchApproval):
        services.decide(approval_id="apr_none", reviewer=alice, given=services.Answer("approve", 1, "0" * 64))


def test_a_decision_and_an_audit_entry_cannot_be_changed_or_removed(open_one: Opener, alice: User) -> None:
    approval = open_one()
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    for statement in (
        "UPDATE approvals_decision SET verdict = 'reject'",
        "DELETE FROM approvals_decision",
        "UPDATE approvals_auditevent SET actor = 'mallory'",
        "DELETE FROM approvals_auditevent",
    ):
        with pytest.raises(Exception, match=r"Cannot (update|delete)"), connection.cursor() as cursor:
            from django.db import transaction

            with transaction.atomic():
                cursor.execute(statement)
