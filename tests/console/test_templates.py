"""What no template may hold, and what each fragment has to say of itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.template.loader import get_template
from django.urls import URLResolver, get_resolver
from django.utils.safestring import mark_safe

from console.environment import PROJECT
from console.keys import KEYS
from console.live.parts import PARTS
from console.templatetags.signalbox import initials, status
from console.templatetags.signalbox import tag as draw_tag

TEMPLATES = sorted((PROJECT / "templates").rglob("*.html"))
FRAGMENTS = [path for path in TEMPLATES if path.name.startswith("_")]
SCRIPTS = sorted((PROJECT / "static" / "js").glob("*.js"))
STYLES = sorted((PROJECT / "static" / "css").glob("*.css"))

#: of announcements, as static/js/parts.js hears them
KINDS = {
    *("approval", "batch", "batches", "data", "flow-run", "health", "inbox", "presence", "progress", "resync"),
    *("run", "runs", "system"),
}
_TAGS = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)


def _name(path: Path) -> str:
    return str(path.relative_to(PROJECT / "templates"))


def _faults(paths: list[Path], faults_of: Callable[[Path], Iterable[str]]) -> list[str]:
    """Return all faults of all files, each with its file's name."""
    assert paths
    return [f"{_name(path)}: {fault}" for path in paths for fault in faults_of(path)]


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@cache
def _elements(path: Path) -> list[tuple[str, dict[str, str | None]]]:
    # A tag inside an attribute's quotes must not end it; what a tag prints is text.
    parser = _Elements()
    parser.feed(_TAGS.sub("x", path.read_text()))
    return parser.found


def test_every_template_compiles() -> None:
    assert _faults(TEMPLATES, lambda path: [] if get_template(_name(path)) else ["is empty"]) == []


def test_nothing_in_a_template_needs_an_unsafe_policy() -> None:
    assert _faults(TEMPLATES, _needs_of_an_unsafe_policy) == []


def _needs_of_an_unsafe_policy(path: Path) -> Iterator[str]:
    for tag, attributes in _elements(path):
        if tag == "style":
            yield "styles live in static/css"
        if tag == "script" and not attributes.get("src"):
            yield "no inline script"
        for name, value in attributes.items():
            if name == "style":
                yield f"inline style on <{tag}>"
            if name.startswith("on"):
                yield f"inline handler {name} on <{tag}>"
            if re.match(r"(data-)?hx-on", name):
                yield f"{name} evaluates"
            if name in ("hx-vals", "data-hx-vals") and "js:" in (value or ""):
                yield f"{name} evaluates {value}"
            if "javascript:" in (value or ""):
                yield f"{name} runs {value}"
            if name == "hx-trigger" and "[" in (value or ""):
                yield f"trigger filters evaluate: {value}"


def test_a_template_marks_nothing_as_safe_and_tells_nothing_in_html_comments() -> None:
    forbidden = ("|safe", "autoescape off", "<!--")
    assert _faults(TEMPLATES, lambda path: [text for text in forbidden if text in path.read_text()]) == []


def test_icons_come_from_the_sprite_and_only_drawings_are_svg() -> None:
    drawn = {_name(path) for path in TEMPLATES if "<svg" in path.read_text()}
    assert drawn == {
        *("dataplane/_flow_run_tasks.html", "dataplane/contents/_model.html", "dataplane/origin.html"),
        *("orchestration/_graph.html", "orchestration/_timeline.html"),
    }


def test_whatever_htmx_does_a_plain_link_or_form_does_too() -> None:
    assert _faults(TEMPLATES, _what_only_htmx_does) == []


def _what_only_htmx_does(path: Path) -> Iterator[str]:
    for tag, attributes in _elements(path):
        posts = tag == "form" and attributes.get("method") == "post" and attributes.get("action")
        if "hx-post" in attributes and not posts:
            yield f"<{tag}> posts by htmx alone: {attributes}"
        if tag == "a" and "hx-get" in attributes and not attributes.get("href"):
            yield f"a link leads nowhere without htmx: {attributes}"


def test_a_fragment_names_its_context_first_and_extends_nothing() -> None:
    assert [_name(path) for path in FRAGMENTS if not path.read_text().startswith("{# Context: ")] == []
    assert [_name(path) for path in FRAGMENTS if "{% extends" in path.read_text()] == []


def test_no_page_asks_again_and_again_what_it_can_be_told() -> None:
    assert _faults(TEMPLATES, _polls) == []


def _polls(path: Path) -> Iterator[str]:
    for tag, attributes in _elements(path):
        if "every " in (attributes.get("hx-trigger") or ""):
            yield f"<{tag}> polls: announce what it shows (console.live), and use data-live-get"


def test_a_fragment_that_fetches_itself_is_one_element_with_an_id() -> None:
    assert _faults(FRAGMENTS, _ways_not_to_fetch_oneself) == []


def _ways_not_to_fetch_oneself(path: Path) -> Iterator[str]:
    for _, attributes in _elements(path):
        trigger = attributes.get("hx-trigger") or ""
        if "live:" in trigger:
            yield "one request for all: data-live-get"
        if ("data-live-get" in attributes or "every" in trigger) and not attributes.get("id"):
            yield f"a live region needs an id to be morphed: {attributes}"
        if "data-live-get" in attributes:
            for kind in set((attributes.get("data-live-on") or "").split()) - KINDS:
                yield f"nobody announces {kind}"
        elif "every" in trigger and attributes.get("hx-swap") not in ("outerMorph", "innerMorph"):
            yield f"a live swap keeps typed text and focus: {attributes}"


def test_every_address_of_a_live_part_is_one_that_may_come_with_others() -> None:
    named: set[str] = set()
    for path in TEMPLATES:
        named |= set(re.findall(r'data-live-get="\{% url "([a-z_:]+)"', path.read_text()))
    assert len(named) >= 8
    views = dict(_views(get_resolver().url_patterns))
    assert {name for name in named if views[name] not in PARTS} == set()
    assert set(views.values()) >= PARTS, "a view is marked below another decorator, where no address leads"


def _views(patterns: Iterable[Any], space: str = "") -> Iterator[tuple[str, Any]]:
    for one in patterns:
        if isinstance(one, URLResolver):
            yield from _views(one.url_patterns, f"{one.namespace}:" if one.namespace else space)
        else:
            yield f"{space}{one.name}", one.callback


def test_forms_that_post_carry_the_token() -> None:
    for path in TEMPLATES:
        text = path.read_text()
        for form in re.findall(r"<form[^>]*method=\"post\".*?</form>", text, re.DOTALL):
            assert "{% csrf_token %}" in form, _name(path)


def test_a_script_writes_no_html_and_evaluates_nothing() -> None:
    dangerous = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function")
    assert SCRIPTS
    assert [(path.name, text) for path in SCRIPTS for text in dangerous if text in path.read_text()] == []


def test_styles_load_nothing_from_elsewhere() -> None:
    loaded = {(path.name, url) for path in STYLES for url in re.findall(r"url\(([^)]*)\)", path.read_text())}
    assert loaded
    assert {(name, url) for name, url in loaded if not url.startswith("../vendor/")} == set()


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


def test_no_template_names_a_key_beside_the_table() -> None:
    # They use the tag hotkey: the help is made from the same table.
    assert [_name(path) for path in TEMPLATES if "data-hotkey=" in path.read_text()] == []


def test_every_key_of_the_table_is_heard() -> None:
    used = set(re.findall(r'{% hotkey "(\w+)" %}', "".join(path.read_text() for path in TEMPLATES)))
    assert used == {name for name, one in KEYS.items() if one.hotkey}
    for one in KEYS.values():
        assert bool(one.hotkey) != bool(one.heard_in)
        assert not one.heard_in or (PROJECT / "static" / "js" / one.heard_in).exists()
