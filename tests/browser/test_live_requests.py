"""What an open page asks the server for when something changes: one answer for each announcement, none without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlsplit

from playwright.sync_api import Page, Request, Route, WebSocket, expect

from tests.browser.conftest import Stack
from tests.browser.steps import FINISHED, REFRESHED, address, ask_for_refund, read
from tests.waiting import eventually


def test_what_somebody_else_decides_costs_an_open_page_one_request_for_each_announcement(
    stack: Stack, visit: Callable[..., Page]
) -> None:
    approval = ask_for_refund(stack)
    page = visit("bob", address(approval))
    page.get_by_label("Comment").fill("half a thought")
    page.evaluate(REFRESHED, f"approval-{approval['id']}")
    expect(page.get_by_label("Comment")).to_have_value("half a thought")
    expect(page.get_by_label("Comment")).to_be_focused()
    told: list[str] = []
    asked: list[str] = []

    def hear(frame: str | bytes) -> None:
        message = json.loads(frame)
        if "topics" in message or "resync" in message:
            told.append(str(frame))

    def listen(socket: WebSocket) -> None:
        socket.on("framereceived", hear)

    def count(request: Request) -> None:
        if request.resource_type in ("fetch", "xhr"):
            asked.append(request.url)

    page.on("websocket", listen)
    page.on("request", count)
    page.reload()
    expect(page.locator("[data-live-word]", has_text="Live")).to_be_visible()
    assert len(asked) <= len(told), "nobody told anything, so nothing is asked for"

    waiting = read(stack, approval["id"])
    body = {"verdict": "approve", "version": waiting["version"], "digest": waiting["digest"]}
    with stack.api("alice") as alice:
        alice.post(f"/approvals/{approval['id']}/decision", json=body).raise_for_status()

    expect(page.locator(FINISHED)).to_be_attached()
    expect(page.locator(f"#inbox-rows [data-row='{approval['id']}']")).to_have_count(0)
    assert told and len(asked) <= len(told), (told, asked)
    assert {urlsplit(url).path for url in asked} == {"/frame/parts/"}
    whole = ("inbox-rows=", "pending-count=", "notices=", f"approval-{approval['id']}=")
    assert any(all(part in url for part in whole) for url in asked), asked


def test_an_answer_that_did_not_come_is_asked_for_again(stack: Stack, visit: Callable[..., Page]) -> None:
    approval = ask_for_refund(stack)
    page = visit("bob", address(approval), refusals_expected=True)
    expect(page.locator("[data-live-word]", has_text="Live")).to_be_visible()
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.fulfill(status=503, content_type="text/plain", body="Too much at once.")

    page.route("**/frame/parts/**", refuse)
    waiting = read(stack, approval["id"])
    body = {"verdict": "approve", "version": waiting["version"], "digest": waiting["digest"]}
    with stack.api("alice") as alice:
        alice.post(f"/approvals/{approval['id']}/decision", json=body).raise_for_status()

    def is_done() -> bool:
        page.evaluate("0")  # lets the refusals be given
        return bool(read(stack, approval["id"])["executed"] and refused)

    eventually(is_done, "the refund is made, and no more is told of it")
    page.unroute("**/frame/parts/**")

    expect(page.locator(FINISHED)).to_be_attached()
    assert refused
