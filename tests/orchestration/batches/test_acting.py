"""Pause, go on, cancel, try again: on the record, and the same answer to a second click."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from approvals.errors import InvalidChange, NotTheirs
from approvals.models import AuditEvent
from approvals.services import note_receipt
from orchestration import ending
from orchestration.batches import acting, counting, feeding
from orchestration.errors import ActionRefused
from orchestration.models import Batch, BatchItem, Run
from tests.orchestration.batches.conftest import acted, make_batch, run_of, states
from tests.orchestration.batches.test_feeding import finish
from tests.orchestration.conftest import decide, open_for


def act(batch: Batch, action: acting.Action, by: User, **more: object) -> Batch:
    return acting.act(batch_id=batch.pk, action=action, by=by, **more)  # type: ignore[arg-type]


def kinds() -> list[str]:
    return list(AuditEvent.objects.order_by("seq").values_list("kind", flat=True))


@pytest.mark.parametrize("action", acting.ACTIONS)
def test_who_has_lost_the_role_does_nothing(action: acting.Action, batch: Batch, olga: User) -> None:
    assert olga.groups.exists()  # as the page had seen
    User.objects.get(pk=olga.pk).groups.clear()
    with pytest.raises(NotTheirs):
        act(batch, action, olga, reason="a wrong table")
    batch.refresh_from_db()
    assert batch.status == "feeding" and not AuditEvent.objects.filter(kind__startswith=f"batch.{action}").exists()


def test_nothing_is_fed_while_it_is_paused(batch: Batch, olga: User) -> None:
    assert act(batch, "pause", olga).status == "paused"
    assert act(batch, "pause", olga).status == "paused"
    assert feeding.feed(batch.pk).made == 0
    assert Run.objects.count() == 0
    assert act(batch, "resume", olga).status == "feeding"
    assert feeding.feed(batch.pk).made == 3
    assert kinds().count("batch.pause") == 1


def test_a_cancelled_batch_starts_nothing_more_and_leaves_what_has_begun(olga: User) -> None:
    batch = make_batch(olga, 4, active=1)
    feeding.feed(batch.pk)
    with pytest.raises(InvalidChange):
        act(batch, "cancel", olga)
    found = act(batch, "cancel", olga, reason="a wrong table")
    assert (found.status, states(batch)) == ("cancelled", ["running", "cancelled", "cancelled", "cancelled"])
    assert not feeding.feed(batch.pk).is_over
    assert Run.objects.get().ending is None
    finish(run_of(batch, 1))
    assert feeding.feed(batch.pk).is_over
    found.refresh_from_db()
    assert (found.status, found.closed_at is not None) == ("cancelled", True)


def test_a_cancelled_batch_can_have_what_has_begun_cancelled_too(olga: User) -> None:
    batch = make_batch(olga, 4, active=2)
    feeding.feed(batch.pk)
    act(batch, "cancel", olga, reason="a wrong table")
    act(batch, "cancel", olga, reason="these too", waiting="cancel")
    feeding.feed(batch.pk)
    feeding.feed(batch.pk)
    asked = [run.ending for run in Run.objects.all()]
    assert [(one["by"], one["reason"]) for one in asked if one] == [("olga", "these too")] * 2
    assert kinds().count("run.cancel_requested") == 2


def test_what_failed_is_tried_again_under_a_new_number(olga: User) -> None:
    batch = make_batch(olga, 2)
    feeding.feed(batch.pk)
    finish(run_of(batch, 1))
    first = run_of(batch, 2)
    ending.close_run(run_id=first.pk, status="failed", kind="error", message="no", actor="worker")
    assert feeding.feed(batch.pk).is_over
    found = act(batch, "retry_failed", olga)
    assert (found.status, found.closed_at) == ("feeding", None)
    assert feeding.feed(batch.pk).made == 1
    again = run_of(batch, 2)
    assert (first.pk, again.pk) == (f"{batch.pk}-2", f"{batch.pk}-2-2")
    Run.objects.filter(pk=first.pk).update(status="cancelled")  # what an item has left behind moves it no more
    assert states(batch) == ["finished", "running"]
    finish(again)
    assert counting.counts_of([batch.pk])[batch.pk]["finished"] == 2
    assert feeding.feed(batch.pk).is_over


def fail(batch: Batch, number: int) -> None:
    ending.close_run(run_id=run_of(batch, number).pk, status="failed", kind="error", message="no", actor="worker")


def test_a_retry_that_is_sent_twice_tries_what_failed_again_once(olga: User) -> None:
    batch = make_batch(olga, 2)
    for times in (0, 1):
        feeding.feed(batch.pk)
        fail(batch, 1)
        for _ in range(2):
            assert act(batch, "retry_failed", olga, times=times).status == "feeding"
        assert states(batch)[0] == "not_started"
    with pytest.raises(ActionRefused, match="No row of this batch has failed"):
        act(batch, "retry_failed", olga, times=2)  # by who has seen that it was tried again twice
    act(batch, "retry_failed", olga)  # also without a word about what was seen, while nothing has failed anew
    feeding.feed(batch.pk)
    fail(batch, 1)
    act(batch, "retry_failed", olga, times=1)  # sent again late
    assert states(batch)[0] == "failed"
    assert acting.tried_again(batch.pk) == acting.TriedAgain(times=2, items=1, left=0)
    assert kinds().count("batch.retry_failed") == 2


@pytest.mark.parametrize(
    ("status", "is_left"), [("done", True), ("unknown", True), ("executing", True), ("failed", False)]
)
def test_a_row_whose_run_has_done_something_is_not_done_again_by_a_new_run(
    status: str, is_left: bool, olga: User
) -> None:
    batch = make_batch(olga, 2)
    feeding.feed(batch.pk)
    for number in (1, 2):
        run = run_of(batch, number)
        ending.close_run(run_id=run.pk, status="failed", kind="error", message="no", actor="worker")
    acted(run_of(batch, 1), status)
    feeding.feed(batch.pk)
    act(batch, "retry_failed", olga)
    assert states(batch) == ["failed" if is_left else "not_started", "not_started"]
    assert AuditEvent.objects.get(kind="batch.retry_failed").body["left"] == int(is_left)
    if is_left:
        BatchItem.objects.filter(batch=batch, number=2).update(state="finished")
        with pytest.raises(ActionRefused, match="done something before they failed"):
            act(batch, "retry_failed", olga)


@pytest.mark.parametrize("is_set_back", [False, True])
def test_a_row_is_left_whose_run_went_on_in_a_time_that_the_database_has_lost(is_set_back: bool, olga: User) -> None:
    batch = make_batch(olga, 1)
    feeding.feed(batch.pk)
    run = run_of(batch, 1)
    kind = "error" if is_set_back else ending.OLDER_DATABASE
    ending.close_run(run_id=run.pk, status="failed", kind=kind, message="no", actor="relay")
    if is_set_back:
        Run.objects.filter(pk=run.pk).update(restart={"checkpoint_id": "c", "placed": "c", "is_unsure": True})
    with pytest.raises(ActionRefused, match="or may have"):
        act(batch, "retry_failed", olga)


@pytest.mark.parametrize(
    ("kind", "verdict", "is_taken_up", "is_left"),
    [
        ("action", "approve", True, True),
        ("go_on", "approve", True, True),
        ("action", "approve", False, False),
        ("action", "reject", True, False),
    ],
)
def test_a_row_is_left_whose_run_has_taken_up_what_was_approved_outside_the_ledger(
    kind: str, verdict: str, is_taken_up: bool, is_left: bool, olga: User
) -> None:
    batch = make_batch(olga, 1)
    feeding.feed(batch.pk)
    run = run_of(batch, 1)
    approval = decide(open_for(run, "send_email", kind=kind, is_tracked=False), verdict)
    if is_taken_up:
        note_receipt(approval_ids=[approval.pk], step="resumed", detail="turn 2")
    ending.close_run(run_id=run.pk, status="failed", kind="error", message="no", actor="worker")
    if is_left:
        with pytest.raises(ActionRefused, match="or may have"):
            act(batch, "retry_failed", olga)
    else:
        act(batch, "retry_failed", olga)
    assert states(batch) == ["failed" if is_left else "not_started"]


def test_what_cannot_be_done_is_refused_in_words(olga: User) -> None:
    batch = make_batch(olga, 1)
    with pytest.raises(ActionRefused, match="No row"):
        act(batch, "retry_failed", olga)
    feeding.feed(batch.pk)
    finish(run_of(batch, 1))
    feeding.feed(batch.pk)
    for action in acting.ACTIONS[:3]:
        with pytest.raises(ActionRefused, match="finished"):
            act(batch, action, olga, reason="r")
