"""Runs are made while there is room, an item ends with its run, and a batch with its last item."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from approvals.models import Approval
from approvals.record import audit
from console.clock import database_now
from console.environment import environment
from console.models import OutboxEntry
from console.outbox import Kind
from orchestration import ending, services
from orchestration.agents.registry import UnknownAgent
from orchestration.batches import asking, counting, feeding
from orchestration.batches.asking import AskedByRuns
from orchestration.contracts import Turn
from orchestration.fences import Attempt
from orchestration.models import Batch, Run
from orchestration.services import TurnEnd
from tests.at_once import at_once
from tests.orchestration.batches.conftest import make_batch, run_of, states
from tests.orchestration.conftest import open_for


def counts(batch: Batch) -> dict[str, int]:
    return {state: many for state, many in counting.counts_of([batch.pk])[batch.pk].items() if many}


def finish(run: Run) -> None:
    turn = Turn(run.pk, run.agent, 1)
    start = services.begin_turn(turn, Attempt(f"temporal-{run.pk}", 1, 1))
    assert start.run is not None
    services.finish_turn(turn, start.run.fence, TurnEnd("", result={"paid": run.pk}))


def test_as_many_runs_are_made_as_may_be_at_work(olga: User) -> None:
    batch = make_batch(olga, 5, active=2)
    assert feeding.feed(batch.pk).made == 2
    assert feeding.feed(batch.pk).made == 0
    assert states(batch) == ["running", "running", "not_started", "not_started", "not_started"]
    assert counts(batch) == {"not_started": 3, "running": 2}
    run = run_of(batch, 1)
    assert (run.pk, run.batch, run.status, run.requested_by) == (f"{batch.pk}-1", batch.pk, "starting", olga)
    asked = OutboxEntry.objects.filter(kind=Kind.START_RUN).values_list("subject", flat=True)
    assert set(asked) == {f"{batch.pk}-1", f"{batch.pk}-2"}
    assert services.workflow_input(OutboxEntry.objects.filter(kind=Kind.START_RUN)[0].payload).run_id in asked
    assert audit.verify().ok


@pytest.mark.parametrize("how", ["disabled", "without the role"])
def test_nothing_is_started_for_an_account_that_may_start_runs_no_more(how: str, olga: User) -> None:
    batch = make_batch(olga, 3, active=1)
    assert feeding.feed(batch.pk).made == 1
    finish(run_of(batch, 1))
    groups = list(olga.groups.all())
    if how == "disabled":
        User.objects.filter(pk=olga.pk).update(is_active=False)
    else:
        olga.groups.clear()
    assert feeding.feed(batch.pk).made == 0 and Run.objects.count() == 1
    assert feeding.hungry({})[0] == []
    hold = feeding.held_back(batch.pk)
    assert hold is not None and hold.cause == "right" and "olga may start no runs any more" in hold.sentence
    User.objects.filter(pk=olga.pk).update(is_active=True)
    olga.groups.set(groups)
    assert feeding.feed(batch.pk).made == 1


def test_an_item_moves_along_with_its_run_and_the_batch_closes_with_the_last(olga: User) -> None:
    batch = make_batch(olga, 3, active=2)
    feeding.feed(batch.pk)
    finish(run_of(batch, 1))
    assert counts(batch) == {"not_started": 1, "running": 1, "finished": 1}
    assert feeding.feed(batch.pk).made == 1
    ending.close_run(run_id=run_of(batch, 2).pk, status="failed", kind="error", message="no", actor="worker")
    finish(run_of(batch, 3))
    assert states(batch) == ["finished", "failed", "finished"]
    assert feeding.feed(batch.pk).is_over
    assert feeding.feed(batch.pk).is_over
    batch.refresh_from_db()
    assert (batch.status, batch.closed_at is not None) == ("finished", True)
    assert batch.items.filter(ended_at=None).count() == 0
    assert audit.verify().ok


def test_requests_that_wait_for_people_leave_no_room(olga: User) -> None:
    batch = make_batch(olga, 5, active=3, open_approvals=3)
    feeding.feed(batch.pk)
    for number in (1, 2):
        run = run_of(batch, number)
        open_for(run, batch=batch.pk)
        Run.objects.filter(pk=run.pk).update(status="waiting")
    assert counts(batch) == {"not_started": 2, "running": 1, "waiting": 2}
    assert feeding.feed(batch.pk).made == 0  # one more may ask in a moment
    hold = feeding.held_back(batch.pk)
    assert hold is not None and hold.cause == "open_approvals" and "2 of 5 rows" in hold.sentence


def ask(batch: Batch, number: int, many: int) -> None:
    """Let a run of the batch ask for several things and wait."""
    run = run_of(batch, number)
    for _ in range(many):
        open_for(run, batch=batch.pk)
    Run.objects.filter(pk=run.pk).update(status="waiting")


def test_a_run_at_work_counts_as_many_requests_as_the_others_have_asked(olga: User) -> None:
    batch = make_batch(olga, 30, active=4, open_approvals=20)
    assert feeding.feed(batch.pk).made == 4
    for number in (1, 2, 3):
        ask(batch, number, 5)
    assert feeding.feed(batch.pk).made == 0  # 15 wait, and the fourth may ask 5
    hold = feeding.held_back(batch.pk)
    assert hold is not None and hold.cause == "open_approvals"
    finish(run_of(batch, 4))  # it has asked nothing, so a run asks 15 / 4 = 3.75
    assert feeding.feed(batch.pk).made == 2
    Approval.objects.update(status="withdrawn")
    Run.objects.filter(batch=batch.pk, status="waiting").update(status="running")
    # What they asked is not forgotten once it is answered; a run that goes on after that may ask once more.
    assert asking.asked_of(batch, 5) == AskedByRuns(pending=0, to_come=3 + 2 * 4, per_run=4)
    assert asking.room_for(batch, 5) == 3  # for 9 requests


def test_a_run_that_asks_more_than_may_wait_is_begun_all_the_same(olga: User) -> None:
    batch = make_batch(olga, 10, active=1, open_approvals=2)
    feeding.feed(batch.pk)
    ask(batch, 1, 5)
    assert feeding.feed(batch.pk).made == 0
    Approval.objects.update(status="withdrawn")
    Run.objects.filter(batch=batch.pk).update(status="finished")
    assert feeding.feed(batch.pk).made == 1


def test_what_the_relay_has_before_it_leaves_no_room(olga: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "BACKLOG", 2)
    batch = make_batch(olga, 5)
    assert [feeding.feed(batch.pk).made, feeding.feed(batch.pk).made] == [2, 0]
    hold = feeding.held_back(batch.pk)
    assert hold is not None and hold.cause == "backlog"
    OutboxEntry.objects.update(delivered_at=database_now())
    assert feeding.feed(batch.pk).made == 2


def test_an_account_has_no_more_open_runs_than_it_may(olga: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "requests_in_flight", 3)
    batch = make_batch(olga, 5)
    assert [feeding.feed(batch.pk).made, feeding.feed(batch.pk).made] == [3, 0]
    hold = feeding.held_back(batch.pk)
    assert hold is not None and hold.cause == "account" and "olga" in hold.sentence


def test_an_agent_that_is_gone_holds_its_batch_and_says_so(olga: User, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch(olga, 2)

    def gone(name: str) -> None:
        raise UnknownAgent(name, False)

    monkeypatch.setattr(feeding, "agent_named", gone)
    assert feeding.feed(batch.pk).made == 0
    hold = feeding.held_back(batch.pk)
    assert hold is not None and hold.cause == "agent"


@pytest.mark.django_db(transaction=True)
def test_five_feeders_at_once_make_no_run_twice(olga: User) -> None:
    batch = make_batch(olga, 30, active=8)
    made = at_once(*(lambda: feeding.feed(batch.pk).made,) * 5)
    assert sum(made) == Run.objects.count() == 8
    assert counts(batch) == {"not_started": 22, "running": 8}


@pytest.mark.django_db(transaction=True)
def test_runs_that_end_at_once_are_all_counted(olga: User) -> None:
    batch = make_batch(olga, 12, active=12)
    feeding.feed(batch.pk)
    at_once(*(lambda number=number: finish(run_of(batch, number)) for number in range(1, 13)))
    assert counts(batch) == {"finished": 12}
    assert feeding.feed(batch.pk).is_over


def test_only_batches_with_something_to_do_are_woken(olga: User) -> None:
    batch = make_batch(olga, 3, active=1)
    wanted, stands = feeding.hungry({})
    assert (wanted, list(stands)) == ([batch.pk], [batch.pk])
    feeding.feed(batch.pk)
    assert feeding.hungry(stands)[0] == []
    finish(run_of(batch, 1))
    assert feeding.hungry(stands)[0] == [batch.pk]
