"""Faults, their trials, and the order in which the trials of one failure are played."""

from __future__ import annotations

import asyncio
import traceback
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from drills.errors import DrillError
from drills.stage import Stage

ROUND = 4  # trials of each fault that are played together


@dataclass
class Trial:
    """One try of one fault: what it saw that must not be."""

    number: int  # from 1
    of: int  # how many there are
    seen: list[str] = field(default_factory=list)

    @property
    def is_last_of_round(self) -> bool:
        return self.number % ROUND == 0 or self.number == self.of

    @property
    def round(self) -> int:
        return (self.number - 1) // ROUND

    @property
    def is_violated(self) -> bool:
        return bool(self.seen)


@dataclass
class Outcome:
    """What became of the trials of one fault."""

    failure: str
    fault: str
    invariant: str
    trials: list[Trial]
    seconds: float = 0.0

    @property
    def violations(self) -> int:
        return sum(trial.is_violated for trial in self.trials)

    @property
    def seen(self) -> list[str]:
        return [f"trial {trial.number}: {sentence}" for trial in self.trials for sentence in trial.seen]


class Fault(ABC):
    """One fault in one trial: make one object per trial.

    The phases of all trials interleave: every steady state first, then one strike after the other while earlier
    ones recover, then every judgement, so that no strike can hit what another trial is about to judge.
    """

    name: str
    invariant: str

    def __init__(self, stage: Stage, trial: Trial) -> None:
        self.stage = stage
        self.trial = trial

    @abstractmethod
    async def steady(self) -> None:
        """Bring the world to where the fault is to strike."""

    @abstractmethod
    async def strike(self) -> None:
        """Inject the fault, and wait for the proof that it struck. Raises NotStruck."""

    async def recover(self) -> None:  # noqa: B027  many faults leave nothing to wait for
        """Wait until the system is over it. Other strikes may happen meanwhile."""

    @abstractmethod
    async def judge(self) -> None:
        """Finish what is unfinished and report what must not be, by `expect`."""

    def expect(self, *found: list[str]) -> None:
        """Note what the checks saw."""
        for seen in found:
            self.trial.seen += seen


async def guarded(trial: Trial, phase: Callable[[], Awaitable[None]], what: str) -> None:
    """Run one phase unless an earlier one went wrong; what goes wrong is a violation of its own."""
    if trial.is_violated:
        return
    try:
        await phase()
    except DrillError as exc:
        trial.seen.append(f"{what}: {type(exc).__name__}: {exc}")
    except Exception as exc:  # noqa: BLE001  one trial's surprise must not end the others, and is never passed over
        where = traceback.extract_tb(exc.__traceback__)[-1]
        trial.seen.append(f"{what}: {type(exc).__name__}: {exc} ({where.filename.rsplit('/', 1)[-1]}:{where.lineno})")


async def play(
    stage: Stage, failure: str, faults: Sequence[type[Fault]], trials: int, say: Callable[[Outcome], None]
) -> list[Outcome]:
    """Play every fault of a failure `trials` times; see Fault for the order."""
    outcomes = [Outcome(failure, f.name, f.invariant, [Trial(n + 1, trials) for n in range(trials)]) for f in faults]
    for first in range(0, trials, ROUND):
        await _play_round(
            [
                (fault(stage, trial), trial)
                for fault, outcome in zip(faults, outcomes, strict=True)
                for trial in outcome.trials[first : first + ROUND]
            ]
        )
    for outcome in outcomes:
        say(outcome)
    return outcomes


async def _play_round(cast: Sequence[tuple[Fault, Trial]]) -> None:
    await asyncio.gather(*(guarded(trial, fault.steady, "steady state") for fault, trial in cast))
    recoveries = []
    for fault, trial in cast:
        await guarded(trial, fault.strike, "strike")
        recoveries.append(asyncio.create_task(guarded(trial, fault.recover, "recovery")))
    await asyncio.gather(*recoveries)
    await asyncio.gather(*(guarded(trial, fault.judge, "judgement") for fault, trial in cast))
