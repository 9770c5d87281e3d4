"""When a run of somebody else's flow is taken for dead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dataplane.prefect_gateway import FlowRun
from dataplane.refreshes.follow import dead_because

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SERVED = "Nobody serves its deployment"
SILENT = "no sign of life"


def ago(seconds: int) -> datetime:
    return NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("age", "beats", "polled", "why"),
    [
        # Killed at once, with whoever had started it: true within 90 s, however many signs of life there were.
        (65, [], 65, SERVED),
        (65, [65], 65, SERVED),
        (155, [65, 95, 125, 155], 65, SILENT),
        # Just now nobody can tell.
        (50, [], 50, ""),
        (50, [50], 50, ""),
        (300, [20, 50], 300, ""),
        (300, [50], 300, ""),
        # Somebody serves it: only missing signs of life tell.
        (600, [170], 5, ""),
        (600, [290], 5, SILENT),
        (600, [50, 80], 5, ""),
        (600, [60, 90], 5, SILENT),
        # One that gives a sign every three minutes is not dead between two of them.
        (600, [170, 350], 5, ""),
    ],
)
def test_a_run_is_taken_for_dead_by_what_is_known_of_it(age: int, beats: list[int], polled: int, why: str) -> None:
    run = FlowRun("r", "name", "flow", "d", "RUNNING", "Running", "", ago(age), ago(age))
    found = dead_because(run, pid="", beats=[ago(one) for one in beats], polled_at=ago(polled), now=NOW)
    assert (why in found) if why else not found, found
