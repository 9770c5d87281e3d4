"""The handbook is well formed, contradicts itself on purpose, and answers the demo messages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import pytest
import wordllama

from examples.shop.demo_orders import DEMO_RUNS, DemoRun

HANDBOOK = Path(__file__).parents[2] / "examples" / "handbook"
SHARE = re.compile(r"^Refund share: (\d{1,3}) %$", re.MULTILINE)

# What a careful reader of the handbook grants for each demo message: the page and the share in percent.
EXPECTED = {
    "8801": ("damaged-goods.md", 100),
    "8802": ("returns-30-days.md", 85),
    "8803": ("late-delivery.md", 20),
    "8804": ("lost-parcels.md", 100),
    "8805": ("warranty.md", 90),
    "8806": ("duplicate-charges.md", 100),
}


@dataclass(frozen=True)
class Section:
    heading: str
    text: str

    @property
    def share(self) -> int | None:
        found = SHARE.search(self.text)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Page:
    name: str
    meta: dict[str, str]
    sections: list[Section]

    @property
    def shares(self) -> list[int]:
        return [section.share for section in self.sections if section.share is not None]

    @property
    def is_current(self) -> bool:
        return self.meta["status"] == "current"


def read(path: Path) -> Page:
    before, front_matter, body = path.read_text(encoding="utf-8").split("---\n", 2)
    assert before == ""
    preamble, *parts = re.split(r"^## ", body, flags=re.MULTILINE)
    assert preamble.strip() == ""
    sections = [Section(heading, text.strip()) for heading, _, text in (part.partition("\n") for part in parts)]
    return Page(path.name, dict(line.split(": ", 1) for line in front_matter.splitlines()), sections)


@cache
def pages() -> list[Page]:
    return [read(path) for path in sorted(HANDBOOK.glob("*.md"))]


def nearest(query: str, *, count: int) -> list[tuple[Page, Section]]:
    """The sections nearest to `query`, best first, as the data plane embeds them."""
    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    sections = [(page, section) for page in pages() for section in page.sections]
    texts = [f"{page.meta['title']}. {section.heading}. {section.text}" for page, section in sections]
    scores = model.embed(texts, norm=True) @ model.embed([query], norm=True)[0]
    return [sections[index] for index in scores.argsort()[::-1][:count]]


def test_there_are_enough_pages() -> None:
    assert 30 <= len(pages()) <= 36


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_page_is_well_formed(page: Page) -> None:
    assert list(page.meta) == ["title", "effective", "status", "topics"]
    assert page.meta["status"] in {"current", "superseded"}
    assert date.fromisoformat(page.meta["effective"])
    assert 2 <= len(page.sections) <= 5
    assert all(section.heading and section.text for section in page.sections)
    assert 150 <= sum(len(f"{section.heading} {section.text}".split()) for section in page.sections) <= 450
    # One share at most, and never one that the pattern would miss.
    mentions = sum(section.text.count("Refund share") for section in page.sections)
    assert mentions == len(page.shares) <= 1
    assert all(share <= 100 for share in page.shares)


def test_every_superseded_page_contradicts_its_successor() -> None:
    current = {page.meta["title"]: page for page in pages() if page.is_current}
    superseded = [page for page in pages() if not page.is_current]
    assert len(superseded) == 5
    for old in superseded:
        title = re.sub(r" \(\d{4}\)$", "", old.meta["title"])
        new = next(page for name, page in current.items() if name.startswith(title))
        assert old.meta["effective"] < new.meta["effective"]
        assert old.shares != new.shares


def test_every_demo_run_has_an_expectation() -> None:
    assert [run["order_id"] for run in DEMO_RUNS] == list(EXPECTED)


@pytest.mark.parametrize("run", DEMO_RUNS, ids=lambda run: run["order_id"])
def test_a_demo_message_finds_the_page_that_rules_it(run: DemoRun) -> None:
    page, share = EXPECTED[run["order_id"]]
    found = [(page.name, section.share) for page, section in nearest(run["message"], count=4) if page.is_current]
    ruling = [(name, share) for name, share in found if share is not None]
    assert ruling[0] == (page, share)
    assert found[0][0] == page


@pytest.mark.parametrize("run", DEMO_RUNS[:5], ids=lambda run: run["order_id"])
def test_a_superseded_page_comes_close_enough_to_mislead(run: DemoRun) -> None:
    assert any(not page.is_current for page, _ in nearest(run["message"], count=4))


def test_the_email_to_the_customer_has_guidance() -> None:
    found = {page.name for page, _ in nearest("tone and wording of the e-mail that confirms a refund", count=4)}
    assert found & {"email-tone.md", "email-refund-granted.md"}
