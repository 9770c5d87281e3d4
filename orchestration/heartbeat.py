"""Say every few seconds that this process is alive and whether it can work, for the health report."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from console import health
from console.database import renew_pool
from orchestration.threads import in_database

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5


@asynccontextmanager
async def beating(part: str, state: Callable[[], tuple[bool, str]]) -> AsyncIterator[None]:
    """Beat for `part` as long as the block runs, and take the heartbeat away at its end.

    `state`: whether the process can do its work now, and a few words about it.
    """
    task = asyncio.create_task(_beat_for_ever(part, state))
    try:
        yield
    finally:
        task.cancel()
        try:
            await in_database(health.forget, part)
        except Exception as exc:  # noqa: BLE001  the database may be gone already; the heartbeat grows old by itself
            logger.info("heartbeat left behind: %s", type(exc).__name__)


async def _beat_for_ever(part: str, state: Callable[[], tuple[bool, str]]) -> None:
    while True:
        ok, detail = state()
        try:
            await in_database(health.beat, part, detail, ok=ok)
        except Exception as exc:  # noqa: BLE001  one missed heartbeat must not end the next
            logger.warning("no heartbeat: %s", type(exc).__name__)
            await in_database(renew_pool)
        await asyncio.sleep(BEAT_SECONDS)
