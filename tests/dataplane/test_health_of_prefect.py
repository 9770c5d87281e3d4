"""Prefect broken in ways that its own /health does not tell, and flows that nobody serves."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest

from dataplane import flow_service, health
from dataplane.catalogue import HANDBOOK
from dataplane.flow_service import Served
from dataplane.prefect_gateway import HttpPrefectGateway

from .fakes import FakePrefect


def told(status: int) -> tuple[bool, str]:
    """Ask a Prefect whose /health is well and whose API answers with this status."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if request.url.path.endswith("/health") else status, json=[])

    door = HttpPrefectGateway("http://prefect.example/api", transport=httpx.MockTransport(answer))
    found = health._asked(door)
    return found["ok"], found["detail"]


def test_an_api_that_answers_us_is_ok() -> None:
    assert told(200)[0]


@pytest.mark.parametrize(("status", "words"), [(401, "PREFECT_API_AUTH_STRING"), (500, "500"), (404, "not Prefect")])
def test_a_well_server_that_does_not_serve_us_is_not_ok(status: int, words: str) -> None:
    ok, detail = told(status)
    assert not ok
    assert words in detail


def test_flows_that_nobody_asks_for_are_late(monkeypatch: pytest.MonkeyPatch) -> None:
    prefect, served = FakePrefect(), Served()
    prefect.add_deployment(HANDBOOK.flow, HANDBOOK.deployment)
    prefect.polled_at = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
    assert served.late(lambda: prefect) == ""
    monkeypatch.setattr(flow_service, "UNSERVED", -1.0)
    assert "the runner has not asked for work" in served.late(lambda: prefect)
    prefect.is_away = True
    assert served.late(lambda: prefect).startswith("waiting for Prefect")
