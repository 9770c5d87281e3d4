"""Failure 2: a whole host is gone, or an engine is, in the middle of a turn.

The turn is held where it hurts most: the shop has recorded the refund and has not answered yet.
"""

from __future__ import annotations

import asyncio
import signal

from temporalio.api.enums.v1 import EventType

from drills import checks
from drills.case import EMAIL, REFUND, Case
from drills.errors import NotStruck
from drills.holds import Hold
from drills.stage import WORKERS, Row, has_been_hit
from drills.trials import Fault
from drills.waiting import PATIENCE, until


class MidTurn(Fault):
    """Two runs: one is struck in the middle of its turn, the other waits for a person and is decided meanwhile."""

    async def steady(self) -> None:
        self.case, self.waiting = await asyncio.gather(Case.open(self.stage), Case.open(self.stage))
        self.approval, self.other = await asyncio.gather(self.case.steady_at(REFUND), self.waiting.steady_at(REFUND))

    async def hold_the_turn(self) -> tuple[Hold, str, int]:
        """Approve, and wait until the refund is paid and unanswered; return the hold and the busy worker."""
        await self.stage.ready_workers(len(WORKERS))
        hold = self.stage.shop.hold("POST", self.case.order_id, "after")
        await self.case.decide(self.approval)
        if not await asyncio.to_thread(hold.reached.wait, PATIENCE):
            raise NotStruck(f"the refund of order {self.case.order_id} never reached the shop")
        if len(await self.case.refunds()) != 1:
            raise NotStruck("the shop had not recorded the refund yet")
        return hold, *await self.stage.busy_worker(self.case.run_id)

    async def judge(self) -> None:
        for case in (self.case, self.waiting):
            await case.to_the_end()
            self.expect(await checks.well_ended(case))
            for approval_id in case.decided:
                approval = await self.stage.get("alice", f"/approvals/{approval_id}")
                if approval["status"] != "decided" or len(approval["decisions"]) != 1:
                    self.trial.seen.append(f"the decision of {approval_id} is lost: {approval['status']}")


class HostKilled(MidTurn):
    """The killed worker's whole process group goes, and nobody starts it again until the run is further."""

    name = "one of two workers' whole group killed mid-turn"
    invariant = "the other worker finishes from the last completed activity; nothing twice"

    async def strike(self) -> None:
        hold, part, pid = await self.hold_the_turn()
        before = await self._completed()
        await asyncio.to_thread(self.stage.stack.hold, part, signal.SIGKILL)
        try:
            if not has_been_hit(pid, "kill"):
                raise NotStruck(f"{part} (pid {pid}) still runs")
            self.stage.history.note("struck", f"pid {pid}", self.name, subject=self.case.run_id)
            hold.released.set()
            await self.waiting.decide(self.other)
            await asyncio.gather(self.case.pending(EMAIL), self.waiting.pending(EMAIL))
            after = await self._completed()
        finally:
            self.stage.stack.release(part)
        if after[: len(before)] != before:
            self.trial.seen.append(f"run {self.case.run_id}: completed activities were {before}, then {after}")
        finisher = after[len(before)] if len(after) > len(before) else "nobody"
        if finisher == "nobody" or finisher.startswith(f"{pid}@"):
            self.trial.seen.append(f"run {self.case.run_id}: the turn of pid {pid} was completed by {finisher}")

    async def _completed(self) -> list[str]:
        """Return who completed each activity of the run, in order."""
        history = await (await self.stage.workflow(self.case.run_id)).fetch_history()
        return [
            event.activity_task_completed_event_attributes.identity
            for event in history.events
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
        ]


class EngineStruck(MidTurn):
    """The engine dies while a turn is under way; the supervisor starts it again. A decision is given meanwhile."""

    engine, number = "", signal.SIGKILL

    async def strike(self) -> None:
        hold, _, _ = await self.hold_the_turn()
        pid = self.stage.stack.pids()[self.engine]
        self.stage.stack.kill(self.engine, self.number)

        async def is_gone() -> bool:
            return has_been_hit(pid, "kill")

        try:
            await until(is_gone, f"the death of {self.engine}")
        except Exception as exc:
            raise NotStruck(str(exc)) from exc
        self.stage.history.note("struck", f"pid {pid}", self.name, subject=self.case.run_id)
        deciding = asyncio.create_task(self.waiting.decide(self.other))
        hold.released.set()  # the shop answers while the engine is away
        await asyncio.to_thread(self.stage.stack.wait_ready, [self.engine], PATIENCE)
        await deciding
        await asyncio.gather(self.case.pending(EMAIL), self.waiting.pending(EMAIL))


class TemporalKilled(EngineStruck):
    name, engine = "Temporal killed mid-turn, a decision meanwhile", "temporal"
    invariant = "both runs finish, nothing twice, no decision lost"


class PostgresStopped(EngineStruck):
    name, engine, number = "Postgres stopped `immediate` mid-turn", "postgres", signal.SIGQUIT
    invariant = "both runs finish, nothing twice, no decision lost, the audit chain fits"

    async def judge(self) -> None:
        await super().judge()
        status, output = await self.stage.manage("verify_audit")
        if status != 0:
            self.trial.seen.append(f"verify_audit: {output.strip()[-500:]}")


class TemporalAwayForLong(Fault):
    """Temporal is gone, somebody decides, the relay is killed too, and an hour passes for the decision."""

    name = "Temporal away for an hour, the relay killed meanwhile"
    invariant = "the decision is kept, stands in the lane, and takes effect once Temporal is back; nothing twice"

    async def steady(self) -> None:
        self.case = await Case.open(self.stage)
        self.approval = await self.case.steady_at(REFUND)

    async def strike(self) -> None:
        pid = self.stage.stack.pids()["temporal"]
        await asyncio.to_thread(self.stage.stack.hold, "temporal", signal.SIGKILL)
        try:
            if not has_been_hit(pid, "kill"):
                raise NotStruck(f"Temporal (pid {pid}) still runs")
            self.stage.history.note("struck", f"pid {pid}", self.name, subject=self.case.run_id)
            await self.case.decide(self.approval)
            await until(self._was_tried, f"a try to tell {self.case.run_id}")
            await self._kill_the_relay()
            await self._let_an_hour_pass()
        finally:
            self.stage.stack.release("temporal")
        await asyncio.to_thread(self.stage.stack.wait_ready, ["temporal", "relay"], PATIENCE)

    async def recover(self) -> None:
        await self.case.pending(EMAIL)

    async def judge(self) -> None:
        await self.case.to_the_end()
        self.expect(await checks.well_ended(self.case))
        (row,) = await self._approval_row()
        if row["took_effect_at"] is None or row["is_late"]:
            self.trial.seen.append(f"{self.approval['id']} has not taken effect: {row}")
        steps = [step["step"] for step in (await self.stage.get("alice", self._path))["receipt"]]
        if sorted(steps) != sorted(("recorded", "signalled", "resumed", "effect_started", "effect_finished")):
            self.trial.seen.append(f"the receipt of {self.approval['id']} is {steps}")

    @property
    def _path(self) -> str:
        return f"/approvals/{self.approval['id']}"

    async def _was_tried(self) -> bool:
        """Return whether the relay has found Temporal away; it then takes no further entry into its hands."""
        return bool(await self.stage.sql("SELECT 1 FROM console_partheartbeat WHERE detail = 'waiting for Temporal'"))

    async def _kill_the_relay(self) -> None:
        pid = self.stage.stack.pids()["relay"]
        self.stage.stack.kill("relay", signal.SIGKILL)

        async def is_gone() -> bool:
            return has_been_hit(pid, "kill")

        try:
            await until(is_gone, "the death of the relay")
        except Exception as exc:
            raise NotStruck(str(exc)) from exc

    async def _let_an_hour_pass(self) -> None:
        """Make the decision and its entry an hour older, for this case alone; it must then stand in the lane."""
        older = "UPDATE {} SET {} - interval '1 hour' WHERE {} = %s"
        await self.stage.sql(
            older.format("approvals_approval", "expected_by = expected_by", "id"), [self.approval["id"]]
        )
        await self.stage.sql(
            older.format("console_outboxentry", "created_at = created_at", "delivered_at IS NULL AND subject"),
            [self.case.run_id],
        )
        (row,) = await self._approval_row()
        if not row["is_late"]:
            self.trial.seen.append(f"{self.approval['id']} does not stand in the lane after an hour: {row}")

    async def _approval_row(self) -> list[Row]:
        query = (
            "SELECT took_effect_at, coalesce(expected_by <= signalbox_now(), false) AS is_late"
            " FROM approvals_approval WHERE id = %s"
        )
        return await self.stage.sql(query, [self.approval["id"]])


FAULTS: tuple[type[Fault], ...] = (HostKilled, TemporalKilled, PostgresStopped, TemporalAwayForLong)
