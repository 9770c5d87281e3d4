"""10,000 open runs of which 200 are stuck by eight causes: what the stuck list costs, and when each is found.

    .venv/bin/python -m bench.stuck [--runs 10000] [--each 25] [--trials 40]

The runs are rows of an embedded PostgreSQL, and Temporal is a double that answers at once and counts how often it is
asked: what is measured is ours. The relay's two chores run as in a relay, one every ten seconds and one each second,
until every stuck run is found. "Own CPU" is this process's processor time. `--record` keeps the figures for
docs/speed.md.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bench.database import empty_database
from docs import measuring

if TYPE_CHECKING:
    from orchestration.models import Run
    from orchestration.temporal_protocol import Described, WorkflowSeen, WorkflowTaskFault

LONG_TURNS = 100  # healthy runs whose turn takes minutes
EXAMINED_EVERY = 10.0  # seconds, as the chore says
GIVEN_UP_AFTER = 180.0  # seconds
WARM_UP = 3
ADDRESSES = {
    "the stuck list": "/runs/stuck/",
    "the stuck list by the API": "/api/v1/stuck",
    "the runs list, stuck": "/runs/?stuck=1",
    "the runs list": "/runs/",
}


@dataclass
class Temporal:
    """What the relay asks, answered at once: every workflow runs, and some fail at their workflow task."""

    failing: set[str] = field(default_factory=set)
    asked: list[float] = field(default_factory=list)  # when, by this process's clock

    async def describe(self, workflow_id: str, temporal_run_id: str = "") -> Described:
        from orchestration.temporal_protocol import Described, WorkflowSeen

        self.asked.append(time.monotonic())
        now = datetime.now(UTC)
        return Described("t", WorkflowSeen("running"), now, None, 7, (), 5 if workflow_id in self.failing else 0, now)

    async def task_fault(self, workflow_id: str, temporal_run_id: str = "") -> WorkflowTaskFault | None:
        from orchestration.temporal_protocol import WorkflowTaskFault

        return WorkflowTaskFault("NON_DETERMINISTIC_ERROR", "another timer", "1@here", datetime.now(UTC))

    async def look(self, workflow_id: str) -> WorkflowSeen:
        from orchestration.temporal_protocol import WorkflowSeen

        return WorkflowSeen("running")

    async def home(self) -> str:
        return "bench"

    def most_in_a_second(self) -> int:
        return max(sum(at <= one < at + 1 for one in self.asked) for at in self.asked) if self.asked else 0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def seed(runs: int, each: int) -> Temporal:
    """Fill the database: most wait for people, some work, and `each` are stuck by each of eight causes."""
    from django.contrib.auth.models import Group, User

    from console.clock import database_now
    from console.outbox import Kind
    from orchestration.models import Effect, Run

    now, temporal = database_now(), Temporal()
    for name, role in (("alice", "reviewer"), ("olga", "operator")):
        User.objects.create(username=name).groups.add(Group.objects.get_or_create(name=role)[0])
    due = now - timedelta(minutes=2)

    def made(name: str, count: int, **changes: Any) -> list[Run]:
        given = {"order_id": "8801", "message": "The parcel arrived broken."}
        fields: dict[str, Any] = {"agent": "support", "input": given, "input_digest": "0" * 64, "turn": 1}
        fields |= {"look_due_at": due, "status": "waiting"} | changes
        return Run.objects.bulk_create([Run(id=f"support-{name}-{n:05}", **fields) for n in range(count)])

    def delivered_not(kind: Kind, found: list[Run], approvals: list[Any] | None = None) -> None:
        from console.models import OutboxEntry

        asked = [one.pk for one in approvals] if approvals else [""] * len(found)
        OutboxEntry.objects.bulk_create(
            OutboxEntry(
                kind=kind,
                subject=run.pk,
                payload={"approval_id": pk},
                created_at=now - timedelta(minutes=5),
                due_at=now + timedelta(hours=1),
            )
            for run, pk in zip(found, asked, strict=True)
        )

    healthy = made("waits", runs - 8 * each - LONG_TURNS)
    made("works", LONG_TURNS, status="running")
    _asking(healthy)
    since = now - timedelta(minutes=24)
    failure = {"turn": 1, "attempt": 51, "at": now.isoformat(), "kind": "ConnectError", "times": 51}
    failure |= {"message": "the model is away", "since": since.isoformat(), "next_try_at": None}
    made("fails", each, status="running", failure=failure, failing_since=since)
    _asking(made("nobody", each), audience=["nobody-has-it"], terms={})
    undelivered = made("undelivered", each)
    delivered_not(Kind.DECIDED, undelivered, _asking(undelivered, status="decided"))
    _asking(made("gone", each, checkpoint_id="1f0aaaaa-0000-0000-8000-000000000000"))
    unknown = made("unknown", each)
    _asking(unknown, kind="outcome")
    Effect.objects.bulk_create(
        Effect(
            approval_id=f"apr_{run.pk}"[:40],
            run=run,
            tool="send_email",
            digest="0" * 64,
            decision_id="dec",
            is_idempotent=False,
            status="unknown",
            fence=1,
        )
        for run in unknown
    )
    _asking(made("unheard", each), status="decided", expected_by=now - timedelta(minutes=1))
    temporal.failing = {run.pk for run in made("task", each, status="running")}
    delivered_not(Kind.START_RUN, made("unstarted", each, status="starting", turn=0))
    return temporal


def _asking(runs: list[Run], **changes: Any) -> list[Any]:
    """Let each of the runs have asked one thing; the rows are copies of one that the service made."""
    from approvals import services
    from approvals.models import Approval
    from approvals.proposal.canonical import canonicalise, digest_of
    from approvals.services import Proposal

    canonical = canonicalise("issue_refund", {"order_id": "8801", "amount": "50.00", "currency": "EUR", "reason": "x"})
    first = Approval.objects.filter(external_id="first").first() or services.open_approval(
        Proposal(
            external_id="first",
            kind="action",
            canonical=canonical,
            digest=digest_of(canonical),
            summary="A refund",
            agent_words="",
            arguments_schema={},
            risk="high",
            agent="support",
            run_id="none",
            interrupt_id="first",
            checkpoint_id="",
            requested_by_id=None,
        )
    )
    left_out = {"id", "external_id", "run_id", "interrupt_id", "risk_rank", "search_words"}
    names = [one.attname for one in Approval._meta.concrete_fields if one.attname not in left_out]
    same = {name: getattr(first, name) for name in names} | changes
    rows = [
        Approval(id=f"apr_{run.pk}"[:40], external_id=run.pk, run_id=run.pk, interrupt_id="i", **same) for run in runs
    ]
    return Approval.objects.bulk_create(rows)


async def watch(temporal: Temporal, wanted: int) -> tuple[float, float, int]:
    """Let the two chores run until all are found; return after how many seconds, their own CPU, and the steps."""
    from console import health
    from orchestration import reconciling
    from orchestration.diagnosis import standing
    from orchestration.models import Run
    from orchestration.threads import in_database

    began, worked, steps, count = time.monotonic(), time.process_time(), 0, 0
    examined_at = float("-inf")
    while count < wanted and time.monotonic() - began < GIVEN_UP_AFTER:
        second = time.monotonic()
        for part in ("worker", "relay"):
            await in_database(health.beat, part, "works", ok=True)
        if second - examined_at >= EXAMINED_EVERY:
            examined_at = second
            while await in_database(standing.step, None):
                pass
            steps += 1
        await reconciling.look_around(temporal)  # type: ignore[arg-type]  # what it asks of Temporal is all there
        count = await in_database(Run.objects.exclude(cause="").count)
        await asyncio.sleep(max(0.0, 1 - (time.monotonic() - second)))
    if count < wanted:
        raise SystemExit(f"Only {count} of {wanted} were found in {GIVEN_UP_AFTER:.0f} s.")
    return time.monotonic() - began, time.process_time() - worked, steps


def lists(trials: int) -> list[list[str]]:
    """Return a row for each list: median and best in ms, own CPU, bytes."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client(SERVER_NAME=settings.ALLOWED_HOSTS[0].lstrip("."))
    client.force_login(User.objects.get(username="olga"))
    rows = []
    for name, address in ADDRESSES.items():
        took, worked, size = [], [], 0
        for _ in range(trials + WARM_UP):
            began, cpu = time.perf_counter(), time.process_time()
            answer = client.get(address, headers={"HX-Request": "true"})
            took.append((time.perf_counter() - began) * 1000)
            worked.append((time.process_time() - cpu) * 1000)
            assert answer.status_code == 200, answer.status_code
            size = len(answer.content)
        took, worked = took[WARM_UP:], worked[WARM_UP:]
        rows.append(
            [
                name,
                f"{statistics.median(took):.1f}",
                f"{min(took):.1f}",
                f"{statistics.median(worked):.1f}",
                f"{size:,}",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=25, help="runs that are stuck by each of the eight causes")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--record", action="store_true", help="keep the figures in docs/measured/")
    options = parser.parse_args()
    with empty_database():
        measure(options)


def measure(options: argparse.Namespace) -> None:
    from orchestration import checkpoint_gateway

    asyncio.run(checkpoint_gateway.setup())
    temporal = seed(options.runs, options.each)
    say(f"{options.runs:,} open runs are there, {8 * options.each} of them stuck")
    seconds, worked, steps = asyncio.run(watch(temporal, 8 * options.each))
    notes = [
        f"All {8 * options.each} of {options.runs:,} open runs were found {seconds:.0f} s after the relay began; "
        f"its two chores used {worked:.1f} s of CPU in that time, in {steps} examinations of the rows.",
        f"Temporal was asked {len(temporal.asked)} times, at most {temporal.most_in_a_second()} in one second.",
    ]
    columns = [f"ms, {options.trials} runs each", "p50", "best", "own CPU", "bytes"]
    rows = lists(options.trials)
    say("\n".join([*notes, *(" | ".join(row) for row in [columns, *rows])]))
    if options.record:
        command = f"python -m bench.stuck --runs {options.runs} --each {options.each} --trials {options.trials}"
        measuring.record("bench", "stuck", command, columns=columns, rows=rows, notes=notes)


if __name__ == "__main__":
    main()
