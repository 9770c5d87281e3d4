"""How long each step of a flow took, told as a table on its flow run's page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger
from prefect.utilities.annotations import quote

T = TypeVar("T")


@dataclass
class StepTimes:
    """The steps of one flow run in their order, each with its seconds."""

    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    def table(self) -> list[dict[str, str]]:
        """Return a row for each step with its share, and one for what lies between: Prefect's own bookkeeping."""
        total = time.perf_counter() - self.began
        steps = {**self.seconds, "Between the steps": max(0.0, total - sum(self.seconds.values()))}
        return [
            {"step": name, "seconds": f"{taken:.2f}", "share": f"{taken / total:.0%}" if total else "0%"}
            for name, taken in steps.items()
        ]


_times: ContextVar[StepTimes | None] = ContextVar("times", default=None)


@contextmanager
def timed() -> Iterator[StepTimes]:
    """Take the time of the steps inside the block."""
    token = _times.set(StepTimes())
    try:
        taken = _times.get()
        assert taken is not None
        yield taken
    finally:
        _times.reset(token)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Take the time of what is done inside the block; outside of `timed` nothing is noted."""
    taken, began = _times.get(), time.perf_counter()
    try:
        yield
    finally:
        if taken is not None:
            taken.seconds[name] = taken.seconds.get(name, 0.0) + time.perf_counter() - began


def unvisited(value: T) -> T:
    """Return the value as a task's argument in which Prefect does not look for states: of 10,000 rows, in every one.

    The task is given the value itself.
    """
    wrapped: Any = quote(value)  # Any: Prefect's engine takes the wrapping off again
    given: T = wrapped
    return given


def show(times: StepTimes, outcome: str) -> None:
    """Put the table on the flow run's page. What was done stays done when Prefect cannot take it."""
    try:
        create_table_artifact(key="steps", table=times.table(), description=f"{outcome} Where the time went:")
    except Exception as exc:  # noqa: BLE001  Prefect's client raises what its transport does
        get_run_logger().warning("The times of the steps are not shown: %s", exc)
