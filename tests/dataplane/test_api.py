from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client

from dataplane import masking, selectors
from dataplane.models import Refresh
from dataplane.prefect_gateway import LogLine
from dataplane.refreshes import dispatch
from dataplane.secret_fields import MASK
from tests.page_client import signed_in, text

from .conftest import content, publish
from .fakes import FakePrefect


def get(user: User, path: str) -> tuple[int, Any]:
    client = Client()
    client.force_login(user)
    response = client.get(f"/api/v1/{path}")
    return response.status_code, response.json()


def post(user: User, path: str, body: Any = None) -> tuple[int, Any]:
    client = Client()
    client.force_login(user)
    sent = "" if body is None else json.dumps(body)
    response = client.post(f"/api/v1/{path}", sent, content_type="application/json")
    return response.status_code, response.json()


@pytest.fixture
def run_id(ada: User, fake_prefect: FakePrefect) -> str:
    """A refresh of ada's that was handed to Prefect; the id of its flow run."""
    post(ada, "datasets/handbook/refresh", {"key": "k1"})
    dispatch.dispatch_all(fake_prefect)
    return Refresh.objects.get().prefect_flow_run_id


def test_a_refresh_is_created_once_and_then_found(ada: User) -> None:
    status, first = post(ada, "datasets/handbook/refresh", {"key": "k1"})
    assert status == 201
    shown = first["refresh"]
    told = ("dataset", "key", "status", "flow_run_id", "version", "error", "note")
    assert {name: shown[name] for name in told} == {
        "dataset": "handbook",
        "key": "k1",
        "status": "scheduled",
        "flow_run_id": None,
        "version": None,
        "error": None,
        "note": None,
    }
    assert post(ada, "datasets/handbook/refresh", {"key": "k1"}) == (200, first)
    assert get(ada, f"refreshes/{shown['id']}") == (200, shown)


def test_a_refresh_without_a_body_is_the_windows(ada: User) -> None:
    assert post(ada, "datasets/handbook/refresh")[1]["refresh"]["key"] == selectors.window_key("handbook")
    assert post(ada, "datasets/handbook/refresh", {})[0] == 200


def test_what_is_wrong_with_a_refresh_is_said_by_path(ada: User) -> None:
    status, problem = post(ada, "datasets/handbook/refresh", {"parameters": {"agent": "support"}})
    assert (status, problem["status"], problem["errors"][0]["path"]) == (422, 422, "parameters.agent")
    assert post(ada, "datasets/handbook/refresh", {"keys": "k1"})[0] == 422
    assert post(ada, "datasets/nothing/refresh", {})[0] == 404
    post(ada, "datasets/handbook/refresh", {"key": "k1"})
    status, problem = post(ada, "datasets/handbook/refresh", {"key": "k1", "parameters": {"passage_characters": 900}})
    assert (status, problem["refresh_id"]) == (409, Refresh.objects.get().pk)


def test_roles_decide_who_may(ada: User, alice: User, olga: User, eve: User) -> None:
    for person in (alice, olga, eve):
        assert post(person, "datasets/handbook/refresh", {"key": "k1"})[0] == 403
    for path in ("datasets", "datasets/handbook", "refreshes", "flow-runs"):
        assert get(eve, path)[0] == 403
    assert get(alice, "datasets")[0] == 200
    assert Client().get("/api/v1/datasets").status_code == 401


@pytest.mark.usefixtures("database_url")
def test_a_dataset_tells_its_versions(alice: User) -> None:
    status, before = get(alice, "datasets/handbook")
    assert (status, before["current_version"], before["fresh_until"], before["is_stale"]) == (200, None, None, True)
    publish("k1", content("Thirty days."))
    publish("k2", content("Fourteen days."))
    after = get(alice, "datasets")[1]["items"][0]
    assert (after["current_version"], after["is_stale"]) == (2, False)
    assert [version["version"] for version in after["versions"]] == [2, 1]
    assert set(after["versions"][0]) == {"version", "digest", "rows", "published_at", "flow_run_id"}
    assert "passage_characters" in after["parameters_schema"]["properties"]
    assert get(alice, "datasets/other")[0] == 404


def test_flow_runs_are_told_in_prefects_words(alice: User, run_id: str, fake_prefect: FakePrefect) -> None:
    fake_prefect.move(run_id, "RUNNING")
    fake_prefect.lines[run_id] = [LogLine(datetime.now(UTC), "info", f"line {n}", "") for n in range(3)]
    (listed,) = get(alice, "flow-runs?state=running&flow=refresh_handbook")[1]["items"]
    assert (listed["id"], listed["state"], listed["state_name"]) == (run_id, "running", "Running")
    assert get(alice, f"flow-runs/{run_id}") == (200, listed)
    assert listed["refresh_id"] == Refresh.objects.get().pk
    assert get(alice, "flow-runs?state=completed")[1]["items"] == []
    page = get(alice, f"flow-runs/{run_id}/logs?limit=2")[1]
    rest = get(alice, f"flow-runs/{run_id}/logs?limit=2&cursor={page['next']}")[1]
    assert [line["message"] for line in page["items"] + rest["items"]] == ["line 0", "line 1", "line 2"]
    assert rest["next"] is None


def test_what_cannot_be_asked_is_refused(alice: User, fake_prefect: FakePrefect) -> None:
    assert get(alice, "flow-runs?state=sleeping")[0] == 422
    assert get(alice, "flow-runs?limit=201")[0] == 422
    for path in (f"flow-runs/{uuid4()}", "flow-runs/nonsense", f"flow-runs/{uuid4()}/logs", "refreshes/rfr_x"):
        assert get(alice, path)[0] == 404


def test_without_prefect_only_its_own_things_are_away(ada: User, run_id: str, fake_prefect: FakePrefect) -> None:
    fake_prefect.is_away = True
    for path in ("flow-runs", f"flow-runs/{run_id}", f"flow-runs/{run_id}/logs"):
        status, problem = get(ada, path)
        assert (status, problem["engine"]) == (503, "prefect")
        assert problem["retry_after_seconds"] > 0 and "kept and sent" in problem["detail"]
    assert get(ada, "datasets")[0] == 200
    assert post(ada, "datasets/handbook/refresh", {"key": "k2"})[0] == 201
    assert [row["key"] for row in get(ada, "refreshes")[1]["items"]] == ["k2", "k1"]


SECRET_SCHEMA = {"properties": {"day": {"type": "string"}, "opener": {"type": "string", "format": "password"}}}


def test_a_secret_of_somebody_elses_flow_is_in_no_answer_and_on_no_page(
    alice: User, ada: User, fake_prefect: FakePrefect
) -> None:
    fake_prefect.add_deployment("load_orders", "nightly", SECRET_SCHEMA)
    given = {"day": "2026-11-28", "opener": "hunter2"}
    for number in range(3):
        made = fake_prefect.create_flow_run(
            flow="load_orders", deployment="nightly", parameters=given, idempotency_key=f"n{number}", name="orders"
        )
    for user in (alice, ada):
        one, listed = get(user, f"flow-runs/{made.id}")[1], get(user, "flow-runs")[1]["items"]
        assert [run["parameters"] for run in (one, *listed)] == [{"day": "2026-11-28", "opener": MASK}] * 4
        client = Client()
        client.force_login(user)
        page = client.get(f"/data/flow-runs/{made.id}/").content.decode()
        assert "hunter2" not in page and "2026-11-28" in page and masking.UNKNOWN not in page


def test_of_a_deployment_that_is_gone_every_value_is_hidden_and_it_says_why(
    alice: User, ada: User, fake_prefect: FakePrefect
) -> None:
    fake_prefect.add_deployment("load_orders", "nightly", SECRET_SCHEMA)
    given = {"day": "2026-11-28", "opener": "hunter2"}
    made = fake_prefect.create_flow_run(
        flow="load_orders", deployment="nightly", parameters=given, idempotency_key="gone", name="orders"
    )
    fake_prefect.runs[made.id] = replace(made, deployment="", parameters_schema={})
    for user in (alice, ada):
        seen = get(user, f"flow-runs/{made.id}")[1]
        assert seen["parameters"] == {"day": MASK, "opener": MASK}
        assert seen["parameters_hidden_because"] == masking.UNKNOWN
        page = text(signed_in(user).get(f"/data/flow-runs/{made.id}/"))
        assert "hunter2" not in page and masking.UNKNOWN in page
