"""Nothing is cut off, hidden or on top of another thing, at any width that people have, and on paper."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from approvals.models import Approval
from tests.approvals.conftest import open_one
from tests.browser.alone import Open, open_page

__all__ = ["open_one", "open_page"]
pytestmark = pytest.mark.django_db(transaction=True)

#: the widths between a phone and a desk, what people call 200 % zoom, and phones that stand and lie
SIZES = [(width, 900) for width in (744, 761, 799, 866, 933, 980, 981, 1000, 1067, 1134, 1180, 1181, 1241, 1280)]
SIZES += [
    (1440, 900),
    (1280, 800),
    (1024, 768),
    (820, 1100),
    (744, 1133),
    (720, 450),
    (640, 400),
    (844, 390),
    (390, 844),
]
LOW = 400  # in windows no higher than this the bar stands after what it decides about
SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("order_id", "amount", "currency", "reason")},
    "required": ["order_id", "amount", "currency", "reason"],
}
ARGUMENTS = {"order_id": "8801", "amount": "89.40", "currency": "EUR", "reason": "It arrived broken. " * 6}

#: what is wrong with the bar on this page, in words; `bar`, `primary`, `content` are selectors
MEASURE = """([bar, primary, content, isLow]) => {
    const faults = [], box = element => element.getBoundingClientRect();
    const root = document.querySelector(bar), line = root.querySelector(".line"), at = box(root);
    if (document.documentElement.scrollWidth > innerWidth) faults.push("the page scrolls sideways");
    const parts = [...line.children].filter(one => box(one).width);
    const go = box(line.querySelector(primary));
    if (go.left < at.left || go.right > Math.min(at.right, innerWidth)) faults.push("the button is cut off sideways");
    if (!isLow && go.bottom > innerHeight) faults.push("the button is below the screen");
    const area = box(line.querySelector("textarea"));
    if (area.width < 160 || area.height < 34) faults.push(`no room to type: ${area.width} by ${area.height}`);
    for (const one of parts) for (const other of parts) {
        const [a, b] = [box(one), box(other)];
        const isOver = a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
        if (one !== other && isOver)
            faults.push(`${one.textContent.trim()} lies on ${other.textContent.trim()}`);
    }
    for (const one of parts) if (one.scrollWidth > one.clientWidth + 1) faults.push(`${one.textContent.trim()} is cut`);
    const rows = [...document.querySelectorAll(content)].map(box);
    const isSeen = row => row.height && row.top >= 0 && row.top + 24 <= at.top && row.left >= 0;
    if (!isLow && !rows.some(row => isSeen(row) && row.right <= innerWidth))
        faults.push("nothing of what is decided is on the screen while the bar is");
    return faults;
}"""

LINES = """cell => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    return range.getClientRects().length;
}"""


def _walk(page: Page, bar: str, primary: str, content: str) -> None:
    faults = {}
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        found = page.evaluate(MEASURE, [bar, primary, content, height <= LOW])
        if found:
            faults[f"{width}x{height}"] = found
    assert faults == {}


@pytest.fixture
def refund(open_one: Callable[..., Approval]) -> Approval:
    for _ in range(3):
        open_one(risk="low")
    return open_one(arguments=ARGUMENTS, arguments_schema=SCHEMA)


def test_a_request_and_its_bar_share_every_screen(open_page: Open, refund: Approval, alice: User) -> None:
    page = open_page(alice, f"/approvals/{refund.pk}/")
    _walk(page, ".decide", "[data-decide=approve]", ".args tbody tr")


def test_an_answer_has_room_on_every_screen(open_page: Open, refund: Approval, alice: User) -> None:
    page = open_page(alice, f"/approvals/{refund.pk}/?answering=1")
    _walk(page, ".decide", "[value=respond]", ".args tbody tr")


def test_a_change_and_its_difference_share_every_screen(open_page: Open, refund: Approval, alice: User) -> None:
    page = open_page(alice, f"/approvals/{refund.pk}/edit")
    _walk(page, ".editing .decide", "[name=check]", ".schema-head label")
    page.get_by_label("amount", exact=False).first.fill("50.00")
    page.get_by_role("button", name="See the difference").click()
    expect(page.get_by_role("button", name="Approve with change")).to_be_visible()
    _walk(page, ".decide", "[data-decide=edit]", ".diff tbody tr th")


def test_deciding_together_has_room_on_every_screen(
    open_page: Open, open_one: Callable[..., Approval], alice: User
) -> None:
    ids = [open_one(risk="low", arguments={"to": f"a{n}@example.org", "text": "Hello"}).pk for n in range(3)]
    page = open_page(alice, "/inbox/review?" + "&".join(f"id={one}" for one in ids))
    _walk(page, ".together-bar", "[value=approve]", ".differs tbody tr, .page-head")


@pytest.mark.parametrize("path", ["/inbox/", "/inbox/?status=all", "/record/", "/delegations/", "/policy/", "/runs/"])
def test_no_page_scrolls_sideways_at_any_width(open_page: Open, refund: Approval, ada: User, path: str) -> None:
    page = open_page(ada, path)
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), (path, width)


def test_the_numbers_of_the_record_stay_on_one_line(open_page: Open, refund: Approval, ada: User) -> None:
    page = open_page(ada, "/record/")
    for width in (761, 900, 1024, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        cell = page.locator("td.num").first
        cell.evaluate("cell => { cell.textContent = '1234567'; }")
        assert cell.evaluate(LINES) == 1, width


def test_a_request_on_paper_is_opened_and_has_nothing_to_press(
    open_page: Open, open_one: Callable[..., Approval], alice: User
) -> None:
    refund = open_one(arguments={**ARGUMENTS, "text": "word " * 900}, agent_words="line\n" * 120)
    page = open_page(alice, f"/approvals/{refund.pk}/", color_scheme="dark")
    expect(page.get_by_role("button", name="Show all")).to_be_visible()  # the screen folds it
    page.emulate_media(media="print")
    for gone in (".rail", ".top", ".pane-list", ".decide", "button >> nth=0", ".toasts"):
        expect(page.locator(gone).first).to_be_hidden()
    for shown in (".print-only", "pre[aria-label='Canonical JSON']", ".digest"):
        expect(page.locator(shown).first).to_be_visible()
    cut = """() => [...document.querySelectorAll("body, .app, .main, .scroll, .words, .args td > span, pre")]
        .filter(one => one.clientHeight && one.scrollHeight > one.clientHeight + 2).map(one => one.className)"""
    assert page.evaluate(cut) == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext; CI does not go without (tests/run)")
def test_a_request_prints_whole_with_its_digest_and_times(
    open_page: Open, open_one: Callable[..., Approval], alice: User, tmp_path: Path
) -> None:
    long = " ".join(f"word{n}" for n in range(900))
    refund = open_one(arguments={**ARGUMENTS, "text": long}, agent_words="\n".join(f"line {n}" for n in range(120)))
    page = open_page(alice, f"/approvals/{refund.pk}/", color_scheme="dark")
    expect(page.get_by_role("button", name="Show all")).to_be_visible()  # the screen folds it
    page.pdf(path=tmp_path / "request.pdf", format="A4")
    text = _text_of(tmp_path / "request.pdf")
    pages = text.split("\f")
    assert len(pages) > 2
    together = "".join(text.split())
    assert "word0word1word2" in together and "word898word899" in together  # not folded
    assert together.count("line119") == 1 and refund.digest in together and refund.pk in together
    assert f"{refund.due_at:%d %b %Y}".split()[0] in text and "UTC" in text
    assert '"tool":"issue_refund"' in together  # what is behind "Exact bytes and digest"
    for pressed in ("Approve", "Reject", "Search or run a command", "Claim", "Say it"):
        assert pressed not in text.replace("A claim tells", "")


def _text_of(pdf: Path) -> str:
    done = subprocess.run(["pdftotext", "-layout", str(pdf), "-"], capture_output=True, text=True, check=True)
    return done.stdout
