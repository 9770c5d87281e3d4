"""Steps that several walks share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.conftest import Stack
from tests.waiting import eventually

FINISHED = "#receipt-effect_finished[data-done]"
RULE = "refunds above 100"
TWO_FOR_MUCH = {
    "name": RULE,
    "match": {"tools": ["issue_refund"]},
    "condition": 'above(args.amount, "100")',
    "needed": 2,
}
#: resolves when a refresh of everything has put the element of this id in place
REFRESHED = """id => new Promise(done => {
    document.addEventListener("htmx:after:swap", function heard(event) {
        if (!event.detail.ctx.text?.includes(`<hx-partial id="${id}"`)) return;
        document.removeEventListener("htmx:after:swap", heard);
        done();
    });
    document.body.dispatchEvent(new CustomEvent("live:resync"));
})"""


def ask_for_refund(stack: Stack, amount: str = "50.00") -> dict[str, Any]:
    """Start a run that wants to pay back a whole new order, and return its approval."""
    with stack.api("olga") as olga, stack.shop() as shop:
        order = shop.post("/orders", json={"customer": "Ida Berg", "amount": amount, "currency": "EUR"}).json()
        given = {"order_id": order["id"], "message": "The parcel arrived crushed and the bowls are broken."}
        run = olga.post("/runs", json={"agent": "support", "input": given}).json()
    return next_approval(stack, run["id"])


def next_approval(stack: Stack, run_id: str) -> dict[str, Any]:
    with stack.api("olga") as olga:

        def waits() -> Any:
            waiting = olga.get(f"/runs/{run_id}").json()["waiting_for"]
            return olga.get(f"/approvals/{waiting[0]}").json() if waiting else None

        found: dict[str, Any] = eventually(waits, "the run waits for a person")
    return found


def refunds_of(stack: Stack, approval: dict[str, Any]) -> list[dict[str, Any]]:
    with stack.shop() as shop:
        asked = {"order_id": approval["arguments"]["order_id"]}
        items: list[dict[str, Any]] = shop.get("/refunds", params=asked).json()["items"]
    return items


def read(stack: Stack, approval_id: str) -> dict[str, Any]:
    with stack.api("alice") as alice:
        found: dict[str, Any] = alice.get(f"/approvals/{approval_id}").json()
    return found


def address(approval: dict[str, Any]) -> str:
    return f"/approvals/{approval['id']}/"


def change_policy(page: Page, change: Callable[[list[Any]], list[Any]], why: str) -> None:
    """Change the rules through the pages, as JSON. They hold at once only while there is one admin."""
    page.goto("/policy/edit")
    page.get_by_role("button", name="As JSON").click()
    box = page.get_by_label("Rules and calendars")
    whole = json.loads(box.input_value())
    box.fill(json.dumps(whole | {"rules": change(whole["rules"])}, indent=1))
    page.get_by_role("button", name="Keep in the draft").click()
    page.get_by_role("button", name="See what would change").click()
    page.get_by_label("What this changes, and why").fill(why)
    page.get_by_role("button", name=re.compile("^(Make it active|Propose)$")).click()
    page.wait_for_url(re.compile(r"/policy/versions/\d+/$"))
    expect(page.get_by_text(why).first).to_be_visible()
