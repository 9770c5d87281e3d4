"""Say that a turn is alive and which node it is at, and hear that its worker is stopping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler
from langgraph.runtime import RunControl
from temporalio import activity

from orchestration.contracts import Turn

HEARTBEATS_PER_TIMEOUT: Final = 6


class Nodes(AsyncCallbackHandler):
    """Which nodes of the graph are under way, told to LangChain as a callback. It never fails the graph.

    Facts it relies on (langgraph 1.2.22, covered by a test): a node runs as a chain of its own name, and the metadata
    hold that name and the way to it, `outer:<id>|inner:<id>`.
    """

    def __init__(self, now: datetime) -> None:
        """`now`: by the database's clock, on which all later moments are counted."""
        self._now, self._started = now, time.monotonic()
        self._under_way: dict[UUID, tuple[str, datetime]] = {}

    def details(self, turn: Turn) -> dict[str, Any]:
        """Return what a heartbeat says: of several nodes at once, the one that began first. JSON."""
        node, since = min(self._under_way.values(), key=lambda one: one[1], default=("", None))
        return {"turn": turn.turn, "node": node or None, "since": since.isoformat() if since else None}

    async def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, metadata: Any = None, **kwargs: Any
    ) -> None:
        node = (metadata or {}).get("langgraph_node")
        if not node or kwargs.get("name") != node:
            return
        way = str((metadata or {}).get("langgraph_checkpoint_ns") or node)
        path = "/".join(part.partition(":")[0] for part in way.split("|"))
        passed = timedelta(seconds=time.monotonic() - self._started)
        self._under_way[run_id] = (path, self._now + passed)

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._under_way.pop(run_id, None)

    async def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._under_way.pop(run_id, None)


@asynccontextmanager
async def alive(control: RunControl, turn: Turn, nodes: Nodes) -> AsyncIterator[None]:
    """Send heartbeats, and let the graph stop after its current step when the worker is stopping."""

    timeout = activity.info().heartbeat_timeout or timedelta(seconds=30)

    async def beat() -> None:
        while True:
            activity.heartbeat(nodes.details(turn))
            await asyncio.sleep(timeout.total_seconds() / HEARTBEATS_PER_TIMEOUT)

    async def drain() -> None:
        await activity.wait_for_worker_shutdown()
        control.request_drain("the worker is stopping")

    side = [asyncio.create_task(beat()), asyncio.create_task(drain())]
    try:
        yield
    finally:
        for task in side:
            task.cancel()
