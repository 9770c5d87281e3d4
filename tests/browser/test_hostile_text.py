"""The screen cannot be made to lie: the corpus of `tests.hostile` in Chromium, on the pages of a running product.

Nothing in it may run, load, navigate or send; every text must be readable in what the browser shows.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from console.environment import PROJECT
from tests.browser.conftest import Stack
from tests.hostile.corpus import CORPUS, Hostile, bundles

Visit = Callable[..., Page]

WATCH = """
window.effects = [];
window.canary = what => window.effects.push(`script: ${what}`);
document.addEventListener("securitypolicyviolation", event =>
  window.effects.push(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""
#: elements that our own pages do not have
FOREIGN = (
    "base, iframe, frame, object, embed, video, audio, marquee, math, style, template[hx-swap-oob], hx-partial,"
    " meta[http-equiv], svg script, svg animate, svg foreignObject, link[href^='http'], script:not([src]),"
    " [style], [onclick], [onload], [onerror], [onfocus], [ontoggle], [popover]"
)
ROWS = """[...document.querySelectorAll("table.args tbody tr")].map(row =>
    [row.querySelector("th").innerText, row.querySelector("td").innerText])"""
POKE = """() => {
  for (const one of document.querySelectorAll("main *")) {
    for (const kind of ["mouseover", "mouseenter", "focus", "toggle", "load", "error", "animationstart", "pageshow"])
      one.dispatchEvent(new Event(kind, {bubbles: false}));
  }
  document.body.dispatchEvent(new CustomEvent("live:resync"));
}"""


@pytest.fixture(scope="module")
def seeded(stack: Stack) -> dict[str, Any]:
    environment = stack.supervisor.environment() | {"DJANGO_SETTINGS_MODULE": "console.settings"}
    command = [sys.executable, "-m", "tests.hostile.seeding"]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    made: dict[str, Any] = json.loads(done.stdout)
    return made


class Watched:
    """A page whose every request, dialog, download and complaint is kept."""

    def __init__(self, page: Page, stack: Stack) -> None:
        self.page, self._stack = page, stack
        self.faults: list[str] = []
        self.requests = 0
        page.context.on("request", lambda request: self._requested(request.url))
        page.context.on("page", lambda other: self.faults.append(f"a window opened: {other.url}"))
        page.on("dialog", lambda dialog: self.faults.append(f"a dialog opened: {dialog.message}"))
        page.on("download", lambda download: self.faults.append(f"a download began: {download.url}"))
        page.context.add_init_script(WATCH)

    def _requested(self, url: str) -> None:
        self.requests += 1
        if not url.startswith((f"{self._stack.url}/", "data:image/svg+xml", self._stack.url.replace("http", "ws", 1))):
            self.faults.append(f"a request left: {url[:200]}")

    def open(self, path: str) -> None:
        """Open a page, provoke it, let it refresh itself, and note whatever happened that should not."""
        self.page.goto(path)
        expect(self.page.locator("[data-live-word]", has_text="Live")).to_be_visible()
        self._look(path)
        with self.page.expect_response(lambda answer: answer.request.headers.get("hx-request") == "true"):
            self.page.evaluate(POKE)
        self.page.wait_for_load_state("networkidle")
        self._look(f"{path}, refreshed")
        if not self.page.url.startswith(f"{self._stack.url}{path.partition('?')[0]}"):
            self.faults.append(f"{path} went to {self.page.url[:200]}")

    def _look(self, where: str) -> None:
        self.faults += [f"{where}: {effect}" for effect in self.page.evaluate("window.effects")]
        foreign = self.page.evaluate("css => [...document.querySelectorAll(css)].map(x => x.outerHTML)", FOREIGN)
        self.faults += [f"{where}: {html[:200]}" for html in foreign]


def _plain(text: str) -> str:
    """Return a text as a reader takes it: how much blank lies between two words is told by our marks."""
    return " ".join(text.split())


def _not_shown(hostile: Hostile, text: str) -> list[str]:
    return [f"{hostile.name} does not show {part[:80]!r}" for part in hostile.shows if _plain(part) not in _plain(text)]


def _hidden(text: str) -> list[str]:
    hides = frozenset().union(*(hostile.hides for hostile in CORPUS))
    return [f"U+{ord(char):04X} is on the page" for char in sorted(hides & frozenset(text))]


@pytest.fixture
def watched(visit: Visit, stack: Stack) -> Watched:
    return Watched(visit("bob", "/inbox/"), stack)


def test_every_argument_is_read_whole_and_does_nothing(watched: Watched, seeded: dict[str, Any]) -> None:
    for one, bundle in zip(seeded["whole"], bundles(), strict=True):
        watched.open(f"/approvals/{one['id']}/")
        page = watched.page
        while (fold := page.locator("[data-fold].folded > button")).count():
            fold.first.click()
        page.locator("details.more > summary").last.click()
        rows = dict(page.evaluate(ROWS))
        assert list(rows) == one["names"]
        for name, hostile in bundle.items():
            watched.faults += _not_shown(hostile, rows[name])
        words = page.locator(".words").inner_text()
        watched.faults += [fault for hostile in bundle.values() for fault in _not_shown(hostile, words)]
        watched.faults += _hidden(page.locator("body").inner_text())
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            watched.faults.append(f"{one['id']} is wider than the screen")
    assert watched.faults == []
    assert watched.requests > 50


def test_the_lists_show_every_summary(watched: Watched, seeded: dict[str, Any]) -> None:
    by_name = {hostile.name: hostile for hostile in CORPUS}
    shown: set[str] = set()
    path = "/inbox/?limit=200"
    while path:
        watched.open(path)
        rows = watched.page.evaluate(
            "[...document.querySelectorAll('a[data-row]')].map(x => [x.dataset.row, x.innerText])"
        )
        for pk, text in rows:
            if pk in seeded["named"]:
                shown.add(pk)
                watched.faults += _not_shown(by_name[seeded["named"][pk]], text)
        more = watched.page.locator("#inbox-rows a[rel=next]")
        path = (more.get_attribute("href") or "") if more.count() else ""
    assert shown == set(seeded["named"])
    assert watched.faults == []


def test_summaries_names_keys_comments_and_runs_do_nothing(watched: Watched, seeded: dict[str, Any]) -> None:
    by_name = {hostile.name: hostile for hostile in CORPUS}
    active = {"html", "svg", "htmx", "handlers", "markdown", "urls", "css", "templates", "bidi", "terminal"}
    firsts = {by_name[name].source: pk for pk, name in seeded["named"].items() if by_name[name].source in active}
    assert set(firsts) == active
    for pk in firsts.values():
        hostile = by_name[seeded["named"][pk]]
        watched.open(f"/approvals/{pk}/")
        watched.faults += _not_shown(hostile, watched.page.title())
        watched.faults += _not_shown(hostile, watched.page.locator("#approval-title").inner_text())
        watched.faults += _hidden(watched.page.title())
    for pk in [*seeded["decided"], seeded["whole"][0]["id"]]:
        watched.open(f"/approvals/{pk}/")
    watched.open(f"/runs/{seeded['run']}/")
    watched.page.locator("#run-reason summary").click()
    expect(watched.page.locator("#run-reason pre")).to_be_visible()
    text = watched.page.locator("#run-now").inner_text()
    # A sign is judged by the text around it, which one message of all texts mixes; the lists show each by itself.
    alone = [hostile for hostile in CORPUS if hostile.name != "csv-9" and not hostile.name.startswith("signs-")]
    watched.faults += [fault for hostile in alone for fault in _not_shown(hostile, text)]
    watched.open("/runs/")
    watched.page.keyboard.press("Control+k")
    watched.page.keyboard.type(next(iter(firsts.values())))
    expect(watched.page.locator("#palette [data-found]").first).to_be_visible()
    watched._look("the palette")
    assert watched.faults == []


def test_rules_and_requests_decided_together_do_nothing(watched: Watched, seeded: dict[str, Any]) -> None:
    one, other = seeded["together"]
    shown = {
        f"/inbox/review?id={one}&id={other}": ".differs",
        "/policy/": ".versions",
        f"/policy/versions/{seeded['policy']}/": ".rules",
    }
    for path, listed in shown.items():
        watched.open(path)
        expect(watched.page.locator(listed)).to_contain_text("<svg onload=window.canary('svg')></svg>")
        watched.faults += _hidden(watched.page.locator("main").inner_text())
        if watched.page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            watched.faults.append(f"{path} is wider than the screen")
    assert watched.faults == []
