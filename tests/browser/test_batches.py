"""A batch in a real Chromium: the form with its faults, the page under way, both sizes and themes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from orchestration import ending
from orchestration.batches import feeding
from orchestration.models import Run
from tests.browser.alone import Open, open_page
from tests.browser.faults import WATCH, faults_of
from tests.orchestration.batches.conftest import make_batch, run_of
from tests.orchestration.batches.test_feeding import finish

__all__ = ["open_page"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SHOTS = os.environ.get("SHOTS", "")


def _kept(page: Any, name: str, look: dict[str, Any]) -> None:
    if SHOTS:
        file = f"{name}-{look['viewport']['width']}-{look['color_scheme']}.png"
        page.screenshot(path=str(Path(SHOTS) / file), full_page=True)


def test_a_batch_is_started_and_looked_at(look: dict[str, Any], open_page: Open, olga: User) -> None:
    page = open_page(olga, "/batches/", **look)
    page.context.add_init_script(WATCH)
    page.reload()
    expect(page.get_by_text("No batch yet")).to_be_visible()
    assert faults_of(page) == []
    _kept(page, "empty", look)
    page.get_by_role("link", name="Start a batch").click()
    page.get_by_label("Table").fill("order_id,message\n8801,Broken.\n,Late.\n8803\n8801,Broken.\n")
    page.get_by_role("button", name="Check the rows").click()
    expect(page.get_by_role("heading", name="4 rows, 2 wrong")).to_be_visible()
    assert page.get_by_label("Table").input_value().startswith("order_id,message\n8801,Broken.")
    assert faults_of(page) == []
    _kept(page, "wrong", look)
    page.get_by_label("Table").fill("order_id,message\n" + "".join(f"{n},Broken.\n" for n in range(8801, 8861)))
    page.get_by_role("button", name="Start the batch").click()
    expect(page.get_by_text("60 rows", exact=True)).to_be_visible()
    assert faults_of(page) == []
    batch = make_batch(olga, 40, key="Refunds of November", active=6)
    feeding.feed(batch.pk)
    for number in (1, 2, 3):
        finish(run_of(batch, number))
    ending.close_run(run_id=run_of(batch, 4).pk, status="failed", kind="error", message="No such order", actor="worker")
    Run.objects.filter(pk=run_of(batch, 5).pk).update(status="waiting")
    page.goto(f"/batches/{batch.pk}/")
    expect(page.get_by_role("button", name="Try the 1 failed again")).to_be_visible()
    page.get_by_text("Cancel the batch").first.click()
    assert faults_of(page) == []
    _kept(page, "batch", look)
    page.goto("/batches/")
    assert faults_of(page) == []
    _kept(page, "list", look)
