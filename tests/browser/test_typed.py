"""What somebody typed is still there after every way that leads back to the form, for that person only."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connections
from django.test import Client
from playwright.sync_api import Page, expect

from approvals.models import Approval
from tests.approvals.conftest import open_one
from tests.browser.alone import PASSWORD, Open, open_page
from tests.browser.conftest import sign_in
from tests.browser.test_layout import ARGUMENTS, SCHEMA
from tests.dataplane.fakes import FakePrefect
from tests.hostile.test_doors import prefect
from tests.hostile.test_typed_everywhere import drawn
from tests.hostile.world import make_world

__all__ = ["open_one", "open_page", "prefect"]
pytestmark = pytest.mark.django_db(transaction=True)
#: type into every box of every form that is posted; return what each holds then
TYPE = """() => [...document.querySelectorAll('form[method=post]')].flatMap((form) => [...form.elements]
    .filter((box) => box.name && !box.readOnly && box.matches('textarea, input:not([type]), input[type=text]'))
    .map((box, number) => {
        box.value = `${box.value.slice(0, 20)} typed ${number}`;
        box.dispatchEvent(new Event('input', {bubbles: true}));
        return `${form.getAttribute('action')} ${box.name}: ${box.value}`;
    }))"""
HELD = """() => [...document.querySelectorAll('form[method=post]')].flatMap((form) => [...form.elements]
    .map((box) => `${form.getAttribute('action')} ${box.name}: ${box.value}`))"""
DRAFTS = "Object.keys(sessionStorage).filter(key => key.startsWith('draft:')).length"


@pytest.fixture
def refund(open_one: Callable[..., Approval], alice: User, bob: User) -> Approval:
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


LINES = {"type": "object", "properties": {"lines": {"type": "array", "items": {"type": "string"}}}}
ROWS = ".schema-row:not([hidden])"
VALUES = """(rows) => rows.map((row) => (row.querySelector('[data-row-remove]')?.checked ? 'not ' : '')
    + row.querySelector('textarea').value)"""


@pytest.fixture
def lines(open_one: Callable[..., Approval]) -> Approval:
    tool = {"tool": "write_lines", "dialect": "agent-inbox"}  # of a graph of others, known by its schema only
    return open_one(arguments={"lines": ["a", "b", "c"]}, arguments_schema=LINES, risk="low", **tool)


def test_a_change_of_a_change_begins_with_the_change_and_nothing_else(
    open_page: Open, lines: Approval, alice: User
) -> None:
    page = open_page(alice, f"/approvals/{lines.pk}/edit")
    page.locator("[name='arguments.lines.0.~remove']").check()
    page.locator("[name='arguments.lines.1']").fill("b2")
    page.get_by_role("button", name="See the difference").click()
    page.get_by_role("button", name="Change more").click()
    expect(page.locator(ROWS)).to_have_count(2)
    assert page.eval_on_selector_all(ROWS, VALUES) == ["b2", "c"]
    page.get_by_role("button", name="See the difference").click()
    page.get_by_role("button", name="Approve with change").click()
    expect(page.get_by_text("by alice").first).to_be_visible()
    assert page.evaluate(DRAFTS) == 0


def test_added_items_are_there_again_each_in_its_row(open_page: Open, lines: Approval, alice: User) -> None:
    page = open_page(alice, f"/approvals/{lines.pk}/edit")
    add = page.get_by_role("button", name="Add an item")
    for text in ("", "e", "f"):
        add.click()
        page.keyboard.type(text)
    page.goto("/runs/")
    page.goto(f"/approvals/{lines.pk}/edit")
    expect(page.get_by_text("What you had typed here is back.")).to_be_visible()
    assert page.eval_on_selector_all(ROWS, VALUES) == ["a", "b", "c", "", "e", "f"]


def test_a_box_that_is_unticked_again_is_counted_again(
    open_page: Open, open_one: Callable[..., Approval], alice: User
) -> None:
    ids = [open_one(risk="low").pk for _ in range(3)]
    path = f"/inbox/review?{urlencode({'id': ids}, doseq=True)}"
    page = open_page(alice, path)
    page.locator("[name=item]").first.uncheck()
    page.goto("/runs/")
    page.goto(path)
    expect(page.locator("[name=item]").first).not_to_be_checked()
    expect(page.locator("[data-ticked]")).to_have_text("2")


def test_what_was_typed_is_there_again_after_a_look_elsewhere_in_every_form_of_every_page(
    open_page: Open, prefect: FakePrefect
) -> None:
    with ThreadPoolExecutor(1) as beside:  # Playwright's loop runs in this thread, and parts of ours want their own
        somebody, pages = beside.submit(_pages_with_boxes, prefect).result()
    assert len(pages) > 10
    page = open_page(somebody, "/inbox/")
    faults = []
    for path in pages:
        page.goto(path)
        typed = page.evaluate(TYPE)
        page.goto("/delegations/")
        page.goto(path)
        held = set(page.evaluate(HELD))
        faults += [f"{path}: {one}" for one in typed if one not in held]
        page.evaluate("sessionStorage.clear()")
    assert not faults, "\n".join(faults)


def _pages_with_boxes(prefect: FakePrefect) -> tuple[User, list[str]]:
    """Return somebody who may do everything, and the pages with something to type in."""
    try:
        world, client = make_world(prefect), Client()
        client.force_login(world.everybody, backend="django.contrib.auth.backends.ModelBackend")
        pages: dict[tuple[str, frozenset[str]], str] = {}  # one for each form with the same boxes
        for page, path, names in drawn(world, client):
            pages.setdefault((path, frozenset(names)), page)
        return world.everybody, list(dict.fromkeys(page for (_, names), page in pages.items() if names))
    finally:
        connections.close_all()
