"""Say that a turn is alive, which node it is at and what its model says, and hear that its worker is stopping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import DatabaseError, connections
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.outputs import LLMResult
from langgraph.runtime import RunControl
from temporalio import activity

from console.text.stored import storable
from orchestration import under_way
from orchestration.contracts import Turn
from orchestration.under_way import WORDS_AT_MOST

HEARTBEATS_PER_TIMEOUT: Final = 6
TOLD_EVERY: Final = 1.5  # seconds
TOLD_AGAIN_AFTER: Final = 10.0  # seconds without a change; see `under_way.SHOWN_FOR`
BEHIND_AT_MOST: Final = 8  # writes that wait


class Nodes(AsyncCallbackHandler):
    """Which nodes of the graph are under way, told to LangChain as a callback. It never fails the graph.

    Facts it relies on (langgraph 1.2.22, covered by a test): a node runs as a chain of its own name, and the metadata
    hold that name and the way to it, `outer:<id>|inner:<id>`.
    """

    def __init__(self, now: datetime) -> None:
        """`now`: by the database's clock, on which all later moments are counted."""
        self._now, self._started = now, time.monotonic()
        self._under_way: dict[UUID, tuple[str, datetime]] = {}
        self._words = ""  # the newest of any model's
        self._speaking: UUID | None = None  # the call that they are of

    def details(self, turn: Turn) -> dict[str, Any]:
        """Return what a heartbeat says: of several nodes at once, the one that began first. JSON."""
        node, since = min(self._under_way.values(), key=lambda one: one[1], default=("", None))
        return {"turn": turn.turn, "node": node or None, "since": since.isoformat() if since else None}

    def seen(self) -> tuple[str, str]:
        """Return the node and the newest words of a model's, for people who watch."""
        node, _ = max(self._under_way.values(), key=lambda one: one[1], default=("", None))
        return node, self._words

    async def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Take no notice: only what it says is of interest. The base class would raise."""

    async def on_llm_new_token(self, token: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Hear a word of a model that streams by itself; none is made to, for some tell no usage then."""
        if run_id != self._speaking:
            self._speaking, self._words = run_id, ""
        if isinstance(token, str):  # else a list of parts, which may be pictures
            self._words = (self._words + token)[-WORDS_AT_MOST:]

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        said = [generation.text for of in response.generations for generation in of if generation.text]
        if said:
            self._speaking, self._words = run_id, " ".join(said)[-WORDS_AT_MOST:]

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


class Teller:
    """Tells of all turns of this process, one after the other; while it is behind, what comes is dropped."""

    def __init__(self) -> None:
        self._hand = ThreadPoolExecutor(max_workers=1, thread_name_prefix="progress")
        self._behind = 0

    async def tell(self, function: Callable[..., None], *args: Any) -> bool:
        """Write, unless there is too much to write; return whether that was done."""
        if self._behind >= BEHIND_AT_MOST:
            return False
        self._behind += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._hand, _written, function, *args)
        except DatabaseError:
            return False  # nothing rests on it
        finally:
            self._behind -= 1
        return True


def _written(function: Callable[..., None], *args: Any) -> None:
    try:
        function(*args)
    finally:
        connections.close_all()


TELLER: Final = Teller()


@asynccontextmanager
async def watched(
    turn: Turn, fence: int, nodes: Nodes, every: float = TOLD_EVERY, again_after: float = TOLD_AGAIN_AFTER
) -> AsyncIterator[None]:
    """Let people watch the turn while it lasts: where it is, whenever that has changed, once in `every` seconds.

    What does not change is told again after `again_after` seconds, or it would count as left behind.
    """
    told: tuple[str, str] = ("", "")

    async def watch() -> None:
        nonlocal told
        told_at = time.monotonic()
        while True:
            await asyncio.sleep(every)
            now = nodes.seen()
            is_old = told != ("", "") and time.monotonic() - told_at >= again_after
            if now == told and not is_old:
                continue
            if await TELLER.tell(under_way.tell, turn.run_id, turn.turn, fence, *map(storable, now)):
                told, told_at = now, time.monotonic()

    side = asyncio.create_task(watch())
    try:
        yield
    finally:
        side.cancel()
        if told != ("", ""):
            await TELLER.tell(under_way.over, turn.run_id, fence)


@asynccontextmanager
async def alive(control: RunControl, turn: Turn, nodes: Nodes) -> AsyncIterator[None]:
    """Send heartbeats, and let the graph stop after its current step when the worker is stopping."""

    timeout = activity.info().heartbeat_timeout or timedelta(seconds=30)

    async def beat() -> None:
        while True:  # the first one not at once: before a node has begun it says nothing, and costs Temporal a write
            await asyncio.sleep(timeout.total_seconds() / HEARTBEATS_PER_TIMEOUT)
            activity.heartbeat(nodes.details(turn))

    async def drain() -> None:
        await activity.wait_for_worker_shutdown()
        control.request_drain("the worker is stopping")

    side = [asyncio.create_task(beat()), asyncio.create_task(drain())]
    try:
        yield
    finally:
        for task in side:
            task.cancel()
