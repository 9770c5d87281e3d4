"""The list of runs that one can act on: by keyboard, on a phone, and while the list refreshes itself."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from tests.browser.alone import Open, open_page
from tests.orchestration.conftest import make_run

__all__ = ["open_page"]
pytestmark = pytest.mark.django_db(transaction=True)


def test_rows_are_selected_by_keyboard_all_at_once_and_lead_to_the_preview(open_page: Open, olga: User) -> None:
    ids = [make_run(status="waiting").pk for _ in range(3)]
    page = open_page(olga, "/runs/")
    head, bar = page.get_by_label("Select all shown"), page.locator("#pick-form")
    expect(head).to_be_visible()
    expect(bar).to_be_hidden()
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(bar).to_contain_text("1 selected")
    expect(page.locator(".pick:checked")).to_have_count(1)
    assert head.evaluate("box => box.indeterminate") is True
    head.check()
    expect(bar).to_contain_text("3 selected")
    page.locator("#runs-search-words").fill(ids[0])  # the list draws itself anew
    expect(page.locator(".pick")).to_have_count(1)
    expect(bar).to_contain_text("1 selected")
    page.get_by_role("button", name="Act on them").click()
    expect(page).to_have_url(re.compile(r"/runs/actions/\?ids="))
    expect(page.get_by_role("heading", name="1 run", exact=True)).to_be_visible()


def test_a_phone_has_boxes_bar_and_views_within_its_width(open_page: Open, olga: User) -> None:
    for _ in range(2):
        make_run(status="waiting", input={"order_id": "1", "message": "the lamp"})
    page = open_page(olga, "/runs/?status=waiting&search=lamp", viewport={"width": 390, "height": 844})
    page.locator(".pick").first.check()
    expect(page.locator("#pick-form")).to_be_visible()
    expect(page.locator("#act-on-all")).to_have_text(re.compile("Act on all 2 that fit"))
    page.get_by_label("Save what you see as").fill("Lamps that wait")
    page.get_by_role("button", name="Save view").click()
    expect(page.get_by_role("link", name="Lamps that wait")).to_have_attribute("aria-current", "true")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
