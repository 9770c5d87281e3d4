"""The record's check: all of a long chain by command, in one process and in several, and its newest part by a page.

    .venv/bin/python -m bench.record [--entries 1000000]

The chain is a true one, made in an embedded PostgreSQL of its own.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.database import empty_database
from bench.decision import say, show

_COLUMNS = "at, actor, kind, subject, body, previous, digest"
_FROM = datetime(2026, 1, 1, tzinfo=UTC)


def _chain(count: int) -> Iterator[tuple[Any, ...]]:
    """Yield entries as a decision writes them, one a second."""
    from psycopg.types.json import Jsonb

    from approvals.record.audit import moment
    from approvals.record.walking import digest_of_entry

    previous = ""
    for number in range(count):
        at = _FROM + timedelta(seconds=number)
        body = {
            "decision": f"dec_{number:026}",
            "verdict": "approve",
            "digest": "0" * 64,
            "version": 1,
            "channel": "api",
        }
        subject = f"apr_{number:026}"
        digest = digest_of_entry(moment(at), "alice", "approval.decided", subject, body, previous)
        yield at, "alice", "approval.decided", subject, Jsonb(body), previous, digest
        previous = digest


def _taken(check: Callable[[], Any]) -> str:
    began = time.perf_counter()
    found = check()
    assert found.ok, found.sentence
    return f"{time.perf_counter() - began:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    options = parser.parse_args()
    with empty_database():
        from django.db import connection, transaction

        from approvals.reading import record

        with transaction.atomic(), connection.cursor() as cursor:
            with cursor.copy(f"COPY approvals_auditevent ({_COLUMNS}) FROM STDIN") as copy:
                for entry in _chain(options.entries):
                    copy.write_row(entry)
            cursor.execute("SELECT pg_total_relation_size('approvals_auditevent')")
            (size,) = cursor.fetchone()
        rows = [["a page, before any check of the whole", _taken(record.check)]]
        for processes in (1, os.cpu_count() or 1):
            whole = _taken(lambda number=processes: record.check_whole([], processes=number))  # type: ignore[misc]
            rows.append([f"all, {processes} processes", whole])
        rows.append(["a page, after it", _taken(record.check)])
        show([f"{options.entries:,} entries, {size / options.entries:.0f} bytes each with indexes", "s"], rows)
        say(f"Load at the end: {', '.join(f'{one:.1f}' for one in os.getloadavg())}")


if __name__ == "__main__":
    main()
