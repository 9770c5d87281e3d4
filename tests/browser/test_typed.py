"""What somebody typed is still there after every way that leads back to the form, for that person only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from playwright.sync_api import Page, expect

from approvals.models import Approval
from tests.approvals.conftest import open_one
from tests.browser.alone import PASSWORD, Open, open_page
from tests.browser.conftest import sign_in
from tests.browser.test_layout import ARGUMENTS, SCHEMA

__all__ = ["open_one", "open_page"]
pytestmark = pytest.mark.django_db(transaction=True)
DRAFTS = "Object.keys(sessionStorage).filter(key => key.startsWith('draft:')).length"


@pytest.fixture
def refund(open_one: Callable[..., Approval], alice: User, bob: User, settings: Any) -> Approval:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    for one in (alice, bob):
        one.set_password(PASSWORD)
        one.save()
    return open_one(arguments=ARGUMENTS, arguments_schema=SCHEMA, risk="low")


def _end_sessions() -> None:
    Session.objects.all().delete()


def test_a_comment_outlives_the_session_for_its_writer_only(
    open_page: Open, refund: Approval, alice: User, bob: User
) -> None:
    path = f"/approvals/{refund.pk}/"
    page = open_page(alice, path)
    page.get_by_label("Comment").fill("Paid twice already.")
    page.get_by_label("Say to the others").fill("Look at the photo.")
    _end_sessions()
    page.get_by_role("button", name="Reject").click()
    page.get_by_role("link", name="Sign in", exact=True).first.click()
    sign_in(page, "alice", PASSWORD)
    page.wait_for_url(f"**{path}")
    expect(page.get_by_label("Comment")).to_have_value("Paid twice already.")
    expect(page.get_by_label("Say to the others")).to_have_value("Look at the photo.")
    _end_sessions()
    page.goto(path)
    sign_in(page, "bob", PASSWORD)
    expect(page.get_by_label("Comment")).to_have_value("")
    expect(page.get_by_label("Say to the others")).to_have_value("")
    assert page.evaluate(DRAFTS) == 0


def test_a_change_is_there_again_after_the_browsers_own_back(open_page: Open, refund: Approval, alice: User) -> None:
    page = open_page(alice, f"/approvals/{refund.pk}/")
    _type_a_change(page)
    page.get_by_role("button", name="See the difference").click()
    expect(page.get_by_role("button", name="Approve with change")).to_be_visible()
    page.go_back()
    page.get_by_role("link", name="Change").click()
    expect(page.get_by_label("amount").first).to_have_value("50.00")
    expect(page.get_by_text("What you had typed here is back.")).to_be_visible()
    page.get_by_role("button", name="See the difference").click()
    page.get_by_role("button", name="Approve with change").click()
    expect(page.get_by_text("by alice").first).to_be_visible()
    expect(page.get_by_text("What you had typed")).to_have_count(0)
    assert page.evaluate(DRAFTS) == 0


def test_a_reason_that_was_sent_by_key_is_not_kept(open_page: Open, refund: Approval, alice: User) -> None:
    page = open_page(alice, f"/approvals/{refund.pk}/")
    page.keyboard.press("r")
    expect(page.get_by_label("Comment")).to_be_focused()
    page.keyboard.type("Paid twice already.")
    page.keyboard.press("Control+Enter")  # the box keeps the focus until the answer takes it away
    expect(page.get_by_text("Rejected by alice").first).to_be_visible()
    assert page.evaluate(DRAFTS) == 0


def test_what_is_discarded_or_begun_again_is_gone(open_page: Open, refund: Approval, alice: User) -> None:
    page = open_page(alice, f"/approvals/{refund.pk}/")
    _type_a_change(page)
    page.get_by_role("button", name="See the difference").click()
    page.get_by_role("link", name="Discard").click()
    _type_a_change(page, was="89.40")
    page.goto("/runs/")
    page.goto(f"/approvals/{refund.pk}/edit")
    expect(page.get_by_label("amount").first).to_have_value("50.00")
    page.get_by_role("button", name="Start over").click()
    expect(page.get_by_label("amount").first).to_have_value("89.40")


def test_a_refused_decision_and_a_change_of_page_keep_the_comment(
    open_page: Open, refund: Approval, alice: User, bob: User
) -> None:
    page = open_page(alice, f"/approvals/{refund.pk}/")
    page.get_by_label("Comment").fill("No, wait.")
    other = open_page(bob, f"/approvals/{refund.pk}/")
    other.get_by_role("button", name="Approve").click()
    expect(other.get_by_text("by bob").first).to_be_visible()
    expect(other.get_by_label("What you had typed")).to_be_hidden()
    page.get_by_role("button", name="Reject").click()
    expect(page.get_by_text("Your click came too late")).to_be_visible()
    expect(page.get_by_label("What you had typed")).to_have_value("No, wait.")
    page.reload()
    expect(page.get_by_label("What you had typed")).to_have_value("No, wait.")


def test_without_a_script_the_change_form_outlives_the_session_too(
    open_page: Open, refund: Approval, alice: User
) -> None:
    page = open_page(alice, "/inbox/", java_script_enabled=False)
    page.goto(f"/approvals/{refund.pk}/edit")
    page.get_by_label("amount").first.fill("50.00")
    _end_sessions()
    page.get_by_role("button", name="See the difference").click()
    sign_in(page, "alice", PASSWORD)
    expect(page.get_by_text("What you typed is still here")).to_be_visible()
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("button", name="Approve with change")).to_be_visible()
    expect(page.locator(".diff ins").first).to_contain_text("5")


def _type_a_change(page: Page, was: str = "89.40") -> None:
    page.get_by_role("link", name="Change").click()
    expect(page.get_by_label("amount").first).to_have_value(was)
    page.get_by_label("amount").first.fill("50.00")
