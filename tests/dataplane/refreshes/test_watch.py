from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from dataplane.catalogue import HANDBOOK
from dataplane.contracts import RefreshOrder
from dataplane.models import Refresh
from dataplane.prefect_gateway import STATE_TYPES
from dataplane.refreshes import dispatch, watch
from dataplane.refreshes.claim import claim
from dataplane.refreshes.request import request_refresh
from dataplane.refreshes.watch import MOST_RESTARTS, RefreshFinding, RefreshWatch, examine
from tests.dataplane.conftest import content, publish
from tests.dataplane.fakes import FakePrefect

LONG_AGO = timedelta(minutes=5)


@pytest.fixture
def sure_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look may follow the first at once."""
    monkeypatch.setattr(watch, "SURE_AFTER", timedelta())


@pytest.fixture
def run_id(database_url: str, fake_prefect: FakePrefect) -> Iterator[str]:
    """A refresh that was handed over; the id of its flow run."""
    request_refresh(dataset="handbook", key="k1", user=None)
    dispatch.dispatch_all(fake_prefect)
    yield Refresh.objects.get().prefect_flow_run_id


@pytest.mark.parametrize(
    ("state", "age_seconds", "is_held", "finding"),
    [
        ("SCHEDULED", 900, False, RefreshFinding.FINE),  # late: it waits for a runner
        ("PENDING", 5, False, RefreshFinding.FINE),
        ("PENDING", 90, False, RefreshFinding.SUSPECT),
        ("RUNNING", 2, False, RefreshFinding.FINE),  # it has not yet come to its claim
        ("RUNNING", 900, True, RefreshFinding.FINE),  # slow, but alive
        ("RUNNING", 60, False, RefreshFinding.SUSPECT),
        ("CRASHED", 0, False, RefreshFinding.DEAD),
        ("CRASHED", 0, True, RefreshFinding.FINE),  # another run of the same key works on it
        ("COMPLETED", 60, False, RefreshFinding.DEAD),  # in an earlier life of our database
        ("FAILED", 0, False, RefreshFinding.FAILED),
        ("CANCELLED", 0, False, RefreshFinding.CANCELLED),
        ("CANCELLING", 90, False, RefreshFinding.CANCELLED),
    ],
)
def test_an_open_refresh_is_judged_by_two_witnesses(
    fake_prefect: FakePrefect, state: str, age_seconds: int, is_held: bool, finding: RefreshFinding
) -> None:
    made = fake_prefect.create_flow_run(
        flow=HANDBOOK.flow, deployment=HANDBOOK.deployment, parameters={}, idempotency_key="k", name="n"
    )
    fake_prefect.move(made.id, state, ago=timedelta(seconds=age_seconds))
    assert examine(fake_prefect.runs[made.id], is_held=is_held, now=datetime.now(UTC)) is finding


def test_every_state_of_prefect_has_a_finding(fake_prefect: FakePrefect) -> None:
    for state in STATE_TYPES:
        made = fake_prefect.create_flow_run(
            flow=HANDBOOK.flow, deployment=HANDBOOK.deployment, parameters={}, idempotency_key=state, name="n"
        )
        fake_prefect.move(made.id, state, ago=LONG_AGO)
        assert examine(fake_prefect.runs[made.id], is_held=False, now=datetime.now(UTC)) in RefreshFinding


@pytest.mark.usefixtures("sure_at_once")
def test_a_run_that_nobody_works_on_is_started_again_under_its_own_id(fake_prefect: FakePrefect, run_id: str) -> None:
    fake_prefect.move(run_id, "RUNNING", ago=LONG_AGO)
    assert RefreshWatch(fake_prefect).look() == 1
    row = Refresh.objects.get()
    assert (row.status, row.restarts, row.prefect_flow_run_id) == ("scheduled", 1, run_id)
    assert fake_prefect.runs[run_id].state_name == "AwaitingRetry"
    assert fake_prefect.calls[-2:] == ["crash", "run_again"]


def test_one_look_is_not_enough(fake_prefect: FakePrefect, run_id: str) -> None:
    fake_prefect.move(run_id, "RUNNING", ago=LONG_AGO)
    watch = RefreshWatch(fake_prefect)
    watch.look()
    watch.look()
    assert fake_prefect.runs[run_id].state_type == "RUNNING"


@pytest.mark.usefixtures("sure_at_once")
def test_a_slow_run_is_left_alone_while_it_holds_its_lock(fake_prefect: FakePrefect, run_id: str) -> None:
    fake_prefect.move(run_id, "RUNNING", ago=LONG_AGO)
    with claim(HANDBOOK, RefreshOrder("handbook", "k1"), flow_run_id=run_id):
        RefreshWatch(fake_prefect).look()
        assert fake_prefect.runs[run_id].state_type == "RUNNING"
        assert Refresh.objects.get().status == "running"


@pytest.mark.usefixtures("sure_at_once")
def test_a_run_that_keeps_dying_fails_in_words(fake_prefect: FakePrefect, run_id: str) -> None:
    watch = RefreshWatch(fake_prefect)
    for _ in range(MOST_RESTARTS + 1):
        fake_prefect.move(run_id, "CRASHED")
        watch.look_at_flow_run(run_id)
    row = Refresh.objects.get()
    assert (row.status, row.error, row.restarts) == ("failed", "Its process died 4 times.", 3)


@pytest.mark.usefixtures("sure_at_once")
def test_of_two_watchers_one_starts_the_run_again(fake_prefect: FakePrefect, run_id: str) -> None:
    fake_prefect.move(run_id, "CRASHED")
    stale = Refresh.objects.get()
    RefreshWatch(fake_prefect).look_at(stale)
    fake_prefect.move(run_id, "CRASHED")
    RefreshWatch(fake_prefect).look_at(stale)
    assert fake_prefect.calls.count("run_again") == 1


def test_states_of_prefect_are_mirrored(fake_prefect: FakePrefect, run_id: str) -> None:
    fake_prefect.move(run_id, "CANCELLED")
    RefreshWatch(fake_prefect).look_at_flow_run(run_id)
    assert Refresh.objects.get().status == "cancelled"
    Refresh.objects.update(status="running", finished_at=None)
    fake_prefect.move(run_id, "FAILED")
    RefreshWatch(fake_prefect).look_at_flow_run(run_id)
    assert (Refresh.objects.get().status, Refresh.objects.get().error) == ("failed", "The flow run failed.")


def test_a_refresh_whose_flow_run_prefect_lost_is_handed_over_again(fake_prefect: FakePrefect, run_id: str) -> None:
    fake_prefect.runs.clear()
    RefreshWatch(fake_prefect).look()
    assert dispatch.dispatch_one(fake_prefect)
    assert Refresh.objects.get().prefect_flow_run_id in fake_prefect.runs


def test_a_run_that_died_after_it_had_published_is_recorded_as_crashed(fake_prefect: FakePrefect, run_id: str) -> None:
    publish("k1", content("Thirty days."), flow_run_id=run_id)
    fake_prefect.move(run_id, "RUNNING", ago=LONG_AGO)
    RefreshWatch(fake_prefect).sweep()
    assert fake_prefect.runs[run_id].state_type == "CRASHED"
    assert Refresh.objects.get().status == "published"


def of_the_schedule(prefect: FakePrefect, state: str, ago: timedelta) -> str:
    made = prefect.create_flow_run(
        flow=HANDBOOK.flow, deployment=HANDBOOK.deployment, parameters={}, idempotency_key="by Prefect", name="window"
    )
    prefect.move(made.id, state, ago=ago)
    return made.id


def test_a_run_of_the_schedule_that_no_process_came_of_is_started_again(
    database_url: str, fake_prefect: FakePrefect
) -> None:
    run_id = of_the_schedule(fake_prefect, "PENDING", LONG_AGO)
    RefreshWatch(fake_prefect).sweep()
    assert fake_prefect.runs[run_id].state_name == "AwaitingRetry"
    RefreshWatch(fake_prefect).sweep()
    assert fake_prefect.calls.count("run_again") == 1, "it is scheduled now"
    assert "crash" not in fake_prefect.calls, "nobody who looks meanwhile is told of a crash"


@pytest.mark.parametrize(
    ("state", "ago", "is_crashed"),
    [
        ("PENDING", timedelta(seconds=90), False),  # a busy machine takes long to start a process
        ("RUNNING", timedelta(minutes=15), False),  # it may wait for another run's lock
        ("RUNNING", timedelta(minutes=17), True),
        ("SCHEDULED", timedelta(hours=1), False),
    ],
)
def test_a_run_that_no_refresh_names_is_crashed_once_nobody_can_work_on_it(
    database_url: str, fake_prefect: FakePrefect, state: str, ago: timedelta, is_crashed: bool
) -> None:
    run_id = of_the_schedule(fake_prefect, state, ago)
    RefreshWatch(fake_prefect).sweep()
    assert fake_prefect.runs[run_id].state_type == ("CRASHED" if is_crashed else state)
    assert "run_again" not in fake_prefect.calls


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_a_run_of_somebody_elses_flow_that_has_the_name_of_ours_is_left_alone(
    database_url: str, fake_prefect: FakePrefect, state: str
) -> None:
    fake_prefect.add_deployment(HANDBOOK.flow, "nightly")
    made = fake_prefect.create_flow_run(
        flow=HANDBOOK.flow, deployment="nightly", parameters={}, idempotency_key="theirs", name="theirs"
    )
    fake_prefect.move(made.id, state, ago=timedelta(hours=6))
    RefreshWatch(fake_prefect).sweep()
    assert fake_prefect.runs[made.id].state_type == state


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_a_run_whose_refresh_has_ended_without_it_is_crashed(
    fake_prefect: FakePrefect, run_id: str, state: str
) -> None:
    fake_prefect.move(run_id, state, ago=LONG_AGO)
    Refresh.objects.update(status="cancelled")
    RefreshWatch(fake_prefect).sweep()
    assert fake_prefect.runs[run_id].state_type == "CRASHED" and "run_again" not in fake_prefect.calls
