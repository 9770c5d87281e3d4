"""10,000 passages from changed documents to a published version, with the share of each step.

    .venv/bin/python -m bench.refresh [--passages 10000] [--changed 1.0] [--record]

The real flow in this process, against an embedded PostgreSQL and a real Prefect server, both its own: a first version,
then `--changed` percent of the documents edited, then all of them, then the index. "Prefect" is what its engine needs
around the steps, for states and logs; its start-up is not in it. *Own CPU* is what the process of the flow computes,
whatever else the machine does. `--record` keeps the figures for docs/speed.md.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench.database import empty_database
from docs import measuring
from stack.prefect import Prefect

SECTIONS = 20  # passages of one document
WORDS = [
    "parcel",
    "refund",
    "customer",
    "delivery",
    "carrier",
    "invoice",
    "warranty",
    "repair",
    "damage",
    "photo",
    "voucher",
    "return",
    "label",
    "order",
    "price",
    "account",
    "shift",
    "lead",
    "address",
    "day",
    "week",
    "share",
    "amount",
    "card",
    "transfer",
    "tax",
    "seal",
    "box",
    "colour",
    "size",
    "engraving",
    "outlet",
]


def write(folder: Path, number: int, edition: int) -> None:
    """Write one document of twenty sections, about 700 characters each; another edition has other text in each."""
    chance = random.Random(number)
    parts = [f"---\ntitle: Page {number}\neffective: 2026-01-01\nstatus: current\ntopics: bench\n---"]
    for section in range(SECTIONS):
        parts.append(f"## Rule {number}.{section}\n{' '.join(chance.choices(WORDS, k=90))}. Edition {edition}.")
    (folder / f"page-{number:05}.md").write_text("\n\n".join(parts) + "\n")


def edit_one(folder: Path, number: int) -> None:
    """Change the words of one section of one document."""
    path = folder / f"page-{number:05}.md"
    path.write_text(path.read_text().replace("Edition 1.", "As it is now.", 1))


def refresh(key: str) -> tuple[float, float, dict[str, float], dict[str, int]]:
    """Run the flow; return its seconds, those of its own CPU, and of each step, and what it has and has embedded."""
    from dataplane.embedding import embed_changed
    from dataplane.flows import steps, tasks
    from dataplane.flows.refresh_handbook import refresh_handbook

    taken: dict[str, float] = {}
    counted: dict[str, int] = {}

    def keep_times(times: steps.StepTimes, outcome: str) -> None:
        taken.update(times.seconds)

    def count(texts: Any, earlier: Any, model: Any) -> Any:
        vectors, made = embed_changed(texts, earlier, model)
        counted.update(passages=len(texts), embedded=made)
        return vectors, made

    with patch.object(steps, "show", keep_times), patch.object(tasks, "embed_changed", count):
        began, computed = time.perf_counter(), time.process_time()
        refresh_handbook(key=key)
        return time.perf_counter() - began, time.process_time() - computed, taken, counted


def rebuild() -> float:
    from dataplane.flows.rebuild_index import rebuild_index

    began = time.perf_counter()
    rebuild_index(key="bench")
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=10_000)
    parser.add_argument("--changed", type=float, default=1.0, help="percent of the passages")
    parser.add_argument("--record", action="store_true", help="keep the figures in docs/measured/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="signalbox-bench-") as folder, empty_database():
        handbook = Path(folder) / "handbook"
        handbook.mkdir()
        os.environ["SIGNALBOX_HANDBOOK"] = str(handbook)
        server = Prefect(Path(folder))
        server.start()
        os.environ |= {
            "PREFECT_API_URL": server.api_url,
            "PREFECT_HOME": str(Path(folder) / "prefect"),
            "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "WARNING",
        }
        from console.environment import environment

        environment.cache_clear()
        try:
            measure(handbook, options)
        finally:
            server.stop()


def measure(handbook: Path, options: argparse.Namespace) -> None:
    documents = options.passages // SECTIONS
    edited = min(documents, max(1, round(options.passages * options.changed / 100)))  # one passage in each
    for number in range(documents):
        write(handbook, number, 0)
    refresh("warm-up")  # loads the model
    for number in range(documents):
        write(handbook, number, 1)
    cases = [("all changed", *refresh("all"))]
    for number in range(edited):
        edit_one(handbook, number)
    cases.append((f"{edited / documents / SECTIONS:.1%} changed", *refresh("some")))
    cases.append(("nothing changed", *refresh("none")))
    names = list(dict.fromkeys(name for *_, taken, _ in cases for name in taken))
    columns = ["", "seconds", "own CPU", *names, "Prefect", "passages", "embedded"]
    rows = []
    for name, total, computed, taken, counted in cases:
        shares = [f"{taken.get(step, 0):.2f} ({taken.get(step, 0) / total:.0%})" for step in names]
        rest = total - sum(taken.values())
        counts = [f"{counted['passages']:,}", f"{counted['embedded']:,}"]
        rows.append([name, f"{total:.2f}", f"{computed:.2f}", *shares, f"{rest:.2f} ({rest / total:.0%})", *counts])
    notes = [f"The index over {options.passages:,} passages, built, checked and put into service: {rebuild():.1f} s."]
    sys.stdout.write("\n".join(" | ".join(row) for row in [columns, *rows]) + "\n" + "\n".join(notes) + "\n")
    if options.record:
        command = f"python -m bench.refresh --passages {options.passages} --changed {options.changed:g}"
        measuring.record("bench", "refresh", command, columns=columns, rows=rows, notes=notes)


if __name__ == "__main__":
    main()
