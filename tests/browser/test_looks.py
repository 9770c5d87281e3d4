"""Every page in light and dark, wide and narrow: no fault that axe finds, nothing inline, nothing cut off."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from dataplane.catalogue import HANDBOOK
from orchestration.actions.table import ACTIONS
from tests.boundaries.test_permission_matrix import PAGES, addresses
from tests.browser.conftest import Stack
from tests.browser.faults import WATCH, faults_of
from tests.browser.steps import REFRESHED, ask_for_refund, refunds_of
from tests.waiting import PATIENCE, eventually

Visit = Callable[..., Page]


@pytest.fixture(params=["light", "dark"])
def theme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def strangers_page(chromium: Browser, stack: Stack, look: dict[str, Any]) -> Iterator[Page]:
    context = chromium.new_context(base_url=stack.url, **look)
    context.add_init_script(WATCH)
    context.set_default_timeout(PATIENCE * 1000)
    yield context.new_page()
    context.close()


#: counts in `window.acted` the hotkeys that fire
COUNT_KEYS_THAT_ACT = """window.acted = 0;
document.addEventListener("hotkey-fire", () => { window.acted += 1; }, true);"""

#: how many refreshes of everything the page tells its parts when the reader comes back to it
TOLD_ON_RETURN = """() => {
    let told = 0;
    const count = () => { told += 1; };
    document.body.addEventListener("live:resync", count);
    document.dispatchEvent(new Event("visibilitychange"));
    document.body.removeEventListener("live:resync", count);
    return told;
}"""


def test_the_sign_in_and_the_errors_look_right(strangers_page: Page) -> None:
    for path in ("/accounts/login/", "/nowhere/"):
        strangers_page.goto(path)
        assert faults_of(strangers_page) == [], path


def test_every_page_looks_right(stack: Stack, visit: Visit, look: dict[str, Any]) -> None:
    page = visit("alice", **look)
    page.context.add_init_script(WATCH)
    with stack.api("alice") as alice:
        approval = alice.get("/approvals", params={"status": "pending"}).json()["items"][-1]
    paths = [
        "/inbox/",
        "/inbox/?status=all",
        "/inbox/?search=nothing+like+this",
        f"/approvals/{approval['id']}/",
        "/runs/",
        f"/runs/{approval['run_id']}/",
        "/data/",
        "/system/",
        "/accounts/logout/",
    ]
    for path in paths:
        page.goto(path)
        assert faults_of(page) == [], path


#: seen by nobody who goes over pages: parts, files, steps of a task that need what was typed before, what needs a row
NOT_WALKED = {
    *("console:parts", "console:typed", "console:search", "console:pending", "console:notices"),
    *("approvals:presence", "approvals:find_out", "approvals:compare", "approvals:export", "approvals:review"),
    *("approvals:standing_one", "approvals:policy_version", "account_inactive"),
    *("orchestration:batch", "orchestration:batch_results", "orchestration:bulk"),
    *(
        "orchestration:run_rest",
        "orchestration:progress",
        "orchestration:events",
        "orchestration:value",
        "dataplane:flow_run_log",
    ),
    *("dataplane:start", "dataplane:make_current", "dataplane:dry_run"),
}


def test_every_address_looks_right_to_an_admin(stack: Stack, visit: Visit, one_look: dict[str, Any]) -> None:
    """Pages that are added later are walked too: what an address names is taken from the demo."""
    with stack.api("ada") as ada:
        approval = ada.get("/approvals", params={"status": "pending"}).json()["items"][-1]
        run_id = approval["run_id"]
        checkpoint = ada.get(f"/runs/{run_id}/checkpoints").json()["items"][0]
        wanted = {"state": "completed", "flow": HANDBOOK.flow}  # one with logs, tasks and artifacts; no planned one
        (flow_run, *_) = eventually(
            lambda: ada.get("/flow-runs", params=wanted).json()["items"], "a completed flow run"
        )
    given = {"approval_id": approval["id"], "run_id": run_id, "checkpoint_id": checkpoint["checkpoint_id"]}
    given |= {"flow_run_id": flow_run["id"], "dataset": "handbook", "action": "cancel", "number": 1}
    page = visit("ada", **one_look)
    page.context.add_init_script(WATCH)
    faults = {}
    for name, path in addresses():
        if PAGES[name][0] is None or name in NOT_WALKED:
            continue
        for argument, value in given.items():
            path = re.sub(rf"<\w+:{argument}>", str(value), path)
        answer = page.goto(path)
        if answer is None or answer.status >= 400:
            faults[path] = [f"{name}: {answer and answer.status}"]
        elif found := faults_of(page):
            faults[path] = found
    assert faults == {}


#: how often Tab is pressed, at most, on the way to a control: more than any page has
TABS_AT_MOST = 150


def _tab_to(page: Page, control: str) -> bool:
    """Press Tab until the control has the focus, which then must be seen; return whether it got it."""
    for _ in range(TABS_AT_MOST):
        page.keyboard.press("Tab")
        if page.evaluate("control => document.activeElement.matches(control)", control):
            return bool(page.evaluate("control => document.querySelector(control).matches(':focus-visible')", control))
    return False


def _waiting_run(stack: Stack) -> str:
    with stack.api("olga") as olga:
        run_id: str = olga.get("/runs", params={"status": "waiting"}).json()["items"][0]["id"]
    return run_id


def test_every_action_of_a_run_shows_what_it_would_do_and_its_button_is_reached_by_keys(
    stack: Stack, visit: Visit, one_look: dict[str, Any]
) -> None:
    run_id = _waiting_run(stack)
    page = visit("olga", refusals_expected=True, **one_look)
    page.context.add_init_script(WATCH)
    faults, offered = {}, set()
    for action in ACTIONS:
        page.goto(f"/runs/{run_id}/actions/{action}/")
        if page.locator("#points a").count():  # it begins from a checkpoint
            faults[f"{action}: points"] = faults_of(page)
            page.locator("#points a").first.click()
            page.wait_for_url("**checkpoint_id=*")
        faults[action] = faults_of(page)
        if page.locator("#act-do").count():
            offered.add(action)
            faults[action] += [] if _tab_to(page, "#act-do") else ["its button is not reached by Tab"]
    assert {action: found for action, found in faults.items() if found} == {}
    assert offered >= {"pause", "cancel", "end", "reset", "fork", "ask_again"}


def test_a_run_is_paused_and_resumed_by_keys_alone(stack: Stack, visit: Visit, look: dict[str, Any]) -> None:
    run_id = _waiting_run(stack)
    page = visit("olga", **look)
    page.context.add_init_script(WATCH)
    for action, status in (("pause", "Paused"), ("resume", "Waiting")):
        page.goto(f"/runs/{run_id}/actions/{action}/")
        assert faults_of(page) == [], action
        assert _tab_to(page, "#act-reason")
        page.keyboard.type("Somebody looks at it.")
        assert _tab_to(page, "#act-do")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/runs/{run_id}/")
        expect(page.locator("main")).to_contain_text(status)
        assert faults_of(page) == [], f"after {action}"


def test_a_turn_that_fails_is_tried_again_by_keys_alone(stack: Stack, visit: Visit, look: dict[str, Any]) -> None:
    approval = ask_for_refund(stack)
    run_id = approval["run_id"]
    page = visit("olga", **look)
    page.context.add_init_script(WATCH)
    stack.supervisor.hold("shop")
    try:
        answer = {"verdict": "approve", "version": approval["version"], "digest": approval["digest"]}
        with stack.api("alice") as alice:
            assert alice.post(f"/approvals/{approval['id']}/decision", json=answer).status_code == 200

        def fails() -> bool:
            with stack.api("olga") as olga:
                seen = olga.post(f"/runs/{run_id}/actions", json={"action": "retry_now", "dry_run": True})
            return seen.status_code == 200

        eventually(fails, "the turn fails for the shop is away", every=0.5)
        page.goto(f"/runs/{run_id}/")
        assert faults_of(page) == [], "the run whose turn fails"
        page.goto(f"/runs/{run_id}/actions/fail_activity/")
        assert faults_of(page) == [], "the preview of failing it"
        assert _tab_to(page, "#act-do")
        page.goto(f"/runs/{run_id}/actions/retry_now/")
        expect(page.locator("main")).to_contain_text("issue_refund is asked again under its key")
        assert faults_of(page) == [], "the preview of trying it again"
        assert _tab_to(page, "#act-reason")
        page.keyboard.type("The shop is nearly back.")
        assert _tab_to(page, "#act-do")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/runs/{run_id}/")
        assert faults_of(page) == [], "after it was tried again"
    finally:
        stack.supervisor.release("shop")
    stack.supervisor.wait_ready(["shop"], PATIENCE)
    eventually(lambda: refunds_of(stack, approval), "the refund")
    assert len(refunds_of(stack, approval)) == 1


def test_the_form_that_starts_a_run_looks_right_with_its_faults(visit: Visit, look: dict[str, Any]) -> None:
    page = visit("olga", "/runs/new/", refusals_expected=True, **look)
    page.context.add_init_script(WATCH)
    page.get_by_role("button", name="Start the run").click()
    expect(page.get_by_text("This is needed.")).to_have_count(2)
    assert faults_of(page) == []


def test_the_palette_and_the_sheet_of_keys_look_right(visit: Visit, theme: str) -> None:
    page = visit("alice", color_scheme=theme)
    page.context.add_init_script(WATCH)
    page.goto("/inbox/")
    expect(page.locator("[data-live-word]", has_text="Live")).to_be_visible()
    page.keyboard.press("Control+k")
    page.keyboard.type("refund")
    expect(page.locator("#palette [data-found]").first).to_be_visible()
    assert faults_of(page) == []
    page.keyboard.press("Escape")
    expect(page.locator("body")).to_be_focused()
    page.keyboard.press("Shift+?")
    expect(page.get_by_role("heading", name="Keyboard shortcuts")).to_be_visible()
    assert faults_of(page) == []


def test_the_work_can_be_done_with_the_keyboard_alone(visit: Visit) -> None:
    page = visit("alice", "/runs/")
    page.wait_for_load_state("networkidle")
    page.keyboard.press("g")
    page.keyboard.press("i")
    page.wait_for_url("**/inbox/")
    expect(page.locator("[data-live-word]", has_text="Live")).to_be_visible()
    first = page.locator("a[data-row]").nth(0).get_attribute("data-row")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/approvals/**")
    page.wait_for_load_state("networkidle")
    expect(page.locator("[data-live-word]", has_text="Live")).to_be_visible()
    chosen = page.locator("[data-approval]").get_attribute("data-approval")
    assert chosen != first
    page.keyboard.press("r")
    expect(page.get_by_label("Comment")).to_be_focused()
    page.keyboard.type("a reason with a and r in it")
    expect(page.get_by_label("Comment")).to_have_value("a reason with a and r in it")


def test_single_letters_can_be_switched_off(visit: Visit) -> None:
    page = visit("alice", "/inbox/")
    expect(page.locator("[data-live-word]", has_text="Live")).to_be_visible()
    page.keyboard.press("Shift+?")
    page.get_by_label("Single-letter shortcuts are on").uncheck()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.evaluate(COUNT_KEYS_THAT_ACT)
    page.keyboard.press("a")
    page.keyboard.press("g")
    page.keyboard.press("r")
    page.keyboard.press("Control+k")
    expect(page.locator("#palette-input")).to_be_focused()
    assert page.evaluate("window.acted") == 1  # the palette's own
    assert page.url.endswith("/inbox/")


def test_a_live_refresh_keeps_typed_words_focus_and_opened_parts(stack: Stack, visit: Visit) -> None:
    with stack.api("alice") as alice:
        approval = alice.get("/approvals", params={"status": "pending"}).json()["items"][-1]
    page = visit("alice", f"/approvals/{approval['id']}/")
    expect(page.locator("[data-live-word]", has_text="Live")).to_be_visible()
    page.get_by_text("Exact bytes and digest").click()
    page.get_by_label("Comment").fill("half a thought")
    page.get_by_label("Search requests").fill("refu")
    page.evaluate(REFRESHED, f"approval-{approval['id']}")
    expect(page.get_by_label("Comment")).to_have_value("half a thought")
    expect(page.get_by_label("Search requests")).to_be_focused()
    expect(page.get_by_label("Search requests")).to_have_value("refu")
    expect(page.locator("pre[aria-label='Canonical JSON']")).to_be_visible()


def test_a_live_refresh_keeps_asking_for_a_reason(stack: Stack, visit: Visit) -> None:
    with stack.api("alice") as alice:
        approval = alice.get("/approvals", params={"status": "pending"}).json()["items"][-1]
    page = visit("alice", f"/approvals/{approval['id']}/")
    expect(page.locator("[data-live-word]", has_text="Live")).to_be_visible()
    page.get_by_role("button", name="Reject").click()
    fault, comment = page.get_by_text("Say why").first, page.get_by_label("Comment")
    expect(fault).to_be_visible()
    page.evaluate(REFRESHED, f"approval-{approval['id']}")
    expect(fault).to_be_visible()
    expect(comment).to_be_focused()
    expect(comment).to_have_attribute("aria-invalid", "true")
    comment.fill("Paid twice.")
    expect(fault).to_be_hidden()
    page.evaluate(REFRESHED, f"approval-{approval['id']}")
    expect(fault).to_be_hidden()


def test_an_unsent_comment_stays_with_its_request(stack: Stack, visit: Visit) -> None:
    with stack.api("alice") as alice:
        first, second = alice.get("/approvals", params={"status": "pending"}).json()["items"][-2:]
    page = visit("alice", f"/approvals/{first['id']}/")
    expect(page.locator("[data-live-word]", has_text="Live")).to_be_visible()
    page.get_by_label("Comment").fill("half a thought")
    page.locator(f"a[data-row='{second['id']}']").click()
    page.wait_for_url(f"**/{second['id']}/")
    expect(page.get_by_label("Comment")).to_have_value("")
    page.locator(f"a[data-row='{first['id']}']").click()
    page.wait_for_url(f"**/{first['id']}/")
    expect(page.get_by_label("Comment")).to_have_value("half a thought")


def test_updates_can_be_paused_and_catch_up(visit: Visit) -> None:
    page = visit("alice", "/inbox/")
    state = page.locator("[data-live-word]")
    expect(state).to_have_text("Live")
    state.click()
    expect(state).to_have_text("Paused")
    page.reload()
    expect(state).to_have_text("Paused")
    assert page.evaluate(TOLD_ON_RETURN) == 0
    with page.expect_response("**/frame/parts/?*pending-count=*"):
        state.click()
    expect(state).to_have_text("Live")
    assert page.evaluate(TOLD_ON_RETURN) == 1
