"""Click to next node, through the product and on the bare path, in one run against the same servers.

    .venv/bin/python -m bench.decision [--trials 100] [--at-once 50] [--quorum] [--edit] [--pending 10000]

Product: POST of a decision until the node after the gate runs (HTTP, transaction, NOTIFY, relay, signal, workflow,
turn, resume). Bare: a Temporal signal until the same node runs (`bench.bare_path`). The two alternate, so that what
else the machine does falls on both; compare the ratio, not single figures. Times by the system's monotonic clock; those
on the way are read afterwards, from our rows and from Temporal's history, on the wall clock of the same machine.

Besides one person's approval: `--quorum` the second vote of two, `--edit` an approval with changes, `--pending` the
first again while so many other requests wait.
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle

from bench.bare_path import TASK_QUEUE, BareWait
from console.temporal_connection import connect, embedded
from docs import measuring
from stack.ports import free_port
from stack.supervisor import Supervisor

PARTS = ("postgres", "temporal", "web", "worker", "relay", "shop")
AGENTS = ",".join(f"bench.gate_agent:{name}" for name in ("AGENT", "TWO", "EDITED"))
LEASE = timedelta(seconds=30)  # of the relay, which moves an entry's due time on by it when it claims the entry
RULES: Final[list[dict[str, Any]]] = [
    {"name": "two people", "match": {"agents": ["gate_two"]}, "groups": ["reviewer", "admin"], "needed": 2},
    {"name": "changes count", "match": {"agents": ["gate_edited"]}, "four_eyes": ["requester"]},
    {"name": "everything"},
]
Milliseconds = list[float]


@dataclass(frozen=True)
class Case:
    """One way to decide. `others`: a first person has voted already."""

    label: str
    agent: str = "gate"
    verdict: str = "approve"
    others: bool = False


PLAIN: Final = Case("one person approves")
QUORUM: Final = Case("the second of two votes", agent="gate_two", others=True)
EDIT: Final = Case("one person changes and approves", agent="gate_edited", verdict="edit")


@dataclass(frozen=True)
class Product:
    """The product's side: start runs, decide, read when the next node ran."""

    operator: httpx.AsyncClient
    reviewer: httpx.AsyncClient
    second: httpx.AsyncClient

    async def waiting(self, number: int, case: Case = PLAIN) -> tuple[str, dict[str, Any]]:
        """Start a run; return its id and its approval once it waits for the decision that is measured."""
        run = (await self.operator.post("/runs", json={"agent": case.agent, "input": {"number": number}})).json()
        while not run["waiting_for"]:
            await asyncio.sleep(0.02)
            run = (await self.reviewer.get(f"/runs/{run['id']}")).json()
        approval = (await self.reviewer.get(f"/approvals/{run['waiting_for'][0]}")).json()
        if case.others:
            await self._post(self.second, approval, case)
        return run["id"], approval

    async def decide(self, approval: dict[str, Any], case: Case = PLAIN) -> tuple[int, int]:
        """Decide; return the call's length and its begin, in ns."""
        began = time.monotonic_ns()
        await self._post(self.reviewer, approval, case)
        return time.monotonic_ns() - began, began

    async def _post(self, who: httpx.AsyncClient, approval: dict[str, Any], case: Case) -> None:
        body = {"verdict": case.verdict, "version": approval["version"], "digest": approval["digest"]}
        if case.verdict == "edit":
            body["edited_arguments"] = {"number": approval["arguments"]["number"] + 1_000_000}
        (await who.post(f"/approvals/{approval['id']}/decision", json=body)).raise_for_status()

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


#: the moments on the way, in their order: what `Times` keeps them under, and what they are
STAGES: Final = {
    "begun": "the transaction has begun",
    "claimed": "recorded, and the relay has it",
    "signalled": "Temporal has the signal",
    "answered": "the answer is there",
    "started": "the worker has the turn",
    "settled": "the turn reads what was decided",
    "node": "the next node runs",
}


@dataclass
class Times:
    """Milliseconds after the click, one for each trial, of the product and of the bare path."""

    product: dict[str, Milliseconds] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    bare: dict[str, Milliseconds] = field(default_factory=lambda: {stage: [] for stage in STAGES})

    @property
    def ratio(self) -> float:
        return statistics.median(self.product["node"]) / statistics.median(self.bare["node"])


@dataclass(frozen=True)
class Bench:
    """Both paths against the same servers."""

    product: Product
    bare: Bare
    database_url: str

    async def one_by_one(self, trials: int, case: Case = PLAIN) -> Times:
        """Decide one after the other, the two paths in turn."""
        times = Times()
        for number in range(trials):
            run_id, approval = await self.product.waiting(number, case)
            handle = await self.bare.waiting()
            await asyncio.sleep(0.1)  # let both settle: the next thing that happens is the click
            length, began = await self.product.decide(approval, case)
            reached = await self.product.reached(run_id)
            moments = _rows_of(self.database_url, approval["id"])
            moments |= await _events_of(self.bare.client.get_workflow_handle(run_id))
            _keep(times.product, began, moments, answered=began + length, node=reached)
            await asyncio.sleep(0.1)
            began = time.monotonic_ns()
            await handle.signal(BareWait.decided, "yes")
            answered = time.monotonic_ns()
            node = await handle.result()
            _keep(times.bare, began, await _events_of(handle), answered=answered, node=node)
        return times

    async def at_once(self, count: int) -> tuple[float, float]:
        """Decide many at once; return when the last next node ran, in seconds, of the product and of the bare path."""
        waiting = await asyncio.gather(*(self.product.waiting(10_000 + number) for number in range(count)))
        handles = await asyncio.gather(*(self.bare.waiting() for _ in range(count)))
        await asyncio.sleep(1)
        began = time.monotonic_ns()
        await asyncio.gather(*(self.product.decide(approval) for _, approval in waiting))
        await all_finished(self.database_url, [run_id for run_id, _ in waiting])
        last = max(await asyncio.gather(*(self.product.reached(run_id) for run_id, _ in waiting)))
        product_seconds = (last - began) / 1e9
        began = time.monotonic_ns()
        await asyncio.gather(*(handle.signal(BareWait.decided, "yes") for handle in handles))
        last = max(await asyncio.gather(*(handle.result() for handle in handles)))
        return product_seconds, (last - began) / 1e9


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


def _keep(found: dict[str, Milliseconds], began: int, moments: dict[str, int], *, answered: int, node: int) -> None:
    """Add one trial; `moments`: on the wall clock, in ns, the rest on the monotonic one."""
    between = time.time_ns() - time.monotonic_ns()
    told = {stage: moment - between for stage, moment in moments.items()} | {"answered": answered, "node": node}
    for stage, moment in told.items():
        found[stage].append((moment - began) / 1e6)


def _rows_of(database_url: str, approval_id: str) -> dict[str, int]:
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            """
            SELECT (SELECT max(at) FROM approvals_decision WHERE approval_id = %(id)s),
                   (SELECT max(due_at) FROM console_outboxentry WHERE kind = 'decided'
                                                                  AND payload ->> 'approval_id' = %(id)s),
                   (SELECT at FROM approvals_receiptstep WHERE approval_id = %(id)s AND step = 'resumed')
            """,
            {"id": approval_id},
        ).fetchone()
    assert found is not None
    begun, due_at, resumed = found
    return {"begun": _ns(begun), "claimed": _ns(due_at - LEASE), "settled": _ns(resumed)}


def _ns(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6) * 1000


async def _events_of(handle: WorkflowHandle[Any, Any]) -> dict[str, int]:
    """Return when Temporal had the last signal, and when the turn that it woke was begun."""
    found: dict[str, int] = {}
    async for event in handle.fetch_history_events():
        moment = event.event_time.ToNanoseconds()
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            found = {"signalled": moment}
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED and found:
            found.setdefault("started", moment)
    return found


def quantile(values: Milliseconds, share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _middle_and_high(values: Milliseconds) -> list[str]:
    return [f"{statistics.median(values):.1f}", f"{quantile(values, 0.95):.1f}"] if values else ["", ""]


def product_of(stack: Supervisor, connections: int = 10) -> Product:
    """Return the product of a stack whose demo accounts were made."""
    accounts = {a["username"]: a["token"] for a in json.loads(stack.accounts_path.read_text())}

    def client(name: str) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        headers = {"Authorization": f"Bearer {accounts[name]}"}
        return httpx.AsyncClient(base_url=f"{stack.web_url}/api/v1", headers=headers, limits=limits, timeout=60)

    return Product(client("olga"), client("alice"), client("ada"))


async def measure(stack: Supervisor, options: argparse.Namespace) -> None:
    bare = Bare(await connect(embedded(stack.temporal_address, "default")))
    bench = Bench(product_of(stack, options.at_once), bare, stack.owner_database_url)
    await bench.one_by_one(10)  # warm
    times = await bench.one_by_one(options.trials)
    cases = [(PLAIN.label, times)]
    product_seconds, bare_seconds = await bench.at_once(options.at_once)
    for case in [QUORUM] * options.quorum + [EDIT] * options.edit:
        await bench.one_by_one(5, case)  # warm
        cases.append((case.label, await bench.one_by_one(options.trials, case)))
    if options.pending:
        seed(stack.owner_database_url, options.pending)
        await bench.one_by_one(5)
        label = f"{PLAIN.label}, {options.pending:,} others pending"
        cases.append((label, await bench.one_by_one(options.trials)))
    together = (
        f"{options.at_once} decided at once: the last next node after {product_seconds:.2f} s, on the bare path "
        f"{bare_seconds:.2f} s, a ratio of {product_seconds / bare_seconds:.2f}."
    )
    columns = ["click to next node, ms", "p50", "p95", "bare path p50", "p95", "ratio of medians"]
    rows = [
        [label, *_middle_and_high(one.product["node"]), *_middle_and_high(one.bare["node"]), f"{one.ratio:.2f}"]
        for label, one in cases
    ]
    stage_columns = ["ms after the click", "p50", "p95", "bare path p50", "p95"]
    stages = [
        [words, *_middle_and_high(times.product[stage]), *_middle_and_high(times.bare[stage])]
        for stage, words in STAGES.items()
    ]
    show(columns, rows)
    show(stage_columns, stages)
    say(together)
    if options.record:
        command = " ".join(["python -m bench.decision", *sys.argv[1:]]).replace(" --record", "")
        measuring.record("bench", "decision", command, columns=columns, rows=rows, notes=[together])
        measuring.record("bench", "decision-stages", command, columns=stage_columns, rows=stages, notes=[])
        say("Kept in docs/measured/; `manage.py write_docs` writes the page.")


@contextmanager
def running(home: Path) -> Iterator[Supervisor]:
    """Start a stack with the agents that are measured, people who decide, and the rules of each case."""
    with Supervisor(home=home, port=free_port(), parts=PARTS, environment={"SIGNALBOX_AGENTS": AGENTS}) as stack:
        stack.wait_ready()
        stack.run_command("accounts", "manage.py", "create_demo_accounts", "--file", str(stack.accounts_path))
        use_rules(stack.owner_database_url)
        yield stack


def use_rules(database_url: str) -> None:
    """Give each case the rule that it needs, as the active policy."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO approvals_policyversion (version, rules, calendars, state, note, made_by_id)"
            " SELECT 1, %s, '{}', 'active', 'for measuring', id FROM auth_user WHERE username = 'ada'",
            [json.dumps(RULES)],
        )


def seed(database_url: str, pending: int) -> None:
    environment = os.environ | {"DATABASE_URL": database_url}
    subprocess.run([sys.executable, "-m", "bench.seed_inbox", str(pending)], env=environment, check=True)


def show(columns: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[place]) for row in [columns, *rows]) for place in range(len(columns))]
    for first, *others in [columns, *rows]:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        say("  ".join([first.ljust(widths[0]), *cells]))
    say("")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--quorum", action="store_true", help="measure the second of two votes besides")
    parser.add_argument("--edit", action="store_true", help="measure an approval with changes besides")
    parser.add_argument("--pending", type=int, default=0, help="measure besides while so many other requests wait")
    parser.add_argument("--record", action="store_true", help="keep the figures in docs/measured/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="signalbox-bench-") as folder:
        home = Path(folder)
        with running(home) as stack:
            addresses = {"TEMPORAL_ADDRESS": stack.temporal_address, "DATABASE_URL": stack.owner_database_url}
            with open(home / "bare.log", "w") as log:
                bare = subprocess.Popen(
                    [sys.executable, "-m", "bench.bare_path"], env=os.environ | addresses, stdout=log, stderr=log
                )
            try:
                asyncio.run(measure(stack, options))
            finally:
                bare.send_signal(signal.SIGTERM)
                bare.wait(10)


if __name__ == "__main__":
    main()
