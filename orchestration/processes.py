"""Run a process of ours until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from console.kept_heap import keep_what_is_loaded


def run_until_stopped(body: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `body(stop)`; SIGTERM and SIGINT set `stop`, and the body ends in good order.

    What it needs is imported before.
    """

    async def main() -> None:
        stop = asyncio.Event()
        with _stopping(stop):
            await body(stop)

    keep_what_is_loaded()
    asyncio.run(main())


@contextmanager
def _stopping(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
