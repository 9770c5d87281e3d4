"""Waiting for what must come: look, and look again, until a deadline. Never a fixed sleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
import psycopg
from temporalio.service import RPCError

from drills.errors import NotInTime

_T = TypeVar("_T")
LOOK_SECONDS = 0.1
PATIENCE = 360  # seconds; a busy machine is slow, not wrong
#: what a look may meet while the fault is on
AWAY = (httpx.TransportError, psycopg.Error, RPCError, OSError, RuntimeError)


async def until(look: Callable[[], Awaitable[_T | None]], what: str) -> _T:
    """Return the first answer that is neither empty nor false. Raises NotInTime, naming what did not come."""
    deadline, last = time.monotonic() + PATIENCE, ""
    while True:
        try:
            found = await look()
            if found:
                return found
        except AWAY as exc:
            last = f" ({type(exc).__name__}: {exc})"
        if time.monotonic() >= deadline:
            raise NotInTime(f"{what}: not after {PATIENCE} s{last}")
        await asyncio.sleep(LOOK_SECONDS)
