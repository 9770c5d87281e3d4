"""A commit until open pages show it: every page has its socket, and asks over HTTP for what changed, as a browser does.

    .venv/bin/python -m bench.live [--pages 200] [--decisions 20]

Each page is the inbox, open in its own tab: a websocket that is told names, and one request for all of its parts
(`static/js/parts.js`: announcements come together for 50 ms, one request at a time). A decision takes its row from
every list. The commit is heard by a connection of our own that listens beside the web process, so the call before it
does not count. A page that still has the row after `PATIENCE` seconds is lost. Web, PostgreSQL and all pages share the
machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import psycopg
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin

from bench.decision import quantile, say
from console.backoff import Backoff
from console.live.announce import CHANNEL
from docs import measuring
from stack.ports import free_port
from stack.supervisor import Supervisor

PARTS = ("postgres", "web")  # no worker: what an engine does after a decision is another measurement
READERS = ("alice", "bob", "ada")  # whose tabs they are, in turn
PARTS_ASKED = {"inbox-rows": "/inbox/", "pending-count": "/frame/pending/", "notices": "/frame/notices/"}
FOLD_SECONDS = 0.05  # as in parts.js
PATIENCE = 120.0
AGAIN = Backoff(first=1, longest=60)  # as in parts.js
WARM_UP = 2  # decisions that are not counted
LISTED = 45  # requests that wait at the beginning; a page of the list has 50


@dataclass
class Commits:
    """When each transaction that concerns a request was committed, by the clock of this process, in ns."""

    heard: dict[str, int] = field(default_factory=dict)

    async def listen(self, address: str, is_listening: asyncio.Event) -> None:
        async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            is_listening.set()
            async for notification in connection.notifies():
                self.heard.setdefault(json.loads(notification.payload)["topic"], time.monotonic_ns())


class Wire:
    """A tab's own connection, kept open. An HTTP library would take more time for 200 answers than the server does."""

    def __init__(self, url: str, cookies: str) -> None:
        self._place = urlsplit(url)
        self._question = (
            f"GET /frame/parts/?{urlencode(PARTS_ASKED)} HTTP/1.1\r\nHost: {self._place.netloc}\r\n"
            f"Cookie: {cookies}\r\nHX-Request: true\r\n\r\n"
        ).encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> tuple[int, bytes]:
        """Return the status and the body. A connection that the server has closed meanwhile is opened anew, once."""
        if self._streams is not None:
            try:
                return await self._exchange(*self._streams)
            except (OSError, asyncio.IncompleteReadError):
                self._streams[1].close()
        self._streams = await asyncio.open_connection(self._place.hostname, self._place.port)
        return await self._exchange(*self._streams)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bytes]:
        writer.write(self._question)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


@dataclass
class Page:
    """One open tab: what it has been told, what it has asked for, and the request it waits to see go."""

    http: Wire
    socket: ClientConnection
    watched: str = ""
    told_at: int = 0
    gone_at: asyncio.Future[int] | None = None
    told: int = 0
    asked: int = 0
    refused: int = 0

    async def watch(self, approval_id: str) -> tuple[int, int]:
        """Return when the page was told, and when its list came without the request, in ns."""
        self.watched, self.told_at = approval_id, 0
        self.gone_at = asyncio.get_running_loop().create_future()
        gone_at = await asyncio.wait_for(self.gone_at, PATIENCE)
        return self.told_at, gone_at

    async def live(self) -> None:
        """Do what the page's script does, for as long as the page is open."""
        poked = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fetch(poked))
            await self.socket.send(json.dumps({"subscribe": ["inbox", "health"], "since": time.time()}))
            async for frame in self.socket:
                if {"topics", "resync"} & json.loads(frame).keys():
                    self.told += 1
                    self.told_at = self.told_at or time.monotonic_ns()
                    poked.set()
            raise RuntimeError("the server has closed a page's socket")

    async def _fetch(self, poked: asyncio.Event) -> None:
        failures = 0
        while True:
            await poked.wait()
            await asyncio.sleep(FOLD_SECONDS)
            poked.clear()
            self.asked += 1
            status, body = await self.http.ask()
            arrived = time.monotonic_ns()
            if status in (429, 503):  # the page asks again, later and later, as in parts.js
                self.refused += 1
                failures += 1
                poked.set()
                await asyncio.sleep(AGAIN.pause(failures) * (0.5 + random.random() / 2))
                continue
            if status != 200:
                raise RuntimeError(f"the parts of a page were answered {status}: {body.decode()}")
            failures = 0
            is_gone = b'id="inbox-rows"' in body and f'data-row="{self.watched}"'.encode() not in body
            if is_gone and self.watched and self.gone_at and not self.gone_at.done():
                self.gone_at.set_result(arrived)


@dataclass
class Found:
    """What was measured, in ms; `lost`: pages that did not show a decision."""

    to_poke: list[float] = field(default_factory=list)
    to_fragment: list[float] = field(default_factory=list)
    to_last: list[float] = field(default_factory=list)  # of each decision: the last page
    lost: int = 0
    told: int = 0
    asked: int = 0
    refused: int = 0  # answers that said to come again later


async def sign_in(url: str, username: str, password: str) -> str:
    """Return the cookies of a browser that is signed in."""
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as browser:
        await browser.get("/accounts/login/")
        form = {"login": username, "password": password, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        answer = await browser.post("/accounts/login/", data=form, headers={"Referer": f"{url}/accounts/login/"})
        if answer.status_code != 302:
            raise RuntimeError(f"{username} could not sign in: {answer.status_code}")
        return "; ".join(f"{name}={value}" for name, value in browser.cookies.items())


async def open_pages(stack: Supervisor, count: int, until: AsyncExitStack) -> list[Page]:
    accounts = {one["username"]: one["password"] for one in stack.demo_accounts()}
    browsers = [await sign_in(stack.web_url, name, accounts[name]) for name in READERS]
    pages = []
    for number in range(count):
        cookies = browsers[number % len(browsers)]
        address = f"{stack.web_url.replace('http', 'ws', 1)}/live/"
        socket = connect(
            address, origin=Origin(stack.web_url), additional_headers={"Cookie": cookies}, open_timeout=PATIENCE
        )
        pages.append(Page(Wire(stack.web_url, cookies), await until.enter_async_context(socket)))
    return pages


async def ask_for(program: httpx.AsyncClient, number: int) -> dict[str, Any]:
    """Let a program ask for one approval, and return it."""
    body = {
        "title": f"Send parcel {number} once more",
        "tool": "send_parcel",
        "arguments": {"parcel": number, "to": "Nantes"},
        "risk": "medium",
        "external_id": f"bench-{number}",
        "deliver_to": {"temporal": {"workflow_id": f"parcel-{number}", "signal": "answered"}},
    }
    asked: dict[str, Any] = _well(await program.post("/approvals", json=body)).json()
    return asked


def _well(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise RuntimeError(
            f"{answer.request.method} {answer.request.url} was answered {answer.status_code}: {answer.text}"
        )
    return answer


async def measure(stack: Supervisor, count: int, decisions: int) -> Found:
    tokens = {one["username"]: one["token"] for one in stack.demo_accounts()}
    found, commits, is_listening = Found(), Commits(), asyncio.Event()

    def client(username: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {tokens[username]}"}
        return httpx.AsyncClient(base_url=f"{stack.web_url}/api/v1", headers=headers, timeout=PATIENCE)

    async with AsyncExitStack() as until, client("robot") as program, client("alice") as reviewer:
        waiting = [await ask_for(program, number) for number in range(LISTED)]
        pages = await open_pages(stack, count, until)
        tasks = [asyncio.create_task(page.live()) for page in pages]
        tasks.append(asyncio.create_task(commits.listen(stack.owner_database_url, is_listening)))
        await is_listening.wait()
        for number, approval in enumerate(waiting[: decisions + WARM_UP]):
            await asyncio.sleep(1)  # let all settle: the next thing that happens is the decision
            for task in tasks:
                if task.done():
                    task.result()
            watching = [asyncio.create_task(page.watch(approval["id"])) for page in pages]
            body = {"verdict": "approve", "version": approval["version"], "digest": approval["digest"]}
            _well(await reviewer.post(f"/approvals/{approval['id']}/decision", json=body))
            seen = await asyncio.gather(*watching, return_exceptions=True)
            if number >= WARM_UP:
                count_in(found, seen, commits.heard[f"approval:{approval['id']}"])
        found.told, found.asked = sum(page.told for page in pages), sum(page.asked for page in pages)
        found.refused = sum(page.refused for page in pages)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found


def count_in(found: Found, seen: list[tuple[int, int] | BaseException], committed: int) -> None:
    shown = [one for one in seen if not isinstance(one, BaseException)]
    found.lost += len(seen) - len(shown)
    found.to_poke += [(told - committed) / 1e6 for told, _ in shown]
    found.to_fragment += [(gone - committed) / 1e6 for _, gone in shown]
    found.to_last += [max((gone - committed) / 1e6 for _, gone in shown)] if shown else []


def rows_of(found: Found) -> list[tuple[str, str, str]]:
    measured = {
        "commit to announcement at the page": found.to_poke,
        "commit to changed fragment": found.to_fragment,
        "commit to the last page's fragment": found.to_last,
    }
    return [(name, f"{median(values):.0f}", f"{quantile(values, 0.95):.0f}") for name, values in measured.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--decisions", type=int, default=20)
    parser.add_argument("--record", action="store_true", help="keep the figures in docs/measured/")
    options = parser.parse_args()
    if not 0 < options.decisions <= LISTED - WARM_UP:
        parser.error(f"between 1 and {LISTED - WARM_UP} decisions")
    with (
        tempfile.TemporaryDirectory(prefix="signalbox-bench-") as folder,
        Supervisor(home=Path(folder), port=free_port(), parts=PARTS, quiet=True) as stack,
    ):
        stack.wait_ready()
        stack.run_command("accounts", "manage.py", "create_demo_accounts", "--file", str(stack.accounts_path))
        found = asyncio.run(measure(stack, options.pages, options.decisions))
    columns = [f"ms, {options.pages} pages open, {options.decisions} decisions", "p50", "p95"]
    rows = rows_of(found)
    sums = (
        f"{found.lost} lost. {found.asked} requests for {found.told} announcements, {found.refused} of them told to"
        " come again later."
    )
    say("\n".join([*(" | ".join(row) for row in [columns, *rows]), sums]))
    if options.record:
        command = f"python -m bench.live --pages {options.pages} --decisions {options.decisions}"
        measuring.record("bench", "live", command, columns=columns, rows=rows, notes=[sums])
    if found.lost:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
