"""A kind of content that nobody has thought of yet is one file: this one. Nothing else is touched for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from dataplane import catalogue, selectors, versions
from dataplane.catalogue import DatasetEntry
from dataplane.contents.base import CopyCursor, Cursor, Difference, Shown, Stored, compared
from dataplane.contracts import RefreshOrder, RefreshOutcome
from dataplane.errors import ContentUnknown
from dataplane.refreshes.claim import claim

from .conftest import FLOW_RUN, content, publish
from .fakes import FakePrefect


@dataclass(frozen=True)
class Rates:
    """Exchange rates: currency to rate, written as text so that no digit is lost."""

    by_currency: Mapping[str, str]
    embedder = ""

    @property
    def rows(self) -> int:
        return len(self.by_currency)

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.by_currency, sort_keys=True).encode()).hexdigest()

    def copy(self, cursor: CopyCursor, version_id: int) -> None:
        for currency, rate in self.by_currency.items():
            cursor.execute("INSERT INTO made_up_rate VALUES (%s, %s, %s)", [version_id, currency, rate])


class RateKind:
    name = "rates"
    noun = "exchange rates"
    template = "dataplane/contents/_table.html"

    def facts(self, version: Stored) -> Sequence[tuple[str, str]]:
        return [("Against", "EUR")]

    def read(self, cursor: Cursor, version: Stored, question: Mapping[str, Any]) -> list[str]:
        return [self._rates(cursor, version)[question["currency"]]]

    def show(self, cursor: Cursor, version: Stored, *, after: int, limit: int) -> Shown:
        rates = list(self._rates(cursor, version).items())
        last = after + limit
        return Shown(rates[after + 1 : last + 1], last if last + 1 < len(rates) else None, ("Currency", "Rate"))

    def difference(self, cursor: Cursor, old: Stored, new: Stored) -> Difference:
        return compared(self._rates(cursor, old), self._rates(cursor, new))

    def _rates(self, cursor: Cursor, version: Stored) -> dict[str, str]:
        cursor.execute("SELECT currency, rate FROM made_up_rate WHERE version_id = %s ORDER BY currency", [version.id])
        return dict(cursor.fetchall())


RATES = replace(catalogue.HANDBOOK, name="rates", title="Exchange rates", content=RateKind())


@pytest.fixture
def rates(database_url: str, fake_prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasetEntry]:
    """The dataset, in the catalogue, with a table for its rows."""
    monkeypatch.setitem(catalogue.CATALOGUE, RATES.name, RATES)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE made_up_rate (version_id bigint, currency text, rate text)")
        yield RATES
        cursor.execute("DROP TABLE made_up_rate")


def published(key: str, **by_currency: str) -> RefreshOutcome:
    with claim(RATES, RefreshOrder(RATES.name, key), flow_run_id=FLOW_RUN) as claimed:
        return versions.publish(
            RATES, Rates(by_currency), refresh_id=claimed.refresh_id, parameters={}, flow_run_id=FLOW_RUN
        )


def test_a_new_kind_is_published_read_compared_and_shown(rates: DatasetEntry, ada: User, client: Client) -> None:
    first = published("k1", USD="1.10", CHF="0.93")
    assert first.sentence == "Version 1 is published, with 2 exchange rates."
    assert published("k2", USD="1.10", CHF="0.93").status == "unchanged"
    published("k3", USD="1.12", GBP="0.80<b>")

    reading = selectors.read("rates", {"currency": "USD"})
    assert (reading.version, reading.items) == (2, ["1.12"])
    old, new = (selectors.version("rates", number) for number in (1, 2))
    assert (new.kind, new.embedder) == ("rates", "")
    assert selectors.difference(old, new) == Difference(added=["GBP"], removed=["CHF"], changed=["USD"])

    client.force_login(ada)
    page = client.get(reverse("dataplane:version", args=["rates", 2])).content.decode()
    for words in ("Exchange rates", "Against", "EUR", "Currency", "GBP", "0.80&lt;b&gt;"):
        assert words in page
    assert "0.80<b>" not in page and "assages" not in page
    assert "2 exchange rates" in client.get(reverse("dataplane:data")).content.decode()


def test_two_kinds_are_not_compared_and_one_that_is_gone_is_said_to_be(
    rates: DatasetEntry, ada: User, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("k1", content("Thirty days."))
    published("k1", USD="1.10")
    passages, made_up = selectors.version("handbook", 1), selectors.version("rates", 1)
    with pytest.raises(ContentUnknown, match="Version 1 holds passages, version 1 rates"):
        selectors.difference(passages, made_up)
    # The dataset holds something else in a later release: its early versions are of the kind that they were.
    monkeypatch.setitem(catalogue.CATALOGUE, RATES.name, replace(RATES, content=catalogue.HANDBOOK.content))
    client.force_login(ada)
    page = client.get(reverse("dataplane:version", args=["rates", 1])).content.decode()
    assert "No dataset here holds content of the kind rates" in page


def test_passages_are_compared_by_document_and_heading(database_url: str) -> None:
    publish("k1", content("Thirty days.", "Gift cards."))
    publish("k2", content("Fourteen days.", "Gift cards.", "By post."))
    old, new = (selectors.version("handbook", number) for number in (1, 2))
    names = ["returns.md # Returns", "returns.md # Returns (3)"]
    assert selectors.difference(old, new) == Difference(added=names[1:], removed=[], changed=names[:1])
    assert selectors.difference(new, new) == Difference([], [], [])
