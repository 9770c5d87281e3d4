"""Requests that carry the corpus, and a reader of pages."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from ulid import ULID

from approvals import services
from approvals.digest import canonicalise, digest_of
from approvals.models import Approval
from approvals.services import Proposal

from .corpus import Hostile

Open = Callable[..., Approval]
NAME_LENGTH, SUMMARY_LENGTH = 100, 500  # what the columns for tools, agents and summaries take


@pytest.fixture
def open_hostile(db: None) -> Open:
    """Open a request that carries a text wherever an agent can put one."""

    def open_hostile(text: str, **changes: Any) -> Approval:
        name = text[:NAME_LENGTH].replace("\x00", "") if len(text) <= NAME_LENGTH else "pay"
        canonical = canonicalise(name, {"value": text, "inner": {text[:200]: [text[:200]]}})
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
            "interrupt_id": "interrupt-1",
            "checkpoint_id": "c1",
            "requested_by_id": None,
        }
        return services.open_approval(Proposal(**fields | changes))

    return open_hostile


@pytest.fixture
def reader(alice: User) -> Client:
    """Alice, signed in."""
    client = Client()
    client.force_login(alice)
    return client


class ReadPage(HTMLParser):
    """A page as text and as the kinds of elements in it, each with the names of its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.elements: set[tuple[str, frozenset[str]]] = set()
        self.titles: list[str] = []
        self._text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add((tag, frozenset(name for name, _ in attrs)))
        self.titles += [value or "" for name, value in attrs if name == "data-title"]

    def handle_data(self, data: str) -> None:
        self._text.append(data)

    @property
    def text(self) -> str:
        return "".join(self._text)


def faults_of(hostile: Hostile, html: str, harmless: set[tuple[str, frozenset[str]]], *, within: int = 0) -> list[str]:
    """Return what a page does wrong with a text: parts it does not show, characters that hide, elements it makes.

    `within`: how many characters of the text the page shows; 0 for all.
    """
    page = ReadPage(html)
    shown = [part for part in hostile.shows if not within or len(hostile.text) <= within]
    faults = [f"{hostile.name} does not show {part[:80]!r}" for part in shown if part not in page.text]
    faults += [f"{hostile.name} hides U+{ord(char):04X}" for char in hostile.hides if char in html]
    faults += [f"{hostile.name} made an element {made}" for made in page.elements - harmless]
    return faults
