"""A commit until a waiting program has its answer, while many programs wait by long poll.

    .venv/bin/python -m bench.waiting_programs [--programs 1000] [--decisions 100]

Each program has asked for an approval and holds one `GET approvals/{id}/answer?wait=60`, again and again. The commit is
heard by a connection of our own that listens beside the web process, so the call before it does not count; the answer
counts when its first byte is there. Requests are decided one after the other. Web, PostgreSQL and all programs share
the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg

from bench.decision import quantile, say
from bench.live import PARTS, PATIENCE, Commits
from docs import measuring
from stack.ports import free_port
from stack.supervisor import Supervisor

ONE_WEB_PROCESS = {"SIGNALBOX_WEB_PROCESSES": "1"}  # its memory and its one listening connection are measured

HELD_SECONDS = 60
AT_ONCE = 8  # requests that are asked at the same time
WARM_UP = 5  # decisions that are not counted


@dataclass
class Program:
    """One program that waits, on a connection of its own."""

    approval: dict[str, Any]
    token: str
    is_waiting: asyncio.Event = field(default_factory=asyncio.Event)
    answered_at: asyncio.Future[int] | None = None

    async def wait(self, host: str, port: int) -> None:
        """Ask again and again until there is an answer, and note when it came, in ns."""
        self.answered_at = asyncio.get_running_loop().create_future()
        reader, writer = await asyncio.open_connection(host, port)
        path = f"/api/v1/approvals/{self.approval['id']}/answer?wait={HELD_SECONDS}"
        request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {self.token}\r\n\r\n"
        try:
            while True:
                writer.write(request.encode())
                self.is_waiting.set()
                head = await reader.readuntil(b"\r\n\r\n")
                came = time.monotonic_ns()
                lines = head.decode().lower().split("\r\n")
                length = next(int(one.partition(":")[2]) for one in lines if one.startswith("content-length:"))
                await reader.readexactly(length)
                status = int(lines[0].split()[1])
                if status == 200:
                    self.answered_at.set_result(came)
                    return
                if status != 202:
                    raise RuntimeError(f"a program was answered {status}")
        finally:
            writer.close()


@dataclass
class Found:
    """What was measured: ms from commit to answer; bytes of the web process; connections to PostgreSQL."""

    waits: list[float] = field(default_factory=list)
    lost: int = 0
    memory_before: int = 0
    memory_waiting: int = 0
    listeners: int = 0
    connections: int = 0


async def measure(stack: Supervisor, count: int, decisions: int) -> Found:
    tokens = {one["username"]: one["token"] for one in stack.demo_accounts()}
    found, commits, is_listening = Found(), Commits(), asyncio.Event()
    at = urlsplit(stack.web_url)
    assert at.hostname and at.port
    web = stack.pids()["web"]

    def client(username: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {tokens[username]}"}
        return httpx.AsyncClient(base_url=f"{stack.web_url}/api/v1", headers=headers, timeout=PATIENCE)

    async with client("robot") as program, client("alice") as reviewer:
        asking = asyncio.Semaphore(AT_ONCE)

        async def ask(number: int) -> dict[str, Any]:
            async with asking:
                return await ask_for(program, number)

        asked = await asyncio.gather(*(ask(number) for number in range(count)))
        found.memory_before = resident(web)
        programs = [Program(one, tokens["robot"]) for one in asked]
        tasks = [asyncio.create_task(commits.listen(stack.owner_database_url, is_listening))]
        tasks += [asyncio.create_task(one.wait(at.hostname, at.port)) for one in programs]
        await is_listening.wait()
        await asyncio.gather(*(one.is_waiting.wait() for one in programs))
        await asyncio.sleep(10)  # let the first looks be over
        found.memory_waiting = resident(web)
        found.listeners, found.connections = await connections(stack.owner_database_url)
        for number, one in enumerate(programs[: decisions + WARM_UP]):
            body = {"verdict": "approve", "version": one.approval["version"], "digest": one.approval["digest"]}
            told = await reviewer.post(f"/approvals/{one.approval['id']}/decision", json=body)
            if told.is_error:
                raise RuntimeError(f"a decision was answered {told.status_code}: {told.text}")
            assert one.answered_at is not None
            try:
                answered = await asyncio.wait_for(one.answered_at, PATIENCE)
            except TimeoutError:
                found.lost += 1
                continue
            if number >= WARM_UP:
                found.waits.append((answered - commits.heard[f"approval:{one.approval['id']}"]) / 1e6)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    found.lost += sum(isinstance(one, Exception) for one in ended)
    return found


async def ask_for(program: httpx.AsyncClient, number: int) -> dict[str, Any]:
    """Let a program ask for one approval that it will fetch, and return it."""
    body = {
        "title": f"Send parcel {number} once more",
        "tool": "send_parcel",
        "arguments": {"parcel": number, "to": "Nantes"},
        "risk": "medium",
        "external_id": f"bench-{number}",
    }
    told = await program.post("/approvals", json=body)
    if told.is_error:
        raise RuntimeError(f"a request was answered {told.status_code}: {told.text}")
    asked: dict[str, Any] = told.json()
    return asked


async def connections(address: str) -> tuple[int, int]:
    """Return how many connections of the web process listen, and how many it has in all."""
    async with await psycopg.AsyncConnection.connect(address) as connection:
        found = await connection.execute(
            "SELECT count(*) FILTER (WHERE application_name = 'signalbox live'), count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query NOT LIKE 'LISTEN signalbox_live'"
            " OR application_name = 'signalbox live'"
        )
        row = await found.fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def resident(pid: int) -> int:
    """Return how many bytes of memory the process has."""
    return int(psutil.Process(pid).memory_info().rss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--decisions", type=int, default=100)
    parser.add_argument("--record", action="store_true", help="keep the figures in docs/measured/")
    options = parser.parse_args()
    if not 0 < options.decisions <= options.programs - WARM_UP:
        parser.error(f"between 1 and {options.programs - WARM_UP} decisions")
    with (
        tempfile.TemporaryDirectory(prefix="signalbox-bench-") as folder,
        Supervisor(home=Path(folder), port=free_port(), parts=PARTS, environment=ONE_WEB_PROCESS, quiet=True) as stack,
    ):
        stack.wait_ready()
        stack.run_command("accounts", "manage.py", "create_demo_accounts", "--file", str(stack.accounts_path))
        found = asyncio.run(measure(stack, options.programs, options.decisions))
    columns = [f"{options.programs:,} programs wait, {options.decisions} decisions", "p50", "p95", "worst"]
    waits = found.waits
    times = (f"{one:.0f} ms" for one in (median(waits), quantile(waits, 0.95), max(waits)))
    rows = [("commit to answer on the wire", *times)]
    grown = (found.memory_waiting - found.memory_before) / options.programs / 1024
    notes = [
        f"{found.lost} lost. The web process had {found.memory_before / 2**20:.0f} MiB before they waited and"
        f" {found.memory_waiting / 2**20:.0f} MiB while they did, {grown:.0f} KiB for each. {found.listeners}"
        f" connection to PostgreSQL listened for all of them, of {found.connections}.",
    ]
    say("\n".join([*(" | ".join(row) for row in [columns, *rows]), *notes]))
    if options.record:
        command = f"python -m bench.waiting_programs --programs {options.programs} --decisions {options.decisions}"
        measuring.record("bench", "waiting_programs", command, columns=columns, rows=rows, notes=notes)
    if found.lost:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
