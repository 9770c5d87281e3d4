"""Failure 6: the proposal is changed behind everybody's back, at every point between the page and the effect.

Whoever changes rows here is the owner of the tables, so nothing but the digests stands in the way. Each trial is
judged by the refund that the shop knows, the ledger's row and the record: what ran is, to the byte, what was approved.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from drills import checks
from drills.browser import Browser
from drills.case import EMAIL, REFUND, Case, place_order
from drills.errors import NotStruck
from drills.stage import Row, Stage, has_been_hit, thaw
from drills.trials import Fault
from drills.waiting import until

FAILURE = "mutated-proposal"
QUESTION_TOOL = "confirm_outcome"
FORGED_AMOUNT = "77.77"  # as long as the honest ones, and no share of an order
NOTHING_RUNS = "nothing runs, and the record or the failed run says why"
AS_SHOWN = "409, nothing runs; put back, it runs once as it was shown"

Change = Callable[[bytes], dict[str, Any]]  # canonical bytes -> columns


def written(tool: str, arguments: Row) -> bytes:
    """Write a proposal canonically: RFC 8785 for texts under plain names, made without the product's code."""
    whole = {"arguments": arguments, "tool": tool}
    return json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(canonical: bytes) -> str:
    return hashlib.sha256(canonical).hexdigest()


def forged(canonical: bytes) -> bytes:
    """Return the proposal with another amount."""
    whole = json.loads(canonical)
    return written(whole["tool"], {**whole["arguments"], "amount": FORGED_AMOUNT})


def other_tool(canonical: bytes) -> bytes:
    """Return the proposal with the same arguments for another tool."""
    return written(EMAIL, json.loads(canonical)["arguments"])


def with_digest(change: Callable[[bytes], bytes]) -> Change:
    def changed(canonical: bytes) -> dict[str, Any]:
        return {"canonical": change(canonical), "digest": sha256(change(canonical))}

    return changed


def without_digest(change: Callable[[bytes], bytes]) -> Change:
    return lambda canonical: {"canonical": change(canonical)}


def refund_digest(refund: Row) -> str:
    """Return the digest of what the shop was really asked for."""
    asked = {name: refund[name] for name in ("order_id", "amount", "currency", "reason")}
    return sha256(written(REFUND, {**asked, "order_id": str(asked["order_id"])}))


def differences(approved: str, refunds: Sequence[Row], effects: Sequence[Row], decisions: Sequence[Row]) -> list[str]:
    """Return where the records of one effect differ from the digest that was approved; there must be one of each."""
    seen = []
    if [refund_digest(one) for one in refunds] != [approved]:
        seen.append(f"the shop has {list(refunds)}, and {approved} was approved")
    if [one["digest"] for one in effects] != [approved]:
        seen.append(f"the ledger has {list(effects)}, and {approved} was approved")
    if not decisions or decisions[-1]["for_digest"] != approved:
        seen.append(f"the decisions are {list(decisions)}, and {approved} was approved")
    return seen


async def change_row(stage: Stage, approval_id: str, columns: dict[str, Any]) -> None:
    """Change columns of an approval as the owner of the tables, and note it."""
    names = ", ".join(f"{name} = %s" for name in columns)
    found = await stage.sql(
        f"UPDATE approvals_approval SET {names} WHERE id = %s RETURNING id", [*columns.values(), approval_id]
    )
    if not found:
        raise NotStruck(f"there is no row {approval_id} to change")
    stage.history.note("struck", "owner of the tables", f"changed {', '.join(columns)}", subject=approval_id)


async def ran_as_approved(case: Case, approval_id: str, approved: str) -> list[str]:
    """Wait until the refund is done; return where it differs from what was approved."""

    async def done() -> bool:
        return [row["status"] for row in await case.effects(REFUND)] == ["done"]

    await until(done, f"the refund of {case.run_id}")
    effects = await case.stage.sql(
        "SELECT digest, arguments FROM orchestration_effect WHERE run_id = %s", [case.run_id]
    )
    query = "SELECT digest, for_digest, verdict FROM approvals_decision WHERE approval_id = %s ORDER BY number"
    decisions = await case.stage.sql(query, [approval_id])
    return differences(approved, await case.refunds(), effects, decisions) + await checks.refunded(case)


async def nothing_ran(case: Case, approval_id: str) -> list[str]:
    """Wait until the run has been refused its effect, or has failed over it; return what happened nonetheless."""

    async def refused() -> str:
        events = "SELECT body FROM approvals_auditevent WHERE subject = %s AND kind = 'effect.refused'"
        runs = "SELECT error FROM orchestration_run WHERE id = %s AND status = 'failed'"
        found = await case.stage.sql(events, [approval_id]) or await case.stage.sql(runs, [case.run_id])
        return json.dumps(found[0]) if found else ""

    words = await until(refused, f"a refusal of {approval_id}")
    case.stage.history.note("seen", case.run_id, words)
    seen = await not_begun(case)
    if not any(reason in words for reason in ("digest", "version", "another proposal", "another call")):
        seen.append(f"run {case.run_id} was refused for another reason: {words}")
    return seen


async def not_begun(case: Case) -> list[str]:
    """Return what was begun of a refund that must not be: asked of the shop, or written into the ledger."""
    seen = await checks.refunded(case, times=0)
    if attempts := await case.attempts():
        seen.append(f"order {case.order_id}: the shop was asked {attempts}")
    if effects := await case.effects(REFUND):
        seen.append(f"run {case.run_id} has effects: {effects}")
    return seen


@asynccontextmanager
async def before_the_turn_reads(stage: Stage) -> AsyncIterator[Callable[[], Any]]:
    """Keep decisions from reaching their runs, by a relay that does not breathe."""
    pid = stage.stack.pids()["relay"]
    os.kill(pid, signal.SIGSTOP)

    async def proof() -> None:
        if not has_been_hit(pid, "freeze"):
            raise NotStruck("the relay was not frozen while the row was changed")

    try:
        await until(lambda: _stopped(pid), f"relay {pid} stopped")
        yield proof
    finally:
        thaw(pid)


async def _stopped(pid: int) -> bool:
    return has_been_hit(pid, "freeze")


@asynccontextmanager
async def before_the_ledger(stage: Stage, run_ids: Sequence[str]) -> AsyncIterator[Callable[[], Any]]:
    """Keep the runs' rows locked: their turns have read the answers then, and wait for the fence."""
    connection = await psycopg.AsyncConnection.connect(stage.stack.owner_database_url, application_name="drill holds")
    async with connection:
        await connection.execute("SELECT 1 FROM orchestration_run WHERE id = ANY(%s) FOR UPDATE", [list(run_ids)])
        query = "SELECT pid FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"

        async def proof() -> None:
            async def all_wait() -> bool:
                return len(await stage.sql(query, [connection.info.backend_pid])) >= len(run_ids)

            await until(all_wait, f"turns of {run_ids} at the fence")

        yield proof


class Waiting(Fault):
    """A run that waits for its refund's approval."""

    async def open(self) -> Case:
        return await Case.open(self.stage)

    async def steady(self) -> None:
        self.case = await self.open()
        self.approval = await self.case.steady_at(REFUND)
        self.id = str(self.approval["id"])
        self.path = f"/approvals/{self.id}/decision"
        self.canonical = self.approval["canonical"].encode()
        self.shown = sha256(self.canonical)
        if self.approval["digest"] != self.shown:
            self.trial.seen.append(f"approval {self.id}: shown is {self.canonical!r} under {self.approval['digest']}")

    async def put_back(self) -> None:
        await change_row(self.stage, self.id, {"canonical": self.canonical, "digest": self.shown})

    async def refused(self, who: str, body: Row, status: int = 409, *, key: str = "", path: str = "") -> None:
        """Send a decision that must be refused."""
        answer = await self.stage.ask(who, path or self.path, body, key=key)
        if answer.status_code != status:
            told = (answer.status_code, answer.text[:200])
            self.trial.seen.append(f"{who} sent {body} to {path or self.path}, not {status}: {told}")

    async def is_undecided(self, approval_id: str = "") -> None:
        query = "SELECT status, (SELECT count(*) FROM approvals_decision d WHERE d.approval_id = a.id) AS decisions"
        rows = await self.stage.sql(f"{query} FROM approvals_approval a WHERE id = %s", [approval_id or self.id])
        if rows[0] != {"status": "pending", "decisions": 0}:
            self.trial.seen.append(f"approval {approval_id or self.id} is {rows[0]}")


# Between page and click.


class BeforeClick(Waiting):
    """The page is open in a browser when the row is changed; then the button is pressed."""

    invariant = AS_SHOWN
    change: Change

    async def strike(self) -> None:
        alice = await _alice(self.stage)
        fields = await alice.decision_form(self.id)
        await change_row(self.stage, self.id, type(self).change(self.canonical))
        if (status := await alice.send(self.id, fields)) != 409:
            self.trial.seen.append(f"the form of {self.id} was answered {status}")
        await self.refused("alice", self.case.answer_to(self.approval))
        await self.is_undecided()
        self.expect(await not_begun(self.case))
        await self.put_back()
        if (status := await alice.send(self.id, fields)) != 302:
            self.trial.seen.append(f"put back, the form of {self.id} was answered {status}")

    async def judge(self) -> None:
        self.expect(await ran_as_approved(self.case, self.id, self.shown))


class BothBeforeClick(BeforeClick):
    name = "page to click: bytes and digest changed"
    change = staticmethod(with_digest(forged))


class BytesBeforeClick(BeforeClick):
    name = "page to click: bytes changed, digest kept"
    change = staticmethod(without_digest(forged))


class ShownOtherBytes(Waiting):
    """The harmful action is shown as another one for as long as somebody looks, and is back when they click."""

    name = "page to click: other bytes shown, put back before the click"
    invariant = AS_SHOWN

    async def strike(self) -> None:
        alice = await _alice(self.stage)
        await change_row(self.stage, self.id, {"canonical": forged(self.canonical)})
        fields = await alice.decision_form(self.id)
        read = await self.stage.get("alice", f"/approvals/{self.id}")
        if read["arguments"]["amount"] != FORGED_AMOUNT:
            raise NotStruck(f"approval {self.id} was not shown with the other amount")
        await self.put_back()
        if (status := await alice.send(self.id, fields)) != 409:
            self.trial.seen.append(f"the form of {self.id} was answered {status}")
        await self.refused("alice", self.case.answer_to(read))
        await self.is_undecided()
        self.expect(await not_begun(self.case))
        if (status := await alice.send(self.id, await alice.decision_form(self.id))) != 302:
            self.trial.seen.append(f"read again, the form of {self.id} was answered {status}")

    async def judge(self) -> None:
        self.expect(await ran_as_approved(self.case, self.id, self.shown))


# Between decision and execution.


class AfterDecision(Waiting):
    """The row is changed after the decision: before the run's turn has read it, or between that and the ledger."""

    invariant = NOTHING_RUNS
    change: Change

    async def strike(self) -> None:
        early = self.trial.number % 2 == 1
        async with (
            before_the_turn_reads(self.stage) if early else before_the_ledger(self.stage, [self.case.run_id]) as proof
        ):
            await self.case.decide(self.approval)
            await proof()
            await change_row(self.stage, self.id, type(self).change(self.canonical))

    async def judge(self) -> None:
        self.expect(await nothing_ran(self.case, self.id))


class BytesAfterDecision(AfterDecision):
    name = "decision to effect: bytes changed, digest kept"
    change = staticmethod(without_digest(forged))


class BothAfterDecision(AfterDecision):
    name = "decision to effect: bytes and digest changed"
    change = staticmethod(with_digest(forged))


class VersionAfterDecision(AfterDecision):
    name = "decision to effect: version number changed"
    change = staticmethod(lambda canonical: {"version": 2})


class ToolAfterDecision(AfterDecision):
    name = "decision to effect: tool changed inside the bytes"
    change = staticmethod(without_digest(other_tool))


class ToolAndDigestAfterDecision(AfterDecision):
    name = "decision to effect: tool changed inside the bytes, and digest"
    change = staticmethod(with_digest(other_tool))


class GuardedBytesAfterDecision(AfterDecision):
    """The same of an agent that was not written for us, whose tool is guarded."""

    name = "guarded LangChain tool: bytes changed after the decision, digest kept"
    change = staticmethod(without_digest(forged))

    async def open(self) -> Case:
        return await Case.guarded(self.stage)


class Swapped(Waiting):
    """Two approved refunds of different orders exchange their payloads."""

    name = "decision to effect: payloads of two approvals exchanged"
    invariant = "neither runs, and the record or the failed run says why"

    async def steady(self) -> None:
        await super().steady()
        self.other = await Case.open(self.stage, "90.00")
        self.others = await self.other.steady_at(REFUND)

    async def strike(self) -> None:
        columns = ("canonical", "digest") if self.trial.number % 4 < 2 else ("canonical",)
        runs = [self.case.run_id, self.other.run_id]
        async with (
            before_the_turn_reads(self.stage)
            if self.trial.number % 2 == 1
            else before_the_ledger(self.stage, runs) as proof
        ):
            await self.case.decide(self.approval)
            await self.other.decide(self.others)
            await proof()
            mine = {"canonical": self.canonical, "digest": self.shown}
            theirs = {"canonical": self.others["canonical"].encode(), "digest": self.others["digest"]}
            await change_row(self.stage, self.id, {name: theirs[name] for name in columns})
            await change_row(self.stage, self.others["id"], {name: mine[name] for name in columns})

    async def judge(self) -> None:
        self.expect(await nothing_ran(self.case, self.id), await nothing_ran(self.other, self.others["id"]))


class BetweenAttempts(Waiting):
    """The shop has paid and its caller is dead when the bytes are changed; the turn is then tried again."""

    name = "between two attempts: bytes changed after the first was cut off"
    invariant = "the shop is not asked again; unknown is asked of a person; one refund, as approved"

    async def strike(self) -> None:
        await self.stage.ready_workers()
        self.stage.arm("effect.after_call", self.case.run_id, "kill")
        await self.case.decide(self.approval)
        await self.stage.fired("effect.after_call", self.case.run_id)
        await change_row(self.stage, self.id, {"canonical": forged(self.canonical)})

    async def recover(self) -> None:
        self.question = await self.case.pending(QUESTION_TOOL)
        self.expect(await checks.ledger(self.case, REFUND, "unknown"))

    async def judge(self) -> None:
        if len(await self.case.attempts()) != 1:
            self.trial.seen.append(f"order {self.case.order_id}: the shop was asked {await self.case.attempts()}")
        await self.case.decide(self.question)
        self.expect(await ran_as_approved(self.case, self.id, self.shown))


# The agent's own state.


class CheckpointEdited(Waiting):
    """The amount is replaced in everything that LangGraph keeps of the thread."""

    name = "checkpoint: amount edited by hand"
    invariant = "the approved bytes run, once"
    is_with_digest = False

    async def strike(self) -> None:
        amount = self.approval["arguments"]["amount"].encode()
        pairs = [(amount, FORGED_AMOUNT.encode())]
        if self.is_with_digest:
            pairs.append((self.shown.encode(), sha256(forged(self.canonical)).encode()))
        for before, after in pairs:
            if len(before) != len(after) or not await self._replace(before, after):
                raise NotStruck(f"{before!r} was not found in the thread of {self.case.run_id}")
        await self.case.decide(self.approval)

    async def _replace(self, before: bytes, after: bytes) -> int:
        """Replace bytes in the thread's tables; return in how many rows."""
        replaced = 0
        for table in ("agent.checkpoint_blobs", "agent.checkpoint_writes"):
            query = f"SELECT ctid::text AS place, blob FROM {table} WHERE thread_id = %s AND position(%s IN blob) > 0"
            for row in await self.stage.sql(query, [self.case.run_id, before]):
                blob = bytes(row["blob"]).replace(before, after)
                await self.stage.sql(f"UPDATE {table} SET blob = %s WHERE ctid = %s::tid", [blob, row["place"]])
                replaced += 1
        self.stage.history.note("struck", "owner of the tables", f"{before!r}", subject=self.case.run_id, rows=replaced)
        return replaced

    async def judge(self) -> None:
        self.expect(await ran_as_approved(self.case, self.id, self.shown))


class CheckpointEditedWithDigest(CheckpointEdited):
    name = "checkpoint: amount and digest edited by hand"
    invariant = NOTHING_RUNS
    is_with_digest = True

    async def judge(self) -> None:
        self.expect(await nothing_ran(self.case, self.id))


class KilledOnceAskedAgain(CheckpointEditedWithDigest):
    """The same, and the worker that has noticed it is killed once the graph asks anew, before anybody is asked."""

    name = "checkpoint: amount and digest edited by hand, its worker killed once the graph asks anew"

    async def strike(self) -> None:
        await self.stage.ready_workers()
        self.stage.arm("turn.after_ask_again", self.case.run_id, "kill")
        await super().strike()
        await self.stage.fired("turn.after_ask_again", self.case.run_id)


class ProposerChangesItsMind(Fault):
    """An agent that thinks of another amount each time is killed while it thinks, and again before its effect."""

    name = "proposer: gives another answer when its turn is run again"
    invariant = "the approved version runs, once"

    async def steady(self) -> None:
        self.order_id = await place_order(self.stage)

    async def strike(self) -> None:
        await self.stage.ready_workers()
        self.stage.arm("agent.proposed", self.order_id, "kill")
        self.case = await Case.start(self.stage, self.order_id, "fickle", {"order_id": self.order_id})
        await self.stage.fired("agent.proposed", self.order_id)
        self.approval = await self.case.pending(REFUND)
        if self.stage.shop.counts["GET /orders", self.order_id] < 2:
            raise NotStruck("the proposer was asked once only")
        await self.stage.ready_workers()
        self.stage.arm("effect.before_call", self.case.run_id, "kill")
        await self.case.decide(self.approval)
        await self.stage.fired("effect.before_call", self.case.run_id)

    async def judge(self) -> None:
        shown = sha256(self.approval["canonical"].encode())
        self.expect(await ran_as_approved(self.case, self.approval["id"], shown))
        await self.case.finished()


# What the decision carries.


class EditedInFlight(Waiting):
    """The arguments of an edit are replaced after its preview: by what the tool does not take, then by an amount."""

    name = "edit: arguments changed after the preview"
    invariant = "422 for what the tool does not take; else exactly the sent bytes run; the old version gets 409"

    async def strike(self) -> None:
        arguments = self.approval["arguments"]
        for sent in (
            {"to": "a@b.example", "subject": "Hello", "body": "Hello"},
            {**arguments, "to_account": "mine"},
            {**arguments, "amount": 5},
            {"tool": EMAIL, "arguments": arguments},
            arguments,
        ):
            await self.refused("alice", self.edit(sent), 422)
        await self.is_undecided()
        self.sent = {**arguments, "amount": "1.00"}
        answer = await self.stage.ask("alice", self.path, self.edit(self.sent), key=uuid.uuid4().hex)
        if not answer.is_success:
            self.trial.seen.append(f"a good edit was answered {answer.status_code} {answer.text[:200]}")
        for version in (1, 2):
            await self.refused("bob", {**self.case.answer_to(self.approval), "version": version})
        changed = await self.stage.get("bob", f"/approvals/{self.id}")
        await self.refused("alice", self.case.answer_to(changed), 403)  # who changes it does not approve the change
        answer = await self.stage.ask("bob", self.path, self.case.answer_to(changed), key=uuid.uuid4().hex)
        if not answer.is_success:
            self.trial.seen.append(f"the changed one was answered {answer.status_code} {answer.text[:200]}")

    def edit(self, arguments: Row) -> Row:
        return {**self.case.answer_to(self.approval), "verdict": "edit", "edited_arguments": arguments}

    async def judge(self) -> None:
        self.expect(await ran_as_approved(self.case, self.id, sha256(written(REFUND, self.sent))))


class ForAnother(Waiting):
    """What was sent to decide one request is sent to another one."""

    name = "decision: posted to another request, with and without its key"
    invariant = "409, the other stays undecided; decided itself, it runs once as it was shown"

    async def steady(self) -> None:
        await super().steady()
        self.other = await Case.open(self.stage, "90.00")
        self.others = await self.other.steady_at(REFUND)

    async def strike(self) -> None:
        alice, other = await _alice(self.stage), str(self.others["id"])
        fields, key, body = await alice.decision_form(self.id), uuid.uuid4().hex, self.case.answer_to(self.approval)
        to_other = f"/approvals/{other}/decision"
        await self.refused("alice", body, path=to_other)
        answer = await self.stage.ask("alice", self.path, body, key=key)
        if not answer.is_success:
            self.trial.seen.append(f"the decision of {self.id} was answered {answer.status_code} {answer.text[:200]}")
        for again in ("", key, uuid.uuid4().hex):
            await self.refused("alice", body, key=again, path=to_other)
        await self.refused("alice", self.other.answer_to(self.others), key=key, path=to_other)
        if (status := await alice.send(other, fields)) != 409:
            self.trial.seen.append(f"the form of {self.id} sent to {other} was answered {status}")
        await self.is_undecided(other)
        self.expect(await not_begun(self.other))
        await self.other.decide(self.others)

    async def judge(self) -> None:
        self.expect(
            await ran_as_approved(self.case, self.id, self.shown),
            await ran_as_approved(self.other, self.others["id"], self.others["digest"]),
        )


class Replayed(Waiting):
    """A decision is sent again: at once, after its effect, after the end of its run."""

    name = "decision: sent again at once, after its effect, after the run's end"
    invariant = "the same answer under its key, 409 without; one decision, one effect as approved"

    async def strike(self) -> None:
        self.key, self.body = uuid.uuid4().hex, self.case.answer_to(self.approval)
        answer = await self.stage.ask("alice", self.path, self.body, key=self.key)
        self.decision = answer.json()["decision"]["id"] if answer.is_success else ""
        await self.again()

    async def again(self) -> None:
        answer = await self.stage.ask("alice", self.path, self.body, key=self.key)
        if not answer.is_success or answer.json()["decision"]["id"] != self.decision:
            self.trial.seen.append(f"{self.decision} sent again was answered {answer.text[:200]}")
        for who, key in (("alice", ""), ("bob", self.key)):
            await self.refused(who, self.body, key=key)

    async def judge(self) -> None:
        self.expect(await ran_as_approved(self.case, self.id, self.shown))
        await self.again()
        await self.case.to_the_end()
        await self.again()
        self.expect(await checks.well_ended(self.case))


_BROWSERS: dict[int, Browser] = {}


async def _alice(stage: Stage) -> Browser:
    """Return alice's browser on this stage; she signs in once."""
    if id(stage) not in _BROWSERS:
        browser = Browser(stage, "alice")
        await browser.sign_in()
        _BROWSERS[id(stage)] = browser
    return _BROWSERS[id(stage)]


FAULTS: tuple[type[Fault], ...] = (
    BothBeforeClick,
    BytesBeforeClick,
    ShownOtherBytes,
    BytesAfterDecision,
    BothAfterDecision,
    VersionAfterDecision,
    ToolAfterDecision,
    ToolAndDigestAfterDecision,
    GuardedBytesAfterDecision,
    Swapped,
    BetweenAttempts,
    CheckpointEdited,
    CheckpointEditedWithDigest,
    KilledOnceAskedAgain,
    ProposerChangesItsMind,
    EditedInFlight,
    ForAnother,
    Replayed,
)
