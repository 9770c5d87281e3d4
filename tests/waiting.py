"""Waiting for what must come. How long that takes is no assertion: a busy machine is slow, not wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from drills.waiting import PATIENCE
from orchestration.threads import in_database

#: PATIENCE: seconds until something that has not come counts as missing; reached by failing tests only
__all__ = ["PATIENCE", "eventually", "until"]
T = TypeVar("T")
LOOK_SECONDS = 0.05


def eventually(look: Callable[[], T], what: str | Callable[[], str], *, every: float = LOOK_SECONDS) -> T:
    """Return the first truthy answer of `look`. Fails with the sentence `what`, or that it makes, when none comes.

    `every`: seconds between two looks; longer where each one costs an engine something.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        if found := look():
            return found
        if time.monotonic() >= deadline:
            pytest.fail(f"not within {PATIENCE} s: {what if isinstance(what, str) else what()}")
        time.sleep(every)


async def until(look: Callable[[], Any]) -> Any:
    """Return the first truthy answer of `look`, which asks the database; each look is a query of its own."""
    async with asyncio.timeout(PATIENCE):
        while not (found := await in_database(look)):  # noqa: ASYNC110  it is rows that change
            await asyncio.sleep(LOOK_SECONDS)
    return found
