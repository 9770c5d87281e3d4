"""A run of a batch that is set back: its batch counts on it again, and never beside another attempt of its row."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from approvals.models import AuditEvent
from console.clock import database_now
from console.models import OutboxEntry
from console.outbox import Kind
from orchestration import ending
from orchestration.actions import acting as run_acting
from orchestration.actions import reset
from orchestration.actions.points import Point
from orchestration.batches import acting, feeding
from orchestration.errors import ActionRefused
from orchestration.models import Batch, Run
from tests.at_once import at_once
from tests.orchestration.batches.conftest import make_batch, run_of, states
from tests.orchestration.batches.test_feeding import counts


@pytest.fixture(autouse=True)
def checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each run have one checkpoint, after which nothing was asked."""
    monkeypatch.setattr(reset, "point_of", lambda run, where: Point("c1", database_now(), [], [], [], []))


def set_back(run: Run, by: User) -> Any:
    return run_acting.act(run_id=run.pk, action="reset", reason="once more", by=by, options={"turn": 1})


def failed_in(batch: Batch) -> Run:
    """Feed a batch, and return its run after it has failed."""
    feeding.feed(batch.pk)
    run = run_of(batch, 1)
    ending.close_run(run_id=run.pk, status="failed", kind="error", message="no", actor="worker")
    return run


@pytest.mark.parametrize("is_started", [False, True])
def test_a_run_whose_row_is_tried_again_is_not_set_back_beside_the_new_attempt(is_started: bool, olga: User) -> None:
    batch = make_batch(olga, 1)
    run = failed_in(batch)
    acting.act(batch_id=batch.pk, action="retry_failed", by=olga)
    if is_started:
        feeding.feed(batch.pk)
    for attempt in (lambda: run_acting.preview(run, "reset", {"turn": 1}), lambda: set_back(run, olga)):
        with pytest.raises(ActionRefused, match="in another run"):
            attempt()
    run.refresh_from_db()
    assert (run.status, states(batch)) == ("failed", ["running" if is_started else "not_started"])


@pytest.mark.django_db(transaction=True)
def test_of_a_reset_and_a_new_attempt_at_once_one_goes_on(olga: User) -> None:
    for number in range(5):
        batch = make_batch(olga, 1, key=f"k{number}")
        run = failed_in(batch)
        tries = (lambda run=run: set_back(run, olga), lambda batch=batch: retried(batch, olga))
        done = at_once(*(lambda one=one: refused(one) for one in tries))
        feeding.feed(batch.pk)
        assert done.count(False) == 1
        assert Run.objects.filter(batch=batch.pk, status__in=Run.OPEN).count() == 1


def retried(batch: Batch, by: User) -> Batch:
    return acting.act(batch_id=batch.pk, action="retry_failed", by=by)


def refused(attempt: Any) -> bool:
    try:
        attempt()
    except ActionRefused:
        return True
    return False


def test_a_finished_batch_is_open_again_until_the_run_that_was_set_back_has_ended(olga: User) -> None:
    batch = make_batch(olga, 1)
    run = failed_in(batch)
    assert feeding.feed(batch.pk).is_over
    OutboxEntry.objects.filter(kind=Kind.FEED_BATCH).delete()
    set_back(run, olga)
    batch.refresh_from_db()
    assert (batch.status, batch.closed_at, counts(batch)) == ("feeding", None, {"running": 1})
    assert OutboxEntry.objects.get(kind=Kind.FEED_BATCH).payload == {"batch_id": batch.pk}
    assert acting.permitted(batch, 0) == ["pause", "cancel"]
    assert not feeding.feed(batch.pk).is_over
    Run.objects.filter(pk=run.pk).update(status="finished")
    assert feeding.feed(batch.pk).is_over
    assert AuditEvent.objects.filter(kind="batch.closed").count() == 2


def test_a_cancelled_batch_stays_cancelled_when_one_of_its_runs_is_set_back(olga: User) -> None:
    batch = make_batch(olga, 2, active=1)
    run = failed_in(batch)
    acting.act(batch_id=batch.pk, action="cancel", by=olga, reason="a wrong table")
    assert feeding.feed(batch.pk).is_over
    set_back(run, olga)
    batch.refresh_from_db()
    assert (batch.status, states(batch)) == ("cancelled", ["running", "cancelled"])
