"""Run Django's ORM from async code: each call in a thread of its own, its connection back in the pool afterwards.

There is no request here that would tidy up: a connection that died stays dead in its thread until it is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from django.db import connections

_P = ParamSpec("_P")
_R = TypeVar("_R")
_executor = ThreadPoolExecutor(max_workers=16, thread_name_prefix="database")


async def in_database(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Call the function in a thread and return what it returns."""

    call = partial(_tidily, partial(function, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(_executor, call)


def waiting_for_database(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Call the function in a thread and wait for it, from code that is not async and may be called in a loop."""
    return _executor.submit(_tidily, partial(function, *args, **kwargs)).result()


def _tidily(work: Callable[[], _R]) -> _R:
    try:
        return work()
    finally:
        connections.close_all()
