"""Failure 1: the worker dies, or freezes, at every point of a step that touches the world."""

from __future__ import annotations

import asyncio
import os
import signal

from drills import checks
from drills.case import EMAIL, REFUND, Case
from drills.errors import NotStruck
from drills.holds import Hold
from drills.stage import WORKERS, has_been_hit, thaw
from drills.trials import Fault
from drills.waiting import PATIENCE, until

QUESTION_TOOL = "confirm_outcome"
REFUND_INVARIANT = "one refund, one effect, no earlier node again, the run finishes"
EMAIL_INVARIANT = "at most one e-mail; unknown is asked of a person; the run finishes"


class RefundFault(Fault):
    """A run that waits for its refund's approval; the approval starts the turn that is struck."""

    invariant = REFUND_INVARIANT
    point = ""

    async def steady(self) -> None:
        self.case = await Case.open(self.stage)
        self.approval = await self.case.steady_at(REFUND)

    async def strike(self) -> None:
        await self.stage.ready_workers()
        self.stage.arm(self.point, self.case.run_id, "kill")
        await self.case.decide(self.approval)
        await self.stage.fired(self.point, self.case.run_id)

    async def recover(self) -> None:
        self.email = await self.case.pending(EMAIL)

    async def judge(self) -> None:
        await self.case.decide(self.email)
        self.expect(await checks.well_ended(self.case))


class RefundBeforeCall(RefundFault):
    name, point = "refund: killed before the call", "effect.before_call"


class RefundDuringCall(RefundFault):
    """The shop has paid and has not answered when the worker is killed from outside."""

    name = "refund: killed during the call"

    async def strike(self) -> None:
        await self.stage.ready_workers()
        hold = self.stage.shop.hold("POST", self.case.order_id, "after")
        await self.case.decide(self.approval)
        await _kill_at(self, self.case, hold)
        if len(await self.case.refunds()) != 1:
            raise NotStruck("the shop had not recorded the refund when its caller died")


class RefundAfterCall(RefundFault):
    name, point = "refund: killed after the call", "effect.after_call"


class RefundAfterGraph(RefundFault):
    name, point = "refund: killed after the graph pauses", "turn.after_graph"


class RefundBeforeReport(RefundFault):
    name, point = "refund: killed before the report", "turn.before_report"


class GuardedAfterCall(RefundFault):
    """A tool of LangChain's under the ledger, in an agent that was not written for us."""

    name, point = "guarded LangChain tool: killed after the call", "effect.after_call"
    invariant = "one refund, one effect, the run finishes"

    async def steady(self) -> None:
        self.case = await Case.guarded(self.stage)
        self.approval = await self.case.pending(REFUND)

    async def recover(self) -> None:
        await self.case.finished()

    async def judge(self) -> None:
        run = await self.case.finished()
        self.expect([] if run["status"] == "finished" else [f"run {self.case.run_id} is {run['status']}"])
        self.expect(await checks.refunded(self.case), await checks.ledger(self.case, REFUND, "done"))
        self.expect(await checks.straight(self.case))


class GuardedBeforeReport(GuardedAfterCall):
    name, point = "guarded LangChain tool: killed before the report", "turn.before_report"


class EmailFault(Fault):
    """A run that waits for its e-mail's approval. The mail system takes no key, so nothing may be sent again."""

    invariant = EMAIL_INVARIANT
    point = ""
    unknown = True  # whether the end of the call must have been lost
    mails_at_least, mails_at_most = 0, 1  # at the moment when a person is asked

    async def steady(self) -> None:
        self.case = await Case.open(self.stage)
        await self.case.decide(await self.case.pending(REFUND))
        self.approval = await self.case.steady_at(EMAIL)

    async def strike(self) -> None:
        await self.stage.ready_workers()
        self.stage.arm(self.point, self.case.run_id, "kill")
        await self.case.decide(self.approval)
        await self.stage.fired(self.point, self.case.run_id)

    async def recover(self) -> None:
        if self.unknown:
            self.question = await self.case.pending(QUESTION_TOOL)
            self.expect(
                await checks.ledger(self.case, EMAIL, "unknown"),
                await checks.mailed(self.case, self.mails_at_least, self.mails_at_most),
                [] if self.question["kind"] == "outcome" else [f"the question is {self.question['kind']}"],
            )

    async def judge(self) -> None:
        """Answer both ways in turn: it happened, it did not."""
        if self.unknown:
            happened = self.trial.number % 2 == 1
            await self.case.decide(self.question, "approve" if happened else "reject")
            await self.case.finished()
            self.expect(await checks.ledger(self.case, EMAIL, "done" if happened else "failed"))
            self.expect(await checks.mailed(self.case, self.mails_at_least, self.mails_at_most))
        self.expect(await checks.well_ended(self.case, asked=self.unknown))


class EmailBeforeCall(EmailFault):
    name, point = "e-mail: killed before the call", "effect.before_call"
    mails_at_most = 0


class EmailDuringCall(EmailFault):
    """The mail system has taken the message and has not said so when the worker is killed from outside."""

    name = "e-mail: killed during the call"
    mails_at_least = 1

    async def strike(self) -> None:
        await self.stage.ready_workers()
        hold = self.stage.mail.hold(self.case.order_id, "after")
        await self.case.decide(self.approval)
        await _kill_at(self, self.case, hold)


class EmailAfterCall(EmailFault):
    name, point = "e-mail: killed after the call", "effect.after_call"
    mails_at_least = 1


class EmailBeforeReport(EmailFault):
    """The last turn: the run's row says finished, and Temporal has not heard of it."""

    name, point = "e-mail: killed before the report", "turn.before_report"
    unknown = False


class RefundFrozen(RefundFault):
    """A worker that stops breathing is given up; when it wakes, a newer attempt has done its work.

    The refund is on its way to the shop when the worker freezes; it arrives after the newer attempt's.
    """

    name = "refund: worker frozen, replaced, thawed"

    async def strike(self) -> None:
        _frozen_together(self).append(self)

    async def freezable(self) -> Hold:
        return self.stage.shop.hold("POST", self.case.order_id, "before")

    async def replaced(self) -> None:
        self.email = await self.case.pending(EMAIL)

    async def recover(self) -> None:
        """Wait until the frozen attempt's request has reached the shop as well: under the same key."""

        async def asked_twice() -> bool:
            return len(await self.case.attempts()) >= 2

        await until(asked_twice, f"the frozen attempt's refund of order {self.case.order_id}")


class EmailFrozen(EmailFault):
    """While the sender is frozen a person is asked; thawed, it still sends, once, and nobody sends again."""

    name = "e-mail: worker frozen, replaced, thawed"
    mails_at_most = 0

    async def strike(self) -> None:
        """Freeze the one worker that is up with a few trials of both tools in its hands; the last trial strikes."""
        together = _frozen_together(self)
        together.append(self)
        if not self.trial.is_last_of_round:
            return
        stack, (kept, replacement) = self.stage.stack, WORKERS
        await self.stage.ready_workers(len(WORKERS))
        await asyncio.to_thread(stack.hold, replacement)
        holds = [await one.freezable() for one in together]
        await asyncio.gather(*(one.case.decide(one.approval) for one in together))
        pid = stack.pids()[kept]
        try:
            await asyncio.gather(*(_reached(hold) for hold in holds))
            os.kill(pid, signal.SIGSTOP)

            async def is_stopped() -> bool:
                return has_been_hit(pid, "freeze")

            await until(is_stopped, f"pid {pid} stopped")
            self.stage.history.note("struck", f"pid {pid}", self.name, subject=[one.case.run_id for one in together])
            stack.release(replacement)
            await asyncio.gather(*(one.replaced() for one in together))
        finally:
            stack.release(replacement)
            thaw(pid)
            for hold in holds:
                hold.released.set()

    async def freezable(self) -> Hold:
        return self.stage.mail.hold(self.case.order_id, "before")

    async def replaced(self) -> None:
        await super().recover()

    async def recover(self) -> None:
        async def sent() -> bool:
            return self.stage.mail.counts[self.case.order_id] >= 1

        await until(sent, f"the frozen attempt's e-mail about order {self.case.order_id}")

    async def judge(self) -> None:
        """The thawed attempt may get to say what it did before Temporal cancels it; else the person's word counts."""
        happened = self.trial.number % 2 == 1
        await self.case.decide(self.question, "approve" if happened else "reject")
        self.expect(await checks.well_ended(self.case, asked=True), await checks.mailed(self.case, 1))
        status = "".join(row["status"] for row in await self.case.effects(EMAIL))
        if status not in (("done",) if happened else ("done", "failed")):
            self.trial.seen.append(f"run {self.case.run_id}: the e-mail's effect ended as {status!r}")


def _frozen_together(fault: Fault) -> list[RefundFrozen | EmailFrozen]:
    return _BATCHES.setdefault((id(fault.stage), fault.trial.round), [])


_BATCHES: dict[tuple[int, int], list[RefundFrozen | EmailFrozen]] = {}


async def _reached(hold: Hold) -> None:
    if not await asyncio.to_thread(hold.reached.wait, PATIENCE):
        raise NotStruck(f"{hold.method} about order {hold.order_id} never came")


async def _kill_at(fault: Fault, case: Case, hold: Hold) -> None:
    """Kill the worker whose call the hold keeps waiting."""
    try:
        await _reached(hold)
        part, pid = await fault.stage.busy_worker(case.run_id)
        fault.stage.stack.kill(part)

        async def is_gone() -> bool:
            return has_been_hit(pid, "kill")

        await until(is_gone, f"the death of {part}")
        fault.stage.history.note("struck", f"pid {pid}", fault.name, subject=case.run_id)
    finally:
        hold.released.set()


FAULTS: tuple[type[Fault], ...] = (
    RefundBeforeCall,
    RefundDuringCall,
    RefundAfterCall,
    RefundAfterGraph,
    RefundBeforeReport,
    GuardedAfterCall,
    GuardedBeforeReport,
    EmailBeforeCall,
    EmailDuringCall,
    EmailAfterCall,
    EmailBeforeReport,
    RefundFrozen,
    EmailFrozen,
)
