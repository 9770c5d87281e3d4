"""The console alone: its pages in a real Chromium over the test's own database, with no engine beside it.

For what only a browser shows: boxes, keys, focus, what a form keeps. Nothing is live here, for there is no socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page

from tests.waiting import PATIENCE

Open = Callable[..., Page]
PASSWORD = "correct horse battery"  # of everybody who signs in here by hand


@pytest.fixture
def open_page(
    transactional_db: None,  # made before Chromium is there, whose loop would run while the tables are made
    chromium: Browser,
    live_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    plain_statics: None,
) -> Iterator[Open]:
    """Open a path as somebody who is signed in; `None`: as nobody. Each call is a browser of its own."""
    # Playwright's loop runs in this thread, and Django would refuse the database to it.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    contexts: list[BrowserContext] = []

    def open_page(user: User | None, path: str, **options: Any) -> Page:
        context = chromium.new_context(base_url=live_server.url, **options)
        context.set_default_timeout(PATIENCE * 1000)
        contexts.append(context)
        if user is not None:
            sign_in_quietly(context, user, live_server.url)
        page = context.new_page()
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()


def sign_in_quietly(context: BrowserContext, user: User, url: str) -> None:
    """Give the browser a session of the user, without the form."""
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": url}])
