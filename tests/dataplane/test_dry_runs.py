"""A dry run says what a refresh would change, by doing all of it and undoing it."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from console.clock import database_now
from dataplane import catalogue, currency, selectors, versions
from dataplane.catalogue import CUSTOMER_FEATURES, HANDBOOK
from dataplane.contents.passages import PassageContent
from dataplane.contracts import RefreshOrder, RefreshOutcome
from dataplane.errors import DryRunRefused, RefreshKeyTaken
from dataplane.models import Dataset, DatasetVersion, Passage, Refresh
from dataplane.refreshes.claim import claim, fail
from dataplane.refreshes.request import request_refresh
from tests.page_client import signed_in

from .conftest import FLOW_RUN, content, publish
from .fakes import FakePrefect
from .test_views import page

pytestmark = pytest.mark.usefixtures("database_url")


def try_out(made: PassageContent, key: str | None = None) -> tuple[Refresh, RefreshOutcome]:
    """Ask for a dry run, and do what its flow run does."""
    row, _ = request_refresh(dataset="handbook", key=key, user=None, is_dry_run=True)
    with claim(HANDBOOK, RefreshOrder("handbook", row.key), flow_run_id=FLOW_RUN) as claimed:
        assert claimed.is_dry_run
        if claimed.done is not None:
            return selectors.refresh(row.pk), claimed.done
        outcome = versions.compare(HANDBOOK, made, refresh_id=claimed.refresh_id, parameters={}, flow_run_id=FLOW_RUN)
    return selectors.refresh(row.pk), outcome


def everything() -> tuple[Any, ...]:
    datasets = list(Dataset.objects.values_list("name", "current_version_id", "last_version", "confirmed_at"))
    return datasets, list(DatasetVersion.objects.values_list("version", flat=True)), Passage.objects.count()


def test_it_names_each_row_and_leaves_no_trace() -> None:
    publish("k1", content("Thirty days.", "Gift cards."))
    before = everything()
    row, outcome = try_out(content("Fourteen days.", "Gift cards.", "By post."))
    assert everything() == before
    assert row.status == "finished" and row.version is None
    assert row.preview == {
        "against": 1,
        "rows": 3,
        "added": ["returns.md # Returns (3)"],
        "removed": [],
        "changed": ["returns.md # Returns"],
        "counts": {"added": 1, "removed": 0, "changed": 1},
        "sentence": "A refresh would publish a new version: 1 added, 1 changed, compared with version 1.",
    }
    assert outcome.sentence == row.preview["sentence"]
    assert selectors.nearest_passages(query="returns", limit=9).version == 1
    assert publish("k2", content("Fourteen days.", "Gift cards.", "By post.")).status == "published"


@pytest.mark.parametrize(
    ("earlier", "now", "sentence"),
    [
        ([], "Thirty days.", "publish a new version: 1 added, compared with nothing, for no version is published yet."),
        (["Thirty days."], "Thirty days.", "publish nothing: the content is that of version 1."),
        (["A.", "B."], "A.", "make version 1 current again: 1 changed, compared with version 2."),
    ],
)
def test_it_says_what_a_refresh_would_do(earlier: list[str], now: str, sentence: str) -> None:
    for number, text in enumerate(earlier):
        publish(f"k{number}", content(text))
    row, _ = try_out(content(now))
    assert (row.preview or {})["sentence"] == f"A refresh would {sentence}"


def test_what_it_says_is_what_the_refresh_then_does() -> None:
    publish("k1", content("Thirty days.", "Gift cards."))
    made = content("Fourteen days.", "By post.", "By courier.")
    row, _ = try_out(made)
    publish("k2", made)
    found = selectors.difference(selectors.version("handbook", 1), selectors.version("handbook", 2))
    told = row.preview or {}
    assert (told["added"], told["removed"], told["changed"]) == (found.added, found.removed, found.changed)


def test_it_confirms_nothing_takes_no_window_and_is_no_trouble_of_the_dataset() -> None:
    publish("k1", content("Thirty days."))
    Dataset.objects.update(confirmed_at=database_now() - timedelta(days=3))
    row, _ = try_out(content("Thirty days."))
    assert selectors.dataset("handbook").is_stale
    assert selectors.suggested_key("handbook") == selectors.window_key("handbook") != row.key
    other = request_refresh(dataset="handbook", user=None, is_dry_run=True)[0]
    fail(other.pk, "returns.md is empty.")
    assert currency.last_faults(["handbook"]) == {} and selectors.dataset("handbook").trouble == ""
    again, outcome = try_out(content("Something else."), key=row.key)
    assert outcome.was_done and again.preview == row.preview
    with pytest.raises(RefreshKeyTaken):
        request_refresh(dataset="handbook", key=row.key, user=None)


def test_what_cannot_be_tried_is_refused_in_words(ada: User, fake_prefect: FakePrefect) -> None:
    with pytest.raises(DryRunRefused, match="would do all of its work"):
        request_refresh(dataset="handbook_index", user=None, is_dry_run=True)
    shown = page(ada, reverse("dataplane:data"))
    tryable = [one for one in catalogue.CATALOGUE.values() if one.can_be_tried]
    assert shown.count("See what would change") == len(tryable) and CUSTOMER_FEATURES in tryable


def test_an_admin_asks_on_the_page_and_the_result_fills_it(ada: User, alice: User, fake_prefect: FakePrefect) -> None:
    publish("k1", content("Thirty days."))
    address = reverse("dataplane:refresh", args=["handbook"])
    assert signed_in(alice).post(address, {"key": "k2", "dry_run": "1"}).status_code == 403
    response = signed_in(ada).post(address, {"key": "k2", "dry_run": "1"})
    row = Refresh.objects.get(is_dry_run=True)
    assert response["Location"] == reverse("dataplane:dry_run", args=["handbook", row.pk])
    assert "This page fills itself" in page(alice, response["Location"])
    try_out(content("Fourteen <b>days."), key=row.key)
    shown = page(alice, response["Location"])
    assert "1 changed, compared with version 1" in shown and "returns.md # Returns" in shown
    assert not Refresh.objects.filter(key="k2").exists()
    assert "Dry run</a>: A refresh would publish a new version" in page(alice, reverse("dataplane:data"))
    other = reverse("dataplane:dry_run", args=["customer_features", row.pk])
    assert signed_in(alice).get(other).status_code == 404

    failed = request_refresh(dataset="handbook", user=None, is_dry_run=True)[0]
    fail(failed.pk, "returns.md is empty.")
    shown = page(alice, reverse("dataplane:dry_run", args=["handbook", failed.pk]))
    assert "A refresh would fail. returns.md is empty." in shown


def test_the_api_gives_the_preview(ada: User, client: Client) -> None:
    client.force_login(ada)
    body = '{"dry_run": true}'
    asked = client.post("/api/v1/datasets/handbook/refresh", body, content_type="application/json")
    made = asked.json()["refresh"]
    assert (asked.status_code, made["dry_run"], made["preview"]) == (201, True, None)
    try_out(content("Thirty days."), key=made["key"])
    found = client.get(f"/api/v1/refreshes/{made['id']}").json()
    assert (found["status"], found["version"]) == ("finished", None)
    assert found["preview"]["counts"] == {"added": 1, "removed": 0, "changed": 0}
    refused = client.post("/api/v1/datasets/handbook_index/refresh", body, content_type="application/json")
    assert refused.status_code == 409 and "all of its work" in refused.json()["detail"]


def test_the_command_waits_and_tells_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    publish("k1", content("Thirty days."))
    said = StringIO()
    key = "dry-run.x"
    try_out(content("Fourteen days.", "By post."), key=key)
    call_command("refresh", "handbook", "--dry-run", "--key", key, stdout=said)
    assert said.getvalue().splitlines()[-3:] == [
        "+ returns.md # Returns (2)",
        "~ returns.md # Returns",
        "A refresh would publish a new version: 1 added, 1 changed, compared with version 1.",
    ]
    with pytest.raises(CommandError, match="all of its work"):
        call_command("refresh", "handbook_index", "--dry-run")
