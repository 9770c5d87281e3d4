"""A workflow of another team with 10,000 events, on the real Temporal and in a real Chromium: page by page."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from playwright.sync_api import Page, expect
from temporalio.client import Client
from ulid import ULID

from tests.browser.conftest import FOREIGN, Stack

Visit = Callable[..., Page]
EVENTS = 10_000


def make_history(address: str, namespace: str) -> str:
    """Return the id of a workflow that nobody works on, with as many signals. In a thread: Playwright has a loop."""
    workflow_id = f"{FOREIGN}{ULID()}"

    async def signals() -> None:
        client = await Client.connect(address, namespace=namespace)
        handle = await client.start_workflow("Till", id=workflow_id, task_queue="nobody works here")
        for _ in range(EVENTS // 50):
            await asyncio.gather(*(handle.signal("coin", {"worth": 1}) for _ in range(50)))

    thread = threading.Thread(target=lambda: asyncio.run(signals()))
    thread.start()
    thread.join()
    return workflow_id


def test_a_long_history_opens_by_page_and_a_signal_too_many_is_refused_in_words(stack: Stack, visit: Visit) -> None:
    engine = stack.supervisor
    workflow_id = make_history(engine.temporal_address, engine.temporal_namespace)
    page = visit("olga", f"/workflows/?namespace={engine.temporal_namespace}&id={workflow_id}")
    events = page.locator("#history .tl-row")
    expect(page.locator("#workflow-state")).to_contain_text("events")
    expect(events.first).to_contain_text("signaled")
    assert 20 <= events.count() <= 300, "a page of them, and not all"
    newest = int(events.first.get_attribute("id").removeprefix("event-"))  # type: ignore[union-attr]
    assert newest >= EVENTS
    events.first.locator("summary").click()
    expect(events.first.locator("pre")).to_contain_text('"worth": 1')
    page.locator("#history-older").click()
    expect(events.first).not_to_have_id(f"event-{newest}")
    assert page.evaluate("document.querySelectorAll('*').length") < 5000, "the browser holds a page, whatever there is"
    page.locator("#send-signal").click()
    page.get_by_label("Name").fill("coin")
    page.locator("#send-show").click()
    expect(page.locator("#would")).to_contain_text("cannot be taken back")
    page.get_by_label("Why").fill("one more")
    page.locator("#send-do").click()
    # Temporal takes 10,000 signals of one workflow at most, and what it says to one more is told.
    expect(page.locator("#messages")).to_contain_text("exceeded workflow execution limit for signal events")
