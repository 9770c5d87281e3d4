"""How often the tasks of the flows are tried, said once for each kind: what computes, what reads, what writes.

None keeps its result: a flow run that is started again begins from the top, and its claim finds what was done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from dataplane.errors import DataplaneError

P = ParamSpec("P")
R = TypeVar("R")


async def can_retry_help(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Return whether trying again may help: a document with a mistake in it stays wrong."""
    try:
        await state.aresult()
    except DataplaneError as exc:
        return not exc.permanent
    except Exception:  # noqa: BLE001  whatever else it was, the retries are few and spaced
        return True
    return False


def computes(*, timeout_seconds: float) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a task of what is made from its arguments alone: tried once, for it would fail the same way again."""
    return task(timeout_seconds=timeout_seconds, cache_policy=NO_CACHE, persist_result=False)


def reads(
    *, timeout_seconds: float, retries: int = 2, wait_seconds: float = 2
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a task of what reads from outside: tried again while that may help, after waits that double.

    `wait_seconds`: before the first of the retries.
    """
    return task(
        retries=retries,
        retry_delay_seconds=exponential_backoff(wait_seconds),
        retry_condition_fn=can_retry_help,
        timeout_seconds=timeout_seconds,
        cache_policy=NO_CACHE,
        persist_result=False,
    )


def ends(*, timeout_seconds: float = 120) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a task of what ends a refresh in PostgreSQL, in one transaction that may be repeated at any point.

    Tried four times more, spread at random: its work is done by then, and only the database has to come back.
    """
    return task(
        retries=4,
        retry_delay_seconds=exponential_backoff(2),
        retry_jitter_factor=0.5,
        timeout_seconds=timeout_seconds,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
