"""Read how a turn's thread stands while the turn is begun: both wait for PostgreSQL, in the path of every click.

Nothing is written by it, and nothing comes of it unless the fence was taken: whoever holds a thread's lock is the only
one that writes there, and an attempt that gets the fence while somebody else holds the lock reads it afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from orchestration import pausing
from orchestration.agents.graphs import Factory
from orchestration.agents.registry import agent_named
from orchestration.checkpoint_gateway import ThreadReach
from orchestration.contracts import Turn
from orchestration.pausing import Stand
from orchestration.turns import drive


@dataclass(frozen=True)
class SeenThread:
    """The graph with the thread's saver, and how the thread stands."""

    graph: Any
    stand: Stand


@asynccontextmanager
async def looking(turn: Turn, reach: ThreadReach) -> AsyncIterator[asyncio.Task[SeenThread | None]]:
    """Look at the thread until the block ends; the task raises what keeps it from being read."""
    look = asyncio.create_task(_look(turn, reach))
    try:
        yield look
    finally:
        look.cancel()
        await asyncio.wait([look])
        if not look.cancelled():
            look.exception()  # told to whoever waited for it; nobody else has to hear of it


async def _look(turn: Turn, reach: ThreadReach) -> SeenThread | None:
    """Return `None` where somebody else holds the thread, or where the agent's own code makes the graph: it may act."""
    made = drive.graph_of(agent_named(turn.agent).name)
    saver = None if isinstance(made, Factory) else await reach.early()
    if saver is None:
        return None
    graph = drive.with_saver(made, saver)
    return SeenThread(graph, await pausing.stand_of(graph, graph.checkpointer, turn.run_id))
