"""What the stack says of itself, to strangers and to those who are signed in."""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError

from console import health
from console.clock import database_now
from console.models import PartHeartbeat
from console.stack.ports import free_port
from orchestration import health as orchestration_health
from tests.api_caller import Caller

PARTS = {"postgres", "temporal", "prefect", "worker", "relay", "flows"}


def fine() -> dict[str, Any]:
    return {"ok": True, "detail": "fine", "address": "here", "last_seen_at": None}


def away() -> dict[str, Any]:
    return {"ok": False, "detail": "away", "address": "here", "last_seen_at": None}


@pytest.fixture
def engines(settings: Any) -> Any:
    """Both engines answer; a test may take one away."""
    settings.HEALTH_CHECKS = dict.fromkeys(("temporal", "prefect"), f"{__name__}.fine")
    return settings


def all_beat() -> None:
    for part in health.OUR_PROCESSES:
        health.beat(part, f"{part} at work")


def test_strangers_see_the_status_and_nothing_else(engines: Any, db: None) -> None:
    all_beat()
    answer = Caller().get("health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert Caller(token="sb_made_up").get("health").json() == {"status": "ok"}


def test_whoever_is_signed_in_sees_every_part(engines: Any, eve: User) -> None:
    all_beat()
    body = Caller(eve).get("health").json()
    assert set(body) == {"status", "parts"}
    assert set(body["parts"]) == PARTS
    for part in body["parts"].values():
        assert set(part) == {"ok", "detail", "address", "last_seen_at"}
        assert part["ok"] is True
    assert body["parts"]["postgres"]["detail"].startswith("PostgreSQL ")
    assert body["parts"]["worker"]["detail"] == "worker at work"
    assert body["parts"]["worker"]["last_seen_at"] is not None


def test_before_the_first_worker_the_stack_is_starting(engines: Any, eve: User) -> None:
    body = Caller(eve).get("health").json()
    assert body["status"] == "starting"
    assert body["parts"]["worker"]["detail"] == "not seen yet"


@pytest.mark.parametrize("engine", ["temporal", "prefect"])
def test_without_an_engine_the_stack_is_degraded_and_answers_200(engine: str, engines: Any, eve: User) -> None:
    all_beat()
    engines.HEALTH_CHECKS = engines.HEALTH_CHECKS | {engine: f"{__name__}.away"}
    answer = Caller(eve).get("health")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert not answer.json()["parts"][engine]["ok"]


def test_a_process_that_missed_three_heartbeats_is_silent(engines: Any, eve: User) -> None:
    all_beat()
    caller = Caller(eve)
    for age, is_ok in ((14, True), (16, False)):
        PartHeartbeat.objects.filter(part="relay").update(last_seen_at=database_now() - timedelta(seconds=age))
        body = caller.get("health").json()
        assert body["parts"]["relay"]["ok"] is is_ok
        assert body["status"] == ("ok" if is_ok else "degraded")
    assert body["parts"]["relay"]["last_seen_at"] is not None


def test_one_living_process_of_several_is_enough(engines: Any, eve: User) -> None:
    all_beat()
    now = database_now()
    PartHeartbeat.objects.create(part="worker", instance="other:1", last_seen_at=now - timedelta(minutes=5))
    assert Caller(eve).get("health").json()["parts"]["worker"]["ok"]
    PartHeartbeat.objects.filter(instance="other:1").update(last_seen_at=now, detail="second")
    assert Caller(eve).get("health").json()["parts"]["worker"]["detail"].startswith("2 processes. ")


def test_a_beat_is_one_row_per_process_and_is_forgotten_in_good_order(db: None) -> None:
    for _ in range(3):
        health.beat("worker", "busy")
    assert PartHeartbeat.objects.count() == 1
    health.forget("relay")
    assert PartHeartbeat.objects.count() == 1
    health.forget("worker")
    assert PartHeartbeat.objects.count() == 0


def test_without_postgres_the_answer_is_503_and_says_which_part(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away:
        def cursor(self) -> Any:
            raise OperationalError("the connection is lost")

    monkeypatch.setattr(health, "connection", Away())
    answer = Caller().get("health")
    assert (answer.status_code, answer.json()) == (503, {"status": "degraded"})
    status, body = health.report()
    assert (status, set(body["parts"])) == (503, {"postgres"})


def test_temporal_is_asked_by_its_port_and_not_at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        known = orchestration_health.environment().model_copy(update={"temporal_address": address})  # type: ignore[attr-defined]
        monkeypatch.setattr(orchestration_health, "environment", lambda: known)
        monkeypatch.setattr(orchestration_health, "_kept", None)
        first = orchestration_health.temporal()
        assert (first["ok"], first["address"]) == (True, address)
    assert orchestration_health.temporal() is first  # kept for two seconds


@pytest.mark.parametrize("address", [f"127.0.0.1:{free_port()}", "127.0.0.1:none", "nowhere"])
def test_a_temporal_that_is_not_there_is_told_in_words(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = orchestration_health.environment().model_copy(update={"temporal_address": address})  # type: ignore[attr-defined]
    monkeypatch.setattr(orchestration_health, "environment", lambda: known)
    monkeypatch.setattr(orchestration_health, "_kept", None)
    told = orchestration_health.temporal()
    assert (told["ok"], told["address"]) == (False, address)
    assert "cannot be reached" in told["detail"]
