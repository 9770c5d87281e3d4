"""The effect ledger after a run was set back: what was begun before that is not begun a second time."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse

from approvals import services as approvals
from approvals.errors import NotAuthorised
from approvals.models import Approval
from approvals.reading.done_before import done_before
from orchestration.agents.support.agent import AGENT
from orchestration.effects import EffectLedger, count_again
from orchestration.errors import EffectUnclear
from orchestration.models import Effect, Run
from orchestration.redrive import settle_unknown
from orchestration.services import _check_carried_out
from tests.api_caller import Caller
from tests.fakes import FakeWorld
from tests.orchestration.conftest import REFUND, decide, go, make_run, open_for, reviewer

pytestmark = pytest.mark.django_db(transaction=True)

FENCE = 7


@pytest.fixture
def run(transactional_db: None) -> Run:
    return make_run(fence=FENCE, status="running")


@pytest.fixture
def ledger(run: Run, world: FakeWorld) -> EffectLedger:
    return EffectLedger(run.pk, FENCE, AGENT, world)


def set_back(approval: Approval) -> None:
    Effect.objects.filter(pk=approval.pk).update(is_set_back=True)


def test_what_was_done_counts_for_the_same_that_is_asked_since_and_each_counts_once(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    first = decide(open_for(run))
    outcome = go(ledger.perform(first.pk, first.digest))
    set_back(first)
    again, third = decide(open_for(run)), decide(open_for(run))
    assert go(ledger.perform(again.pk, again.digest)) == outcome
    assert list(world.shop.refunds) == [first.pk]
    effect = Effect.objects.get(pk=again.pk)
    assert (effect.status, effect.key, effect.result) == ("done", first.pk, outcome["result"])
    again.refresh_from_db()
    assert again.took_effect_at is not None
    started = again.receipt.get(step="effect_started").detail
    assert first.pk in started and "before the run was set back" in started
    assert go(ledger.perform(third.pk, third.digest))["status"] == "done"
    assert list(world.shop.refunds) == [first.pk, third.pk], "what the agent asks for twice is done twice"


def test_an_end_that_nobody_saw_is_asked_for_under_the_first_key_and_told_to_both(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    first = decide(open_for(run))
    world.shop.lose_answers = 1
    with pytest.raises(EffectUnclear):
        go(ledger.perform(first.pk, first.digest))
    set_back(first)
    again = decide(open_for(run))
    assert go(ledger.perform(again.pk, again.digest))["status"] == "done"
    assert list(world.shop.refunds) == [first.pk]
    assert [effect.status for effect in Effect.objects.order_by("started_at")] == ["done", "done"]


def test_a_mail_whose_end_nobody_saw_is_not_sent_again_and_a_person_is_asked(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    first = decide(open_for(run, "send_email"))
    world.mail_error = OSError("cut off")
    assert go(ledger.perform(first.pk, first.digest))["status"] == "unknown"
    set_back(first)
    world.mail_error = None
    again = decide(open_for(run, "send_email"))
    assert go(ledger.perform(again.pk, again.digest))["status"] == "unknown"
    assert len(world.mails) == 1
    with transaction.atomic():
        ledger._end(first.pk, "done", {"sent": True}, "")  # its worker tells the end after all
    assert Effect.objects.get(pk=again.pk).status == "done"


@pytest.mark.parametrize("in_the_lane", [True, False])
@pytest.mark.parametrize(("happened", "status"), [(True, "done"), (False, "failed")])
def test_a_persons_word_for_one_of_two_that_are_one_mail_is_told_to_both(
    happened: bool, status: str, in_the_lane: bool, run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    first = decide(open_for(run, "send_email"))
    world.mail_error = OSError("cut off")
    go(ledger.perform(first.pk, first.digest))
    set_back(first)
    again = decide(open_for(run, "send_email"))
    assert go(ledger.perform(again.pk, again.digest))["status"] == "unknown"
    if in_the_lane:
        Run.objects.filter(pk=run.pk).update(status="failed")
        settle_unknown(approval_id=first.pk, by=reviewer(), happened=happened, reason="I asked the post office.")
    else:
        asked = {"approval_id": again.pk, "tool": "send_email", "arguments": {}}
        question = decide(open_for(run, "confirm_outcome", asked, kind="outcome"), "approve" if happened else "reject")
        go(ledger.settle(again.pk, question.pk))
    assert {effect.status for effect in Effect.objects.all()} == {status}
    for approval in (first, again):
        assert approval.receipt.filter(step="effect_finished").count() == 1


def test_all_rows_of_a_mail_that_was_asked_for_three_times_hear_how_it_ended(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    world.mail_error = OSError("cut off")
    asked = []
    for _ in range(3):
        asked.append(decide(open_for(run, "send_email")))
        assert go(ledger.perform(asked[-1].pk, asked[-1].digest))["status"] == "unknown"
        set_back(asked[-1])
    with transaction.atomic():
        ledger._end(asked[-1].pk, "done", {"sent": True}, "")
    assert [effect.status for effect in Effect.objects.all()] == ["done"] * 3


def test_what_a_reset_has_returned_to_counts_and_the_same_asked_again_is_done(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    first = decide(open_for(run))
    go(ledger.perform(first.pk, first.digest))
    set_back(first)
    with transaction.atomic():
        count_again(run.pk, [first.pk])
    again = decide(open_for(run))
    go(ledger.perform(again.pk, again.digest))
    assert list(world.shop.refunds) == [first.pk, again.pk]


def test_a_twin_that_is_left_on_the_other_line_counts_for_nothing(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    first = decide(open_for(run))
    go(ledger.perform(first.pk, first.digest))
    set_back(first)
    twin = decide(open_for(run))
    go(ledger.perform(twin.pk, twin.digest))
    set_back(twin)
    with transaction.atomic():
        count_again(run.pk, [first.pk])
    another = decide(open_for(run))
    go(ledger.perform(another.pk, another.digest))
    assert list(world.shop.refunds) == [first.pk, another.pk], "it was one call, and this is a second one"
    set_back(first)
    set_back(another)
    for done in (first, another):
        since = decide(open_for(run))
        go(ledger.perform(since.pk, since.digest))
        assert Effect.objects.get(pk=since.pk).key == done.pk
    assert len(world.shop.refunds) == 2


def test_what_failed_for_certain_may_be_done_and_another_amount_is_another_effect(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    world.shop.refuse = "not now"
    first = decide(open_for(run))
    assert go(ledger.perform(first.pk, first.digest))["status"] == "failed"
    set_back(first)
    world.shop.refuse = ""
    again, other = decide(open_for(run)), decide(open_for(run, arguments=REFUND | {"amount": "7.00"}))
    for approval in (again, other):
        assert go(ledger.perform(approval.pk, approval.digest))["status"] == "done"
    assert list(world.shop.refunds) == [again.pk, other.pk]


def test_a_fork_gets_nothing_of_the_first_runs_approvals_and_changes_none_of_its_effects(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    approval = decide(open_for(run))
    world.shop.lose_answers = 1
    with pytest.raises(EffectUnclear):
        go(ledger.perform(approval.pk, approval.digest))
    fork = EffectLedger(make_run(fence=FENCE, status="running", parent=run).pk, FENCE, AGENT, world)
    assert go(fork.perform(approval.pk, approval.digest))["status"] == "refused"
    assert Effect.objects.get().status == "executing"
    assert not approval.receipt.filter(step="refused").exists()


def test_a_decision_that_died_with_a_reset_allows_nothing_and_keeps_no_run_from_its_end(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    approval, open_one, other = decide(open_for(run)), open_for(run), open_for(run)
    with transaction.atomic():
        left = approvals.set_back(
            run_id=run.pk, asked=[approval.pk, open_one.pk], reason="olga set it back", actor="olga", begun=[]
        )
    assert (left.voided, left.withdrawn, left.told) == ([approval.pk], [open_one.pk], ["alice"])
    with transaction.atomic(), pytest.raises(NotAuthorised, match="olga set it back"):
        approvals.authorise(approval_id=approval.pk, digest=approval.digest)
    assert go(ledger.perform(approval.pk, approval.digest))["status"] == "refused"
    assert world.shop.refunds == {}
    _check_carried_out(run.pk)
    other.refresh_from_db()
    assert other.status == "pending"


def test_a_failure_of_one_does_not_close_another_that_is_being_asked_right_now(run: Run, ledger: EffectLedger) -> None:
    first = decide(open_for(run))
    fields = {"tool": first.tool, "digest": first.digest, "decision_id": "d", "is_idempotent": True, "fence": FENCE}
    Effect.objects.create(approval_id=first.pk, run=run, is_set_back=True, taken_up_by="apr_2", **fields)
    Effect.objects.create(approval_id="apr_2", run=run, key=first.pk, **fields)
    ledger._end(first.pk, "failed", None, "no")
    assert Effect.objects.get(pk="apr_2").status == "executing"


def test_another_amount_after_a_reset_is_shown_as_another_effect_beside_the_one_that_was_done(
    run: Run, ledger: EffectLedger
) -> None:
    first = decide(open_for(run))
    go(ledger.perform(first.pk, first.digest))
    alice, client = reviewer(), Client()
    client.force_login(alice)
    assert "done-before" not in client.get(reverse("approvals:approval", args=[open_for(run).pk])).content.decode()
    set_back(first)
    other = open_for(run, arguments=REFUND | {"amount": "80.00"})
    (before,) = done_before(other)
    assert (before.approval.pk, before.is_same, before.is_certain) == (first.pk, False, True)
    assert [(change.path, change.before, change.after) for change in before.changes if change.kind != "same"] == [
        ("amount", '"50.00"', '"80.00"')
    ]
    page = client.get(reverse("approvals:approval", args=[other.pk])).content.decode()
    assert "another effect, beside this one and not in its place" in page and first.pk in page
    told = Caller(alice).get(f"approvals/{other.pk}").json()["done_before"]
    assert [(one["approval_id"], one["is_same"]) for one in told] == [(first.pk, False)]


def test_the_same_after_a_reset_is_said_not_to_be_done_twice_and_a_change_of_it_to_be_another_effect(
    run: Run, ledger: EffectLedger
) -> None:
    first = decide(open_for(run))
    go(ledger.perform(first.pk, first.digest))
    set_back(first)
    again = open_for(run)
    (before,) = done_before(again)
    assert before.is_same
    (changed,) = done_before(again, REFUND | {"amount": "60.00"})
    assert not changed.is_same
    client = Client()
    client.force_login(reviewer())
    page = client.get(reverse("approvals:approval", args=[again.pk])).content.decode()
    assert "Approved once more it is not done a second time" in page
    decide(again)
    go(ledger.perform(again.pk, again.digest))
    assert done_before(open_for(run, arguments=REFUND | {"amount": "80.00"})) == [], "it counts for the one in between"
