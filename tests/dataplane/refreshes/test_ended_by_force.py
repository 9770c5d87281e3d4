"""Which of other people's flow runs are looked at, and which of them end by force, as Prefect's API tells of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from console.environment import environment
from dataplane.deployments import PrefectDeployments
from dataplane.models import Dataset, Refresh
from dataplane.prefect_gateway import MOST_ROWS, HttpPrefectGateway
from dataplane.refreshes import follow
from dataplane.refreshes.follow import Follower

pytestmark = pytest.mark.django_db

GONE = "this-machine:4711"
REGISTRATION = """
[datasets.orders]
deployment = "load_orders/nightly"
window = { every = "day", zone = "UTC", missed = "each" }
"""


class PrefectOfRows:
    """Prefect's API over a handful of flow runs, as far as somebody who follows asks it."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.deployment = str(uuid4())
        self.asked: list[str] = []
        self.beats: dict[str, list[datetime]] = {}  # signs of life, newest first

    def follower(self) -> Follower:
        door = HttpPrefectGateway("http://prefect.example/api", transport=httpx.MockTransport(self._answer))
        return Follower(door, PrefectDeployments(door))

    def add(self, state: str, *, ago: timedelta = timedelta(), message: str = "", key: str = "") -> str:
        """Add a run that came to this state some time ago, and had been due then."""
        run_id, at = str(uuid4()), (datetime.now(UTC) - ago).isoformat()
        self.rows[run_id] = {
            **{"id": run_id, "name": "n", "flow_id": "f", "deployment_id": self.deployment, "created": at},
            **{"expected_start_time": at, "idempotency_key": key, "infrastructure_pid": GONE, "end_time": None},
        }
        self._move(run_id, {"type": state, "name": state.title(), "message": message, "timestamp": at})
        return run_id

    def state(self, run_id: str) -> tuple[str, str]:
        row = self.rows[run_id]
        return row["state_type"], row["state"]["message"]

    def _move(self, run_id: str, state: dict[str, Any]) -> None:
        at = state.setdefault("timestamp", datetime.now(UTC).isoformat())
        ended = {"end_time": at} if state["type"] in ("COMPLETED", "CANCELLED", "CRASHED") else {}
        self.rows[run_id] |= {"state": state, "state_type": state["type"], "state_name": state["name"], **ended}

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api")
        self.asked.append(path)
        body = json.loads(request.content or b"{}")
        match path.strip("/").split("/"):
            case ["flow_runs", "filter"]:
                return httpx.Response(200, json=self._found(body))
            case ["flow_runs", run_id]:
                return httpx.Response(200, json=self.rows[run_id])
            case ["flow_runs", run_id, "set_state"]:
                self._move(run_id, body["state"])
                return httpx.Response(200, json={"status": "ACCEPT"})
            case ["deployments", "name", _, name]:
                return httpx.Response(200, json={"id": self.deployment, "name": name})
            case ["flows", "filter"]:
                return httpx.Response(200, json=[{"id": "f", "name": "load_orders"}])
            case ["events", "filter"]:
                return httpx.Response(200, json={"events": self._signs(body)})
        return httpx.Response(200, json=[])

    def _signs(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        (resource,) = body["filter"].get("resource", {"id": [""]})["id"]
        since = datetime.fromisoformat(body["filter"]["occurred"]["since"])
        beats = [at for at in self.beats.get(resource.removeprefix("prefect.flow-run."), []) if at >= since]
        found = [{"id": str(uuid4()), "occurred": at.isoformat()} for at in beats[: body["limit"]]]
        return [{**one, "event": "prefect.flow-run.heartbeat", "resource": {}} for one in found]

    def _found(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = body["flow_runs"]
        states = wanted.get("state", {}).get("type", {}).get("any_")
        due_before = wanted.get("expected_start_time", {}).get("before_", "9999")
        ended_after = wanted.get("end_time", {}).get("after_", "")
        found = [
            row
            for row in self.rows.values()
            if (states is None or row["state_type"] in states)
            and row["expected_start_time"] <= due_before
            and (row["end_time"] or "") >= ended_after
        ]
        order = "id" if body["sort"] == "ID_DESC" else "expected_start_time"
        found.sort(key=lambda row: row[order], reverse=True)
        assert body["limit"] <= MOST_ROWS
        return found[body.get("offset", 0) :][: body["limit"]]


@pytest.fixture
def prefect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrefectOfRows]:
    monkeypatch.setenv("SIGNALBOX_HOME", str(tmp_path))
    environment.cache_clear()
    monkeypatch.setattr(follow, "is_gone", lambda pid: pid == GONE)
    yield PrefectOfRows()
    environment.cache_clear()


@pytest.fixture
def _registered(prefect: PrefectOfRows, tmp_path: Path) -> None:
    (tmp_path / "data.toml").write_text(REGISTRATION)


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("waiting", [59, 2 * MOST_ROWS + 50])
def test_a_dead_run_is_found_however_many_wait_behind_it(prefect: PrefectOfRows, waiting: int) -> None:
    dead = prefect.add("RUNNING", ago=timedelta(hours=1))
    for _ in range(waiting):
        prefect.add("SCHEDULED")
    follower = prefect.follower()
    follower.look()
    follower._suspected[dead] -= timedelta(seconds=10)
    follower.look()
    assert prefect.state(dead) == ("CRASHED", "Its process is gone.")


@pytest.mark.usefixtures("_registered")
def test_a_second_attempt_is_not_judged_by_the_first_ones_signs_of_life(prefect: PrefectOfRows) -> None:
    run = prefect.add("RUNNING", ago=timedelta(seconds=100))
    prefect.rows[run]["infrastructure_pid"] = ""
    prefect.beats[run] = [datetime.now(UTC) - timedelta(seconds=ago) for ago in (99, 101, 131, 161)]
    follower = prefect.follower()
    follower.look()
    assert not follower._suspected
    prefect.rows[run]["state"]["timestamp"] = (datetime.now(UTC) - timedelta(seconds=162)).isoformat()
    follower.look()
    assert run in follower._suspected, "as one attempt, it is dead"


@pytest.mark.usefixtures("_registered")
def test_runs_of_a_schedule_that_ended_lately_get_their_refresh_and_earlier_ones_do_not(
    prefect: PrefectOfRows,
) -> None:
    lately = prefect.add("COMPLETED", ago=timedelta(minutes=10), key="scheduled d 1")
    prefect.add("COMPLETED", ago=timedelta(days=3), key="scheduled d 2")
    prefect.follower().look()
    assert [row.prefect_flow_run_id for row in Refresh.objects.all()] == [lately]


def test_a_run_cancelled_here_that_nobody_stops_is_ended_by_force_without_a_registration(
    prefect: PrefectOfRows,
) -> None:
    follower = prefect.follower()
    cancelled, by_others = prefect.add("RUNNING"), prefect.add("CANCELLING", ago=timedelta(hours=1), message="By hand.")
    follower.others.ask_to_cancel(cancelled)
    follower.look()
    assert prefect.state(cancelled)[0] == "CANCELLING", "whoever runs it has a minute"
    state = prefect.rows[cancelled]["state"]
    state["timestamp"] = (datetime.now(UTC) - follow.CANCELLING - timedelta(seconds=1)).isoformat()
    prefect.follower().look()  # another process: nothing is remembered
    assert prefect.state(cancelled) == ("CANCELLED", "It was told to cancel, and nobody has answered for a minute.")
    assert prefect.state(by_others) == ("CANCELLING", "By hand."), "that was not asked for here"


def test_a_cancelled_run_of_our_own_flow_is_left_to_who_knows_whether_it_lives(prefect: PrefectOfRows) -> None:
    follower = prefect.follower()
    run = prefect.add("RUNNING")
    follower.others.ask_to_cancel(run)
    prefect.rows[run]["state"]["timestamp"] = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    dataset = Dataset.objects.create(name="handbook", fresh_for=timedelta(days=1))
    Refresh.objects.create(id="rfr_1", dataset=dataset, key="k", parameters={}, prefect_flow_run_id=run)
    follower.look()
    assert prefect.state(run)[0] == "CANCELLING"


def test_a_look_costs_one_call_where_nothing_is_registered(prefect: PrefectOfRows) -> None:
    assert prefect.follower().look() == 0
    assert prefect.asked == ["/flow_runs/filter"]
