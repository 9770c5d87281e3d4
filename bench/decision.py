"""Click to next node, through the product and on the bare path, in one run against the same servers.

    .venv/bin/python -m bench.decision [--trials 100] [--at-once 50]

Product: POST of a decision until the node after the gate runs (HTTP, transaction, NOTIFY, relay, signal, workflow,
turn, resume). Bare: a Temporal signal until the same node runs (`bench.bare_path`). The two alternate, so that what
else the machine does falls on both; compare the ratio, not single figures. Times by the system's monotonic clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
from temporalio.client import Client, WorkflowHandle

from bench.bare_path import TASK_QUEUE, BareWait
from console.temporal_connection import connect, embedded
from docs import measuring
from stack.ports import free_port
from stack.supervisor import Supervisor

PARTS = ("postgres", "temporal", "web", "worker", "relay", "shop")
Milliseconds = list[float]


@dataclass(frozen=True)
class Product:
    """The product's side: start runs, decide, read when the next node ran."""

    operator: httpx.AsyncClient
    reviewer: httpx.AsyncClient

    async def waiting(self, number: int) -> tuple[str, dict[str, Any]]:
        """Start a run; return its id and its approval once it waits."""
        run = (await self.operator.post("/runs", json={"agent": "gate", "input": {"number": number}})).json()
        while not run["waiting_for"]:
            await asyncio.sleep(0.02)
            run = (await self.reviewer.get(f"/runs/{run['id']}")).json()
        approval = (await self.reviewer.get(f"/approvals/{run['waiting_for'][0]}")).json()
        return run["id"], approval

    async def decide(self, run_id: str, approval: dict[str, Any]) -> tuple[int, int]:
        """Approve; return the call's length and its begin, in ns."""
        body = {"verdict": "approve", "version": approval["version"], "digest": approval["digest"]}
        began = time.monotonic_ns()
        answer = await self.reviewer.post(f"/approvals/{approval['id']}/decision", json=body)
        answer.raise_for_status()
        return time.monotonic_ns() - began, began

    async def reached(self, run_id: str) -> int:
        """Return when the next node ran. Asked late and seldom: asking takes time from what is measured."""
        while True:
            await asyncio.sleep(0.5)
            run = (await self.reviewer.get(f"/runs/{run_id}")).json()
            if run["status"] == "finished":
                return int(run["result"]["reached_at_ns"])
            if run["status"] == "failed":
                raise RuntimeError(run["error"])


@dataclass(frozen=True)
class Bare:
    """The floor: the same wait with Temporal and LangGraph alone."""

    client: Client

    async def waiting(self) -> WorkflowHandle[Any, int]:
        thread_id = f"bare-{uuid.uuid4().hex}"
        handle = await self.client.start_workflow(BareWait.run, thread_id, id=thread_id, task_queue=TASK_QUEUE)
        while True:
            history = await handle.fetch_history()
            if any(event.HasField("activity_task_completed_event_attributes") for event in history.events):
                return handle
            await asyncio.sleep(0.02)


async def one_by_one(product: Product, bare: Bare, trials: int) -> dict[str, Milliseconds]:
    """Decide one after the other, the two paths in turn."""
    found: dict[str, Milliseconds] = {"product": [], "bare": [], "call": [], "signal": []}
    for number in range(trials):
        run_id, approval = await product.waiting(number)
        handle = await bare.waiting()
        await asyncio.sleep(0.1)  # let both settle: the next thing that happens is the click
        length, began = await product.decide(run_id, approval)
        found["product"].append((await product.reached(run_id) - began) / 1e6)
        found["call"].append(length / 1e6)
        await asyncio.sleep(0.1)
        began = time.monotonic_ns()
        await handle.signal(BareWait.decided, "yes")
        found["signal"].append((time.monotonic_ns() - began) / 1e6)
        found["bare"].append((await handle.result() - began) / 1e6)
    return found


async def all_finished(database_url: str, run_ids: list[str]) -> None:
    """Wait without asking the web process: fifty pages that look would take its time from what is measured."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        while True:
            await asyncio.sleep(0.2)
            asked = await connection.execute(
                "SELECT count(*) FROM orchestration_run WHERE id = ANY(%s) AND status IN ('finished', 'failed')",
                [run_ids],
            )
            if await asked.fetchone() == (len(run_ids),):
                return


async def at_once(product: Product, bare: Bare, count: int, database_url: str) -> dict[str, float]:
    """Decide many at once; return when the last next node ran, in seconds."""
    waiting = await asyncio.gather(*(product.waiting(10_000 + number) for number in range(count)))
    handles = await asyncio.gather(*(bare.waiting() for _ in range(count)))
    await asyncio.sleep(1)
    began = time.monotonic_ns()
    await asyncio.gather(*(product.decide(run_id, approval) for run_id, approval in waiting))
    await all_finished(database_url, [run_id for run_id, _ in waiting])
    last = max(await asyncio.gather(*(product.reached(run_id) for run_id, _ in waiting)))
    product_seconds = (last - began) / 1e9
    began = time.monotonic_ns()
    await asyncio.gather(*(handle.signal(BareWait.decided, "yes") for handle in handles))
    last = max(await asyncio.gather(*(handle.result() for handle in handles)))
    return {"product": product_seconds, "bare": (last - began) / 1e9}


def quantile(values: Milliseconds, share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def measure(stack: Supervisor, trials: int, count: int, is_recorded: bool) -> None:
    accounts = {a["username"]: a["token"] for a in json.loads(stack.accounts_path.read_text())}

    def client(name: str) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=count, max_keepalive_connections=count)
        headers = {"Authorization": f"Bearer {accounts[name]}"}
        return httpx.AsyncClient(base_url=f"{stack.web_url}/api/v1", headers=headers, limits=limits, timeout=60)

    product = Product(client("olga"), client("alice"))
    bare = Bare(await connect(embedded(stack.temporal_address, "default")))
    await one_by_one(product, bare, 10)  # warm
    found = await one_by_one(product, bare, trials)
    rows = [
        (label, f"{statistics.median(found[name]):.1f}", f"{quantile(found[name], 0.95):.1f}")
        for name, label in (("call", "decision call"), ("product", "click to next node"), ("bare", "bare path"))
    ]
    ratio = statistics.median(found["product"]) / statistics.median(found["bare"])
    many = await at_once(product, bare, count, stack.owner_database_url)
    together = (
        f"Ratio of the medians {ratio:.2f}; {count} decided at once: the last next node after {many['product']:.2f} s,"
        f" on the bare path {many['bare']:.2f} s."
    )
    say("                    p50 ms   p95 ms")
    for label, middle, high in rows:
        say(f"{label:20}{middle:>7}{high:>9}")
    say(together)
    if is_recorded:
        command = f"python -m bench.decision --trials {trials}"
        measuring.record("bench", "decision", command, columns=["ms", "p50", "p95"], rows=rows, notes=[together])
        say("Kept in docs/measured/; `manage.py write_docs` writes the page.")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--record", action="store_true", help="keep the figures in docs/measured/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="signalbox-bench-") as folder:
        environment = {"SIGNALBOX_AGENTS": "bench.gate_agent:AGENT"}
        home = Path(folder)
        with Supervisor(home=home, port=free_port(), parts=PARTS, environment=environment) as stack:
            stack.wait_ready()
            stack.run_command("accounts", "manage.py", "create_demo_accounts", "--file", str(stack.accounts_path))
            addresses = {"TEMPORAL_ADDRESS": stack.temporal_address, "DATABASE_URL": stack.owner_database_url}
            with open(home / "bare.log", "w") as log:
                bare = subprocess.Popen(
                    [sys.executable, "-m", "bench.bare_path"], env=os.environ | addresses, stdout=log, stderr=log
                )
            try:
                asyncio.run(measure(stack, options.trials, options.at_once, options.record))
            finally:
                bare.send_signal(signal.SIGTERM)
                bare.wait(10)


if __name__ == "__main__":
    main()
