"""A batch on the real stack: fed, decided together, its worker killed twice and its relay once, nothing lost.

    .venv/bin/python -m bench.batch [--items 5000] [--record]

Every item is a run of the product's own path: a proposal, a gate, a decision, an effect in the ledger. One reviewer
decides what waits, a hundred at a time. Meanwhile another one opens the inbox once a second. The batch is paused once
in the middle and must start nothing then. CPU is that of the stack's own processes, killed ones too, taken from the
kernel's counters; what only starting the stack cost is taken away. At the end the rows are counted: one run, one
effect and one finished item for each row.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from bench.decision import quantile, say
from bench.live import sign_in
from docs import measuring
from stack.ports import free_port
from stack.supervisor import Supervisor

PARTS = ("postgres", "temporal", "web", "worker", "relay")
KILLS = ((0.2, "worker"), (0.45, "relay"), (0.7, "worker"))  # when so much has ended
PAUSE_AT, PAUSE_SECONDS = 0.35, 5.0
AT_ONCE = 100  # decided in one call
PATIENCE = 300.0


@dataclass
class Cpu:
    """Processor seconds of each part, summed over its processes, those that have ended too."""

    seen: dict[tuple[str, int], float] = field(default_factory=dict)

    def look(self, pids: dict[str, int]) -> None:
        for part, pid in pids.items():
            with suppress(psutil.NoSuchProcess):
                for one in [leader := psutil.Process(pid), *leader.children(recursive=True)]:
                    with suppress(psutil.NoSuchProcess):
                        times = one.cpu_times()
                        self.seen[part, one.pid] = max(self.seen.get((part, one.pid), 0.0), times.user + times.system)

    def by_part(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for (part, _), seconds in self.seen.items():
            found[part] = found.get(part, 0.0) + seconds
        return found


@dataclass
class Watched:
    """What is seen while the batch runs."""

    batch: dict[str, Any]
    inbox: list[float] = field(default_factory=list)  # ms
    fed_while_paused: int = -1
    killed: list[str] = field(default_factory=list)
    decided: int = 0

    @property
    def ended(self) -> float:
        counts = self.batch["counts"]
        return float(counts["finished"] + counts["failed"] + counts["cancelled"]) / float(self.batch["total"])


async def decide(reviewer: httpx.AsyncClient, seen: Watched) -> None:
    """Decide whatever of the batch waits, again and again, as a person with a filter and a button would."""
    while not seen.batch["closed_at"]:
        asked = {"status": "pending", "batch": seen.batch["id"], "limit": AT_ONCE}
        waiting = await _items(reviewer, asked)
        items = [
            {"id": one["id"], "verdict": "approve", "version": one["version"], "digest": one["digest"]}
            for one in waiting
        ]
        if items:
            answer = await reviewer.post("/approvals/decisions", json={"items": items})
            seen.decided += sum(one["status"] == 200 for one in answer.json()["items"]) if answer.is_success else 0
        else:
            await asyncio.sleep(0.5)


async def _items(client: httpx.AsyncClient, asked: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await client.get("/approvals", params=asked)
    found: list[dict[str, Any]] = answer.json()["items"] if answer.is_success else []
    return found


async def open_the_inbox(browser: httpx.AsyncClient, seen: Watched) -> None:
    while not seen.batch["closed_at"]:
        began = time.perf_counter()
        answer = await browser.get("/inbox/")
        if answer.status_code == 200:
            seen.inbox.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(1)


async def disturb(stack: Supervisor, operator: httpx.AsyncClient, seen: Watched) -> None:
    """Look at the batch, kill what is to be killed, and pause it once."""
    left, is_paused = list(KILLS), False
    while not seen.batch["closed_at"]:
        seen.batch = (await operator.get(f"/batches/{seen.batch['id']}")).json()
        if left and seen.ended >= left[0][0]:
            part = left.pop(0)[1]
            await asyncio.to_thread(stack.kill, part)
            seen.killed.append(f"{part} at {seen.ended:.0%}")
            say(f"killed the {seen.killed[-1]}")
        if not is_paused and seen.ended >= PAUSE_AT:
            is_paused = True
            seen.fed_while_paused = await _fed_while_paused(operator, seen.batch["id"])
        await asyncio.sleep(0.5)


async def _fed_while_paused(operator: httpx.AsyncClient, batch_id: str) -> int:
    paused = (await operator.post(f"/batches/{batch_id}/actions", json={"action": "pause"})).json()
    await asyncio.sleep(PAUSE_SECONDS)
    again = (await operator.post(f"/batches/{batch_id}/actions", json={"action": "resume"})).json()
    return int(paused["counts"]["not_started"] - again["counts"]["not_started"])


async def measure(stack: Supervisor, items: int, is_recorded: bool) -> None:
    accounts = {one["username"]: one for one in json.loads(stack.accounts_path.read_text())}

    def client(name: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {accounts[name]['token']}"}
        return httpx.AsyncClient(base_url=f"{stack.web_url}/api/v1", headers=headers, timeout=PATIENCE)

    operator, reviewer = client("olga"), client("alice")
    cookies = await sign_in(stack.web_url, "bob", accounts["bob"]["password"])
    browser = httpx.AsyncClient(base_url=stack.web_url, headers={"Cookie": cookies}, timeout=PATIENCE)
    cpu, idle = Cpu(), Cpu()
    idle.look(stack.pids())
    body = {"agent": "together", "key": "bench", "inputs": [{"number": number} for number in range(items)]}
    began = time.monotonic()
    answer = await operator.post("/batches", json=body)
    if answer.status_code != 201:
        raise RuntimeError(answer.text[:2000])
    seen = Watched(answer.json())
    say(f"{items:,} rows are kept after {time.monotonic() - began:.1f} s")

    async def count() -> None:
        while not seen.batch["closed_at"]:
            await asyncio.to_thread(cpu.look, stack.pids())
            await asyncio.sleep(1)

    work: tuple[Callable[[], Any], ...] = (
        lambda: decide(reviewer, seen),
        lambda: open_the_inbox(browser, seen),
        lambda: disturb(stack, operator, seen),
        count,
    )
    async with asyncio.TaskGroup() as tasks:
        for one in work:
            tasks.create_task(one())
    seconds = time.monotonic() - began
    await asyncio.to_thread(cpu.look, stack.pids())
    used = {part: total - idle.by_part().get(part, 0.0) for part, total in cpu.by_part().items()}
    lost, doubled = counted(stack.owner_database_url, seen.batch["id"], items)
    rows = [
        ["items", f"{items:,}"],
        ["time", f"{seconds / 60:.1f} min, {items / seconds:.1f} a second"],
        ["lost", str(lost)],
        ["doubled", str(doubled)],
        ["killed meanwhile", ", ".join(seen.killed) or "nothing"],
        ["fed while paused", str(seen.fed_while_paused) if seen.fed_while_paused >= 0 else "not paused"],
        ["inbox p50 / p95, ms", f"{statistics.median(seen.inbox):.0f} / {quantile(seen.inbox, 0.95):.0f}"],
        ["CPU per run, ms", f"{sum(used.values()) / items * 1000:.0f}"],
        *([f"of it {part}", f"{spent / items * 1000:.0f}"] for part, spent in sorted(used.items())),
    ]
    for name, value in rows:
        say(f"{name:24}{value}")
    if is_recorded:
        command = f"python -m bench.batch --items {items}"
        measuring.record("bench", "batch", command, columns=["a batch", ""], rows=rows, notes=[])
    if lost or doubled:
        raise SystemExit(1)


def counted(database_url: str, batch_id: str, items: int) -> tuple[int, int]:
    """Return how many rows came to no effect, or to a run that did not finish, and how many to more than one."""
    with psycopg.connect(database_url) as connection:
        done = connection.execute(
            """
            SELECT r.input ->> 'number', count(*)
            FROM orchestration_run r JOIN orchestration_effect e ON e.run_id = r.id
            WHERE r.batch = %s AND r.status = 'finished' AND e.status = 'done' GROUP BY 1
            """,
            [batch_id],
        ).fetchall()
        runs = connection.execute("SELECT count(*) FROM orchestration_run WHERE batch = %s", [batch_id]).fetchone()
    assert runs is not None
    doubled = sum(many - 1 for _, many in done) + max(0, int(runs[0]) - items)
    return items - len(done), doubled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--record", action="store_true", help="keep the figures in docs/measured/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="signalbox-bench-") as folder:
        environment = {"SIGNALBOX_AGENTS": "bench.gate_agent:TOGETHER"}
        with Supervisor(home=Path(folder), port=free_port(), parts=PARTS, environment=environment) as stack:
            stack.wait_ready(timeout_seconds=PATIENCE)
            stack.run_command("accounts", "manage.py", "create_demo_accounts", "--file", str(stack.accounts_path))
            asyncio.run(measure(stack, options.items, options.record))


if __name__ == "__main__":
    main()
