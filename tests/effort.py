"""How much work something takes, as a ratio: a limit in seconds would judge the machine and what else it does."""

from __future__ import annotations

import time
from collections.abc import Callable


def effort(work: Callable[[], object], rounds: int = 3) -> float:
    """Return the processor time of the work in yardsticks: the best of some rounds, each with a yardstick beside it.

    A yardstick is a fixed piece of Python work, about 10 ms on a machine of 2026. Linear work on our largest inputs
    takes some tens; what is quadratic or worse takes thousands.
    """
    ours, yards = [], []
    for _ in range(rounds):
        yards.append(_seconds(_yardstick))
        ours.append(_seconds(work))
    return min(ours) / min(yards)


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _yardstick() -> dict[str, int]:
    return {str(number): number * number for number in range(30_000)}
