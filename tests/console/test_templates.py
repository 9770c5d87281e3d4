"""What no template may hold, and what each fragment has to say of itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.template.loader import get_template
from django.utils.safestring import mark_safe

from console.environment import PROJECT
from console.keys import KEYS
from console.live.parts import VIEWS
from console.templatetags.signalbox import initials, status
from console.templatetags.signalbox import tag as draw_tag

TEMPLATES = sorted((PROJECT / "templates").rglob("*.html"))
FRAGMENTS = [path for path in TEMPLATES if path.name.startswith("_")]
SCRIPTS = sorted((PROJECT / "static" / "js").glob("*.js"))
STYLES = sorted((PROJECT / "static" / "css").glob("*.css"))

#: of announcements, as static/js/parts.js hears them
KINDS = {"approval", "data", "health", "inbox", "presence", "resync", "run", "runs"}
_TAGS = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)


def _name(path: Path) -> str:
    return str(path.relative_to(PROJECT / "templates"))


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def _elements(path: Path) -> list[tuple[str, dict[str, str | None]]]:
    # A tag inside an attribute's quotes must not end it; what a tag prints is text.
    parser = _Elements()
    parser.feed(_TAGS.sub("x", path.read_text()))
    return parser.found


@pytest.mark.parametrize("path", TEMPLATES, ids=_name)
def test_a_template_compiles(path: Path) -> None:
    get_template(_name(path))


@pytest.mark.parametrize("path", TEMPLATES, ids=_name)
def test_nothing_in_a_template_needs_an_unsafe_policy(path: Path) -> None:
    for tag, attributes in _elements(path):
        assert tag != "style", "styles live in static/css"
        if tag == "script":
            assert attributes.get("src"), "no inline script"
        for name, value in attributes.items():
            assert name != "style", f"inline style on <{tag}>"
            assert not name.startswith("on"), f"inline handler {name} on <{tag}>"
            assert not re.match(r"(data-)?hx-on", name), "hx-on evaluates"
            assert name not in ("hx-vals", "data-hx-vals") or "js:" not in (value or "")
            assert "javascript:" not in (value or "")
            if name == "hx-trigger":
                assert "[" not in (value or ""), "trigger filters evaluate"


@pytest.mark.parametrize("path", TEMPLATES, ids=_name)
def test_a_template_marks_nothing_as_safe_and_tells_nothing_in_html_comments(path: Path) -> None:
    text = path.read_text()
    assert "|safe" not in text
    assert "autoescape off" not in text
    assert "<!--" not in text
    assert "<svg" not in text, "icons come from the sprite"


@pytest.mark.parametrize("path", TEMPLATES, ids=_name)
def test_whatever_htmx_does_a_plain_link_or_form_does_too(path: Path) -> None:
    for tag, attributes in _elements(path):
        if "hx-post" in attributes:
            assert tag == "form" and attributes.get("method") == "post" and attributes.get("action")
        if tag == "a" and "hx-get" in attributes:
            assert attributes.get("href")


@pytest.mark.parametrize("path", FRAGMENTS, ids=_name)
def test_a_fragment_names_its_context_first_and_extends_nothing(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("{# Context: "), "the first line lists the context"
    assert "{% extends" not in text


@pytest.mark.parametrize("path", FRAGMENTS, ids=_name)
def test_a_fragment_that_fetches_itself_is_one_element_with_an_id(path: Path) -> None:
    elements = _elements(path)
    for _, attributes in elements:
        assert "live:" not in (attributes.get("hx-trigger") or ""), "one request for all: data-live-get"
        if "data-live-get" in attributes or "every" in (attributes.get("hx-trigger") or ""):
            assert attributes.get("id"), "a live region needs an id to be morphed"
        if "data-live-get" in attributes:
            assert set((attributes.get("data-live-on") or "").split()) <= KINDS
        elif "every" in (attributes.get("hx-trigger") or ""):
            assert attributes.get("hx-swap") in ("outerMorph", "innerMorph"), "a live swap keeps typed text and focus"


def test_every_address_of_a_live_part_is_one_that_may_come_with_others() -> None:
    named: set[str] = set()
    for path in TEMPLATES:
        named |= set(re.findall(r'data-live-get="\{% url "([a-z_:]+)"', path.read_text()))
    assert len(named) >= 8
    assert named <= VIEWS


def test_forms_that_post_carry_the_token() -> None:
    for path in TEMPLATES:
        text = path.read_text()
        for form in re.findall(r"<form[^>]*method=\"post\".*?</form>", text, re.DOTALL):
            assert "{% csrf_token %}" in form, _name(path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_writes_no_html_and_evaluates_nothing(path: Path) -> None:
    text = path.read_text()
    for dangerous in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert dangerous not in text


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.name)
def test_styles_load_nothing_from_elsewhere(path: Path) -> None:
    for address in re.findall(r"url\(([^)]*)\)", path.read_text()):
        assert address.startswith("../vendor/"), address


def test_error_answers_never_replace_the_page_by_accident() -> None:
    base = (PROJECT / "templates" / "console" / "base.html").read_text()
    assert '"noSwap": [204, 304, 400, 401, 404, 405, 408, 413, 414, 429, 431, "5xx"]' in base
    assert '"history": "reload"' in base
    assert "hx-headers:inherited" in base


def test_what_was_drawn_of_a_safe_text_is_not_shown_for_the_same_text_unsafe() -> None:
    assert "<b>x</b>" in draw_tag(mark_safe("<b>x</b>"), "vio")
    assert "&lt;b&gt;x&lt;/b&gt;" in draw_tag("<b>x</b>", "vio")
    assert "&lt;i&gt;" in status("<i>")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        *[("alice", "AL"), ("ada lovelace", "AL"), ("ada.m_king", "AM"), ("", "")],
        ("\u0410\u043d\u043d\u0430", "\u0410\u041d"),  # Cyrillic
        *[("\u202ebob", "BO"), ("a\u200bb", "AB"), ("\u3164 x", "X"), ("<b>", "B"), ("\U000e0061", "")],
    ],
)
def test_initials_are_letters_that_can_be_seen(name: str, shown: str) -> None:
    assert initials(name) == shown


@pytest.mark.parametrize("path", TEMPLATES, ids=_name)
def test_no_template_names_a_key_beside_the_table(path: Path) -> None:
    assert "data-hotkey=" not in path.read_text(), "use the tag hotkey: the help is made from the same table"


def test_every_key_of_the_table_is_heard() -> None:
    used = set(re.findall(r'{% hotkey "(\w+)" %}', "".join(path.read_text() for path in TEMPLATES)))
    assert used == {name for name, one in KEYS.items() if one.hotkey}
    for one in KEYS.values():
        assert bool(one.hotkey) != bool(one.heard_in)
        assert not one.heard_in or (PROJECT / "static" / "js" / one.heard_in).exists()
