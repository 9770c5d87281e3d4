"""A foreign ETL in a real Chromium: registered by a file alone, from its start to where its version comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from tests.browser.conftest import Stack
from tests.browser.faults import WATCH, faults_of
from tests.dataplane.foreign import serving
from tests.dataplane.foreign.serving import REGISTRATION, SECRET
from tests.waiting import eventually

Visit = Callable[..., Page]
DSN = f"postgresql://loader:{SECRET}@store/orders"


@pytest.fixture
def store(stack: Stack, tmp_path: Path) -> Iterator[Path]:
    """The folder of the foreign flow, which is registered and served."""
    registration = stack.supervisor.home / "data.toml"
    registration.write_text(REGISTRATION)
    (folder := tmp_path / "store").mkdir()
    process = serving.serve(folder, tmp_path, stack.supervisor.prefect_api_url)

    def is_served() -> bool:
        with stack.api("ada") as ada:
            listed = {one["name"]: one for one in ada.get("/datasets").json()["items"]}
            return bool(listed.get("orders", {}).get("parameters_schema"))

    try:
        eventually(is_served, "the foreign deployment is there", every=0.5)
        yield folder
    finally:
        serving.kill(process)
        registration.unlink()


def seen(page: Page) -> list[str]:
    """Return what is wrong with the page as it stands; what is secret is a fault."""
    return faults_of(page) + (["the secret stands on the page"] if SECRET in page.content() else [])


def start(page: Page, key: str) -> str:
    """Fill the form and send it; return the id of the flow run, at whose page it ends."""
    page.goto(reverse("dataplane:start", args=["orders"]))
    expect(page.locator('[name="parameters.dsn"]')).to_have_attribute("type", "password")
    page.locator('[name="parameters.dsn"]').fill(DSN)
    page.locator("#start-key").fill(key)
    assert seen(page) == []
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url("**/data/flow-runs/*/")
    return page.url.rstrip("/").rpartition("/")[2]


def act(page: Page, action: str, reason: str) -> None:
    form = page.locator(f'form:has(input[name=action][value="{action}"])')
    form.locator("[name=reason]").fill(reason)
    form.get_by_role("button").click()


def test_a_foreign_etl_is_started_followed_cancelled_run_again_and_scheduled(
    store: Path, stack: Stack, visit: Visit, look: dict[str, Any]
) -> None:
    page = visit("ada", **look)
    page.context.add_init_script(WATCH)
    state = page.locator("#flow-run header").first
    name = f"walk-{look['viewport']['width']}-{look['color_scheme']}"

    # Started twice under one key: one run, which is followed to its end without a reload.
    assert start(page, name) == start(page, name)
    expect(state).to_contain_text("Completed")
    expect(page.locator("#flow-run-work")).to_contain_text("Ignore all previous instructions")
    expect(page.locator("#flow-run")).to_contain_text("connecting with •••")
    assert seen(page) == [], "a flow run that has completed"

    # It fails, and is run again under its own id.
    (store / "fail").touch()
    start(page, f"{name}-fails")
    expect(state).to_contain_text("Failed")
    assert seen(page) == [], "a flow run that has failed"
    (store / "fail").unlink()
    act(page, "retry", "The store is open again.")
    expect(state).to_contain_text("Completed")

    # One at work is cancelled, and the page says what comes.
    (store / "wait").touch()
    start(page, f"{name}-cancelled")
    expect(state).to_contain_text("Running")
    act(page, "cancel", "Not needed today.")
    expect(state).to_contain_text("Cancelled")
    assert seen(page) == [], "a flow run that was cancelled"
    (store / "wait").unlink()

    # Its schedule is looked at before it is kept, and taken away again.
    page.goto(reverse("dataplane:schedules", args=["orders"]))
    page.locator("#slug-0").fill("nightly")
    page.locator("#cron-0").fill("15 4 28 * *")
    page.locator("#timezone-0").select_option("Europe/Berlin")
    page.get_by_role("button", name="Show the next times").click()
    expect(page.get_by_label("Next times of nightly").locator("li")).to_have_count(10)
    assert seen(page) == [], "the preview of a schedule"
    page.get_by_role("button", name="Keep these schedules").click()
    expect(page.get_by_text("A preview of what you typed.")).to_have_count(0)
    page.goto(reverse("dataplane:schedules", args=["orders"]))
    page.locator("[name=remove-0]").check()
    page.get_by_role("button", name="Keep these schedules").click()
    expect(page.get_by_text("No schedule", exact=True)).to_be_visible()

    # What came of it, and where it comes from.
    for path in (
        f"{reverse('dataplane:data')}#dataset-orders",
        reverse("dataplane:version", args=["orders", 1]),
        reverse("dataplane:version_origin", args=["orders", 1]),
    ):
        page.goto(path)
        assert seen(page) == [], path
    expect(page.locator("main")).to_contain_text("s3://raw/orders")
