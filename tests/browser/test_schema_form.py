"""A typed form in Chromium: items at a click, what is typed counts as set, and the server reads what was meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.http import QueryDict
from django.template.loader import render_to_string
from playwright.sync_api import Browser, Page, Route, expect

from console.environment import PROJECT
from console.forms import schema_form
from tests.waiting import PATIENCE

LINE = {
    "type": "object",
    "title": "Order line",
    "properties": {"sku": {"type": "string"}, "marks": {"type": "array", "items": {"type": "string"}}},
    "required": ["sku", "marks"],
}
SCHEMA = {
    "type": "object",
    "properties": {
        "lines": {"type": "array", "items": LINE},
        "labels": {"type": "object", "additionalProperties": {"type": "integer"}},
        "note": {"type": "string"},
    },
    "required": ["lines"],
}
VALUE = {"lines": [{"sku": "a", "marks": ["x\u200by\r\nz"]}]}
TYPES = {".js": "text/javascript", ".svg": "image/svg+xml"}


@pytest.fixture
def open_form(chromium: Browser, plain_statics: None) -> Iterator[Callable[..., Page]]:
    """Open the form on a page of its own, with the scripts and styles of the project and nothing else."""
    contexts = []
    html = render_to_string("shared/_schema_form.html", {"form": schema_form.build(SCHEMA, VALUE, prefix="arguments")})
    script = '<script type="module" src="/static/js/schema_form.js"></script>'
    page_html = (
        f"<!doctype html><title>Form</title>{script}<form method=get action=/sent>{html}<button>Send</button></form>"
    )

    def answer(route: Route) -> None:
        path = urlsplit(route.request.url).path
        if path.startswith("/static/"):
            file = PROJECT / path.removeprefix("/")
            route.fulfill(body=file.read_text(), content_type=TYPES[file.suffix])
        else:
            route.fulfill(body=page_html, content_type="text/html; charset=utf-8")

    def open_form(**options: Any) -> Page:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.route("**/*", answer)
        page.goto("http://form.test/")
        return page

    yield open_form
    for context in contexts:
        context.close()


def sent(page: Page) -> schema_form.Form:
    with page.expect_request("**/sent?*") as asked:
        page.get_by_role("button", name="Send").click()
    post = QueryDict(mutable=True)
    for name, value in parse_qsl(urlsplit(asked.value.url).query, keep_blank_values=True):
        post.appendlist(name, value)
    return schema_form.read(SCHEMA, VALUE, post, prefix="arguments")


@pytest.mark.parametrize("java_script_enabled", [True, False])
def test_a_form_that_is_sent_untouched_changes_nothing(
    open_form: Callable[..., Page], java_script_enabled: bool
) -> None:
    form = sent(open_form(java_script_enabled=java_script_enabled))
    assert form.value is VALUE and form.is_valid and form.ignored == []


def test_items_and_keys_are_added_at_a_click_inside_each_other_too(open_form: Callable[..., Page]) -> None:
    page = open_form()
    expect(page.get_by_role("group", name="Order line 2")).to_be_hidden()
    lines = page.get_by_role("group", name="Lines")
    add = lines.get_by_role("button", name="Add an item").last
    for number, sku in ((2, "b"), (3, "c")):
        add.click()
        expect(page.get_by_role("group", name=f"Order line {number}").get_by_label("Sku sku")).to_be_focused()
        page.keyboard.type(sku)
    third = page.get_by_role("group", name="Order line 3")
    for mark in ("m", "n"):
        third.get_by_role("button", name="Add an item").click()
        page.keyboard.type(mark)
    page.get_by_role("button", name="Add a key").click()
    page.keyboard.type("boxes")
    page.keyboard.press("Tab")
    page.keyboard.type("9007199254740993")
    form = sent(page)
    assert form.errors == []
    assert form.value == {
        "lines": [*VALUE["lines"], {"sku": "b", "marks": []}, {"sku": "c", "marks": ["m", "n"]}],
        "labels": {"boxes": 9007199254740993},
    }


def test_what_is_typed_counts_as_set_and_can_be_taken_back(open_form: Callable[..., Page]) -> None:
    page = open_form()
    state = page.get_by_label("Is “Note” set?")
    expect(state).to_have_value("absent")
    page.get_by_label("Note (optional)").fill("typed")
    expect(state).to_have_value("value")
    page.get_by_role("checkbox", name="Remove Order line 1").check()
    assert sent(page).value == {"lines": [], "note": "typed"}


def test_without_a_script_the_empty_row_does_it(open_form: Callable[..., Page]) -> None:
    page = open_form(java_script_enabled=False)
    page.get_by_role("group", name="Order line 2").get_by_label("Sku sku").fill("b")
    page.get_by_label("Note (optional)").fill("typed")
    expect(page.get_by_role("button", name="Add an item").first).to_be_hidden()
    assert sent(page).value == {"lines": [*VALUE["lines"], {"sku": "b", "marks": []}], "note": "typed"}
