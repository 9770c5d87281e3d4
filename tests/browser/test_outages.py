"""Each engine taken away from the running product: pages say so, nothing is lost, all recover alone."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.conftest import Stack
from tests.browser.steps import ask_for_refund
from tests.waiting import eventually


def _part(stack: Stack, name: str) -> Any:
    with stack.api("olga", is_patient=False) as olga:
        return olga.get("/health").json().get("parts", {}).get(name, {})


def test_without_temporal_decisions_are_recorded_and_delivered_later(stack: Stack, visit: Callable[..., Page]) -> None:
    approval = ask_for_refund(stack)
    stack.supervisor.hold("temporal", signal.SIGKILL)
    try:
        eventually(lambda: _part(stack, "temporal").get("ok") is False, "health says Temporal is away")
        page = visit("alice", f"/approvals/{approval['id']}/")
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("#receipt-recorded[data-done]")).to_be_visible()
        expect(page.get_by_text("the run is told as soon as Temporal takes the signal")).to_be_visible()
        page.goto("/system/")
        expect(page.get_by_text("cannot be reached").first).to_be_visible()
        with stack.api("olga", is_patient=False) as olga:
            later = olga.post("/runs", json={"agent": "support", "input": {"order_id": "8801", "message": "Hello?"}})
        assert (later.status_code, later.json()["status"]) == (201, "starting")
        page.goto(f"/approvals/{approval['id']}/")
    finally:
        stack.supervisor.release("temporal")
    expect(page.locator("#receipt-effect_finished[data-done]")).to_be_visible()
    with stack.api("olga", is_patient=False) as olga:
        run_id = later.json()["id"]
        eventually(
            lambda: olga.get(f"/runs/{run_id}").json()["status"] == "waiting",
            "the run asked for meanwhile has started",
        )


def test_without_prefect_a_refresh_is_kept_and_made_later(stack: Stack, visit: Callable[..., Page]) -> None:
    stack.supervisor.hold("prefect", signal.SIGKILL)
    try:
        eventually(lambda: _part(stack, "prefect").get("ok") is False, "health says Prefect is away")
        page = visit("ada", "/data/")
        expect(page.get_by_text(re.compile("Prefect (is away|cannot be reached)")).first).to_be_visible()
        handbook = page.locator("#dataset-handbook")
        handbook.locator("input[name=key]").fill("outage-1")
        handbook.get_by_role("button", name="Refresh now").click()
        expect(page.get_by_text("outage-1").first).to_be_visible()
    finally:
        stack.supervisor.release("prefect")

    def done() -> bool:
        page.goto("/data/")
        row = page.locator("tr", has_text="outage-1").first
        return "Unchanged" in row.inner_text()

    eventually(done, "the refresh is made once Prefect is back")


def test_postgres_killed_and_back_is_told_in_words_and_everything_recovers(
    stack: Stack, visit: Callable[..., Page]
) -> None:
    approval = ask_for_refund(stack)
    page = visit("alice", f"/approvals/{approval['id']}/", refusals_expected=True)
    expect(page.locator("[data-live-word]", has_text="Live")).to_be_visible()
    stack.supervisor.hold("postgres", signal.SIGKILL)
    try:
        with stack.api("alice", is_patient=False) as alice:
            answer = alice.get("/approvals")
        assert answer.status_code == 503
        assert answer.json()["engine"] == "postgres"
        other = page.context.new_page()
        shown = other.goto("/inbox/")
        assert shown is not None and shown.status == 503
        expect(other.get_by_text("The database is away").first).to_be_visible()
        other.close()
    finally:
        stack.supervisor.release("postgres")
    eventually(
        lambda: _part(stack, "postgres").get("ok") and _part(stack, "worker").get("ok"),
        "Postgres and the worker are back",
    )
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("#receipt-effect_finished[data-done]")).to_be_visible()
