"""Every list at a million rows: what one page costs on the server, the first, the last and the worst.

    .venv/bin/python -m bench.growth [--runs 1000000] [--entries 1000000] [--approvals 100000] [--trials 15]

Runs, entries of the record and decided requests are copies of a few rows, spread over a year, in an embedded
PostgreSQL; the pending requests are those of `bench.seed_inbox`. The record's chain is not one: nothing here proves
anything about it. Each line is a request through the whole of Django, no network. `--record` keeps the figures for
docs/speed.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

from bench.database import counted, empty_database
from bench.decision import say
from bench.seed_inbox import seed, without_indexes
from docs import measuring

if TYPE_CHECKING:
    from django.db.models import Model

WARM_UP = 2
LISTS = {
    "runs": "/runs/",
    "runs of an agent that has few": "/runs/?agent=rare",
    "runs that failed": "/runs/?status=failed",
    "runs, a word that many have": "/runs/?search=parcel",
    "runs, a word that one has": "/runs/?search=unheard-of",
    "runs, a word that none has": "/runs/?search=nowhere",
    "runs that are stuck": "/runs/stuck/",
    "record": "/record/",
    "record of one person": "/record/?actor=seldom",
    "record of one thing": "/record/?subject=support-0000017",
    "record, since a day": "/record/?since=2026-03-01",
    "inbox": "/inbox/",
    "inbox, decided": "/inbox/?status=decided",
    "inbox, decided, last page": "/inbox/?status=decided&cursor=last",
    "inbox, all states, a word that none has": "/inbox/?status=all&search=nowhere",
    "did not take effect": "/inbox/did-not-take-effect/",
    "batches": "/batches/",
    "search": "/search/?q=support-0000017",
    "system": "/system/",
    "runs by the API": "/api/v1/runs",
    "record by the API": "/api/v1/audit",
    "requests by the API": "/api/v1/approvals",
}


def copies(of: Model, count: int, **columns: str) -> None:
    """Add so many copies of a row; `columns`: column -> SQL, with `n` as the copy's number. Triggers do not fire."""
    from django.db import connection, transaction

    table, key = of._meta.db_table, of._meta.pk
    assert key is not None
    generated = {field.column for field in of._meta.concrete_fields if getattr(field, "generated", False)}
    kept = [str(field.column) for field in of._meta.concrete_fields if field.column not in generated]
    if key.get_internal_type().endswith("AutoField"):
        kept.remove(str(key.column))
    values = [columns.get(name, f'"{name}"') for name in kept]
    names = ", ".join(f'"{name}"' for name in kept)
    with transaction.atomic(), without_indexes(table), connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(
            f"INSERT INTO {table} ({names}) SELECT {', '.join(values)} FROM {table}, generate_series(1, %s) AS n"
            f' WHERE "{key.column}" = %s',
            [count, of.pk],
        )
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # indexes wait for no check
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM ANALYZE {table}")


AGO = "now() - interval '365 days' * ((n::bigint * 7919) %% 1000003) / 1000003.0"


def fill(runs: int, entries: int, approvals: int) -> None:
    from django.contrib.auth.models import Group, User

    from approvals.models import Approval
    from approvals.models.record import AuditEvent
    from approvals.record import audit
    from console.clock import database_now
    from orchestration.models import Run

    seed(approvals)
    for role in ("reviewer", "operator", "admin"):
        for name in ("alice", "olga"):
            User.objects.get(username=name).groups.add(Group.objects.get_or_create(name=role)[0])
    now = database_now()
    say(f"{approvals:,} pending requests")
    run = Run.objects.create(
        id="support-first",
        agent="support",
        input={"order_id": "8801", "message": "The parcel arrived broken."},
        input_digest="0" * 64,
        status="finished",
        result={"words": "Done."},
        closed_at=now,
    )
    words = """jsonb_build_object('order_id', n::text, 'message',
               CASE WHEN n = 777 THEN 'Something unheard-of.' ELSE 'The parcel arrived broken.' END)"""
    copies(
        run,
        runs,
        id="'support-' || lpad(n::text, 7, '0')",
        agent="CASE WHEN n %% 100003 = 0 THEN 'rare' ELSE 'support' END",
        input=words,
        status="(ARRAY['finished','finished','finished','failed'])[1 + n %% 4]",
        created_at=AGO,
        closed_at=AGO,
    )
    say(f"{runs:,} runs")
    audit.record(actor="alice", kind="approval.decided", subject="support-first", body={"verdict": "approve"})
    copies(
        AuditEvent.objects.latest("seq"),
        entries,
        at=f"now() - interval '365 days' * (1 - n::float / {entries})",
        actor="CASE WHEN n %% 200003 = 0 THEN 'seldom' ELSE 'alice' END",
        subject="'support-' || lpad((n / 9)::text, 7, '0')",
        digest="md5(n::text) || md5((-n)::text)",
        previous="md5((n - 1)::text) || md5((1 - n)::text)",
    )
    say(f"{entries:,} entries of the record")
    pending = Approval.objects.filter(external_id="bench-0").get()
    copies(
        pending,
        runs,
        id="'apr_d' || lpad(n::text, 20, '0')",
        external_id="'decided-' || n",
        status="'decided'",
        run_id="'support-' || lpad(n::text, 7, '0')",
        interrupt_id="'d' || n",
        opened_at=AGO,
        due_at=f"{AGO} + interval '72 hours'",
        closed_at=f"{AGO} + interval '1 hour'",
    )
    say(f"{runs:,} decided requests")


def measure(trials: int) -> list[list[str]]:
    """Return a row for each list: median and best in ms, this process's own time, queries, bytes."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client(SERVER_NAME=settings.ALLOWED_HOSTS[0].lstrip("."))
    client.force_login(User.objects.get(username="olga"))
    rows = []
    for name, address in LISTS.items():
        took, worked, statements, size = [], [], 0, 0
        for _ in range(trials + WARM_UP):
            began, cpu = time.perf_counter(), time.process_time()
            with counted() as asked:
                answer = client.get(address, headers={"HX-Request": "true"})
            took.append((time.perf_counter() - began) * 1000)
            worked.append((time.process_time() - cpu) * 1000)
            assert answer.status_code == 200, (address, answer.status_code)
            statements, size = asked.statements, len(answer.content)
        took, worked = took[WARM_UP:], worked[WARM_UP:]
        rows.append(
            [
                name,
                f"{statistics.median(took):.1f}",
                f"{min(took):.1f}",
                f"{statistics.median(worked):.1f}",
                str(statements),
                f"{size:,}",
            ]
        )
        say(" | ".join(rows[-1]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--approvals", type=int, default=100_000)
    parser.add_argument("--trials", type=int, default=15)
    parser.add_argument("--record", action="store_true", help="keep the figures in docs/measured/")
    options = parser.parse_args()
    with empty_database("setup_checkpoints"):
        fill(options.runs, options.entries, options.approvals)
        rows = measure(options.trials)
    if options.record:
        command = f"python -m bench.growth --runs {options.runs} --entries {options.entries}"
        columns = ["ms", "p50", "best", "own CPU", "queries", "bytes"]
        notes = [
            f"{options.runs:,} runs and as many decided requests, {options.approvals:,} pending requests,"
            f" {options.entries:,} entries of the record."
        ]
        measuring.record("bench", "growth", command, columns=columns, rows=rows, notes=notes)


if __name__ == "__main__":
    main()
