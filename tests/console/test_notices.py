from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from console import health


@pytest.fixture
def parts(db: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The parts as the report shall tell them; all are well."""
    parts = {name: {"ok": True} for name in ("postgres", "temporal", "prefect", "worker", "relay", "flows")}
    monkeypatch.setattr(health, "report", lambda wait=0: (200, {"status": "ok", "parts": parts}))
    monkeypatch.setattr(health, "_noticed", (float("-inf"), []))
    return parts


def test_every_page_says_which_part_is_away_and_what_still_works(
    parts: dict[str, Any], client: Client, alice: User
) -> None:
    parts["temporal"] = {"ok": False}
    client.force_login(alice)
    page = client.get("/inbox/").content.decode()
    assert "Temporal is away: decisions are recorded and delivered when it is back." in page


def test_an_absence_that_explains_another_hides_it(parts: dict[str, Any]) -> None:
    parts["temporal"] = parts["worker"] = {"ok": False}
    assert health.notices() == [health.CONSEQUENCES["temporal"]]


def test_nothing_is_said_while_all_is_well(parts: dict[str, Any]) -> None:
    assert health.notices() == []


def test_a_part_that_comes_or_goes_is_announced_once(parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(health, "announce", told.append)
    known = health.announce_changes({})
    assert health.announce_changes(known) == known
    parts["prefect"] = {"ok": False}
    health.announce_changes(known)
    assert told == ["health", "health"]
