"""Windows of other people's deployments that came due while nobody served them: which are taken, and once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from console.environment import environment
from dataplane.deployments import Deployment
from dataplane.models import Dataset, Refresh
from dataplane.refreshes import follow
from dataplane.refreshes.follow import Follower
from tests.dataplane.fakes import FakePrefect

pytestmark = pytest.mark.django_db

BERLIN = ZoneInfo("Europe/Berlin")  # of the registration's schedule
FLOW, NAME = "load_orders", "nightly"
REGISTRATION = """
[datasets.orders]
deployment = "load_orders/nightly"
key = "{dataset}:{window}"
window = { every = "%s", zone = "Europe/Berlin", missed = "%s" }
"""


class FakeDeployments:
    """One deployment of somebody else's, whose runs are those of a FakePrefect."""

    def __init__(self, prefect: FakePrefect) -> None:
        self.prefect = prefect

    def find(self, flow: str, deployment: str) -> Deployment:
        return Deployment("d", flow, deployment, {}, {}, False, False, None, "", "", None, 0)

    def runs(self, deployment: Deployment, *, due_before: datetime, ended_after: datetime) -> list[Any]:
        found = self.prefect.flow_runs(flow=deployment.flow, due_before=due_before).items
        return [run for run in found if not run.is_terminal or run.state_at >= ended_after]

    def asked_to_cancel(self) -> list[Any]:
        return []

    def events(self, *, since: datetime, **_: Any) -> list[Any]:
        return []

    def infrastructure_pid(self, flow_run_id: str) -> str:
        return ""

    def last_heartbeats(self, flow_run_id: str, *, since: datetime) -> list[datetime]:
        return []


class Schedule:
    """What Prefect's schedule makes, and those who look at it."""

    def __init__(self, folder: Path, prefect: FakePrefect) -> None:
        self.file, self.prefect = folder / "data.toml", prefect
        self.followers = [self.follower(), self.follower()]

    def follower(self) -> Follower:
        others: Any = FakeDeployments(self.prefect)
        return Follower(self.prefect, others)

    def register(self, every: str, missed: str) -> None:
        self.file.write_text(REGISTRATION % (every, missed))

    def plan(self, *moments: datetime) -> list[str]:
        """Let the schedule make a run for each moment; return their ids."""
        ids = []
        for moment in moments:
            run = self.prefect.create_flow_run(
                flow=FLOW, deployment=NAME, parameters={}, idempotency_key=f"scheduled d {moment}", name=str(moment)
            )
            self.prefect.runs[run.id] = replace(run, expected_start_at=moment.astimezone(UTC))
            ids.append(run.id)
        return ids

    def look(self) -> None:
        for follower in self.followers:
            follower.look()

    def states(self, ids: Sequence[str]) -> list[str]:
        return [self.prefect.runs[one].state_type for one in ids]


@pytest.fixture
def schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Schedule]:
    monkeypatch.setenv("SIGNALBOX_HOME", str(tmp_path))
    environment.cache_clear()
    prefect = FakePrefect()
    prefect.add_deployment(FLOW, NAME)
    yield Schedule(tmp_path, prefect)
    environment.cache_clear()


def keys(status: str = "scheduled") -> list[str]:
    return sorted(Refresh.objects.filter(status=status).values_list("key", flat=True))


def days_ago(*days: int) -> list[datetime]:
    """Return noon of these days, by the calendar: a day may have 25 hours."""
    noon = datetime.now(BERLIN).replace(hour=12, minute=0, second=0, microsecond=0)
    return [(noon - timedelta(days=day)).astimezone(UTC) for day in days]


def named(moments: Sequence[datetime]) -> list[str]:
    return sorted(f"orders:{moment.astimezone(BERLIN).date().isoformat()}" for moment in moments)


@pytest.mark.parametrize("at_once", [True, False], ids=["found together", "found one after the other"])
def test_of_five_missed_windows_the_latest_is_taken(schedule: Schedule, at_once: bool) -> None:
    schedule.register("day", "latest")
    moments = days_ago(5, 4, 3, 2, 1)
    if at_once:
        ids = schedule.plan(*moments)
        schedule.look()
    else:
        ids = []
        for moment in moments:
            ids += schedule.plan(moment)
            schedule.look()
    assert schedule.states(ids) == ["CANCELLED"] * 4 + ["SCHEDULED"]
    assert keys() == named(moments[-1:])
    closed = Refresh.objects.filter(status="cancelled")
    assert keys("cancelled") == ([] if at_once else named(moments[:-1]))
    assert all(row.error == follow.LATER_IS_DUE for row in closed), "it says why"


def test_of_five_missed_windows_each_is_taken_once(schedule: Schedule) -> None:
    schedule.register("day", "each")
    moments = days_ago(5, 4, 3, 2, 1)
    ids = schedule.plan(*moments)
    schedule.look()
    schedule.look()
    assert schedule.states(ids) == ["SCHEDULED"] * 5
    assert keys() == named(moments)
    (again,) = schedule.plan(moments[0] + timedelta(seconds=1))
    schedule.look()
    assert schedule.states([again]) == ["CANCELLED"], "of one window there is one run"


def test_of_one_window_that_came_due_twice_one_run_is_left(schedule: Schedule) -> None:
    schedule.register("day", "latest")
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
    (first,) = schedule.plan(noon)
    schedule.look()
    (second,) = schedule.plan(noon + timedelta(minutes=20))
    schedule.look()
    assert schedule.states([first, second]) == ["SCHEDULED", "CANCELLED"]
    assert keys() == named([noon])


@pytest.mark.parametrize("status", ["failed", "cancelled", "finished"])
def test_a_window_that_somebody_used_up_leaves_the_schedule_its_run(schedule: Schedule, status: str) -> None:
    schedule.register("day", "latest")
    (noon,) = days_ago(1)
    (by_hand,) = named([noon])
    Dataset.objects.create(name="orders", fresh_for=timedelta(days=1))
    ended_at = noon - timedelta(hours=1)
    Refresh.objects.create(
        id="rfr_1", dataset_id="orders", key=by_hand, parameters={}, status=status, finished_at=ended_at
    )
    (run,) = schedule.plan(noon)
    schedule.look()
    schedule.look()
    (again,) = schedule.plan(noon + timedelta(seconds=1))
    schedule.look()
    assert schedule.states([run, again]) == ["SCHEDULED", "CANCELLED"]
    assert keys() == [f"{by_hand}.{noon.astimezone(BERLIN):%H:%M%z}"]
    assert Refresh.objects.get(status="scheduled").prefect_flow_run_id == run


def test_what_somebody_started_and_is_under_way_is_the_schedules_too(schedule: Schedule) -> None:
    schedule.register("day", "latest")
    (noon,) = days_ago(1)
    Dataset.objects.create(name="orders", fresh_for=timedelta(days=1))
    Refresh.objects.create(id="rfr_1", dataset_id="orders", key=named([noon])[0], parameters={})
    (run,) = schedule.plan(noon)
    schedule.look()
    assert schedule.states([run]) == ["CANCELLED"] and Refresh.objects.count() == 1


def test_a_window_whose_run_was_planned_anew_keeps_its_refresh(schedule: Schedule) -> None:
    schedule.register("day", "latest")
    (noon,) = days_ago(1)
    (planned,) = schedule.plan(noon)
    schedule.look()
    del schedule.prefect.runs[planned]  # as Prefect does when somebody deploys anew
    (again,) = schedule.plan(noon)
    schedule.look()
    row = Refresh.objects.get()
    assert (row.status, row.prefect_flow_run_id, row.error) == ("scheduled", again, "")
    assert schedule.states([again]) == ["SCHEDULED"]


def test_a_window_whose_run_somebody_started_and_deleted_is_the_schedules(schedule: Schedule) -> None:
    schedule.register("day", "latest")
    (noon,) = days_ago(1)
    Dataset.objects.create(name="orders", fresh_for=timedelta(days=1))
    mine = {"flow": FLOW, "deployment": NAME, "prefect_flow_run_id": str(uuid4()), "send_attempts": 1}
    Refresh.objects.create(id="rfr_1", dataset_id="orders", key=named([noon])[0], parameters={}, **mine)
    (run,) = schedule.plan(noon)
    schedule.look()
    schedule.look()
    row = Refresh.objects.get()
    assert (row.status, row.prefect_flow_run_id) == ("scheduled", run)
    assert schedule.states([run]) == ["SCHEDULED"]


def test_a_run_is_known_to_read_since_its_last_attempt_began(schedule: Schedule) -> None:
    schedule.register("day", "latest")
    (run,) = schedule.plan(*days_ago(1))
    schedule.look()
    for hours in (2, 1):
        schedule.prefect.move(run, "RUNNING", ago=timedelta(hours=hours))
        schedule.look()
        row = Refresh.objects.get()
        assert (row.status, row.started_at) == ("running", schedule.prefect.runs[run].state_at)


def test_what_begins_while_it_is_looked_at_is_left_to_go_on(schedule: Schedule) -> None:
    schedule.register("day", "latest")
    begins, latest = schedule.plan(*days_ago(2, 1))
    found = schedule.prefect.flow_runs

    def just_before(**wanted: Any) -> Any:
        page = found(**wanted)
        schedule.prefect.move(begins, "PENDING")
        return page

    schedule.prefect.flow_runs = just_before  # type: ignore[method-assign]
    schedule.look()
    assert schedule.states([begins, latest]) == ["PENDING", "SCHEDULED"]


def test_what_has_begun_or_is_not_due_yet_is_not_missed(schedule: Schedule) -> None:
    schedule.register("hour", "latest")
    now = datetime.now(UTC)
    running, waits, soon = schedule.plan(
        now - timedelta(hours=2), now - timedelta(hours=1), now + timedelta(seconds=20)
    )
    schedule.prefect.move(running, "RUNNING")
    schedule.look()
    assert schedule.states([running, waits, soon]) == ["RUNNING", "SCHEDULED", "SCHEDULED"]
    schedule.prefect.runs[waits] = replace(schedule.prefect.runs[waits], run_count=1, state_name="AwaitingRetry")
    schedule.prefect.runs[soon] = replace(schedule.prefect.runs[soon], expected_start_at=now)
    schedule.look()
    assert schedule.states([running, waits, soon]) == ["RUNNING", "SCHEDULED", "SCHEDULED"], "it has begun once"


#: the hours of a day on which the clock of Berlin changes
@pytest.mark.parametrize(("day", "hours"), [("2026-10-25", 25), ("2026-03-29", 23)])
def test_each_hour_of_a_day_on_which_the_clock_changes_is_taken_once(schedule: Schedule, day: str, hours: int) -> None:
    schedule.register("hour", "each")
    begin = datetime.fromisoformat(day).replace(tzinfo=BERLIN).astimezone(UTC)
    ids = schedule.plan(*[begin + timedelta(hours=hour) for hour in range(hours)])
    schedule.look()
    schedule.look()
    assert schedule.states(ids) == ["SCHEDULED"] * hours
    assert len(keys()) == len(set(keys())) == hours
