"""Every way to decide, in Chromium against the real engines, in each look that is asked for."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Stack, sign_in
from tests.browser.steps import (
    FINISHED,
    REFRESHED,
    TWO_FOR_MUCH,
    address,
    ask_for_refund,
    change_policy,
    next_approval,
    read,
    refunds_of,
)
from tests.waiting import PATIENCE, eventually

Visit = Callable[..., Page]


def test_what_is_approved_with_a_change_is_what_runs(look: dict[str, Any], stack: Stack, visit: Visit) -> None:
    approval = ask_for_refund(stack)
    page = visit("alice", address(approval), refusals_expected=True, **look)
    page.get_by_role("link", name="Change").click()
    page.locator("input[name='arguments.amount']").fill("12.5")
    page.get_by_role("button", name="See the difference").click()
    expect(page.locator("input[name='arguments.amount'][aria-invalid=true]")).to_have_value("12.5")
    page.locator("input[name='arguments.amount']").fill("12.50")
    page.get_by_role("button", name="See the difference").click()
    expect(page.get_by_role("heading", name=re.compile("^Refund 12.50 EUR"))).to_be_visible()
    expect(page.locator("tr", has_text="amount").filter(has_text="50.00").filter(has_text="12.50")).to_be_visible()
    assert refunds_of(stack, approval) == []

    page.get_by_role("button", name="Approve with change").click()

    expect(page.get_by_text("You changed this proposal, so somebody else has to approve it.").first).to_be_visible()
    assert refunds_of(stack, approval) == []
    page = visit("bob", address(approval), **look)
    page.get_by_role("button", name="Approve").click()

    expect(page.locator(FINISHED)).to_be_attached()
    [refund] = refunds_of(stack, approval)
    assert (refund["amount"], refund["idempotency_key"]) == ("12.50", approval["id"])
    decided = read(stack, approval["id"])
    assert decided["version"] == 2 and decided["executed"]["digest"] == decided["digest"] != approval["digest"]
    page.get_by_role("link", name=re.compile("Compare what was proposed")).click()
    expect(page.get_by_text("Executed").first).to_be_visible()
    expect(page.locator("tr", has_text="amount").filter(has_text="12.50").first).to_be_visible()


def test_an_answer_goes_to_the_agent_and_nothing_is_run(look: dict[str, Any], stack: Stack, visit: Visit) -> None:
    approval = ask_for_refund(stack)
    page = visit("alice", address(approval), **look)
    page.get_by_role("link", name="Answer").click()
    page.get_by_label(re.compile("Your answer")).fill("We have sent new bowls instead.")
    page.get_by_role("button", name="Send answer").click()
    expect(page.get_by_text("answered by alice").first).to_be_visible()
    following = next_approval(stack, approval["run_id"])
    assert following["tool"] == "send_email"
    assert refunds_of(stack, approval) == [] and read(stack, approval["id"])["executed"] is None


@pytest.fixture(scope="module")
def two_for_much(stack: Stack, chromium: Any) -> Iterator[None]:
    """Let ada put a rule before the shipped ones, and take it away again, as people do: through the pages."""
    page = chromium.new_page(base_url=stack.url)
    page.set_default_timeout(PATIENCE * 1000)
    page.goto("/policy/edit")
    sign_in(page, "ada", stack.password("ada"))
    change_policy(page, lambda rules: [TWO_FOR_MUCH, *rules], "Large refunds need a second pair of eyes.")
    expect(page.get_by_text("refunds above 100").first).to_be_visible()
    yield
    change_policy(page, lambda rules: rules[1:], "Back to one person.")
    page.close()


def test_two_people_agree_and_each_sees_the_other(
    look: dict[str, Any], stack: Stack, visit: Visit, two_for_much: None
) -> None:
    approval = ask_for_refund(stack, "180.00")
    assert approval["quorum"] == {"needed": 2, "given": 0}
    second = visit("bob", address(approval), **look)
    first = visit("alice", address(approval), **look)
    expect(second.locator("[data-live-word]")).to_have_text("Live")
    first.get_by_role("button", name="Approve").click()
    expect(first.get_by_text("You have decided this version already").first).to_be_visible()
    expect(second.get_by_text("1 of 2 agreed").first).to_be_visible()
    assert refunds_of(stack, approval) == []
    second.get_by_role("button", name="Approve").click()
    expect(first.locator(FINISHED)).to_be_attached()
    [refund] = refunds_of(stack, approval)
    assert refund["amount"] == "180.00"
    assert [one["by"] for one in read(stack, approval["id"])["decisions"]] == ["alice", "bob"]


def test_a_delegate_decides_for_somebody_and_both_are_named(look: dict[str, Any], stack: Stack, visit: Visit) -> None:
    approval = ask_for_refund(stack)
    page = visit("ada", address(approval), **look)
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    principal = visit("bob", "/delegations/", **look)
    principal.get_by_label("Who stands in").select_option("ada")
    now = datetime.now(UTC)
    principal.get_by_label("From").fill(f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M}")
    principal.get_by_label("Until").fill(f"{now + timedelta(hours=9):%Y-%m-%dT%H:%M}")
    principal.get_by_label("Time zone").select_option("UTC")
    principal.get_by_label("Reason").fill("On holiday")
    principal.get_by_role("button", name="Let them stand in").click()
    expect(principal.get_by_text("On holiday").first).to_be_visible()
    page.reload()
    expect(page.get_by_text("on behalf of bob").first).to_be_visible()
    page.get_by_role("button", name="Approve").click()
    expect(page.locator(FINISHED)).to_be_attached()
    expect(page.get_by_text("for bob").first).to_be_visible()
    principal.goto("/delegations/")
    with principal.expect_navigation():
        principal.get_by_role("button", name=re.compile("End now ?: ada for bob")).click()
    expect(principal.get_by_role("button", name="End now")).to_have_count(0)


def test_what_did_not_take_effect_is_told_and_redriven(look: dict[str, Any], stack: Stack, visit: Visit) -> None:
    approval = ask_for_refund(stack)
    stack.supervisor.hold("temporal", signal.SIGKILL)
    try:
        page = visit("alice", address(approval), refusals_expected=True, **look)
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("#receipt-recorded[data-done]")).to_be_attached()

        def stands_still() -> bool:
            page.goto("/inbox/did-not-take-effect/")
            return page.locator(f"#lane-{approval['id']}").count() == 1

        eventually(stands_still, "the decision stands in the lane")
        expect(page.locator(f"#lane-{approval['id']} .stuck-why")).to_contain_text("Temporal")
        stack.supervisor.hold("relay")  # it would be quicker than a person
    finally:
        stack.supervisor.release("temporal")
    try:
        stack.supervisor.wait_ready(["temporal"], PATIENCE)
        with page.expect_response(lambda answer: answer.request.method == "POST") as told:
            page.locator(f"#lane-{approval['id']}").get_by_role("button", name="Tell the run now").click()
        assert told.value.status == 200
        expect(page.get_by_text("It is being sent again.")).to_be_visible()
        assert refunds_of(stack, approval) == []
    finally:
        stack.supervisor.release("relay")
    page.goto(address(approval))
    expect(page.locator(FINISHED)).to_be_attached()
    assert len(refunds_of(stack, approval)) == 1
    page.goto("/inbox/did-not-take-effect/")
    expect(page.locator(f"#lane-{approval['id']}")).to_have_count(0)


def test_several_are_decided_together_with_a_result_for_each(look: dict[str, Any], stack: Stack, visit: Visit) -> None:
    emails = []
    for _ in range(3):
        approval = ask_for_refund(stack)
        shown = {"version": approval["version"], "digest": approval["digest"]}
        answer = {"verdict": "respond", "answer": "No refund; write to the customer."}
        with stack.api("bob") as bob:
            assert bob.post(f"/approvals/{approval['id']}/decision", json=answer | shown).status_code == 200
        emails.append(next_approval(stack, approval["run_id"]))
    assert {one["tool"] for one in emails} == {"send_email"}
    page = visit("alice", "/inbox/?tool=send_email", **look)
    for email in emails:
        page.locator(f"#pick-{email['id']}").check(force=True)
    page.get_by_role("button", name="Decide together").click()
    expect(page.get_by_role("heading", name=re.compile("^3 . send_email$"))).to_be_visible()
    expect(page.get_by_role("heading", name="What differs")).to_be_visible()
    page.get_by_role("button", name="Approve these").click()
    expect(page.get_by_role("heading", name="All 3 decisions are recorded")).to_be_visible()
    for email in emails:
        assert read(stack, email["id"])["status"] == "decided"
        expect(page.locator(f"#result-{email['id']}")).to_contain_text("Approved")


def test_approving_waits_until_every_long_value_was_opened(stack: Stack, visit: Visit) -> None:
    arguments = json.dumps({"first": "one " * 400, "second": "line\n" * 40, "short": "x"})
    seeded = stack.manage(
        "seed_attention_check", "clerk", "pay", "--by=ada", "--summary=Pay", f"--arguments={arguments}"
    ).strip()
    page = visit("alice", f"/approvals/{seeded}/")
    expect(page.locator("[data-live-word]", has_text="Live")).to_be_visible()
    approve, fault = page.get_by_role("button", name="Approve"), page.locator(f"#fault-{seeded}")
    approve.click()
    expect(fault).to_have_text("Open the 2 long values first: nothing is approved unread.")
    page.evaluate(REFRESHED, f"approval-{seeded}")
    expect(fault).to_have_text("Open the 2 long values first: nothing is approved unread.")
    for left in ("Open the long value first: nothing is approved unread.", ""):
        page.get_by_role("button", name="Show all").first.click()
        expect(fault).to_have_text(left)
    expect(fault).to_be_hidden()
    assert read(stack, seeded)["status"] == "pending"
    approve.click()
    expect(page.get_by_text("approved by alice").first).to_be_visible()
