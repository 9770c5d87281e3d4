"""Play the failures that were asked for on one stage, and sum them up."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drills import same_input, worker_killed
from drills.stage import Stage
from drills.trials import Fault, Outcome, play

Say = Callable[[str], None]
FAULTS: dict[str, Sequence[type[Fault]]] = {
    "same-input": same_input.FAULTS,
    "worker-killed": worker_killed.FAULTS,
}


@dataclass
class Report:
    """All outcomes, in the order played."""

    outcomes: list[Outcome] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  # failure -> how long it took

    @property
    def violations(self) -> int:
        return sum(outcome.violations for outcome in self.outcomes)

    def of(self, failure: str) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.failure == failure]

    def as_json(self) -> dict[str, Any]:
        return {
            "violations": self.violations,
            "seconds": self.seconds,
            "failures": {
                failure: [
                    {
                        "fault": outcome.fault,
                        "invariant": outcome.invariant,
                        "trials": len(outcome.trials),
                        "violations": outcome.violations,
                        "seen": outcome.seen,
                    }
                    for outcome in self.of(failure)
                ]
                for failure in dict.fromkeys(outcome.failure for outcome in self.outcomes)
            },
        }


async def run(home: Path, names: Sequence[str], trials: int, say: Say, heard: Callable[[Outcome], None]) -> Report:
    """Start a stage in the folder, play the named failures in the fixed order, stop the stage."""
    report, began = Report(), time.monotonic()
    say(f"Starting a stack of its own in {home}")
    async with Stage(home, say) as stage:
        report.seconds["start"] = round(time.monotonic() - began, 1)
        say(f"Ready after {report.seconds['start']} s")
        for name in [name for name in FAULTS if name in names]:
            began = time.monotonic()
            report.outcomes += await play(stage, name, FAULTS[name], trials, heard)
            report.seconds[name] = round(time.monotonic() - began, 1)
            say(f"{name}: {report.seconds[name]} s")
    return report


Played = Callable[[Stage, int], Awaitable[list[Outcome]]]
