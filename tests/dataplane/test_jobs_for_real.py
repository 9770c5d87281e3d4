"""The flows that make features and evaluation sets, against a real Prefect server and the real shop."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from approvals.models import Approval, Outlook
from approvals.services import decide
from console.clock import database_now
from console.environment import environment
from dataplane import selectors
from dataplane.catalogue import CUSTOMER_FEATURES, EVALUATION_SET, VERDICT_MODEL
from dataplane.models import Refresh
from dataplane.prefect_gateway import HttpPrefectGateway
from dataplane.refreshes.request import request_refresh
from drills.shop import WatchedShop
from tests.approvals.conftest import answer, open_one

from .test_flows_for_real import Start, ended, home, prefect, start_flows, wait_until
from .test_verdict_model import publish_cases, rows

__all__ = ["home", "open_one", "prefect", "start_flows"]  # fixtures

pytestmark = pytest.mark.engines
ADA = "ada@example.org"


@pytest.fixture
def shop(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WatchedShop]:
    served = WatchedShop(home / "shop.sqlite3")
    served.start()
    monkeypatch.setenv("SIGNALBOX_SHOP_URL", served.url)
    environment.cache_clear()
    yield served
    served.stop()


def send(shop: WatchedShop, path: str, body: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": json.dumps(body)}
    wanted = urllib.request.Request(f"{shop.url}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(wanted) as answer:
        assert answer.status in (200, 201)


def buy(shop: WatchedShop, amount: str) -> None:
    order = {"customer": "Ada", "email": ADA, "amount": amount, "currency": "EUR", "status": "placed"}
    send(shop, "/orders", order | {"placed_at": "2026-11-01T10:00:00Z", "items": []})


def test_the_shop_becomes_features_and_decisions_become_cases(
    shop: WatchedShop,
    start_flows: Start,
    prefect: HttpPrefectGateway,
    open_one: Callable[..., Approval],
    alice: User,
) -> None:
    buy(shop, "10.10")
    buy(shop, "0.20")
    start_flows()
    for key in ("k1", "k2"):
        request_refresh(dataset=CUSTOMER_FEATURES.name, key=key, user=None)
        wait_until(ended(key))
    first, second = (Refresh.objects.get(key=key) for key in ("k1", "k2"))
    assert (first.status, second.status, first.error) == ("published", "unchanged", "")
    asked = {"entity": ADA, "at": database_now()}
    assert selectors.read(CUSTOMER_FEATURES.name, asked).items == [
        {"orders": Decimal(2), "spent_EUR": Decimal("10.30")}
    ]

    approval = open_one()
    decide(approval_id=approval.pk, reviewer=alice, given=answer(approval, "reject", note="Not this one."))
    for key, tools in (("nothing-released", []), ("released", [approval.tool])):
        request_refresh(dataset=EVALUATION_SET.name, key=key, parameters={"tools": tools} if tools else {}, user=None)
        wait_until(ended(key))
    refused, made = (Refresh.objects.get(key=key) for key in ("nothing-released", "released"))
    assert (refused.status, made.status) == ("failed", "published")
    assert refused.error.startswith("No tool is released for evaluation.")
    (case,) = selectors.read(EVALUATION_SET.name, {}).items
    assert (case["name"], case["verdict"], case["note"]) == (approval.pk, "reject", "Not this one.")


def test_a_model_is_trained_published_and_heard_of_open_requests(
    start_flows: Start, prefect: HttpPrefectGateway, open_one: Callable[..., Approval]
) -> None:
    open_request = open_one()
    start_flows()
    sets = {"nothing": None, "little": rows(8), "good": rows(), "misleading": rows(is_misleading=True)}
    for key, published in sets.items():
        if published is not None:
            publish_cases(f"cases-{key}", published)
        request_refresh(dataset=VERDICT_MODEL.name, key=key, user=None)
        wait_until(ended(key))
    told = {row.key: row for row in Refresh.objects.filter(dataset_id=VERDICT_MODEL.name)}
    ends = [told[key].status for key in sets]
    assert ends == ["finished", "finished", "published", "finished"], [row.error for row in told.values()]
    assert "no version yet" in told["nothing"].note and "are the least" in told["little"].note
    assert "not published" in told["misleading"].note and selectors.current_version(VERDICT_MODEL.name).version == 1
    states = {prefect.flow_run(row.prefect_flow_run_id).state_type for row in told.values()}
    assert states <= {"COMPLETED", "RUNNING"}, "nothing to publish is no failure"
    wait_until(lambda: Outlook.objects.filter(approval=open_request, model_version=1).exists())
