"""Play the failures that were asked for on one stage, and sum them up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drills import ended_outside, host_killed, mutated_proposal, reset_and_fork, same_input, same_refresh, worker_killed
from drills.approval_stalled import play_days
from drills.code_changed import play_release
from drills.planted import self_test
from drills.stage import Stage
from drills.trials import Outcome, play

Say = Callable[[str], None]
Heard = Callable[[Outcome], None]
Played = Callable[[Stage, int, Heard], Awaitable[list[Outcome]]]


async def worker_killed_(stage: Stage, trials: int, heard: Heard) -> list[Outcome]:
    return await play(stage, "worker-killed", worker_killed.FAULTS, trials, heard)


async def host_killed_(stage: Stage, trials: int, heard: Heard) -> list[Outcome]:
    return await play(stage, "host-killed", host_killed.FAULTS, trials, heard)


async def same_input_(stage: Stage, trials: int, heard: Heard) -> list[Outcome]:
    return await play(stage, "same-input", same_input.FAULTS, trials, heard)


async def mutated_proposal_(stage: Stage, trials: int, heard: Heard) -> list[Outcome]:
    return await play(stage, mutated_proposal.FAILURE, mutated_proposal.FAULTS, trials, heard)


async def same_refresh_(stage: Stage, trials: int, heard: Heard) -> list[Outcome]:
    return [
        *await play(stage, "same-refresh", same_refresh.FAULTS, trials, heard),
        *await play(stage, "same-refresh", same_refresh.ALONE, trials, heard),
    ]


async def refresh_killed_(stage: Stage, trials: int, heard: Heard) -> list[Outcome]:
    outcomes = []
    for faults in same_refresh.POINTS:
        outcomes += await play(stage, "refresh-killed", faults, trials, heard)
    return outcomes


async def ended_outside_(stage: Stage, trials: int, heard: Heard) -> list[Outcome]:
    return [
        *await play(stage, ended_outside.FAILURE, ended_outside.FAULTS, trials, heard),
        *await play(stage, ended_outside.FAILURE, ended_outside.ALONE, trials, heard),
    ]


async def reset_and_fork_(stage: Stage, trials: int, heard: Heard) -> list[Outcome]:
    return await play(stage, reset_and_fork.FAILURE, reset_and_fork.FAULTS, trials, heard)


FAILURES: dict[str, Played] = {
    "same-input": same_input_,
    "mutated-proposal": mutated_proposal_,
    "worker-killed": worker_killed_,
    "same-refresh": same_refresh_,
    "refresh-killed": refresh_killed_,
    "ended-outside": ended_outside_,
    "reset-and-fork": reset_and_fork_,
    "host-killed": host_killed_,
    "code-changed": play_release,
    "approval-stalled": play_days,
}
#: it takes as long as all others: played only where it is named, as by `make nightly`
ONLY_BY_NAME = ("refresh-killed",)
#: Played from top to bottom. Those of one line run beside each other: they strike different processes. Postgres stops
#: for everybody, so `host-killed` is alone. It holds the record against the heads kept outside, so it comes before
#: `ended-outside`, which restores an older record. The clocks never go back, so `approval-stalled` is last.
PROGRAMME: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("same-input", "mutated-proposal", "worker-killed"), ("same-refresh", "refresh-killed")),
    (("reset-and-fork",),),
    (("host-killed",),),
    (("ended-outside",),),
    (("code-changed",),),  # stops all workers
    (("approval-stalled",),),
)


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


async def run(home: Path, names: Sequence[str], trials: int, say: Say, heard: Heard) -> Report:
    """Start a stage in the folder, test the checker, play the named failures by the programme, stop the stage."""
    report, began = Report(), time.monotonic()
    say(f"Starting a stack of its own in {home}")
    async with Stage(home, say) as stage:
        report.seconds["start"] = round(time.monotonic() - began, 1)
        say(f"Ready after {report.seconds['start']} s")
        report.outcomes.append(await self_test(stage))
        heard(report.outcomes[0])

        async def in_turn(failures: Sequence[str]) -> None:
            for name in failures:
                if name in names:
                    began = time.monotonic()
                    report.outcomes += await FAILURES[name](stage, trials, heard)
                    report.seconds[name] = round(time.monotonic() - began, 1)
                    say(f"{name}: {report.seconds[name]} s")

        for beside in PROGRAMME:
            await asyncio.gather(*(in_turn(failures) for failures in beside))
    return report
