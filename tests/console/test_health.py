"""What the stack says of itself, to strangers and to those who are signed in."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection, transaction
from django.test import Client

from console import health, ports, probes, temporal_connection
from console.clock import database_now
from console.environment import environment
from console.models import PartHeartbeat
from console.ports import HealthCheck, PartHealth
from orchestration import health as orchestration_health
from stack.ports import free_port
from tests.api_caller import Caller
from tests.fake_ports import all_answering
from tests.waiting import PATIENCE

PARTS = {"postgres", "temporal", "prefect", "worker", "relay", "flows"}


def fine() -> PartHealth:
    return {"ok": True, "detail": "fine", "address": "here", "last_seen_at": None}


def away() -> PartHealth:
    return {"ok": False, "detail": "away", "address": "here", "last_seen_at": None}


@pytest.fixture
def engines() -> Iterator[dict[str, HealthCheck]]:
    """Both engines answer; a test may take one away."""
    checks: dict[str, HealthCheck] = {"temporal": fine, "prefect": fine}
    with all_answering(ports.health_checks, checks):
        yield checks


def all_beat() -> None:
    for part in health.OUR_PROCESSES:
        health.beat(part, f"{part} at work")


def test_strangers_see_the_status_and_nothing_else(engines: dict[str, HealthCheck], db: None) -> None:
    all_beat()
    answer = Caller().get("health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert Caller(token="sb_made_up").get("health").json() == {"status": "ok"}


def test_whoever_is_signed_in_sees_every_part(engines: dict[str, HealthCheck], eve: User) -> None:
    all_beat()
    body = Caller(eve).get("health").json()
    assert set(body) == {"status", "parts", "findings"}
    assert set(body["parts"]) == PARTS
    for part in body["parts"].values():
        assert set(part) == {"ok", "detail", "address", "last_seen_at"}
        assert part["ok"] is True
    assert body["parts"]["postgres"]["detail"].startswith("PostgreSQL ")
    assert body["parts"]["worker"]["detail"] == "worker at work"
    assert body["parts"]["worker"]["last_seen_at"] is not None


def test_before_the_first_worker_the_stack_is_starting(engines: dict[str, HealthCheck], eve: User) -> None:
    body = Caller(eve).get("health").json()
    assert body["status"] == "starting"
    assert body["parts"]["worker"]["detail"] == "not seen yet"


@pytest.mark.parametrize("engine", ["temporal", "prefect"])
def test_without_an_engine_the_stack_is_degraded_and_answers_200(
    engine: str, engines: dict[str, HealthCheck], eve: User
) -> None:
    all_beat()
    engines[engine] = away
    answer = Caller(eve).get("health")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert not answer.json()["parts"][engine]["ok"]


def test_a_process_that_missed_three_heartbeats_is_silent(engines: dict[str, HealthCheck], eve: User) -> None:
    all_beat()
    caller = Caller(eve)
    for age, is_ok in ((14, True), (16, False)):
        PartHeartbeat.objects.filter(part="relay").update(last_seen_at=database_now() - timedelta(seconds=age))
        body = caller.get("health").json()
        assert body["parts"]["relay"]["ok"] is is_ok
        assert body["status"] == ("ok" if is_ok else "degraded")
    assert body["parts"]["relay"]["last_seen_at"] is not None


def test_after_a_quiet_hour_the_first_page_calls_no_living_process_silent(
    engines: dict[str, HealthCheck], db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_beat()
    health.report()
    later = time.monotonic() + 3600
    monkeypatch.setattr(time, "monotonic", lambda: later)
    monkeypatch.setattr(probes, "in_background", lambda work: None)  # nothing is answered while the page is made
    _, told = health.report(wait=0)
    assert [part for part in health.OUR_PROCESSES if not told["parts"][part]["ok"]] == []


def test_one_living_process_of_several_is_enough(engines: dict[str, HealthCheck], eve: User) -> None:
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


@pytest.mark.parametrize(
    "address", [f"127.0.0.1:{free_port()}", "127.0.0.1:none", "nowhere"], ids=["silent", "no port", "no host"]
)
def test_a_temporal_that_is_not_there_is_told_in_words(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = orchestration_health.environment().model_copy(update={"temporal_address": address})  # type: ignore[attr-defined]
    for module in (orchestration_health, temporal_connection):
        monkeypatch.setattr(module, "environment", lambda: known)
    told = orchestration_health.temporal()
    assert (told["ok"], told["address"]) == (False, address)
    assert "cannot be reached" in told["detail"]


def test_a_port_that_only_accepts_connections_is_no_temporal(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        known = orchestration_health.environment().model_copy(update={"temporal_address": address})  # type: ignore[attr-defined]
        for module in (orchestration_health, temporal_connection):
            monkeypatch.setattr(module, "environment", lambda: known)
        told = orchestration_health.temporal()
    assert not told["ok"]
    assert "no answer within" in told["detail"]


def test_a_process_that_lives_and_cannot_work_is_not_ok(engines: dict[str, HealthCheck], eve: User) -> None:
    all_beat()
    health.beat("worker", "waiting for Temporal: no namespace", ok=False)
    part = Caller(eve).get("health").json()["parts"]["worker"]
    assert (part["ok"], part["detail"]) == (False, "waiting for Temporal: no namespace")
    PartHeartbeat.objects.create(part="worker", instance="other:1", detail="task queue signalbox")
    part = Caller(eve).get("health").json()["parts"]["worker"]
    assert (part["ok"], part["address"]) == (True, "other:1")
    assert "1 more cannot work: waiting for Temporal" in part["detail"]


def test_a_database_that_takes_no_writes_is_not_ok_and_no_503(engines: dict[str, HealthCheck], eve: User) -> None:
    all_beat()
    caller = Caller(eve)
    assert caller.get("health").json()["status"] == "ok"
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL transaction_read_only = on")
        answer = caller.get("health")
        transaction.set_rollback(True)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    part = answer.json()["parts"]["postgres"]
    assert not part["ok"]
    assert "takes no writes: cannot execute INSERT in a read-only transaction" in part["detail"]


def test_a_disk_that_is_nearly_full_is_told_with_what_is_left(
    engines: dict[str, HealthCheck], eve: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_beat()
    more_than_there_is = environment().model_copy(update={"least_free_mb": 10**9})
    monkeypatch.setattr(health, "environment", lambda: more_than_there_is)
    part = Caller(eve).get("health").json()["parts"]["postgres"]
    assert not part["ok"]
    assert "MB are free in " in part["detail"]


def test_nobody_who_could_decide_is_said_on_system_at_once(
    engines: dict[str, HealthCheck], ada: User, bob: User, olga: User, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_beat()
    monkeypatch.setattr(health, "_noticed", (float("-inf"), []))
    client.force_login(olga)
    assert health.NOBODY_DECIDES not in unescape(client.get("/system/").content.decode())
    User.objects.filter(pk__in=[ada.pk, bob.pk]).update(is_active=False)
    page = unescape(client.get("/system/").content.decode())
    assert health.NOBODY_DECIDES in page
    assert "Everything works" not in page


def test_strangers_who_ask_again_and_again_ask_the_engines_once(
    engines: dict[str, HealthCheck], db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted() -> PartHealth:
        asked.append(1)
        return away()

    engines.update(temporal=counted, prefect=counted)
    monkeypatch.setattr(health, "KEPT_SECONDS", 3600.0)
    for _ in range(20):
        Caller().get("health")
    assert len(asked) == 1  # both engines are the same question here


def test_a_part_that_does_not_answer_holds_nobody_up_and_is_told_with_since_when(
    engines: dict[str, HealthCheck], eve: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_beat()
    release, calls = threading.Event(), []

    def hang() -> PartHealth:
        calls.append(1)
        assert release.wait(PATIENCE)
        return fine()

    def only_engines_beside(work: Callable[[], None]) -> None:
        hangs = getattr(getattr(work, "__self__", None), "_ask", None) is not health._ask_database
        threading.Thread(target=work, daemon=True).start() if hangs else work()

    monkeypatch.setattr(health, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(health, "DEADLINE_SECONDS", 0.0)
    del engines["prefect"]
    engines["temporal"] = hang
    monkeypatch.setattr(probes, "in_background", only_engines_beside)
    try:
        for _ in range(3):
            _, told = health.report(wait=0.1)
            assert not told["parts"]["temporal"]["ok"]
            assert "does not answer (since " in told["parts"]["temporal"]["detail"]
        assert len(calls) == 1  # one question at a time
    finally:
        release.set()
