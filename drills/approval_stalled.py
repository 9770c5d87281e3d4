"""Failure 3: nobody decides for days.

Two clocks move: the database's, which decides deadlines, by its function `signalbox_now`; and each workflow's own,
by time skipping on the real Temporal server. Neither goes back, so this failure is played last.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from temporalio.api.enums.v1 import EventType
from temporalio.testing._timeskipping import TimeSkipper

from drills import checks
from drills.case import EMAIL, REFUND, Case
from drills.errors import NotInTime, NotStruck
from drills.stage import WORKERS, Stage
from drills.trials import Outcome, Trial, guarded
from drills.waiting import PATIENCE, until

FAILURE = "approval-stalled"
HOURS = 1 / 24  # days
#: what may come into a waiting run's history: the ladder's timer, its one activity, the tasks around them
_LADDER_EVENTS = (
    "TIMER_",
    "WORKFLOW_TASK_SCHEDULED",
    "WORKFLOW_TASK_STARTED",
    "WORKFLOW_TASK_COMPLETED",
    "WORKFLOW_TASK_TIMED_OUT",  # where a worker had no time for it
    "ACTIVITY_TASK_SCHEDULED",
    "ACTIVITY_TASK_STARTED",
    "ACTIVITY_TASK_COMPLETED",
    "WORKFLOW_EXECUTION_OPTIONS_UPDATED",
    "WORKFLOW_EXECUTION_TIME_SKIPPING",
)


class Stalled:
    """A run whose refund nobody decides, in one trial."""

    name: str
    invariant: str

    def __init__(self, stage: Stage, trial: Trial) -> None:
        self.stage = stage
        self.trial = trial

    async def steady(self) -> None:
        self.case = await Case.open(self.stage)
        self.approval = await self.case.steady_at(REFUND)
        self.path = f"/approvals/{self.approval['id']}"
        self.handle = await self.stage.workflow(self.case.run_id)

        async def at_rest() -> bool:
            raw = (await self.handle.describe()).raw_description
            return not raw.pending_activities and not raw.HasField("pending_workflow_task")

        await until(at_rest, f"rest of {self.case.run_id}")
        self.events = len((await self.handle.fetch_history()).events)

    async def workflow_days(self, days: float) -> None:
        """Move the workflow's clock on, and wait until it has got there."""
        skipper = TimeSkipper(await self.stage.temporal())
        async with asyncio.timeout(PATIENCE):
            await skipper.fast_forward(self.handle, timedelta(days=days))
        self.stage.history.note("struck", self.case.run_id, f"workflow clock +{days:.2f} days")

    async def steps(self) -> list[str]:
        """Return the ladder's steps as the record has them."""
        rows = await self.stage.sql(
            "SELECT kind FROM approvals_auditevent WHERE subject = %s AND actor = 'ladder' ORDER BY seq",
            [self.approval["id"]],
        )
        return [row["kind"].removeprefix("approval.") for row in rows]

    async def climbed(self, *wanted: str) -> None:
        """Wait for exactly these steps, then see that the wait has cost nothing but them."""

        async def look() -> bool:
            return len(await self.steps()) >= len(wanted)

        try:
            await until(look, f"the steps {wanted} of {self.approval['id']}")
        except Exception as exc:
            raise NotStruck(str(exc)) from exc
        found = await self.steps()
        if found != list(wanted):
            self.trial.seen.append(f"approval {self.approval['id']} climbed {found}, not {list(wanted)}")
        if "expired" not in wanted:  # after that the run goes on
            await self.costs_nothing(len(wanted))

    async def told(self, mails: int) -> None:
        """Wait until so many reminders have come by mail; more are one too many."""

        async def look() -> bool:
            return self.stage.mail.reminders[self.approval["id"]] >= mails

        with contextlib.suppress(NotInTime):
            await until(look, f"reminders of {self.approval['id']}")
        if (found := self.stage.mail.reminders[self.approval["id"]]) != mails:
            self.trial.seen.append(f"approval {self.approval['id']}: {found} reminders by mail, not {mails}")

    async def nobody_works(self) -> None:
        """Prove that no worker is up."""
        if up := [part for part in WORKERS if part in self.stage.stack.pids()]:
            raise NotStruck(f"{up} run, and all workers had to be down")

    async def costs_nothing(self, steps: int) -> None:
        """No activity runs or is scheduled; the history has grown by the ladder's steps only."""

        async def at_rest() -> bool:
            raw = (await self.handle.describe()).raw_description
            return not raw.pending_activities and not raw.HasField("pending_workflow_task")

        await until(at_rest, f"a rest of {self.case.run_id} without activity")
        new = list((await self.handle.fetch_history()).events)[self.events :]
        kinds = [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in new]
        strange = [kind for kind in kinds if not kind.startswith(_LADDER_EVENTS)]
        activities = [
            event.activity_task_scheduled_event_attributes.activity_type.name
            for event in new
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        ]
        if strange or activities != ["climb"] * steps:
            self.trial.seen.append(
                f"run {self.case.run_id}: {steps} steps, activities {activities}, events {strange or kinds}"
            )

    async def decide_late(self) -> None:
        """A decision past the deadline is refused, in words that say why."""
        answer = await self.stage.ask("alice", f"{self.path}/decision", self.case.answer_to(self.approval))
        if answer.status_code != 409 or "expired" not in answer.json()["detail"]:
            self.trial.seen.append(f"a late decision was answered {answer.status_code} {answer.text[:200]}")

    async def judge_done(self) -> None:
        await self.case.to_the_end()
        self.trial.seen += await checks.well_ended(self.case)

    async def judge_expired(self) -> None:
        """Expired is not rejected: nothing was refunded, and the agent was told so and went on."""
        await self.case.decide(await self.case.pending(EMAIL))
        run = await self.case.finished()
        approval = await self.stage.get("alice", self.path)
        if run["status"] != "finished":
            self.trial.seen.append(f"run {self.case.run_id} is {run['status']}: {run['error']}")
        if approval["status"] != "expired" or approval["decisions"] or approval["executed"]:
            self.trial.seen.append(f"approval {approval['id']} is {approval['status']}: {approval['decisions']}")
        told = await self.case.tool_messages()
        if not any('"outcome": "expired"' in words for words in told):
            self.trial.seen.append(f"run {self.case.run_id}: the agent was told {told}")
        self.trial.seen += await checks.refunded(self.case, times=0)
        if effects := await self.case.effects(REFUND):
            self.trial.seen.append(f"run {self.case.run_id} has effects of an expired approval: {effects}")
        self.trial.seen += await checks.mailed(self.case, 1) + await checks.straight(self.case)


class DecidedOnDayTwo(Stalled):
    name = "decided on day two"
    invariant = (
        "reminded at 24 h, escalated at 48 h, by mail too; waiting costs nothing; the decision works, one effect"
    )


class DecidedWhileDown(Stalled):
    name = "decided on day two with all workers down"
    invariant = "the decision is kept and carried out when a worker is back, past the deadline too; one effect"


class ExpiredInSilence(Stalled):
    name = "the deadline passes"
    invariant = "expired, not rejected; a late decision gets 409; the agent is told; no refund"


class ExpiredWhileDown(Stalled):
    name = "the deadline passes with all workers down"
    invariant = "a late decision gets 409 meanwhile; expired when a worker is back; the agent is told; no refund"


FAULTS = (DecidedOnDayTwo, DecidedWhileDown, ExpiredInSilence, ExpiredWhileDown)


async def play_days(stage: Stage, trials: int, say: Callable[[Outcome], None]) -> list[Outcome]:
    """Let all trials wait through the same three days."""
    outcomes = [Outcome(FAILURE, f.name, f.invariant, [Trial(n + 1, trials) for n in range(trials)]) for f in FAULTS]
    day_two, day_two_down, silence, silence_down = (
        [fault(stage, trial) for trial in outcome.trials] for fault, outcome in zip(FAULTS, outcomes, strict=True)
    )
    everyone = [*day_two, *day_two_down, *silence, *silence_down]

    await _all(everyone, "steady state", lambda one: one.steady())
    await stage.let_days_pass(25 * HOURS)
    await _all(everyone, "25 h", lambda one: one.workflow_days(25 * HOURS))
    await _all(everyone, "25 h", lambda one: one.climbed("reminded"))
    await _all(everyone, "25 h", lambda one: one.told(2))  # alice and bob
    await _nobody_holds_anything(stage, everyone)
    await stage.let_days_pass(24 * HOURS)
    await _all(everyone, "49 h", lambda one: one.workflow_days(24 * HOURS))
    await _all(everyone, "49 h", lambda one: one.climbed("reminded", "escalated"))
    await _all(everyone, "49 h", lambda one: one.told(5))  # and once more, with ada

    # Day two, workers up. From the escalation on an admin may decide as well.
    await _all(day_two, "day two", lambda one: one.case.decide(one.approval, who=_who(one)))
    await _all(day_two, "day two", lambda one: one.judge_done())

    # Day two, workers down, and down beyond the deadline.
    await asyncio.gather(*(asyncio.to_thread(stage.stack.hold, part) for part in WORKERS))
    try:
        await _all(day_two_down, "day two, workers down", lambda one: one.case.decide(one.approval, who=_who(one)))
        await stage.let_days_pass(25 * HOURS)
        down = _all(silence_down, "74 h, workers down", lambda one: one.workflow_days(25 * HOURS))
        arriving = asyncio.create_task(down)
        await _all(silence_down, "74 h, workers down", lambda one: one.decide_late())
        await _all([*day_two_down, *silence_down], "workers down", lambda one: one.nobody_works())
    finally:
        for part in WORKERS:
            stage.stack.release(part)
    await arriving
    await _all(day_two_down, "workers back", lambda one: one.judge_done())
    await _all(silence_down, "workers back", lambda one: one.climbed("reminded", "escalated", "expired"))
    await _all(silence_down, "workers back", lambda one: one.decide_late())
    await _all(silence_down, "judgement", lambda one: one.judge_expired())

    # The deadline with workers up.
    await _all(silence, "74 h", lambda one: one.workflow_days(25 * HOURS))
    await _all(silence, "74 h", lambda one: one.climbed("reminded", "escalated", "expired"))
    await _all(silence, "74 h", lambda one: one.decide_late())
    await _all(silence, "judgement", lambda one: one.judge_expired())
    for outcome in outcomes:
        say(outcome)
    return outcomes


def _who(one: Stalled) -> str:
    return "ada" if one.trial.number % 2 == 0 else "alice"


async def _all(ones: Sequence[Stalled], what: str, phase: Callable[[Stalled], Awaitable[None]]) -> None:
    """Take one phase of these trials at the same time."""

    async def one_of(one: Stalled) -> None:
        await guarded(one.trial, lambda: phase(one), what)

    await asyncio.gather(*(one_of(one) for one in ones))


async def _nobody_holds_anything(stage: Stage, ones: Sequence[Stalled]) -> None:
    """While all wait: no advisory lock is held, and no transaction is open for longer than a moment."""
    query = (
        "SELECT a.pid, a.application_name, a.state, left(a.query, 80) AS query FROM pg_stat_activity a"
        " WHERE a.pid <> pg_backend_pid() AND a.backend_type = 'client backend' AND ("
        "  a.xact_start < clock_timestamp() - interval '2 seconds'"
        "  OR EXISTS (SELECT 1 FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory'))"
    )

    async def nothing() -> bool:
        return not await stage.sql(query)

    try:
        await until(nothing, "a moment without locks and transactions")
    except NotInTime:
        held = await stage.sql(query)
        for one in ones:
            one.trial.seen.append(f"while it waits, these are held: {held}")
