"""The same wait in DBOS, n8n and Airflow, answered in turn with ours, in one run on one machine.

    .venv/bin/python -m bench.peers [--trials 30] [--only n8n] [--record]

From the moment at which a person's answer is given to a system's own door until the next step of what waited runs.
Each peer is installed by its own client below the cache (the first time takes minutes; `bench.peers.installing` has
the versions) and runs beside ours with a PostgreSQL of its own. One that cannot be installed or started is named in the
table with its own last line, and the others are measured all the same.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench.decision import Product, product_of, running, say, show
from bench.peers.comparison import COLUMNS, WARM, Comparison
from bench.peers.peer import Answerable, Peer
from bench.peers.with_airflow import AirflowPeer
from bench.peers.with_dbos import DbosPeer
from bench.peers.with_n8n import N8nPeer
from docs import measuring

PEERS: Final[tuple[type[Peer], ...]] = (DbosPeer, N8nPeer, AirflowPeer)


class Ours(Answerable):
    """A run of the product at its gate, decided by a reviewer over HTTP."""

    title = "Signalbox"

    def __init__(self, product: Product) -> None:
        self.product = product
        self._number = 0

    async def waiting(self) -> tuple[str, dict[str, Any]]:
        self._number += 1
        return await self.product.waiting(self._number)

    async def answered(self, waiting: tuple[str, dict[str, Any]]) -> int:
        run_id, approval = waiting
        _, began = await self.product.decide(approval)
        return await self.product.reached(run_id) - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--only", choices=[peer.name for peer in PEERS], help="compare with one of them")
    parser.add_argument("--record", action="store_true", help="keep the figures in docs/measured/")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended, and everything that was started with it"))
    with ExitStack() as ended:
        folder = Path(ended.enter_context(tempfile.TemporaryDirectory(prefix="signalbox-bench-")))
        peers = [peer(folder / peer.name) for peer in PEERS if options.only in (None, peer.name)]
        comparison = Comparison(peers, say)
        comparison.install()
        ours = Ours(product_of(ended.enter_context(running(folder / "signalbox"))))
        comparison.start(ended)
        asyncio.run(comparison.measure(ours, options.trials))
    rows = comparison.rows(ours)
    show(COLUMNS, rows)
    if options.record:
        command = " ".join(["python -m bench.peers", *sys.argv[1:]]).replace(" --record", "")
        notes = [f"{options.trials} answers to each, in turn, after {WARM} that are not counted.", *comparison.notes()]
        measuring.record("bench", "peers", command, columns=COLUMNS, rows=rows, notes=notes)
        say("Kept in docs/measured/; `manage.py write_docs` writes the page.")


if __name__ == "__main__":
    main()
