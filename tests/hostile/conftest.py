"""Requests that carry the corpus, and a reader of pages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from ulid import ULID

from approvals import services
from approvals.models import Approval
from approvals.proposal.canonical import canonicalise, digest_of
from approvals.services import Proposal

from .corpus import Hostile

Open = Callable[..., Approval]
NAME_LENGTH, SUMMARY_LENGTH = 100, 500  # what the columns for tools, agents and summaries take
USERNAME_LENGTH = 150

#: in one line and in many: a page may fold either, with elements of its own
HARMLESS = ["plain", "x" * 30_000, "\n".join("line" for _ in range(400)), "12", "a\nb", "a" * 90, "b" * 140, "c" * 140]
TOGETHER = 45  # texts on one page
SHOWN = 60  # characters that every column and field takes; longer texts are cut somewhere


@pytest.fixture
def no_page_says_two_things_alike() -> None:
    """Let regions be named alike: here one text stands wherever a text can, in ids and names that are unique else."""


@pytest.fixture
def open_hostile(db: None) -> Open:
    """Open a request that carries a text wherever an agent can put one, or the arguments it is given."""

    def open_hostile(text: str, *, arguments: Any = None, **changes: Any) -> Approval:
        name = text if 0 < len(text) <= NAME_LENGTH else "pay"
        given = {"value": text, "inner": {text[:200]: [text[:200]]}} if arguments is None else arguments
        canonical = canonicalise(name, given)
        fields: dict[str, Any] = {
            "external_id": str(ULID()),
            "kind": "action",
            "canonical": canonical,
            "digest": digest_of(canonical),
            "summary": text[:SUMMARY_LENGTH],
            "agent_words": text,
            "arguments_schema": {},
            "risk": "high",
            "agent": name,
            "run_id": "run-1",
            "interrupt_id": str(ULID()),
            "checkpoint_id": "c1",
            "requested_by_id": None,
        }
        return services.open_approval(Proposal(**fields | changes))

    return open_hostile


def name_reviewers(texts: Iterable[str]) -> list[User]:
    """Make an account of each text, as no form would: the rows are written directly."""
    users = User.objects.bulk_create(User(username=text[:USERNAME_LENGTH]) for text in texts)
    group, _ = Group.objects.get_or_create(name="reviewer")
    group.user_set.add(*users)
    return users


@pytest.fixture
def reader(alice: User) -> Client:
    """Alice, signed in."""
    client = Client()
    client.force_login(alice)
    return client


Elements = set[tuple[str, frozenset[str]]]


class ReadPage(HTMLParser):
    """A page as text and as the kinds of elements in it, each with the names of its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.elements: Elements = set()
        self.titles: list[str] = []
        self.labels: list[str] = []  # what is read out or shown on hover
        self.text = ""
        self._parts: list[str] = []
        self._places: dict[str, int] = {}  # id -> where its text begins
        self._length = 0
        self.feed(html)
        self.close()
        self.text = "".join(self._parts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add((tag, frozenset(name for name, _ in attrs)))
        for name, value in attrs:
            if name == "data-title":
                self.titles.append(value or "")
            if name in ("aria-label", "data-label", "title"):
                self.labels.append(value or "")
            if name == "id":
                self._places[value or ""] = self._length

    def handle_data(self, data: str) -> None:
        self._parts.append(data)
        self._length += len(data)

    def first(self, begins: str) -> str:
        """Return the first id that begins so."""
        return next(one for one in self._places if one.startswith(begins))

    def after(self, element_id: str, until: str = "") -> str:
        """Return the text from an element on, to its end or to where another one begins."""
        return self.text[self._places[element_id] : self._places[until] if until else None]

    def rows(self, names: Iterable[str]) -> dict[str, str]:
        """Return the text from each name's first mention to that of the next one."""
        found: dict[str, str] = {}
        starts = [*((name, self.text.index(name)) for name in names), ("", len(self.text))]
        for (name, start), (_, end) in pairwise(starts):
            found[name] = self.text[start:end]
        return found


def read_with_fields(html: str) -> ReadPage:
    """Read a page. What somebody is to change stands in its field as it is, and is left out."""
    return ReadPage(re.sub(r"(<textarea[^>]*>)[^<]*", r"\1", html))


def flat(part: str) -> str:
    """Return a part as it must look on one line."""
    return part.replace("\n", "⟨U+000A⟩").replace("\t", "⟨U+0009⟩")


def not_shown(hostile: Hostile, text: str, times: int = 1) -> list[str]:
    """Return the parts of a text that a reader does not see, or not so often."""
    return [f"{hostile.name} does not show {part[:80]!r}" for part in hostile.shows if text.count(part) < times]


def not_shown_as_json(hostile: Hostile, text: str) -> list[str]:
    """As `not_shown`, where texts are shown as JSON: quotes, backslashes and controls are escaped by it already."""
    if any(mark in "".join(hostile.shows) for mark in _JSON_WRITES):
        return []
    parts = [(part, json.dumps(part, ensure_ascii=False)[1:-1]) for part in hostile.shows]
    return [f"{hostile.name} does not show {a[:80]!r}" for a, b in parts if a not in text and b not in text]


_JSON_WRITES = ["line break", "tab \u00d7", *(f"U+{code:04X}" for code in range(0x20))]


def hidden_from_readers(hostile: Hostile, page: ReadPage) -> list[str]:
    """As `hidden`, for a page with inputs, which hold what is to be changed as it is."""
    return hidden(hostile, page.text + "".join(page.labels))


def hidden(hostile: Hostile, html: str) -> list[str]:
    """Return the characters that are on the page and cannot be seen there."""
    return [f"{hostile.name} hides U+{ord(char):04X}" for char in hostile.hides if char in html]


def made(html: str, harmless: Elements) -> list[str]:
    """Return the elements that no harmless text makes."""
    return [f"an element {one}" for one in ReadPage(html).elements - harmless]
