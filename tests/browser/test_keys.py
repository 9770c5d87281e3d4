"""The keys do what the help says, on what is on the screen, and never by accident."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from approvals.models import Approval, Comment
from console.keys import KEYS
from tests.approvals.conftest import open_one
from tests.browser.alone import Open, open_page

__all__ = ["open_one", "open_page"]
pytestmark = pytest.mark.django_db(transaction=True)
OpenOne = Callable[..., Approval]


def _low(open_one: OpenOne, count: int, **changes: object) -> list[Approval]:
    return [open_one(risk="low", arguments={"to": f"{n}@example.org"}, **changes) for n in range(count)]


def _statuses() -> dict[str, str]:
    return dict(Approval.objects.values_list("pk", "status"))


def _ready(page: Page) -> None:
    expect(page.locator(".cmdk")).to_be_visible()  # the script is there


def test_n_goes_on_in_place_with_the_lists_filter_and_the_focus(
    open_page: Open, open_one: OpenOne, alice: User
) -> None:
    _low(open_one, 3)
    _low(open_one, 2, tool="send_email")
    page = open_page(alice, "/inbox/?tool=issue_refund")
    _ready(page)
    page.evaluate("window.sameDocument = true")
    page.locator("a[data-row]").first.click()
    expect(page).to_have_url(re.compile(r"/approvals/.*\?tool=issue_refund"))
    first = page.locator("[data-approval]").get_attribute("data-approval")
    page.keyboard.press("a")
    expect(page.locator(".outcome")).to_be_focused()
    expect(page.locator(".outcome")).to_contain_text("approved by alice", ignore_case=True)
    expect(page.get_by_role("link", name="Next request")).to_have_attribute("href", "/inbox/?tool=issue_refund")
    page.keyboard.press("n")
    expect(page.locator("#approval-title")).to_be_focused()
    expect(page).to_have_url(re.compile(r"/approvals/.*\?tool=issue_refund"))
    assert page.locator("[data-approval]").get_attribute("data-approval") != first
    expect(page.locator("#inbox-list")).not_to_contain_text("send_email")
    assert page.evaluate("window.sameDocument") is True


def test_at_high_risk_a_letter_goes_to_the_button_and_enter_decides(
    open_page: Open, open_one: OpenOne, alice: User
) -> None:
    refund = open_one(risk="high")
    page = open_page(alice, f"/approvals/{refund.pk}/")
    _ready(page)
    page.keyboard.press("a")
    expect(page.get_by_role("button", name="Approve")).to_be_focused()
    assert _statuses()[refund.pk] == "pending"
    page.keyboard.press("Enter")
    expect(page.locator(".outcome")).to_be_focused()
    assert _statuses()[refund.pk] == "decided"


def test_ctrl_enter_sends_what_was_asked_for_and_escape_leaves_the_box(
    open_page: Open, open_one: OpenOne, alice: User
) -> None:
    (email,) = _low(open_one, 1)
    page = open_page(alice, f"/approvals/{email.pk}/")
    _ready(page)
    comment = page.get_by_label("Comment")
    comment.fill("Hm")
    comment.press("Control+Enter")  # nothing was asked for
    expect(page.get_by_text("Ctrl+Enter then sends it")).to_be_visible()
    comment.press("Escape")
    expect(comment).not_to_be_focused()
    expect(comment).to_have_value("Hm")
    said = page.get_by_label("Say to the others")
    said.fill("Look at the photo.")
    said.press("Control+Enter")
    expect(page.get_by_text("Look at the photo.")).to_be_visible()
    assert Comment.objects.count() == 1 and _statuses()[email.pk] == "pending"
    comment.fill("")
    comment.press("Escape")
    page.keyboard.press("r")
    expect(comment).to_be_focused()
    page.keyboard.type("Not ours: a, r and n are letters.")
    comment.press("Control+Enter")
    expect(page.locator(".outcome")).to_contain_text("rejected by alice", ignore_case=True)


def test_letters_act_neither_with_a_modifier_nor_behind_the_list_of_a_phone(
    open_page: Open, open_one: OpenOne, alice: User
) -> None:
    (email,) = _low(open_one, 1)
    page = open_page(alice, f"/approvals/{email.pk}/")
    _ready(page)
    page.evaluate("""window.fired = [];
        document.addEventListener("hotkey-fire", event => fired.push(event.defaultPrevented))""")
    for keys in ("Control+a", "Alt+a", "Shift+a", "Meta+a"):
        page.keyboard.press(keys)
    page.get_by_label("Search requests").press("a")
    page.locator("body").press("Escape")
    assert page.evaluate("fired") == []
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/inbox/")
    expect(page.locator(".decide")).to_be_hidden()  # it is there, behind the list
    page.keyboard.press("a")
    page.keyboard.press("j")
    expect(page.locator("a[data-row]").first).to_be_focused()
    assert _statuses()[email.pk] == "pending"


def test_the_help_says_every_key_and_every_key_is_in_the_help(open_page: Open, open_one: OpenOne, alice: User) -> None:
    open_one()
    page = open_page(alice, "/inbox/")
    _ready(page)
    page.keyboard.press("Shift+?")
    sheet = page.get_by_role("dialog")
    expect(sheet.get_by_role("heading", name="Keyboard shortcuts")).to_be_visible()
    helped = [one for one in KEYS.values() if one.is_helped]
    assert sheet.locator("dt").all_inner_texts() == [one.shown for one in helped]
    assert sheet.locator("dd").all_inner_texts() == [one.words for one in helped]
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("Escape")
    listened = page.evaluate("[...document.querySelectorAll('[data-hotkey]')].map(one => one.dataset.hotkey)")
    assert {one.hotkey for one in helped if one.hotkey} == set(listened)
