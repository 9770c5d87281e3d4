"""Say that a turn is alive, and hear that its worker is stopping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from langgraph.runtime import RunControl
from temporalio import activity

from orchestration.contracts import Turn

HEARTBEATS_PER_TIMEOUT: Final = 6


@asynccontextmanager
async def alive(control: RunControl, turn: Turn) -> AsyncIterator[None]:
    """Send heartbeats, and let the graph stop after its current step when the worker is stopping."""

    timeout = activity.info().heartbeat_timeout or timedelta(seconds=30)

    async def beat() -> None:
        while True:
            activity.heartbeat({"turn": turn.turn})
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
