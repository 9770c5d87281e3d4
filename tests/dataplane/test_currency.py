"""Current and fresh are two facts, and both are told wherever a dataset version is shown."""

from __future__ import annotations

from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from console.clock import database_now
from console.environment import environment
from dataplane import publishing, selectors
from dataplane.currency import in_words, told, told_of_all
from dataplane.models import Dataset, Refresh
from dataplane.refreshes.request import request_refresh
from tests.api_caller import Caller
from tests.orchestration.conftest import make_run, open_for

from .conftest import content, publish

READ = [{"dataset": "handbook", "version": 1}]
pytestmark = pytest.mark.usefixtures("database_url")


def confirmed(days: int) -> None:
    Dataset.objects.update(confirmed_at=database_now() - timedelta(days=days))


def test_what_was_confirmed_in_time_is_current_and_fresh() -> None:
    publish("k1", content("Thirty days."))
    assert told(READ) == [{**READ[0], "is_current": True, "is_fresh": True, "note": "still current"}]


def test_what_nobody_confirmed_for_days_is_current_and_not_fresh_with_what_failed() -> None:
    publish("k1", content("Thirty days."))
    confirmed(days=5)
    failed, _ = request_refresh(dataset="handbook", key="k2", user=None)
    Refresh.objects.filter(pk=failed.pk).update(status="failed", error="The folder is empty.")
    note = "current, but not confirmed for 5 days; last refresh failed: The folder is empty"
    assert told(READ) == [{**READ[0], "is_current": True, "is_fresh": False, "note": note}]


def test_how_long_a_version_is_fresh_is_what_its_entry_says_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alice: User
) -> None:
    monkeypatch.setenv("SIGNALBOX_HOME", str(tmp_path))
    environment.cache_clear()
    told_of = publishing.ToldVersion(key="k1", digest="abc", rows=5)
    read = [{"dataset": "orders", "version": 1}]
    found = []
    for span in ("26h", "1800m", "2h"):
        (tmp_path / "data.toml").write_text(f'[datasets.orders]\ndeployment = "a/b"\nfresh_for = "{span}"')
        publishing.publish("orders", told_of, by=None)
        Dataset.objects.update(confirmed_at=database_now() - timedelta(hours=28))
        found.append((told(read)[0]["is_fresh"], selectors.dataset("orders").is_stale))
    assert found == [(False, True), (True, False), (False, True)]


def test_an_older_version_says_which_is_current() -> None:
    publish("k1", content("Thirty days."))
    publish("k2", content("Fourteen days."))
    assert told(READ) == [{**READ[0], "is_current": False, "is_fresh": False, "note": "a newer version exists: 2"}]
    assert told_of_all([READ, [], [{"dataset": "gone", "version": 1}]])[1:] == [
        [],
        [
            {
                "dataset": "gone",
                "version": 1,
                "is_current": False,
                "is_fresh": False,
                "note": "no version of it is current",
            }
        ],
    ]


def test_every_page_and_the_api_tell_both(alice: User, client: Client) -> None:
    publish("k1", content("Thirty days."))
    run = make_run(status="waiting", dataset_versions=READ)
    approval = open_for(run, dataset_versions=READ)
    client.force_login(alice)
    pages = (f"/approvals/{approval.pk}/", f"/runs/{run.pk}/")
    for path in pages:
        assert "Still current" in client.get(path).content.decode()
    confirmed(days=5)
    for path in pages:
        page = unescape(client.get(path).content.decode())
        assert "Still current" not in page
        assert "Current, but not confirmed for 5 days." in page
    caller = Caller(alice)
    answers: list[dict[str, Any]] = [
        caller.get(f"approvals/{approval.pk}").json(),
        caller.get("approvals").json()["items"][0],
        caller.get(f"runs/{run.pk}").json(),
        caller.get("runs").json()["items"][0],
    ]
    for answer in answers:
        (read,) = answer["dataset_versions"]
        assert (read["is_current"], read["is_fresh"]) == (True, False)
        assert read["note"] == "current, but not confirmed for 5 days"


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(days=5, hours=23), "5 days"),
        (timedelta(hours=30), "30 hours"),
        (timedelta(minutes=1), "1 minute"),
        (timedelta(seconds=-5), "0 minutes"),
    ],
)
def test_a_span_in_words(span: timedelta, words: str) -> None:
    assert in_words(span) == words
