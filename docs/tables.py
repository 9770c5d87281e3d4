"""The tables of these pages and of the README, made from what they tell of: `manage.py write_docs` writes them.

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`, where NAME is a key of `TABLES`. Settings come from
`console/environment.py`, measurements from `docs/measured/`, where drills and benches put them (`--record`). Run it
after either changed; a test holds each page against it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from console.drill_results import FAILURE_TESTS
from console.environment import PROJECT, Environment
from docs.measuring import is_measured, read

PAGES: Final = PROJECT / "docs"
NOT_SET: Final = " Not set: "
PROMISES: Final = "mutated-proposal"  # whose table names the point of each fault
#: failure -> the drill that strikes it at more points, which is played by its name alone
DEEPER: Final = {"same-refresh": "refresh-killed"}
Lines = Iterator[str]


def settings() -> Lines:
    yield from _head("variable", "not set", "what")
    for field in Environment.model_fields.values():
        what, _, unset = (field.description or "").partition(NOT_SET)
        unset = unset or f"`{json.dumps(field.default).strip(chr(34))}`"
        yield _row(f"`{field.alias}`", unset, what.removesuffix("."))


def drills() -> Lines:
    yield from _head("failure", "fault, and what must hold", "trials", "violations")
    played = []
    for test in FAILURE_TESTS:
        if test.name == PROMISES:
            continue
        names = [test.name, *([DEEPER[test.name]] if test.name in DEEPER else [])]
        played += names
        faults = [one for name in names for one in read("drill", name)["faults"]]
        yield _row(f"**{test.name}**", test.invariant, *(f"**{count}**" for count in _together(faults)))
        for one in faults:
            yield _row("", f"{one['fault']}: {one['invariant']}", one["trials"], one["violations"])
    yield from _taken("drill", *played)


def promises() -> Lines:
    yield from _head("point", "what is changed, and what must hold", "trials", "violations")
    faults = read("drill", PROMISES)["faults"]
    before = ""
    for one in faults:
        point, _, words = f"{one['fault']}: {one['invariant']}".partition(": ")
        yield _row("" if point == before else point, words, one["trials"], one["violations"])
        before = point
    yield _row("", "**together**", *(f"**{count}**" for count in _together(faults)))
    yield from _taken("drill", PROMISES)


def _measured(name: str, by: str = "") -> Lines:
    """Yield the table of one bench; `by`: the bench that measures it, where it has another name."""
    if not is_measured("bench", name):
        yield from _head("ms", "p50", "p95")
        yield from ("", f"Not measured yet: `python -m bench.{by or name} --record`, then `manage.py write_docs`.")
        return
    found = read("bench", name)
    yield from _head(*found["columns"])
    for row in found["rows"]:
        yield _row(*row)
    yield from _taken("bench", name)
    for note in found["notes"]:
        yield from ("", note)


def ratios() -> Lines:
    """Yield the sentence of the README that says how ours compares."""
    if not is_measured("bench", "peers"):
        yield "Not measured yet beside others: `python -m bench.peers --record`, then `manage.py write_docs`."
        return
    (ours, own, *_), *others = read("bench", "peers")["rows"]
    told = [f"{name} {middle} ms ({times} times ours)" if middle else name for name, middle, _, times in others]
    yield (
        "From a person's answer until the next step of what waited, medians of one run on one machine: "
        f"{ours} {own} ms; {'; '.join(told)}. They do not all keep and check the same: [speed.md](docs/speed.md)."
    )


#: each is a module of `bench` with `--record`, and has a table in docs/speed.md, retrieval in docs/data.md
BENCHES: Final = (
    *("decision", "peers", "live", "inbox", "growth", "run_page", "stuck", "waiting_programs", "batch"),
    *("refresh", "retrieval"),
)


TABLES: Final[dict[str, Callable[[], Lines]]] = {
    "settings": settings,
    "drills": drills,
    "promises": promises,
    **{name: partial(_measured, name) for name in BENCHES},
    "peers-ratios": ratios,
    "decision-stages": partial(_measured, "decision-stages", by="decision"),
}


def with_tables(page: str) -> str:
    """Return the page's text with every table as it should be."""
    for name, table in TABLES.items():
        found = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        page = found.sub(lambda part, of=table: part[1] + "\n".join(of()) + "\n" + part[2], page)  # type: ignore[misc]
    return page


def pages() -> list[Path]:
    return sorted(PAGES.glob("*.md"))


def documents() -> list[Path]:
    """Return everything that may have tables."""
    return [PROJECT / "README.md", *pages()]


def _taken(kind: str, *names: str) -> Lines:
    """Say how the figures were taken, once for those that were taken together."""
    ways = {name: read(kind, name)["taken"] for name in names}
    for way in dict.fromkeys(ways.values()):
        whose = [name for name in names if ways[name] == way]
        of = f"{', '.join(f'*{name}*' for name in whose)}: " if len(set(ways.values())) > 1 else ""
        yield from ("", of + way)


def _together(faults: list[dict[str, Any]]) -> tuple[int, int]:
    return sum(one["trials"] for one in faults), sum(one["violations"] for one in faults)


def _head(*columns: str) -> Lines:
    yield _row(*columns)
    yield "|" + "---|" * len(columns)


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |".replace("|  |", "| |")
