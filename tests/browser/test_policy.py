"""A change of the policy where two admins exist: one proposes, it holds only when the other has confirmed it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Stack
from tests.browser.steps import RULE, TWO_FOR_MUCH, ask_for_refund, change_policy

Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def second_admin(stack: Stack) -> Iterator[str]:
    """Make bea, who may do everything, and close her account again: the other walks know one admin."""
    password = secrets.token_urlsafe(9)
    named = ("--noinput", "--username", "bea", "--email", "bea@shop.example")
    stack.manage("createsuperuser", *named, DJANGO_SUPERUSER_PASSWORD=password)
    stack.passwords["bea"] = password
    yield "bea"
    stack.manage("shell", "-c", "User.objects.filter(username='bea').update(is_active=False)")


@pytest.fixture
def admins(look: dict[str, Any], visit: Visit, second_admin: str) -> Iterator[tuple[Page, Page]]:
    """Sign in ada and bea, and leave the policy as it was."""
    ada = visit("ada", "/policy/", **look)
    bea = visit(second_admin, "/policy/", refusals_expected=True, **look)
    yield ada, bea
    ada.goto("/policy/")
    if ada.get_by_role("heading", name=RULE).count():
        change_policy(ada, lambda rules: rules[1:], "Back to one person.")
        look_at_it(bea)
        confirm(bea)


def look_at_it(page: Page) -> None:
    page.goto("/policy/")
    page.get_by_role("link", name="Look at it").click()


def confirm(page: Page) -> None:
    page.get_by_role("button", name="Confirm").click()
    page.wait_for_url("**/policy/")


def test_a_change_waits_for_another_admin_who_refuses_one_and_confirms_one(
    stack: Stack, admins: tuple[Page, Page]
) -> None:
    ada, bea = admins
    change_policy(ada, lambda rules: [TWO_FOR_MUCH, *rules], "Large refunds need two.")
    expect(ada.get_by_text("Another admin has to confirm it. Until then")).to_be_visible()
    expect(ada.get_by_role("button", name="Confirm")).to_have_count(0)

    look_at_it(bea)
    bea.get_by_role("button", name="Refuse").click()
    expect(bea.get_by_text("Say why, for whoever proposed it.")).to_be_visible()
    bea.get_by_label("Why it is refused").fill("Say in the note why they do.")
    bea.get_by_role("button", name="Refuse").click()
    bea.wait_for_url("**/policy/")
    expect(bea.get_by_role("heading", name=RULE)).to_have_count(0)
    ada.reload()
    expect(ada.get_by_text("Say in the note why they do.")).to_be_visible()
    expect(ada.get_by_role("button", name="Take it back")).to_have_count(0)

    change_policy(ada, lambda rules: [TWO_FOR_MUCH, *rules], "Large refunds need two: three went to the wrong person.")
    ada.goto("/policy/")
    expect(ada.get_by_text("proposed by ada, waits for another admin")).to_be_visible()
    expect(ada.get_by_role("link", name="Change")).to_have_count(0)
    assert ask_for_refund(stack, "180.00")["quorum"]["needed"] == 1

    look_at_it(bea)
    expect(bea.locator(".rule-changes li", has_text=RULE)).to_contain_text("Added")
    confirm(bea)
    expect(bea.get_by_role("heading", name=RULE)).to_be_visible()
    expect(bea.locator(".versions li").first).to_contain_text(re.compile("Active.*confirmed by bea", re.DOTALL))
    assert ask_for_refund(stack, "180.00")["quorum"]["needed"] == 2
