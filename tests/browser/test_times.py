"""How long ago something was, in Chromium: by the server's clock, whatever the browser's says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Route, expect

from console.environment import PROJECT
from tests.waiting import PATIENCE

SERVER = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("wrong_by", [timedelta(), timedelta(days=2), timedelta(hours=-3)])
def test_how_long_ago_is_told_by_the_servers_clock(wrong_by: timedelta, chromium: Browser) -> None:
    moment = SERVER - timedelta(minutes=14, seconds=20)
    html = (
        f'<!doctype html><title>Times</title><body data-live-since="{SERVER.timestamp():.2f}">'
        f'<time datetime="{moment.isoformat()}" data-relative>not said yet</time>'
        '<script type="module" src="/static/js/times.js"></script>'
    )

    def answer(route: Route) -> None:
        path = urlsplit(route.request.url).path
        if path.startswith("/static/"):
            route.fulfill(body=(PROJECT / path.removeprefix("/")).read_text(), content_type="text/javascript")
        else:
            route.fulfill(body=html, content_type="text/html; charset=utf-8")

    context = chromium.new_context()
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.clock.set_fixed_time(SERVER + wrong_by)
        page.route("**/*", answer)
        page.goto("http://times.test/")
        expect(page.locator("time")).to_have_text("14 min ago")
    finally:
        context.close()
