"""Failure: a release changes an agent's code while its runs wait for people.

All runs come to their gate under the old code. Then both workers stop, half of the decisions are made, the other code
is released, the workers start again, and the other half is decided. Whatever the new code has no place for fails as
that, and nothing that was approved is called finished without having been done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from drills import checks
from drills.case import REFUND, Case, place_order
from drills.errors import NotInTime, NotStruck
from drills.stage import WORKERS, Stage
from drills.trials import Outcome, Trial, guarded
from drills.waiting import until

FAILURE = "code-changed"
RUNS_AT_ONCE = 8  # that are started together


class Changed:
    """A run that waits while its agent's code is changed, in one trial."""

    name: str
    invariant: str
    agent: str
    goes_on = False

    def __init__(self, stage: Stage, trial: Trial) -> None:
        self.stage = stage
        self.trial = trial

    @property
    def is_decided_first(self) -> bool:
        """Half of the decisions are made before the release, while no worker is up."""
        return self.trial.number % 2 == 1

    async def steady(self) -> None:
        order_id = await place_order(self.stage)
        self.case = await Case.start(self.stage, order_id, self.agent, {"order_id": order_id})
        self.approval = await self.case.steady_at(REFUND)

    async def decide(self) -> None:
        await self.case.decide(self.approval)

    async def judge(self) -> None:
        run = await self.case.finished()
        self.trial.seen += await self._done(run) if self.goes_on else await self._not_done(run)

    async def _done(self, run: dict[str, Any]) -> list[str]:
        seen = [] if run["status"] == "finished" else [f"run {self.case.run_id} is {run['status']}: {run['error']}"]
        if not run["code_changes"]:
            seen.append(f"run {self.case.run_id} does not say that its code changed")
        return [*seen, *await checks.refunded(self.case), *await checks.ledger(self.case, REFUND, "done")]

    async def _not_done(self, run: dict[str, Any]) -> list[str]:
        seen = await checks.refunded(self.case, times=0)
        if run["status"] != "failed" or run["error"]["kind"] != "AgentCodeChanged":
            seen.append(f"run {self.case.run_id} is {run['status']}: {run['error']}")
        if effects := await self.case.effects(REFUND):
            seen.append(f"run {self.case.run_id} has effects: {effects}")
        lane = await self.stage.sql(
            "SELECT status, took_effect_at, expected_by <= signalbox_now() AS stands FROM approvals_approval"
            " WHERE id = %s",
            [self.approval["id"]],
        )
        if [(row["status"], row["took_effect_at"], row["stands"]) for row in lane] != [("decided", None, True)]:
            seen.append(f"approval {self.approval['id']} does not stand in the lane: {lane}")
        return seen


FAILS = "the run fails as one whose code changed; no refund; the decision stands in the lane"
GOES_ON = "the run goes on in the new code and says so; one refund, one effect"


class GateRenamed(Changed):
    name, agent, invariant = "the gate is renamed", "gate-renamed", FAILS


class GateRemoved(Changed):
    name, agent, invariant = "the gate is removed", "gate-removed", FAILS


class ActRemoved(Changed):
    name, agent, invariant = "the node that acts is removed", "act-removed", FAILS


class KeyGone(Changed):
    name, agent, invariant = "a state key that holds something is gone", "key-gone", FAILS


class ActRenamed(Changed):
    name, agent, invariant = "the node after the gate is renamed", "act-renamed", GOES_ON
    goes_on = True


class NodeAdded(Changed):
    name, agent, invariant = "a node is added after the gate", "node-added", GOES_ON
    goes_on = True


FAULTS = (GateRenamed, GateRemoved, ActRemoved, KeyGone, ActRenamed, NodeAdded)


async def play_release(stage: Stage, trials: int, say: Callable[[Outcome], None]) -> list[Outcome]:
    """Let all trials wait through the same release."""
    outcomes = [Outcome(FAILURE, f.name, f.invariant, [Trial(n + 1, trials) for n in range(trials)]) for f in FAULTS]
    pairs = zip(FAULTS, outcomes, strict=True)
    everyone = [fault(stage, trial) for fault, outcome in pairs for trial in outcome.trials]
    await stage.ready_workers(len(WORKERS))
    for first in range(0, len(everyone), RUNS_AT_ONCE):
        some = everyone[first : first + RUNS_AT_ONCE]
        await asyncio.gather(*(guarded(one.trial, one.steady, "steady state") for one in some))
    await asyncio.gather(*(asyncio.to_thread(stage.stack.hold, part) for part in WORKERS))
    try:
        if up := [part for part in WORKERS if part in stage.stack.pids()]:
            raise NotStruck(f"{up} run, and all workers had to be down")
        first_ones = [one for one in everyone if one.is_decided_first]
        await asyncio.gather(*(guarded(one.trial, one.decide, "the decision") for one in first_ones))
        (stage.home / "released").touch()
        stage.history.note("struck", "all workers", FAILURE)
    finally:
        for part in WORKERS:
            stage.stack.release(part)
    await stage.ready_workers(len(WORKERS))
    others = [one for one in everyone if not one.is_decided_first]
    await asyncio.gather(*(guarded(one.trial, one.decide, "the decision") for one in others))
    await asyncio.gather(*(guarded(one.trial, one.judge, "judgement") for one in everyone))
    await _nothing_is_open(stage, everyone)
    for outcome in outcomes:
        say(outcome)
    return outcomes


async def _nothing_is_open(stage: Stage, everyone: list[Changed]) -> None:
    """No run of these agents is open, in the rows or in Temporal."""
    names = [agent.agent for agent in FAULTS]
    query = "SELECT id FROM orchestration_run WHERE agent = ANY(%s) AND closed_at IS NULL"

    async def none_open() -> bool:
        return not await stage.sql(query, [names])

    try:
        await until(none_open, "the end of all runs")
    except NotInTime as exc:
        for one in everyone:
            one.trial.seen.append(f"runs are open: {exc}")
