"""Two calls that LangChain's middleware asks in one request, each decided on its card in a real Chromium."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from django.db import connections
from playwright.sync_api import expect

from tests.browser.alone import Open, open_page
from tests.browser.faults import WATCH, faults_of
from tests.fakes import FakeWorld
from tests.orchestration import foreign_graphs as foreign
from tests.orchestration.conftest import reviewer
from tests.orchestration.test_foreign_graphs import Use, go_on, use, waiting
from tests.orchestration.test_run_turn import start, take

__all__ = ["open_page", "use"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SHOTS = os.environ.get("SHOTS", "")
T = TypeVar("T")


def beside(work: Callable[[], T]) -> T:
    """Do it in a thread of its own: Playwright's loop runs in this one, and a turn wants its own."""

    def tidily() -> T:
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(tidily).result()


def test_each_call_of_a_batched_request_is_decided_on_its_own_card(
    look: dict[str, Any], open_page: Open, use: Use
) -> None:
    world, alice = FakeWorld(), reviewer()
    run = use(foreign.hitl())
    asked = beside(lambda: take(start(run), world)).waiting_for
    mail, file = waiting(run)
    page = open_page(alice, "/inbox/", **look)
    page.context.add_init_script(WATCH)
    page.goto(f"/approvals/{mail.pk}/")
    siblings = page.locator(f"#siblings-{mail.pk}")
    expect(siblings).to_contain_text("This is 1 of 2 that the agent asked at once.")
    expect(siblings).to_contain_text("1 of the others is still open")
    expect(page.locator(f"#untracked-{mail.pk}")).to_be_visible()
    assert faults_of(page) == []
    if SHOTS:
        file_name = f"batched-{look['viewport']['width']}-{look['color_scheme']}.png"
        page.screenshot(path=str(Path(SHOTS) / file_name), full_page=True)
    page.get_by_role("button", name="Approve", exact=True).click()
    expect(page.locator(".outcome")).to_contain_text("approved by alice", ignore_case=True)
    assert [one.pk for one in waiting(run)] == [file.pk], "the other one is still to be decided"
    page.goto(f"/approvals/{mail.pk}/")
    page.locator(f"#siblings-{mail.pk}").get_by_role("link").click()
    page.wait_for_url(f"**/approvals/{file.pk}/")
    expect(page.locator(f"#siblings-{file.pk}")).to_contain_text("The others are decided.")
    expect(page.get_by_role("link", name="Change")).to_have_count(0)  # its middleware allows no edit
    page.get_by_label("Comment").fill("We still need the report.")
    page.get_by_role("button", name="Reject", exact=True).click()
    expect(page.locator(".outcome")).to_contain_text("rejected by alice", ignore_case=True)
    assert waiting(run) == []
    assert beside(lambda: go_on(run, world, 2, *asked)).outcome == "finished"
    assert [tool for tool, _ in foreign.WORLD] == ["send_email"], "what was approved has run, and nothing else"
