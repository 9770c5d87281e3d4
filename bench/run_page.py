"""The page of one big run: what it costs on the server, and how large it is.

    .venv/bin/python -m bench.run_page [--trials 30] [--record]

One run with 2,700 checkpoints, 450 requests (50 of them open), their decisions, receipts and effects, and a chain of
three Temporal runs, in rows made by SQL on an embedded PostgreSQL; beside it a run that did nothing. Each line is a
request through the whole of Django (middleware, permissions, queries, template; no network). No page of these waits for
Temporal. The last lines do: a real one holds a workflow of another team with 10,000 events, of which each answer is a
page. "Own CPU" is the median of this process's processor time, which other work hardly changes.
`--record` keeps the figures for docs/speed.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.database import counted, empty_database
from bench.inbox import WARM_UP, Case, say
from docs import measuring
from stack.temporal import Temporal

CHECKPOINTS, REQUESTS, OPEN = 2700, 450, 50
EVENTS, PAGES = 10_000, 20
FOREIGN = "another-teams-till"
BIG, SMALL = "support-big", "support-small"

#: a UUID of version 6, made of a moment: 100 ns since 1582
_CHECKPOINTS = """
WITH step AS (
    SELECT n, now() - interval '9 hours' + n * interval '12 seconds' AS at FROM generate_series(0, %(count)s - 1) n
), named AS (
    SELECT n, at, lpad(to_hex((extract(epoch FROM at) * 10000000)::bigint + 122192928000000000), 15, '0') AS ticks
    FROM step
), made AS (
    SELECT n, at, substr(ticks, 1, 8) || '-' || substr(ticks, 9, 4) || '-6' || substr(ticks, 13, 3)
                  || '-8000-' || lpad(to_hex(n), 12, '0') AS id
    FROM named
)
INSERT INTO agent.checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
SELECT 'support-big', '', id, lag(id) OVER (ORDER BY n),
       jsonb_build_object('v', 4, 'id', id, 'ts', at, 'channel_values', '{}'::jsonb, 'versions_seen', '{}'::jsonb,
                          'channel_versions', jsonb_build_object('messages', n::text, 'proposal', n::text),
                          'updated_channels', jsonb_build_array(
                              'messages', 'proposal', 'branch:to:' || (ARRAY['plan', 'propose', 'gate'])[n %% 3 + 1])),
       jsonb_build_object('source', 'loop', 'step', n, 'parents', '{}'::jsonb)
FROM made
"""
_WRITES = """
INSERT INTO agent.checkpoint_writes
    (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path)
SELECT thread_id, '', checkpoint_id, md5(checkpoint_id), idx, channel, 'null', ''::bytea, '~__pregel_pull, plan'
FROM agent.checkpoints, (VALUES (0, 'messages'), (1, 'branch:to:propose')) AS w (idx, channel)
WHERE thread_id = 'support-big'
"""
_DECIDED = """
WITH closed AS (
    UPDATE approvals_approval SET status = 'decided', closed_at = opened_at + interval '40 seconds'
    WHERE run_id = 'support-big' AND id NOT IN (
        SELECT id FROM approvals_approval WHERE run_id = 'support-big' ORDER BY opened_at DESC, id LIMIT %(open)s)
    RETURNING id, digest, closed_at
), decided AS (
    INSERT INTO approvals_decision (id, approval_id, number, by_id, source, verdict, note, version, digest, for_version,
                                    for_digest, channel, idempotency_key, body_digest, at)
    SELECT 'dec_' || id, id, 1, %(by)s, '', 'approve', '', 1, digest, 1, digest, 'page', '', '', closed_at FROM closed
    RETURNING id
), effects AS (
    INSERT INTO orchestration_effect (approval_id, run_id, tool, digest, decision_id, is_idempotent, status, fence,
                                      attempts, error, started_at, finished_at)
    SELECT id, 'support-big', 'issue_refund', digest, 'dec_' || id, true, 'done', 1, 1, '',
           closed_at + interval '1 second', closed_at + interval '2 seconds' FROM closed
    RETURNING approval_id
)
INSERT INTO approvals_receiptstep (approval_id, step, detail, at)
SELECT closed.id, step, '', closed_at + after * interval '50 milliseconds'
FROM closed, (VALUES ('recorded', 0), ('signalled', 1), ('resumed', 3), ('effect_started', 20), ('effect_finished', 40))
     AS s (step, after)
"""


def seed() -> None:
    """Make the two runs; the requests by the product's own columns, as the inbox's bench makes them."""
    from django.contrib.auth.models import User
    from django.db import connection

    from approvals.models import Approval
    from bench import seed_inbox
    from console.clock import database_now
    from orchestration.models import Run

    seed_inbox.seed(REQUESTS)
    chain = [{"id": f"run-{number}", "turn": 150 * number, "attempt": 1} for number in (1, 2, 3)]
    asked_at = database_now() - timedelta(hours=9)
    for run_id in (BIG, SMALL):
        given = {"order_id": "8801", "message": "It broke."}
        run = Run.objects.create(id=run_id, agent="support", input=given, input_digest="0" * 64, status="waiting")
        Run.objects.filter(pk=run.pk).update(created_at=asked_at, started_at=asked_at, turn=450, temporal_runs=chain)
    with connection.cursor() as cursor:
        cursor.execute(_CHECKPOINTS, {"count": CHECKPOINTS})
        cursor.execute(_WRITES)
        cursor.execute(
            "UPDATE approvals_approval SET run_id = 'support-big', due_at = now() + interval '2 days',"
            " opened_at = now() - interval '9 hours' + (random() * 32000) * interval '1 second'"
        )
        cursor.execute(_DECIDED, {"open": OPEN, "by": User.objects.get(username="alice").pk})
        cursor.execute("ANALYZE")
    assert Approval.objects.filter(run_id=BIG, status="pending").count() == OPEN


def cases() -> tuple[list[Case], dict[str, int]]:
    """Return what is measured, and the size of each answer in bytes as the last call has seen it."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client(SERVER_NAME=settings.ALLOWED_HOSTS[0].lstrip("."), raise_request_exception=True)
    client.force_login(User.objects.get(username="olga"))
    sizes: dict[str, int] = {}

    def page(name: str, address: str, **headers: str) -> Callable[[], int]:
        def call() -> int:
            with counted() as asked:
                response = client.get(address, headers=headers)
            assert response.status_code == 200, response.status_code
            sizes[name] = len(response.content)
            return asked.statements

        return call

    by_script = {"HX-Request": "true"}
    foreign = f"/workflows/?namespace=default&id={FOREIGN}"
    earlier = f"{foreign}&told=1&after={_earlier(client, foreign)}"
    found = {
        "run page": (f"/runs/{BIG}/", {}),
        "run page of a run that did nothing": (f"/runs/{SMALL}/", {}),
        "its timeline": (f"/runs/{BIG}/timeline/", {}),
        "its timeline, live refresh": (f"/runs/{BIG}/timeline/", by_script),
        "its state, with the graph": (f"/runs/{BIG}/state/", {}),
        f"another team's workflow, {EVENTS:,} events": (foreign, {}),
        "its newest events, from Temporal": (f"{foreign}&told=1", by_script),
        f"its events {PAGES} pages earlier, from Temporal": (earlier, by_script),
    }
    return [Case(name, page(name, address, **headers)) for name, (address, headers) in found.items()], sizes


def _earlier(client: Any, address: str) -> str:
    """Return where the history is read on PAGES pages before its end, as the page itself leads there."""
    after = ""
    for _ in range(PAGES):
        page = client.get(f"{address}&told=1&after={after}").content.decode()
        (after,) = re.findall(r'id="history-older" href="[^"]*after=([^&"]*)&', page)
    return str(after)


def make_history(address: str) -> None:
    """Let a workflow that nobody works on have EVENTS signals."""
    from console.temporal_connection import connect, embedded

    async def signals() -> None:
        client = await connect(embedded(address, "default"))
        handle = await client.start_workflow("Till", id=FOREIGN, task_queue="nobody works here")
        for _ in range(EVENTS // 50):
            await asyncio.gather(*(handle.signal("coin", {"worth": 1}) for _ in range(50)))

    asyncio.run(signals())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--record", action="store_true", help="keep the figures in docs/measured/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="signalbox-bench-") as folder:
        temporal = Temporal(Path(folder))
        temporal.prepare()
        temporal.start()
        try:
            os.environ |= {"TEMPORAL_ADDRESS": temporal.address, "SIGNALBOX_WORKFLOWS": f"default/{FOREIGN}"}
            make_history(temporal.address)
            with empty_database("setup_checkpoints"):
                measure(options.trials, options.record)
        finally:
            temporal.stop()


def measure(trials: int, is_recorded: bool) -> None:
    seed()
    found, sizes = cases()
    for _ in range(trials + WARM_UP):
        for case in found:
            case.once()
    columns = [
        f"{CHECKPOINTS:,} checkpoints, {REQUESTS} requests: ms, {trials} runs each",
        "p50",
        "best",
        "own CPU",
    ]
    columns += ["KB", "queries"]
    rows = [
        [case.name, *(f"{one:.1f}" for one in case.told()), f"{sizes[case.name] / 1000:.0f}", str(case.queries)]
        for case in found
    ]
    say("\n".join(" | ".join(row) for row in [columns, *rows]))
    if is_recorded:
        command = f"python -m bench.run_page --trials {trials}"
        measuring.record("bench", "run_page", command, columns=columns, rows=rows, notes=[])


if __name__ == "__main__":
    main()
