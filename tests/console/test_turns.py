"""Requests in turn, and one answer for the pages of one browser that ask together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from console import admission
from console.admission import AT_ONCE, Admission
from console.live import shared
from console.live.shared import Shared
from tests.waiting import PATIENCE

pytestmark = pytest.mark.asyncio

PARTS = "/frame/parts/"


class Site:
    """Stands for Django: reads the body, works until it is let go, answers with how many answers it has begun."""

    def __init__(self) -> None:
        self.begun = self.most_at_once = self.under_way = 0
        self.let_go = asyncio.Event()
        self._beginnings = asyncio.Queue[int]()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        self.begun += 1
        number = self.begun
        self._beginnings.put_nowait(number)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await self.let_go.wait()
            if scope.get("fails"):
                raise RuntimeError("a view of ours has a fault")
        finally:
            self.under_way -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(number).encode()})

    async def has_begun(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.begun < count:
                await self._beginnings.get()


def ask(
    app: Any, path: str = PARTS, *, cookie: str = "sessionid=a", page: str = "/inbox/", **more: Any
) -> asyncio.Task[tuple[int, bytes]]:
    headers = [(b"cookie", cookie.encode()), (b"hx-current-url", page.encode())]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"x=/inbox/", "headers": headers, **more}
    return asyncio.create_task(_answered(app, scope, _whole_body()))


def _whole_body() -> Callable[[], Awaitable[dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive


async def _answered(app: Any, scope: Any, receive: Any) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async with asyncio.timeout(PATIENCE):
        await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def test_pages_of_one_browser_share_an_answer_and_nobody_gets_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "GATHER_SECONDS", 0)
    site = Site()
    app = Shared(site)
    first = ask(app)
    await site.has_begun(1)
    later = [ask(app, page=f"/inbox/?page={number}") for number in range(20)]
    await asyncio.sleep(0)
    assert site.begun == 1
    site.let_go.set()
    assert await first == (200, b"1")
    assert {await one for one in later} == {(200, b"2")}
    assert not app._next and not app._drawing and not app._asking


async def test_two_browsers_and_other_addresses_share_nothing() -> None:
    site = Site()
    site.let_go.set()
    app = Shared(site)
    asked = [ask(app, cookie="sessionid=a"), ask(app, cookie="sessionid=b"), ask(app, "/inbox/"), ask(app, "/inbox/")]
    answers = [await one for one in asked]
    assert len({body for _, body in answers}) == 4


async def test_whoever_goes_away_takes_the_answer_from_nobody() -> None:
    site = Site()
    app = Shared(site)
    gone, stays = ask(app), ask(app)
    await site.has_begun(1)
    gone.cancel()
    site.let_go.set()
    assert await stays == (200, b"1")


async def test_a_fault_reaches_all_who_share_and_the_next_answer_is_drawn_anew() -> None:
    site = Site()
    site.let_go.set()
    app = Shared(site)
    for one in (ask(app, fails=True), ask(app, fails=True)):
        with pytest.raises(RuntimeError, match="a view of ours"):
            await one
    assert (await ask(app))[0] == 200


async def test_at_most_so_many_requests_work_at_once_and_none_is_lost() -> None:
    site = Site()
    app = Admission(site)
    asked = [ask(app, f"/runs/{number}") for number in range(3 * AT_ONCE)]
    await site.has_begun(AT_ONCE)
    for _ in range(50):
        await asyncio.sleep(0)
    assert site.begun == AT_ONCE
    site.let_go.set()
    assert [(await one)[0] for one in asked] == [200] * (3 * AT_ONCE)
    assert site.most_at_once == AT_ONCE


async def test_whoever_sends_slowly_keeps_nobody_waiting() -> None:
    site = Site()
    site.let_go.set()
    app = Admission(site)
    here = asyncio.Event()

    async def slow() -> dict[str, Any]:
        await here.wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/x", "query_string": b"", "headers": []}
    slow_ones = [asyncio.create_task(_answered(app, scope, slow)) for _ in range(2 * AT_ONCE)]
    assert (await ask(app, "/quick"))[0] == 200
    here.set()
    assert {(await one)[0] for one in slow_ones} == {200}


@pytest.mark.parametrize(("path", "kind"), [("/inbox/", "text"), ("/api/v1/approvals", "problem")])
async def test_who_waits_too_long_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch, path: str, kind: str) -> None:
    monkeypatch.setattr(admission, "LONGEST_WAIT_SECONDS", 0.05)
    site = Site()
    app = Admission(site)
    asked = [ask(app, path) for _ in range(AT_ONCE)]
    await site.has_begun(AT_ONCE)
    status, body = await ask(app, path)
    assert status == 503
    if kind == "problem":
        assert json.loads(body)["status"] == 503
    assert b"Send this again" in body
    site.let_go.set()
    assert {(await one)[0] for one in asked} == {200}
    assert (await ask(app, path))[0] == 200


async def test_a_fault_gives_the_turn_back() -> None:
    site = Site()
    site.let_go.set()
    app = Admission(site)
    for _ in range(2 * AT_ONCE):
        with pytest.raises(RuntimeError):
            await ask(app, "/x", fails=True)
    assert (await ask(app, "/x"))[0] == 200
