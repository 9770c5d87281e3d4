"""The walk that the README describes, in Chromium, against the real engines."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.conftest import Stack
from tests.browser.steps import FINISHED, ask_for_refund, refunds_of
from tests.waiting import eventually


def test_a_reviewer_approves_and_sees_the_effect_finish_without_a_reload(
    stack: Stack, visit: Callable[..., Page]
) -> None:
    page = visit("alice")
    expect(page).to_have_url(re.compile("/inbox/"))
    approval = ask_for_refund(stack)
    approval_id = approval["id"]
    row = page.locator(f".items a[data-row='{approval_id}']")
    name = row.locator("b").inner_text()
    row.click()
    expect(page).to_have_url(re.compile(f"/approvals/{approval_id}/"))
    expect(page.locator("h2", has_text=name).first).to_be_visible()
    assert refunds_of(stack, approval) == []
    page.evaluate("window.notReloaded = true")

    page.get_by_role("button", name="Approve").click()

    expect(page.locator(FINISHED)).to_be_visible()
    assert page.evaluate("window.notReloaded") is True
    expect(page.locator("[role=status]", has_text="approved by alice").first).to_be_visible()
    [refund] = refunds_of(stack, approval)
    assert refund["amount"] == approval["arguments"]["amount"]
    assert refund["idempotency_key"] == approval_id
    with stack.api("alice") as alice:
        decided = alice.get(f"/approvals/{approval_id}").json()
    assert decided["executed"]["digest"] == decided["digest"] == approval["digest"]
    assert [step["step"] for step in decided["receipt"]] == [
        "recorded",
        "signalled",
        "resumed",
        "effect_started",
        "effect_finished",
    ]


def test_the_same_walk_with_script_switched_off(stack: Stack, visit: Callable[..., Page]) -> None:
    approval = ask_for_refund(stack)
    page = visit("alice", java_script_enabled=False)
    page.locator(f".items a[data-row='{approval['id']}']").click()
    page.wait_for_url(re.compile(f"/approvals/{approval['id']}/"))
    with page.expect_navigation():
        page.get_by_role("button", name="Approve").click()

    def finished() -> bool:
        page.reload()
        return page.locator(FINISHED).count() == 1

    eventually(finished, "the receipt reaches its last step")
    assert len(refunds_of(stack, approval)) == 1


def test_another_browser_sees_who_decided_and_its_late_click_is_refused_in_words(
    stack: Stack, visit: Callable[..., Page]
) -> None:
    approval = ask_for_refund(stack)
    path = f"/approvals/{approval['id']}/"
    watching = visit("bob", path)
    late = visit("bob", path, java_script_enabled=False, refusals_expected=True)
    expect(late.get_by_role("button", name="Approve")).to_be_visible()
    expect(watching.locator("[data-live-word]", has_text="Live")).to_be_visible()
    note = watching.get_by_label("Comment")
    note.fill("I was still reading this")
    deciding = visit("alice", path)

    with deciding.expect_response(lambda answer: answer.request.method == "POST"):
        deciding.get_by_role("button", name="Approve").click()

    expect(watching.get_by_text("approved by alice").first).to_be_visible()
    expect(watching.get_by_role("button", name="Approve")).to_have_count(0)
    expect(watching.get_by_label("What you had typed")).to_have_value("I was still reading this")
    late.locator("textarea[name=note]").fill("no, wait")
    with late.expect_response(lambda answer: answer.request.method == "POST") as refused:
        late.locator("button[value=reject]").click()
    assert refused.value.status == 409
    expect(late.get_by_text("approved by alice").first).to_be_visible()
    expect(late.get_by_label("What you had typed")).to_have_value("no, wait")
    eventually(lambda: refunds_of(stack, approval), "the refund is issued")
    assert len(refunds_of(stack, approval)) == 1


def test_a_rejection_goes_back_to_the_agent_with_its_reason(stack: Stack, visit: Callable[..., Page]) -> None:
    approval = ask_for_refund(stack)
    page = visit("alice", f"/approvals/{approval['id']}/")
    page.get_by_role("button", name="Reject").click()
    expect(page.get_by_text("Say why").first).to_be_visible()
    page.get_by_label("Comment").fill("Only 10 % please, the customer keeps the goods.")
    page.get_by_role("button", name="Reject").click()
    expect(page.get_by_text("rejected by alice").first).to_be_visible()

    def next_proposal() -> Any:
        with stack.api("alice") as alice:
            waiting = alice.get(f"/runs/{approval['run_id']}").json()["waiting_for"]
            return alice.get(f"/approvals/{waiting[0]}").json() if waiting else None

    proposal = eventually(next_proposal, "the agent proposes something else")
    assert proposal["tool"] == "issue_refund"
    assert float(proposal["arguments"]["amount"]) < float(approval["arguments"]["amount"])
    assert refunds_of(stack, approval) == []


def test_an_admin_refreshes_the_handbook_and_watches_the_flow_run(stack: Stack, visit: Callable[..., Page]) -> None:
    page = visit("ada", "/data/")
    handbook = page.locator("#dataset-handbook")
    handbook.locator("input[name=key]").fill("walk-1")
    handbook.get_by_role("button", name=re.compile("Refresh")).first.click()
    expect(page.get_by_text("walk-1").first).to_be_visible()
    page.evaluate("window.notReloaded = true")
    expect(page.get_by_text("Unchanged").first).to_be_visible()
    assert page.evaluate("window.notReloaded") is True
