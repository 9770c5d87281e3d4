"""A real stack and a real Chromium, once for this folder.

Not longer: Playwright's sync API keeps a loop running in the thread that all other tests use too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from console.environment import PROJECT
from stack import postgres
from stack.ports import free_port
from stack.supervisor import Supervisor
from tests.waiting import PATIENCE, eventually

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

DESK = {"viewport": {"width": 1440, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
LOOKS: dict[str, dict[str, Any]] = {
    "desk-light": DESK | {"color_scheme": "light"},
    "phone-dark": PHONE | {"color_scheme": "dark"},
    "desk-dark": DESK | {"color_scheme": "dark"},
    "phone-light": PHONE | {"color_scheme": "light"},
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Walk with each `look`: on a desk in the light and on a phone in the dark, with --every-look all four.

    `one_look`: on a phone in the dark alone, for what walks through everything.
    """
    for fixture, usual in (("look", ["desk-light", "phone-dark"]), ("one_look", ["phone-dark"])):
        if fixture in metafunc.fixturenames:
            names = list(LOOKS) if metafunc.config.getoption("--every-look") else usual
            metafunc.parametrize(fixture, [LOOKS[name] for name in names], ids=names)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if Path(__file__).parent in item.path.parents]
    # What fills the inbox with hostile texts comes last: test_looks takes the first requests that it finds.
    last = sorted(mine, key=lambda item: item.path.name == "test_hostile_text.py")
    items[:] = [last.pop(0) if item in mine else item for item in items]
    for item in mine:
        item.add_marker(pytest.mark.browser)
        if CHROMIUM is None and os.environ.get("CI") != "true":
            item.add_marker(pytest.mark.skip(reason="there is no Chromium on this machine"))


FOREIGN = "another-teams-"  # how ids of workflows begin that operators may look at


class Patient(httpx.HTTPTransport):
    """Asks again, as every client does, where the server says that it is too busy just now."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        def ask() -> httpx.Response | None:
            answer = super(Patient, self).handle_request(request)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return answer
            answer.close()
            return None

        answer = eventually(ask, f"an answer to {request.method} {request.url}", every=0.5)
        assert answer is not None
        return answer


@dataclass(frozen=True)
class Stack:
    """A running product, with the demo accounts and the demo runs."""

    supervisor: Supervisor
    passwords: dict[str, str] = field(default_factory=dict)  # of accounts that a test has made

    @property
    def url(self) -> str:
        return self.supervisor.web_url

    def password(self, username: str) -> str:
        demo = {one["username"]: one["password"] for one in self.supervisor.demo_accounts()}
        return (demo | self.passwords)[username]

    def manage(self, *arguments: str, **environment: str) -> str:
        """Run a command of manage.py beside the stack and return what it prints."""
        command = [sys.executable, str(PROJECT / "manage.py"), *arguments]
        given = self.supervisor.environment() | environment
        done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def api(self, username: str, *, is_patient: bool = True) -> httpx.Client:
        """Return the JSON API as this person sees it. `is_patient`: what a busy server refuses is asked again."""
        token = next(one["token"] for one in self.supervisor.demo_accounts() if one["username"] == username)
        headers = {"Authorization": f"Bearer {token}"}
        transport = Patient() if is_patient else None
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=PATIENCE, transport=transport)

    def shop(self) -> httpx.Client:
        return httpx.Client(base_url=self.supervisor.shop_url, timeout=PATIENCE)


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    home = Path(tempfile.mkdtemp(prefix="signalbox-walk-"))
    # The session's own database is for the other tests; this stack brings everything itself.
    own: dict[str, str | None] = dict.fromkeys(("DATABASE_URL", "SIGNALBOX_HOME", "SIGNALBOX_SECRET_KEY"))
    own["SIGNALBOX_PREFECT_SECONDS"] = "60"  # a page may be slow while other tests run, and is never in the way
    own["SIGNALBOX_WORKFLOWS"] = f"default/{FOREIGN}"
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(postgres.SETTINGS, "fsync", "off")  # a killed process loses nothing by that
        supervisor = Supervisor(
            home=home, port=free_port(), environment=own, demo_accounts=True, demo_runs=True, quiet=True
        )
        try:
            with supervisor:
                supervisor.wait_ready(timeout_seconds=PATIENCE)
                running = Stack(supervisor)
                with running.api("alice") as alice:
                    eventually(
                        lambda: len(alice.get("/approvals", params={"status": "pending"}).json()["items"]) >= 6,
                        "six demo runs wait for a person",
                    )
                yield running
        finally:
            shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def sign_in(page: Page, username: str, password: str) -> None:
    """Fill the form to which the page was sent. When this returns, the page that was asked for stands there."""
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/accounts/login/" not in url)


def _is_complaint(said: ConsoleMessage) -> bool:
    """Return whether the page did something wrong.

    That it was left while its socket was still opening is none, nor that the server was too busy for it once.
    """
    harmless = ("closed before the connection is established", "status of 503")
    return said.type in ("error", "warning") and not any(words in said.text for words in harmless)


@pytest.fixture
def visit(chromium: Browser, stack: Stack) -> Iterator[Callable[..., Page]]:
    """Open a browser of one's own and sign in; at the end no page may have complained in its console."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def visit(username: str, path: str = "/", *, refusals_expected: bool = False, **options: Any) -> Page:
        context = chromium.new_context(base_url=stack.url, **{"viewport": {"width": 1440, "height": 900}} | options)
        context.set_default_timeout(PATIENCE * 1000)
        contexts.append(context)
        page = context.new_page()
        if not refusals_expected:
            page.on("console", lambda said: complaints.append(said.text) if _is_complaint(said) else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path)
        sign_in(page, username, stack.password(username))
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def plain_statics(settings: Any) -> None:
    """Let pages name files as they lie in the project, also after a test that has loaded the web process."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = settings.STORAGES | {"staticfiles": plain}
