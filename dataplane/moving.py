"""Telling open pages what moves in flow runs that are under way: one process asks Prefect, for all who look.

Prefect's events say that a run has changed its state; of its tasks, its log and what it leaves they say too little.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final, Protocol

from console.live.announce import announce
from dataplane.prefect_gateway import PrefectGateway

UNDER_WAY: Final = ("PENDING", "RUNNING", "CANCELLING")
MOST_RUNS: Final = 100
TRAIL_SECONDS: Final = 10.0  # the last lines arrive after the last state


class Marks(Protocol):
    """What is asked of Prefect besides its runs; see `dataplane.deployments.PrefectDeployments.marks`."""

    def marks(self, flow_run_ids: list[str]) -> dict[str, str]:
        """Return for each run a text that changes with its tasks, its log and what it left. Raises PrefectAway."""
        ...


@dataclass
class MovingRuns:
    """Remembers how each run under way stood at the last look."""

    prefect: PrefectGateway
    others: Marks
    _marks: dict[str, str] = field(default_factory=dict)
    _until: dict[str, float] = field(default_factory=dict)  # of runs that have ended: monotonic seconds

    def look(self) -> int:
        """Announce the runs that moved since the last look; return how many are looked at. Raises PrefectAway.

        A run that is met first is announced as well: what it did before nobody has told.
        """
        states = {
            run.id: f"{run.state_name} {run.state_at}"
            for run in self.prefect.flow_runs(states=UNDER_WAY, limit=MOST_RUNS).items
        }
        now = time.monotonic()
        ended = {one: self._until.get(one, now + TRAIL_SECONDS) for one in self._marks if one not in states}
        self._until = {one: until for one, until in ended.items() if until > now}
        looked_at = [*states, *self._until]
        if not looked_at:
            self._marks = {}
            return 0
        marks = {one: f"{states.get(one)} {mark}" for one, mark in self.others.marks(looked_at).items()}
        moved = [one for one, mark in marks.items() if self._marks.get(one) != mark]
        self._marks = marks
        if moved:
            announce(*(f"flow-run:{one}" for one in moved))
        return len(looked_at)
