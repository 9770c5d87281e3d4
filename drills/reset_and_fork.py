"""Failure: an operator resets, forks, retries, cancels or ends a run, and a process dies in the middle of that.

The refund is done and the e-mail waits for its approval when the run is set back to where it had asked for the refund.
It asks for both again; what was paid is not paid again, and nothing of what the preview said turns out otherwise.
"""

from __future__ import annotations

import asyncio
from typing import Any

from drills import checks
from drills.case import EMAIL, REFUND, Case
from drills.errors import NotStruck
from drills.stage import WORKERS, Row
from drills.trials import Fault
from drills.waiting import PATIENCE, until

FAILURE = "reset-and-fork"
SET_BACK = "one refund, one e-mail; what the preview named died, stands, or was dropped; the run finishes"
CLOSED = "the requests and decisions that the preview named come to nothing, no other; what was done stands, once"
FORKED = "the fork asks anew and pays its own refund once; the first run keeps its row and its request, and finishes"
TURN = 2  # took up the decision about the refund


class Reset(Fault):
    """A run that has paid and asks whether to write, set back to where it had asked whether to pay."""

    invariant = SET_BACK
    point = ""

    async def steady(self) -> None:
        self.case = await Case.open(self.stage)
        self.first = await self.case.pending(REFUND)
        await self.case.decide(self.first)
        self.email = await self.case.pending(EMAIL)

    async def strike(self) -> None:
        await self.stage.ready_workers()
        if self.point:
            self.stage.arm(self.point, self.case.run_id, "kill")
        self.preview = await self.ask({"dry_run": True}, 200)
        await self.ask({"state": self.preview["state"]}, 202)
        if self.point:
            await self.stage.fired(self.point, self.case.run_id)

    async def ask(self, more: Row, status: int) -> Row:
        """Ask for the reset; an answer that was lost is asked for again, and is the same."""
        body = {"action": "reset", "turn": TURN, "reason": "The drill sets it back.", **more}
        return await asked(self, self.case.run_id, body, status)

    async def recover(self) -> None:
        self.again = await self.case.pending(REFUND)

    async def judge(self) -> None:
        seen = await self.as_told()
        await self.case.decide(self.again)
        run = await self.case.to_the_end()
        if run["status"] != "finished" or run["era"] != 1:
            seen.append(f"run {self.case.run_id} is {run['status']} in era {run['era']}: {run['error']}")
        effects = await self.stage.sql(
            "SELECT approval_id, status, key, is_set_back FROM orchestration_effect WHERE run_id = %s AND tool = %s"
            " ORDER BY started_at",
            [self.case.run_id, REFUND],
        )
        wanted = [(self.first["id"], "done", "", True), (self.again["id"], "done", self.first["id"], False)]
        if [tuple(row.values()) for row in effects] != wanted:
            seen.append(f"run {self.case.run_id}: effects are {effects}, not {wanted}")
        self.expect(seen, await checks.refunded(self.case), await checks.mailed(self.case, 1))

    async def as_told(self) -> list[str]:
        """Compare what has become of requests and effects with what the preview had said."""
        rows = await self.stage.sql(
            "SELECT id, status FROM approvals_approval WHERE run_id = %s AND id <> %s",
            [self.case.run_id, self.again["id"]],
        )
        withdrawn = sorted(row["id"] for row in rows if row["status"] == "withdrawn")
        told = self.preview
        seen = [] if withdrawn == told["approvals_withdrawn"] else [f"withdrawn: {withdrawn}, told: {told}"]
        if (told["effects_kept"], told["effects_repeated"]) != ([self.first["id"]], []):
            seen.append(f"the preview of {self.case.run_id} told of other effects: {told}")
        newest = (await self.case.checkpoints())[-1]
        line, parents = (
            set(),
            {one["checkpoint_id"]: one["parent_checkpoint_id"] for one in await self.case.checkpoints()},
        )
        at: Any = newest["checkpoint_id"]
        while at:
            line.add(at)
            at = parents.get(at)
        if not told["checkpoints_dropped"] or line & set(told["checkpoints_dropped"]):
            seen.append(f"checkpoints of {self.case.run_id} were not dropped as told: {told}")
        return seen


class WorkerKilledAfterPlacing(Reset):
    name, point = "reset: worker killed once the thread is set back", "turn.after_place"


class WorkerKilledBeforeGraph(Reset):
    name, point = "reset: worker killed before the graph goes on", "turn.before_graph"


class RelayKilled(Reset):
    """The workflow is started anew, and the relay dies before it can note that."""

    name, point = "reset: relay killed once the workflow is started anew", "relay.after_restart"


class WhilePaying(Reset):
    """The shop has paid and has not answered when the run is set back: nobody has seen the end."""

    name = "reset while the refund is under way, its worker killed"

    async def steady(self) -> None:
        self.case = await Case.open(self.stage)
        self.first = await self.case.pending(REFUND)

    async def strike(self) -> None:
        await self.stage.ready_workers()
        hold = self.stage.shop.hold("POST", self.case.order_id, "after")
        try:
            await self.case.decide(self.first)
            if not await asyncio.to_thread(hold.reached.wait, PATIENCE):
                raise NotStruck(f"the refund of order {self.case.order_id} never came")
            part, _ = await self.stage.busy_worker(self.case.run_id)
            self.preview = await self.ask({"dry_run": True}, 200)
            await self.ask({"state": self.preview["state"]}, 202)
            self.stage.stack.kill(part)
            self.stage.history.note("struck", part, self.name, subject=self.case.run_id)
        finally:
            hold.released.set()


class Forked(Reset):
    """The same point, forked into a run of its own, whose worker dies where its thread begins."""

    name = "fork: worker killed where the new thread begins"
    invariant = FORKED

    async def strike(self) -> None:
        await self.stage.ready_workers()
        self.stage.arm("fork.after_place", self.case.run_id, "kill")
        body = {"action": "fork", "turn": TURN, "reason": "The drill forks it."}
        self.preview = await asked(self, self.case.run_id, {**body, "dry_run": True}, 200)
        made = await asked(self, self.case.run_id, body, 202)
        again = await asked(self, self.case.run_id, body, 202)
        if made["new_run"]["id"] != again["new_run"]["id"]:
            self.trial.seen.append(f"the same click made two forks: {made['new_run']['id']}, {again['new_run']['id']}")
        self.fork = Case(self.stage, self.case.order_id, made["new_run"]["id"])
        await self.stage.fired("fork.after_place", self.case.run_id)

    async def recover(self) -> None:
        self.again = await self.fork.pending(REFUND)

    async def judge(self) -> None:
        seen = [] if self.preview["effects_repeated"] == [self.first["id"]] else [f"the preview told {self.preview}"]
        await self.fork.decide(self.again)
        for case in (self.fork, self.case):
            run = await case.to_the_end()
            if run["status"] != "finished" or run["era"] != 0:
                seen.append(f"run {case.run_id} is {run['status']} in era {run['era']}: {run['error']}")
            seen += await checks.ledger(case, REFUND, "done")
        refunds = await self.case.refunds()
        if len(refunds) != 2:
            seen.append(f"order {self.case.order_id}: {len(refunds)} refunds, not one of each run: {refunds}")
        self.expect(seen, await checks.mailed(self.case, 2, 2))


class Closing(Fault):
    """A run that has paid and asks whether to write is ended in some way, and a worker dies at that."""

    invariant = CLOSED
    action = ""

    async def steady(self) -> None:
        self.case = await Case.open(self.stage)
        self.first = await self.case.pending(REFUND)
        await self.case.decide(self.first)
        self.email = await self.case.pending(EMAIL)
        self.voided: list[str] = []

    async def strike(self) -> None:
        await self.stage.ready_workers()
        await self.act()
        part = await until(self._kill_a_worker, "a worker that is alive")  # the strikes before may have had both
        self.stage.history.note("struck", part, self.name, subject=self.case.run_id)

    async def _kill_a_worker(self) -> str:
        """Kill the first worker that is alive and return its name, "" when none is."""
        for part in WORKERS:
            if part in self.stage.stack.pids():
                self.stage.stack.kill(part)
                return part
        return ""

    async def act(self) -> None:
        body = {"action": self.action, "reason": "The drill ends it."}
        self.preview = await asked(self, self.case.run_id, {**body, "dry_run": True}, 200)
        for _ in range(2):  # the same click again
            await asked(self, self.case.run_id, {**body, "state": self.preview["state"]}, 202)

    async def recover(self) -> None:
        self.run = await self.case.finished()

    async def judge(self) -> None:
        seen = [] if self.run["status"] == "cancelled" else [f"run {self.case.run_id} is {self.run['status']}"]
        told = {name: self.preview[name] for name in ("approvals_withdrawn", "decisions_voided", "effects_repeated")}
        rows = await self.stage.sql(
            "SELECT id, status, took_effect_at IS NOT NULL AS took_effect FROM approvals_approval WHERE run_id = %s"
            " ORDER BY opened_at, id",
            [self.case.run_id],
        )
        query = "SELECT id FROM approvals_decision WHERE approval_id = ANY(%s) ORDER BY at, id"
        lost = [row["id"] for row in rows if row["status"] == "decided" and not row["took_effect"]]
        happened = {
            "approvals_withdrawn": [row["id"] for row in rows if row["status"] == "withdrawn"],
            "decisions_voided": [str(row["id"]) for row in await self.stage.sql(query, [lost])],
            "effects_repeated": [],
        }
        if told != happened:
            seen.append(f"run {self.case.run_id}: told {told}, and what happened was {happened}")
        if lost != self.voided:
            seen.append(f"run {self.case.run_id}: decisions without effect are {lost}, not {self.voided}")
        done = await checks.refunded(self.case) + await checks.ledger(self.case, REFUND, "done")
        self.expect(seen, done, await checks.mailed(self.case, 0, 0))


class Cancelled(Closing):
    name, action = "cancel: a worker killed while the workflow is asked to stop", "cancel"


class Ended(Closing):
    name, action = "end with an open request: a worker killed at once", "end"


class EndedUndelivered(Closing):
    """The e-mail is approved while the relay is away, so the run is ended before it can hear of that."""

    name, action = "end with a decision that the run has not heard: the relay away, a worker killed", "end"

    async def act(self) -> None:
        await asyncio.to_thread(self.stage.stack.hold, "relay")
        try:
            await self.case.decide(self.email)
            await super().act()
        finally:
            self.stage.stack.release("relay")
        self.voided = [self.email["id"]]


class RetriedNow(Fault):
    """The shop is away, so that the turn which pays fails again and again; it is back when somebody tries it now."""

    name = "retry now: worker killed before it calls again"
    invariant = "asked again under one key, as the preview said; one refund; the run finishes"

    async def steady(self) -> None:
        self.case = await Case.open(self.stage)
        self.first = await self.case.pending(REFUND)

    async def strike(self) -> None:
        await self.stage.ready_workers()
        self.stage.shop.refused.add(self.case.order_id)
        await self.case.decide(self.first)

        async def fails() -> bool:
            failure = (await self.stage.get("olga", f"/runs/{self.case.run_id}"))["failure"]
            return bool(failure) and failure["attempt"] >= 2

        await until(fails, f"two failed attempts of {self.case.run_id}")
        body = {"action": "retry_now", "reason": "The shop is back."}
        self.preview = await asked(self, self.case.run_id, {**body, "dry_run": True}, 200)
        self.stage.arm("effect.before_call", self.case.run_id, "kill")
        self.stage.shop.refused.discard(self.case.order_id)
        await asked(self, self.case.run_id, {**body, "state": self.preview["state"]}, 202)
        await self.stage.fired("effect.before_call", self.case.run_id)

    async def recover(self) -> None:
        self.email = await self.case.pending(EMAIL)

    async def judge(self) -> None:
        seen = [] if "under its key" in " ".join(self.preview["warnings"]) else [f"the preview told {self.preview}"]
        await self.case.decide(self.email)
        run = await self.case.finished()
        if run["status"] != "finished":
            seen.append(f"run {self.case.run_id} is {run['status']}: {run['error']}")
        self.expect(seen, await checks.refunded(self.case), await checks.ledger(self.case, REFUND, "done"))
        self.expect(await checks.mailed(self.case, 1))


async def asked(fault: Fault, run_id: str, body: Row, status: int) -> Row:
    """Ask for an action as olga until there is an answer. Raises when it is another one than expected."""
    answer = await fault.stage.ask("olga", f"/runs/{run_id}/actions", body)
    if answer.status_code != status:
        raise RuntimeError(f"{body['action']} of {run_id}: {answer.status_code} {answer.text[:300]}")
    found: Row = answer.json()
    return found


FAULTS: tuple[type[Fault], ...] = (
    WorkerKilledAfterPlacing,
    WorkerKilledBeforeGraph,
    RelayKilled,
    WhilePaying,
    Forked,
    Cancelled,
    Ended,
    EndedUndelivered,
    RetriedNow,
)
