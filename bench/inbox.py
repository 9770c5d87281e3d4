"""The inbox at 100,000 and at 1,000,000 pending requests: what one page costs on the server.

    .venv/bin/python -m bench.inbox [--sizes 100000 1000000] [--trials 40]

Each line is a request through the whole of Django (middleware, permissions, queries, template; no network) on an
embedded PostgreSQL: the list as a fragment, as a live refresh fetches it; "whole page" has the first request in full
beside the list. The cases take turns, so that what else the machine does falls on all of them. "Own CPU" is the median
of this process's processor time, which other work hardly changes. The last line is the peer: the last 50 rows by an
offset, the query alone. `--record` keeps the figures for docs/speed.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.database import counted, empty_database
from bench.seed_inbox import seed
from docs import measuring

CASES = {
    "first page": "",
    "last page": "?cursor=last",
    "search: three words": "?search=zofia+lamp+broken",
    "search: an order": "?search=B-100042",
    "search: a word that no high risk has": "?search=team",
    "tool and risk": "?tool=send_email&risk=medium",
    "I may decide": "?mine=1",
    "all of these": "?tool=send_email&risk=medium&mine=1&search=lamp",
    "risk low, last page": "?risk=low&cursor=last",
    "due in an hour": "?due=1",
    "newest first": "?order=opened_at",
    "all states": "?status=all",
}
WARM_UP = 3  # runs that are not counted


@dataclass
class Case:
    """One thing that is measured: what each call took, in ms, and how many queries the last one made.

    `worked` is the processor time of this process, which other work on the machine hardly changes.
    """

    name: str
    call: Callable[[], int]
    took: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)
    queries: int = 0

    def once(self) -> None:
        began, worked = time.perf_counter(), time.process_time()
        self.queries = self.call()
        self.took.append((time.perf_counter() - began) * 1000)
        self.worked.append((time.process_time() - worked) * 1000)

    def told(self) -> tuple[float, float, float]:
        """Return the median, the best, and the median of the processor time."""
        took = self.took[WARM_UP:]
        return statistics.median(took), min(took), statistics.median(self.worked[WARM_UP:])


def cases(size: int) -> list[Case]:
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    from approvals.models import Approval

    client = Client(SERVER_NAME=settings.ALLOWED_HOSTS[0].lstrip("."), raise_request_exception=True)
    client.force_login(User.objects.get(username="alice"))

    def page(address: str, **headers: str) -> Callable[[], int]:
        def call() -> int:
            with counted() as asked:
                response = client.get(f"/inbox/{address}", headers=headers)
            assert response.status_code == 200, response.status_code
            return asked.statements

        return call

    def by_offset() -> int:
        rows = Approval.objects.filter(status="pending").order_by("risk_rank", "due_at", "opened_at", "id")
        return len(rows.values_list("pk")[size - 50 : size]) // 50

    listed = [Case(name, page(address, **{"HX-Request": "true"})) for name, address in CASES.items()]
    return [*listed, Case("whole page", page("")), Case("(last 50 by offset)", by_offset)]


def measure(size: int, trials: int) -> list[Case]:
    found = cases(size)
    for _ in range(trials + WARM_UP):
        for case in found:
            case.once()
    return found


def table(measured: dict[int, list[Case]], trials: int) -> tuple[list[str], list[list[str]]]:
    """Return the columns, three for each size, and a row for each case."""
    heads = [column for size in measured for column in (f"{size:,}: p50", "best", "own CPU")]
    rows = []
    for same in zip(*measured.values(), strict=True):
        told = [f"{value:.1f}" for case in same for value in case.told()]
        rows.append([same[0].name, *told, "/".join(sorted({str(case.queries) for case in same}))])
    return [f"ms, {trials} runs each", *heads, "queries"], rows


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--record", action="store_true", help="keep the figures in docs/measured/")
    options = parser.parse_args()
    with empty_database():
        grow(sorted(options.sizes), options.trials, options.record)


def grow(sizes: list[int], trials: int, is_recorded: bool) -> None:
    """Fill the inbox up to each size and measure it there."""
    there, measured = 0, {}
    for size in sizes:
        began = time.monotonic()
        seed(size - there)
        there = size
        say(f"{size:,} requests are there after {time.monotonic() - began:.0f} s")
        measured[size] = measure(size, trials)
    columns, rows = table(measured, trials)
    say("\n".join(" | ".join(row) for row in [columns, *rows]))
    if is_recorded:
        command = f"python -m bench.inbox --sizes {' '.join(map(str, sizes))} --trials {trials}"
        measuring.record("bench", "inbox", command, columns=columns, rows=rows, notes=[])


if __name__ == "__main__":
    main()
