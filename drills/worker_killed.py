"""Failure 1: the worker dies, or freezes, at every point of a step that touches the world."""

from __future__ import annotations

import asyncio
import os
import random
import signal

from drills import checks
from drills.case import EMAIL, REFUND, Case
from drills.errors import NotStruck
from drills.stage import Fired, has_been_hit, thaw
from drills.trials import Fault
from drills.waiting import until

QUESTION_TOOL = "confirm_outcome"
REFUND_INVARIANT = "one refund, one effect, no earlier node again, the run finishes"
EMAIL_INVARIANT = "at most one e-mail; unknown is asked of a person; the run finishes"


class RefundFault(Fault):
    """A run that waits for its refund's approval; the approval starts the turn that is struck."""

    invariant = REFUND_INVARIANT
    point = ""

    async def steady(self) -> None:
        self.case = await Case.open(self.stage)
        self.approval = await self.case.pending(REFUND)

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


class RefundBeforeGraph(RefundFault):
    name, point = "refund: killed before the graph resumes", "turn.before_graph"


class RefundBeforeCall(RefundFault):
    name, point = "refund: killed before the call", "effect.before_call"


class RefundDuringCall(RefundFault):
    """The shop has paid and has not answered when the worker is killed from outside."""

    name = "refund: killed during the call"

    async def strike(self) -> None:
        await self.stage.ready_workers()
        hold = self.stage.shop.hold("POST", self.case.order_id, "after")
        await self.case.decide(self.approval)
        if not await asyncio.to_thread(hold.reached.wait, 40):
            raise NotStruck(f"the refund of order {self.case.order_id} never reached the shop")
        part, pid = await self.stage.busy_worker(self.case.run_id)
        if len(await self.case.refunds()) != 1:
            raise NotStruck("the shop had not recorded the refund yet")
        self.stage.stack.kill(part)

        async def is_gone() -> bool:
            return has_been_hit(pid, "kill")

        await until(is_gone, f"the death of {part}", 10)
        self.stage.history.note("struck", f"pid {pid}", self.name, subject=self.case.run_id)
        hold.released.set()


class RefundAfterCall(RefundFault):
    name, point = "refund: killed after the call", "effect.after_call"


class RefundAfterGraph(RefundFault):
    name, point = "refund: killed after the graph pauses", "turn.after_graph"


class RefundBeforeReport(RefundFault):
    name, point = "refund: killed before the report", "turn.before_report"


class EmailFault(Fault):
    """A run that waits for its e-mail's approval. The mail system takes no key, so nothing may be sent again."""

    invariant = EMAIL_INVARIANT
    point = ""
    unknown = True  # whether the end of the call must have been lost
    mails_at_least, mails_at_most = 0, 1  # at the moment when a person is asked

    async def steady(self) -> None:
        self.case = await Case.open(self.stage)
        await self.case.decide(await self.case.pending(REFUND))
        self.approval = await self.case.pending(EMAIL)

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
    """Stopped before the call, let go, and killed within milliseconds: somewhere in the sending."""

    name = "e-mail: killed during the call"

    async def strike(self) -> None:
        await self.stage.ready_workers()
        self.stage.arm("effect.before_call", self.case.run_id, "freeze")
        await self.case.decide(self.approval)
        fired = await self.stage.fired("effect.before_call", self.case.run_id)
        thaw(fired.pid)
        await asyncio.sleep(random.uniform(0, 0.004))  # the point in the call, not a wait
        os.kill(fired.pid, signal.SIGKILL)

        async def is_gone() -> bool:
            return has_been_hit(fired.pid, "kill")

        await until(is_gone, f"the death of pid {fired.pid}", 10)

    async def recover(self) -> None:
        """Either end is right, by where the kill struck; the row must tell which."""

        async def ended() -> str:
            rows = await self.case.effects(EMAIL)
            return str(rows[0]["status"]) if rows and rows[0]["status"] != "executing" else ""

        status = await until(ended, f"the end of the e-mail of {self.case.run_id}", 60)
        self.unknown = status == "unknown"
        self.mails_at_least = 0 if self.unknown else 1
        await super().recover()


class EmailAfterCall(EmailFault):
    name, point = "e-mail: killed after the call", "effect.after_call"
    mails_at_least = 1


class EmailBeforeReport(EmailFault):
    """The last turn: the run's row says finished, and Temporal has not heard of it."""

    name, point = "e-mail: killed before the report", "turn.before_report"
    unknown = False


class RefundFrozen(RefundFault):
    """A worker that stops breathing is given up; when it wakes, a newer attempt has done its work."""

    name = "refund: worker frozen, replaced, thawed"

    async def strike(self) -> None:
        await self.stage.ready_workers(2)
        self.fired = await _freeze(self, self.case, self.approval)
        try:
            self.email = await self.case.pending(EMAIL)
        finally:
            thaw(self.fired.pid)

    async def recover(self) -> None:
        """The old attempt goes on where it was: it asks the shop too, under the same key."""

        async def asked_again() -> bool:
            return len(await self.case.attempts()) >= 2

        await until(asked_again, f"the thawed worker's call about order {self.case.order_id}", 20)


class EmailFrozen(EmailFault):
    """While the sender is frozen a person is asked; thawed, it sends, once, and the row says so."""

    name = "e-mail: worker frozen, replaced, thawed"
    mails_at_most = 0

    async def strike(self) -> None:
        await self.stage.ready_workers(2)
        self.fired = await _freeze(self, self.case, self.approval)
        try:
            await super().recover()
        finally:
            thaw(self.fired.pid)

    async def recover(self) -> None:
        self.mails_at_least = self.mails_at_most = 1

        async def sent() -> bool:
            return self.stage.mails_about(self.case.order_id) >= 1

        await until(sent, f"the thawed worker's e-mail about order {self.case.order_id}", 20)

        async def known() -> bool:
            return [row["status"] for row in await self.case.effects(EMAIL)] == ["done"]

        await until(known, "the thawed worker's word in the ledger", 20)

    async def judge(self) -> None:
        """Whatever the person answers now, what happened stands."""
        await self.case.decide(self.question, "approve" if self.trial.number % 2 == 1 else "reject")
        self.expect(await checks.well_ended(self.case, asked=True))
        self.expect(await checks.ledger(self.case, EMAIL, "done"), await checks.mailed(self.case, 1))


async def _freeze(fault: Fault, case: Case, approval: dict[str, object]) -> Fired:
    fault.stage.arm("effect.before_call", case.run_id, "freeze")
    await case.decide(approval)
    return await fault.stage.fired("effect.before_call", case.run_id)


FAULTS: tuple[type[Fault], ...] = (
    RefundBeforeGraph,
    RefundBeforeCall,
    RefundDuringCall,
    RefundAfterCall,
    RefundAfterGraph,
    RefundBeforeReport,
    EmailBeforeCall,
    EmailDuringCall,
    EmailAfterCall,
    EmailBeforeReport,
    RefundFrozen,
    EmailFrozen,
)
