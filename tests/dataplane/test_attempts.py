"""How often tasks are tried is said once, and every task of every flow follows it."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from typing import Any, cast

import pytest
from prefect.cache_policies import NO_CACHE
from prefect.tasks import Task

from dataplane import flows
from dataplane.errors import EmbedderAway, HandbookInvalid
from dataplane.flows.attempts import can_retry_help

TASKS = {
    name: found
    for module in pkgutil.iter_modules(flows.__path__)
    for name, found in vars(importlib.import_module(f"dataplane.flows.{module.name}")).items()
    if isinstance(found, Task)
}


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_every_task_ends_in_time_keeps_nothing_and_repeats_no_permanent_error(task: Task[..., Any]) -> None:
    assert task.timeout_seconds and task.cache_policy is NO_CACHE and task.persist_result is False
    if task.retries and task.name not in ("publish", "withhold", "compare"):
        assert task.retry_condition_fn is can_retry_help


class Ended:
    def __init__(self, error: Exception | None) -> None:
        self.error = error

    async def aresult(self) -> None:
        if self.error:
            raise self.error


@pytest.mark.parametrize(
    ("error", "helps"),
    [(HandbookInvalid("empty"), False), (EmbedderAway("busy"), True), (OSError("reset"), True), (None, False)],
)
def test_a_mistake_stays_a_mistake_and_what_was_away_may_come_back(error: Exception | None, helps: bool) -> None:
    nothing = cast("Any", None)  # neither the task nor its run is looked at
    assert asyncio.run(can_retry_help(nothing, nothing, cast("Any", Ended(error)))) is helps
