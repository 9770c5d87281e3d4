from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from console import health, ports


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
    monkeypatch.setattr(health, "announce", lambda *topics: told.extend(topics))
    known = health.announce_changes(health.Seen())
    assert health.announce_changes(known) == known
    parts["prefect"] = {"ok": False}
    known = health.announce_changes(known)
    assert told == ["health", "system"] * 2
    parts["prefect"] = {"ok": False, "detail": "locked out"}
    health.announce_changes(known)
    assert told == ["health", "system"] * 2 + ["system"], "every page tells who is away; System alone tells why"


def test_what_the_system_page_shows_besides_the_parts_is_announced_to_it(
    parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(health, "announce", lambda *topics: told.extend(topics))
    known = health.announce_changes(health.Seen())
    told.clear()
    runs = ports.runs()
    for name in ("stuck_count", "waiting_signals"):
        monkeypatch.setattr(runs, name, lambda: 3)
        known = health.announce_changes(known)
    assert told == ["system", "system"]


def test_a_page_that_is_told_of_a_change_asks_the_parts_anew(
    parts: dict[str, Any], client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_NOTICE_SECONDS", 3600.0)
    client.force_login(alice)
    assert "Prefect is away" not in client.get("/inbox/").content.decode()
    parts["prefect"] = {"ok": False}
    assert "Prefect is away" not in client.get("/inbox/").content.decode(), "what was seen is kept for a while"
    told = client.get("/frame/notices/", headers={"HX-Request": "true"}).content.decode()
    assert "Prefect is away" in told
