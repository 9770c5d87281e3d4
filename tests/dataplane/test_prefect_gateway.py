"""One contract for the fake and the real Prefect, then how the real one's failures are told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pytest_django import DjangoAssertNumQueries

from dataplane import prefect_gateway
from dataplane.deployments import PrefectDeployments
from dataplane.errors import DeploymentNotFound, FlowRunNotFound, PrefectAway, PrefectBusy, PrefectRefused
from dataplane.models import Dataset, Refresh
from dataplane.prefect_gateway import FlowRun, HttpPrefectGateway, PrefectGateway
from dataplane.secret_fields import MASK
from stack.prefect import Prefect

from .fakes import FakePrefect

pytestmark = pytest.mark.django_db(transaction=True)  # what is kept of a run says what is secret in it
FLOW, DEPLOYMENT = "contract_flow", "contract"
SCHEMA = {"type": "object", "properties": {"key": {"type": "string", "format": "password", "writeOnly": True}}}


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.engines)])
def prefect(request: pytest.FixtureRequest) -> PrefectGateway:
    if request.param == "fake":
        fake = FakePrefect()
        fake.add_deployment(FLOW, DEPLOYMENT, SCHEMA)
        return fake
    server: Prefect = request.getfixturevalue("prefect_server")
    with httpx.Client(base_url=server.api_url, timeout=60) as http:
        flow = http.post("/flows/", json={"name": FLOW}).raise_for_status().json()
        made = {"name": DEPLOYMENT, "flow_id": flow["id"], "parameter_openapi_schema": SCHEMA}
        http.post("/deployments/", json=made).raise_for_status()
    real = HttpPrefectGateway(server.api_url)
    request.addfinalizer(real.close)
    return real


def make(prefect: PrefectGateway, key: str) -> FlowRun:
    return prefect.create_flow_run(
        flow=FLOW, deployment=DEPLOYMENT, parameters={"key": "k"}, idempotency_key=key, name=f"run {key}"
    )


def test_the_same_key_is_the_same_flow_run(prefect: PrefectGateway) -> None:
    key = uuid4().hex
    first, again = make(prefect, key), make(prefect, key)
    assert first.id == again.id
    assert (first.flow, first.deployment, first.state_type) == (FLOW, DEPLOYMENT, "SCHEDULED")
    assert prefect.flow_run(first.id).idempotency_key == key
    assert prefect.flow_run(first.id).parameters == {"key": "k"}


def test_a_run_carries_the_schema_of_its_deployments_parameters(prefect: PrefectGateway) -> None:
    made = make(prefect, uuid4().hex)
    listed = prefect.flow_runs(flow=FLOW).items
    assert {made.id} <= {run.id for run in listed}
    for run in (made, prefect.flow_run(made.id), *listed):
        assert run.parameters_schema == SCHEMA


def test_what_prefect_does_not_know_is_named(prefect: PrefectGateway) -> None:
    with pytest.raises(DeploymentNotFound):
        prefect.create_flow_run(flow=FLOW, deployment="other", parameters={}, idempotency_key="k", name="n")
    for flow_run_id in (str(uuid4()), "not-an-id", "../admin"):
        with pytest.raises(FlowRunNotFound):
            prefect.flow_run(flow_run_id)
        with pytest.raises(FlowRunNotFound):
            prefect.logs(flow_run_id)
        with pytest.raises(FlowRunNotFound):
            prefect.crash(flow_run_id, "gone")


def test_a_dead_run_is_crashed_and_scheduled_again_at_least_five_seconds_ahead(prefect: PrefectGateway) -> None:
    made = make(prefect, uuid4().hex)
    prefect.crash(made.id, "Its process is gone.")
    crashed = prefect.flow_run(made.id)
    assert (crashed.state_type, crashed.state_message) == ("CRASHED", "Its process is gone.")
    prefect.run_again(made.id, "Once more.", after=timedelta())
    again = prefect.flow_run(made.id)
    assert (again.state_type, again.state_name) == ("SCHEDULED", "AwaitingRetry")
    assert again.expected_start_at is not None
    assert again.expected_start_at - datetime.now(UTC) > timedelta(seconds=3)


def test_a_run_that_a_runner_took_and_never_began_is_scheduled_again(prefect: PrefectGateway) -> None:
    made = make(prefect, uuid4().hex)
    if isinstance(prefect, FakePrefect):
        prefect.move(made.id, "PENDING")
    else:
        body = {"state": {"type": "PENDING", "name": "Pending"}}
        told = httpx.post(f"{prefect.api_url}/flow_runs/{made.id}/set_state", json=body, timeout=60)  # type: ignore[attr-defined]
        assert told.json()["status"] == "ACCEPT"
    assert prefect.flow_run(made.id).state_type == "PENDING"
    prefect.run_again(made.id, "Once more.", after=timedelta())
    again = prefect.flow_run(made.id)
    assert (again.state_type, again.state_name, again.state_message) == ("SCHEDULED", "AwaitingRetry", "Once more.")


def test_a_cancelled_run_is_cancelled(prefect: PrefectGateway) -> None:
    made = make(prefect, uuid4().hex)
    prefect.cancel(made.id, "Not needed.")
    assert prefect.flow_run(made.id).is_terminal


def test_runs_are_listed_by_state_and_flow_in_pages(prefect: PrefectGateway) -> None:
    made = {make(prefect, uuid4().hex).id for _ in range(3)}
    for flow_run_id in made:
        prefect.crash(flow_run_id, "gone")
    found: set[str] = set()
    cursor: str | None = ""
    while cursor is not None:
        page = prefect.flow_runs(states=["CRASHED"], flow=FLOW, limit=2, cursor=cursor)
        assert all(run.state_type == "CRASHED" for run in page.items)
        found |= {run.id for run in page.items}
        cursor = page.next
    assert made <= found
    assert prefect.flow_runs(flow="no_such_flow").items == []
    assert prefect.flow_runs(flow=FLOW, due_before=datetime(2020, 1, 1, tzinfo=UTC)).items == []


def test_the_next_flow_run_is_the_first_that_is_due_however_many_are_planned_later(prefect: PrefectGateway) -> None:
    begin = datetime.now(UTC)
    assert prefect.next_flow_run(after=begin + timedelta(days=3)) is None
    made = {hours: make(prefect, uuid4().hex) for hours in range(1, 26)}
    for hours, run in made.items():
        prefect.run_again(run.id, "Later.", after=timedelta(hours=hours))
    prefect.cancel(made[2].id, "Not needed.")
    found = prefect.next_flow_run(after=begin + timedelta(hours=1, minutes=30))
    assert found is not None and found.id == made[3].id


def test_a_run_without_log_lines_has_none(prefect: PrefectGateway) -> None:
    assert prefect.logs(make(prefect, uuid4().hex).id).items == []


def test_a_healthy_server_is_healthy(prefect: PrefectGateway) -> None:
    prefect.health()


def _gateway(answer: httpx.Response | Exception) -> HttpPrefectGateway:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return HttpPrefectGateway("http://prefect.example/api", transport=httpx.MockTransport(handle))


def _subclasses(kind: type[httpx.HTTPError]) -> list[type[httpx.HTTPError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _subclasses(child))]


@pytest.mark.parametrize("kind", _subclasses(httpx.RequestError))
def test_every_way_of_not_answering_is_prefect_away(kind: type[httpx.RequestError]) -> None:
    with pytest.raises(PrefectAway, match=kind.__name__):
        _gateway(kind("broken")).health()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(500, text="oops"), PrefectAway),
        (httpx.Response(503), PrefectAway),
        (httpx.Response(200, text="<html>"), PrefectAway),
        (httpx.Response(404, json={}), FlowRunNotFound),
        (httpx.Response(408), PrefectBusy),
        (httpx.Response(425), PrefectBusy),
        (httpx.Response(429, json={"detail": "too many"}), PrefectBusy),
        (httpx.Response(409, json={"detail": "no"}), PrefectRefused),
        (httpx.Response(422, json={"exception_detail": []}), PrefectRefused),
    ],
)
def test_every_answer_that_is_not_one_is_told_as_ours(answer: httpx.Response, error: type[Exception]) -> None:
    with pytest.raises(error):
        _gateway(answer).flow_run(str(uuid4()))


@pytest.mark.parametrize(
    ("told", "wait"),
    [
        ("30", timedelta(seconds=30)),
        ("86400", prefect_gateway.LONGEST_WAIT),
        ("9" * 30, prefect_gateway.LONGEST_WAIT),
        ("Fri, 01 Jan 2100 00:00:00 GMT", prefect_gateway.LONGEST_WAIT),
        ("Sat, 01 Jan 2000 00:00:00 GMT", timedelta()),
        ("soon", None),
        (None, None),
    ],
)
def test_it_is_kept_how_long_prefect_asks_us_to_wait(told: str | None, wait: timedelta | None) -> None:
    with pytest.raises(PrefectBusy) as caught:
        _gateway(httpx.Response(429, headers={"Retry-After": told} if told else {})).flow_run(str(uuid4()))
    assert caught.value.retry_after == wait


def test_a_refused_change_of_state_is_not_silent() -> None:
    answer = httpx.Response(200, json={"status": "ABORT", "details": {"reason": "already over"}})
    with pytest.raises(PrefectRefused, match="already over"):
        _gateway(answer).crash(str(uuid4()), "gone")


def test_a_server_that_is_busy_for_a_moment_is_not_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_gateway, "BUSY_PAUSES_SECONDS", (0.0, 0.0))
    answers = [httpx.Response(503), httpx.Response(503), httpx.Response(200, json=True)]
    transport = httpx.MockTransport(lambda request: answers.pop(0))
    HttpPrefectGateway("http://prefect.example/api", transport=transport).health()
    assert answers == []


def test_schemas_take_one_call_for_a_page_and_are_asked_for_again_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("dataplane.prefect_gateway.time.monotonic", lambda: now)
    calls: list[str] = []
    schema: dict[str, Any] = {"properties": {"a": {}}}
    rows = [
        {
            **{"id": str(number), "name": "n", "flow_id": "f", "deployment_id": f"d{number}"},
            **{"created": "2026-11-28T00:00:00Z", "parameters": {"a": 1}},
        }
        for number in range(50)
    ]

    def handle(request: httpx.Request) -> httpx.Response:
        kind = request.url.path.split("/")[-2]
        calls.append(kind)
        if kind == "flow_runs":
            return httpx.Response(200, json=rows)
        wanted = json.loads(request.content)[kind]["id"]["any_"]
        return httpx.Response(
            200, json=[{"id": one, "name": one, "parameter_openapi_schema": schema} for one in wanted]
        )

    gateway = HttpPrefectGateway("http://prefect.example/api", transport=httpx.MockTransport(handle))
    assert all(run.parameters_schema == schema for run in gateway.flow_runs().items)
    gateway.flow_runs()
    assert calls == ["flow_runs", "flows", "deployments", "flow_runs"]
    schema = {"properties": {"a": {"format": "password"}}}
    now += prefect_gateway.SCHEMA_KEPT_SECONDS + 1
    assert all(run.parameters_schema == schema for run in gateway.flow_runs().items)
    assert calls[4:] == ["flow_runs", "deployments"]


def test_a_secret_that_its_registration_alone_named_is_not_told_when_that_is_gone(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    Dataset.objects.create(name="orders", title="Orders", fresh_for=timedelta(days=1))
    runs = [str(uuid4()) for _ in range(3)]
    for number, run in enumerate(runs):
        more = {"prefect_flow_run_id": run, "flow": "load", "deployment": "nightly"}
        kept = {"door_code": MASK, "day": "2026-11-28"}
        Refresh.objects.create(id=f"rfr_{number}", dataset_id="orders", key=str(number), parameters=kept, **more)
    at = "2026-11-28T00:00:00Z"
    said = "no door opens with 4929x on 2026-11-28"
    rows = [
        {
            **{"id": run, "name": "n", "flow_id": "f", "deployment_id": "d", "created": at, "state_type": "FAILED"},
            **{"parameters": {"door_code": "4929x", "day": "2026-11-28"}, "state_name": "Fai\x00led"},
            "state": {"message": f"{said}\x00", "timestamp": at},
        }
        for run in runs
    ]
    schema = {"properties": {"door_code": {"type": "string"}, "day": {"type": "string"}}}
    answers: dict[str, Any] = {
        "flow_runs": rows,
        "flows": [{"id": "f", "name": "load"}],
        "deployments": [{"id": "d", "name": "nightly", "parameter_openapi_schema": schema}],
        "logs": [{"timestamp": at, "level": 20, "message": said}],
        "artifacts": [{"id": "a", "type": "markdown", "data": said, "updated": at}],
    }

    def handle(request: httpx.Request) -> httpx.Response:
        kind = request.url.path.split("/")[2]
        return httpx.Response(200, json=rows[0] if request.method == "GET" else answers[kind])

    gateway = HttpPrefectGateway("http://prefect.example/api", transport=httpx.MockTransport(handle))
    with django_assert_num_queries(1):
        listed = gateway.flow_runs().items
    hidden = f"no door opens with {MASK} on 2026-11-28"
    assert [run.state_message for run in listed] == [f"{hidden}␀"] * 3, "as it can be kept, too"
    assert {run.state_name for run in listed} == {"Fai␀led"}
    assert [line.message for line in gateway.logs(runs[0]).items] == [hidden]
    assert [one.data for one in PrefectDeployments(gateway).artifacts(runs[0]).items] == [hidden]
    Refresh.objects.all().delete()
    assert gateway.flow_run(runs[0]).state_message == f"{said}␀", "by its schema it is no secret"
