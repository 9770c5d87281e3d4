"""The flow process against a real Prefect server: published once, whatever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from console.clock import database_now
from console.environment import PROJECT, environment
from dataplane import selectors
from dataplane.catalogue import CATALOGUE, HANDBOOK
from dataplane.errors import PrefectAway
from dataplane.models import Dataset, DatasetVersion, Passage, Refresh, Schedule
from dataplane.prefect_gateway import HttpPrefectGateway
from dataplane.refreshes import standing
from dataplane.refreshes.request import request_refresh
from stack.prefect import Prefect
from tests.waiting import PATIENCE, eventually

from .conftest import handbook

pytestmark = pytest.mark.engines

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def home(tmp_path: Path, prefect_server: Prefect, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with a handbook of two pages, and the environment that points at it."""
    handbook(tmp_path / "handbook", returns="Thirty days, unused.", damage="Damaged goods are paid back.")
    monkeypatch.setenv("SIGNALBOX_HOME", str(tmp_path))
    monkeypatch.setenv("SIGNALBOX_HANDBOOK", str(tmp_path / "handbook"))
    monkeypatch.setenv("SIGNALBOX_FAULTS", "true")
    monkeypatch.setenv("PREFECT_API_URL", prefect_server.api_url)
    environment.cache_clear()
    (tmp_path / "faults").mkdir()
    nothing_comes_due()
    return tmp_path


def nothing_comes_due() -> None:
    """Take the catalogue's schedules away, as an admin would: no run comes due while a test counts its own."""
    for entry in CATALOGUE.values():
        Dataset.objects.update_or_create(
            name=entry.name,
            defaults={"title": entry.title, "fresh_for": entry.fresh_for, "scheduled_at": database_now()},
        )


@pytest.fixture
def prefect(prefect_server: Prefect) -> Iterator[HttpPrefectGateway]:
    gateway = HttpPrefectGateway(prefect_server.api_url)
    yield gateway
    gateway.close()


@pytest.fixture
def start_flows(home: Path) -> Iterator[Start]:
    """Start `manage.py serve_flows`; at the end all of them are stopped in good order."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "manage.py", "serve_flows"]
        with (home / "flows.log").open("ab") as log:
            started.append(subprocess.Popen(command, cwd=PROJECT, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(timeout=PATIENCE)


def arm(home: Path, point: str, action: str) -> None:
    (home / "faults" / point).write_text(action)


def wait_until(happened: Callable[[], bool]) -> None:
    eventually(lambda: _is_so(happened), "what the flows were asked for")


def _is_so(happened: Callable[[], bool]) -> bool:
    """A server busy with its own start is asked again."""
    try:
        return happened()
    except PrefectAway:
        return False


def ended(key: str) -> Callable[[], bool]:
    return lambda: not Refresh.objects.get(key=key).is_open


def request(key: str) -> Refresh:
    return request_refresh(dataset="handbook", key=key, user=None)[0]


def test_from_an_empty_database_to_versions_that_agents_can_read(
    home: Path, start_flows: Start, prefect: HttpPrefectGateway
) -> None:
    before = selectors.window_key("handbook")
    process = start_flows()
    wait_until(DatasetVersion.objects.exists)
    first = Refresh.objects.get()
    wait_until(ended(first.key))
    windows = (before, selectors.window_key("handbook"))  # a day may begin meanwhile
    assert first.key in windows, "nobody had to ask for the first one"
    assert selectors.nearest_passages(query="damaged goods", limit=1).passages[0].document == "damage.md"

    run_id = Refresh.objects.get().prefect_flow_run_id
    wait_until(lambda: prefect.flow_run(run_id).state_type == "COMPLETED")
    wait_until(lambda: any("Version 1 is published" in line.message for line in prefect.logs(run_id).items))

    again = request("same-words")
    wait_until(ended("same-words"))
    assert Refresh.objects.get(pk=again.pk).status == "unchanged"

    handbook(home / "handbook", returns="Fourteen days, unused.")
    request("new-words")
    wait_until(ended("new-words"))
    assert selectors.current_versions(["handbook"]) == {"handbook": 2}

    (home / "handbook" / "broken.md").write_text("no front matter")
    request("broken")
    wait_until(ended("broken"))
    broken = Refresh.objects.get(key="broken")
    assert broken.status == "failed"
    assert broken.error == "broken.md does not begin with front matter between two lines of ---."
    assert selectors.current_versions(["handbook"]) == {"handbook": 2}

    process.terminate()
    assert process.wait(timeout=PATIENCE) == 0, "stopped in good order, not killed"


def test_the_same_refresh_from_many_sides_at_once_is_one_version(
    start_flows: Start, prefect: HttpPrefectGateway
) -> None:
    start_flows()
    wait_until(DatasetVersion.objects.exists)
    Refresh.objects.filter(status="published").update(key="yesterday")
    window = selectors.window_key("handbook")
    for number in range(3):  # beside the click also runs of the schedule, which know no key of ours
        prefect.create_flow_run(
            flow=HANDBOOK.flow,
            deployment=HANDBOOK.deployment,
            parameters={"key": window, "parameters": {}},
            idempotency_key=f"schedule {os.getpid()} {number}",
            name="scheduled",
        )
    assert request(window).pk == request(window).pk
    wait_until(lambda: not prefect.flow_runs(states=["SCHEDULED", "PENDING", "RUNNING"]).items or _all_done(prefect))
    assert Refresh.objects.filter(dataset="handbook", key=window).count() == 1
    assert DatasetVersion.objects.count() == 1
    assert Passage.objects.count() == 2


def _all_done(prefect: HttpPrefectGateway) -> bool:
    """Return whether nothing is under way but what the schedule has planned for later days."""
    running = prefect.flow_runs(states=["PENDING", "RUNNING"]).items
    due = [run for run in prefect.flow_runs(states=["SCHEDULED"]).items if run.name == "scheduled"]
    return not running and not due


@pytest.mark.parametrize("point", ["flow.before_publish", "flow.after_publish"])
def test_a_flow_run_killed_at_its_worst_moment_publishes_once(
    home: Path, start_flows: Start, prefect: HttpPrefectGateway, point: str
) -> None:
    arm(home, point, "kill")
    start_flows()
    wait_until(lambda: (home / "faults" / f"{point}.fired").exists())
    stands: set[str] = set()  # what a run's page says meanwhile

    def is_published() -> bool:
        row = Refresh.objects.get()
        if trouble := standing.troubles_of([row.dataset_id]).get(row.dataset_id):
            stands.add(f"{trouble.kind}: {trouble.sentence}")
        return row.status == "published"

    wait_until(is_published)
    row = Refresh.objects.get()
    assert (DatasetVersion.objects.count(), Passage.objects.count()) == (1, 2)
    assert row.restarts == (1 if point == "flow.before_publish" else 0)
    crashes = [one for one in stands if one.startswith("flow_crashed")]
    assert bool(crashes) == (row.restarts == 1), stands
    assert all("it is started again by itself" in one for one in crashes) and not standing.troubles_of([row.dataset_id])
    end = "COMPLETED" if point == "flow.before_publish" else "CRASHED"
    wait_until(lambda: prefect.flow_run(row.prefect_flow_run_id).state_type == end)


def test_the_whole_flow_process_killed_mid_run_is_finished_by_the_next_one(
    home: Path, start_flows: Start, prefect: HttpPrefectGateway
) -> None:
    arm(home, "flow.before_publish", "freeze")
    process = start_flows()
    fired = home / "faults" / "flow.before_publish.fired"
    wait_until(lambda: fired.exists() and " " in fired.read_text())
    run_id = Refresh.objects.get().prefect_flow_run_id
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not _is_alive(int(fired.read_text().split()[1])))
    assert prefect.flow_run(run_id).state_type == "RUNNING", "Prefect alone would believe it for ever"

    start_flows()
    wait_until(lambda: Refresh.objects.filter(status="published").exists())
    assert Refresh.objects.get().prefect_flow_run_id == run_id
    assert (DatasetVersion.objects.count(), Passage.objects.count()) == (1, 2)


def test_five_windows_that_were_missed_are_each_refreshed_once_by_two_flow_processes(
    home: Path, start_flows: Start, prefect_server: Prefect, prefect: HttpPrefectGateway
) -> None:
    """As Prefect's scheduler leaves them: runs without a key of ours, due at six on each of the last days."""
    process = start_flows()
    wait_until(lambda: Refresh.objects.filter(status="published").exists())
    process.terminate()
    process.wait(timeout=PATIENCE)
    six = database_now().replace(hour=6, minute=0, second=0, microsecond=0)
    missed = [six - timedelta(days=days) for days in range(1, 6)]
    with httpx.Client(base_url=prefect_server.api_url, timeout=PATIENCE) as http:
        found = http.get(f"/deployments/name/{HANDBOOK.flow}/{HANDBOOK.deployment}").raise_for_status().json()
        for due in missed:
            state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due.isoformat()}}
            body = {"state": state, "idempotency_key": f"scheduled {found['id']} {due.isoformat()}"}
            http.post(f"/deployments/{found['id']}/create_flow_run", json=body).raise_for_status()

    start_flows()
    start_flows()
    keys = {HANDBOOK.key(due) for due in missed}
    wait_until(lambda: Refresh.objects.filter(key__in=keys, status="unchanged").count() == len(keys))
    assert len(keys) == len(missed) and DatasetVersion.objects.count() == 1
    assert Refresh.objects.count() == len(missed) + 1
    runs = Refresh.objects.filter(key__in=keys).values_list("prefect_flow_run_id", flat=True)
    wait_until(lambda: all(prefect.flow_run(run).state_type == "COMPLETED" for run in runs))


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_edited_schedule_is_served_and_outlives_the_process(
    home: Path, start_flows: Start, prefect_server: Prefect
) -> None:
    def served() -> list[tuple[str, str, bool]]:
        with httpx.Client(base_url=prefect_server.api_url, timeout=60) as http:
            answer = http.get(f"/deployments/name/{HANDBOOK.flow}/{HANDBOOK.deployment}")
        schedules = answer.json().get("schedules", []) if answer.is_success else []
        return [(one["schedule"]["cron"], one["schedule"]["timezone"], one["active"]) for one in schedules]

    Dataset.objects.all().delete()  # as at the first start ever
    process = start_flows()
    wait_until(Schedule.objects.filter(dataset="handbook").exists)  # Prefect may know it from a test before
    wait_until(lambda: served() == [("0 6 * * *", "UTC", True)])
    Schedule.objects.update(cron="15 7 * * *", timezone="Europe/Berlin")
    wait_until(lambda: served() == [("15 7 * * *", "Europe/Berlin", True)])

    process.terminate()
    process.wait(timeout=PATIENCE)
    Schedule.objects.update(is_active=False)
    Schedule.objects.create(dataset_id="handbook", slug="broken", cron="now and then")
    start_flows()
    wait_until(lambda: served() == [("15 7 * * *", "Europe/Berlin", False)])
    Schedule.objects.all().delete()
    wait_until(lambda: served() == [])
