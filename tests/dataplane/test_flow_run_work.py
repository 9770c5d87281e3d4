"""Tasks and artifacts of a run that has more of them than Prefect tells at once: read page by page, none left out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from django.contrib.auth.models import User

from dataplane.deployments import FAILED, PrefectDeployments
from dataplane.prefect_gateway import HttpPrefectGateway
from tests.api_caller import Caller
from tests.page_client import signed_in, text

from .conftest import FLOW_RUN

pytestmark = pytest.mark.django_db
BEGAN = datetime(2026, 11, 24, tzinfo=UTC)
TASKS, LEFT = 450, 210  # more than one answer of Prefect's holds


def at(number: int) -> str:
    return (BEGAN + timedelta(seconds=number)).isoformat()


RUN = {
    **{"id": FLOW_RUN, "name": "orders", "flow_id": "f", "deployment_id": None, "created": at(0)},
    **{"state_type": "FAILED", "state_name": "Failed", "parameters": {}, "start_time": at(0), "end_time": at(500)},
}
TASK_ROWS = [
    {
        **{"id": str(UUID(int=number)), "name": f"load-{number:03}", "start_time": at(number), "end_time": at(number)},
        **{"state_type": "FAILED" if number == TASKS - 1 else "COMPLETED", "state_name": "x"},
    }
    for number in range(TASKS)
]
#: as Prefect keeps them: what is to be read, between the places of results
ARTIFACT_ROWS = [
    {
        **{"id": str(UUID(int=number)), "type": kind, "data": f"row {number}", "updated": at(number)},
        "key": f"row-{number:03}" if kind == "markdown" else None,
    }
    for number in range(LEFT * 2)
    for kind in ("result" if number % 2 else "markdown",)
]


def prefect(request: httpx.Request) -> httpx.Response:
    """Answer as Prefect does, as far as these lists ask it."""
    if request.method == "GET":
        return httpx.Response(200, json=RUN)
    kind, asked = request.url.path.split("/")[2], json.loads(request.content)
    rows: list[Any] = [{"id": "f", "name": "load_orders"}] if kind == "flows" else []
    if kind == "task_runs":
        assert asked["sort"] == "EXPECTED_START_TIME_ASC"
        states = asked.get("task_runs", {}).get("state", {}).get("type", {}).get("any_")
        rows = [row for row in TASK_ROWS if not states or row["state_type"] in states]
    if kind == "artifacts":
        assert asked["sort"] == "ID_DESC"
        left_out = asked["artifacts"].get("type", {}).get("not_any_", [])
        rows = [row for row in reversed(ARTIFACT_ROWS) if row["type"] not in left_out]
    offset = asked.get("offset", 0)
    return httpx.Response(200, json=rows[offset : offset + asked["limit"]])


@pytest.fixture(autouse=True)
def others(monkeypatch: pytest.MonkeyPatch) -> PrefectDeployments:
    door = HttpPrefectGateway("http://prefect.example/api", transport=httpx.MockTransport(prefect))
    found = PrefectDeployments(door)
    for name in ("dataplane.api.flow_runs", "dataplane.pages.flow_run_work"):
        monkeypatch.setattr(f"{name}.deployments", lambda: found)
    monkeypatch.setattr("dataplane.pages.flow_run_work.gateway", lambda: door)
    return found


def test_every_task_and_artifact_is_on_one_page_of_its_list(ada: User) -> None:
    api, path = Caller(ada), f"flow-runs/{FLOW_RUN}"
    for limit in (200, 100):
        told = [one["name"] for page in api.all(f"{path}/tasks", limit=limit) for one in page]
        assert told == [row["name"] for row in TASK_ROWS]
        left = [one["data"] for page in api.all(f"{path}/artifacts", limit=limit) for one in page]
        assert left == [f"row {number}" for number in range(LEFT * 2 - 2, -1, -2)], "newest first, and no result"
    first = api.get(f"{path}/tasks").json()
    assert len(first["items"]) == 200 and first["next"] == "200"


def test_of_a_key_that_was_written_again_a_page_has_the_newest(
    others: PrefectDeployments, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in ARTIFACT_ROWS:
        monkeypatch.setitem(row, "key", "report" if row["updated"] in (at(0), at(4)) else row["key"])
    left = others.artifacts(FLOW_RUN, limit=5, cursor=str(LEFT - 5)).items
    assert [(one.key, one.data) for one in left] == [
        ("row-008", "row 8"),
        ("row-006", "row 6"),
        ("report", "row 4"),
        ("row-002", "row 2"),
    ]


def test_the_page_says_that_there_is_more_and_shows_what_failed_whichever_part_is_open(
    ada: User, others: PrefectDeployments
) -> None:
    assert [one.name for one in others.task_runs(FLOW_RUN, states=FAILED).items] == ["load-449"]
    client, path = signed_in(ada), f"/data/flow-runs/{FLOW_RUN}/work/"
    first = text(client.get(path))
    assert first.count("load-449") == 1 and "Failed tasks" in first and "load-200" not in first
    assert "200, and there are more" in first and f"{path}?tasks=200" in first and f"{path}?artifacts=200" in first
    assert first.index("row 22") < first.index("row 418"), "the newest 200, as they were written"
    last = text(client.get(f"{path}?tasks=400&artifacts=200"))
    assert "load-400" in last and last.count("load-449") == 2 and "Later tasks" not in last
    assert "row 18" in last and "row 20" not in last and "Older artifacts" not in last
    assert f'data-live-get="{path}?tasks=400&amp;artifacts=200"' in last
