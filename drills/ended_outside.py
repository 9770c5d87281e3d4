"""Failure 7: a workflow is ended past the console, at Temporal itself, while people are asked.

A run that is gone is closed with what Temporal says; a decision that came too late stands in the lane, or was refused
in words. A program's watch that is gone starts again, and the program gets its answer once.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from drills import checks
from drills.case import EMAIL, REFUND, Case
from drills.errors import NotStruck
from drills.stage import Row, Stage
from drills.trials import ROUND, Fault
from drills.waiting import PATIENCE, until

FAILURE = "ended-outside"
REASON = "cleanup by ops"
CLOSED = "not finished, its requests withdrawn, every decision refused in words or in the lane, no refund"
ANSWERED = "the watch starts again; the decision is taken, and the program hears it once"
NOBODY = "nobody-listens"  # a task queue


async def status_of(stage: Stage, workflow_id: str) -> str:
    """Return how the newest workflow of the id is, "gone" when there is none."""
    try:
        found = await (await stage.workflow(workflow_id)).describe()
    except RPCError as exc:
        if exc.status == RPCStatusCode.NOT_FOUND:
            return "gone"
        raise
    return found.status.name.lower() if found.status else ""


async def terminate(stage: Stage, workflow_id: str) -> None:
    await (await stage.workflow(workflow_id)).terminate(reason=REASON)


async def delete(stage: Stage, workflow_id: str) -> None:
    client = await stage.temporal()
    execution = WorkflowExecution(workflow_id=workflow_id)
    request = DeleteWorkflowExecutionRequest(namespace=client.namespace, workflow_execution=execution)
    await client.workflow_service.delete_workflow_execution(request)


async def time_out(stage: Stage, workflow_id: str) -> None:
    """Put one in its place that nobody works at and whose time is up at once."""
    client = await stage.temporal()
    await client.start_workflow(
        "NobodyKnows",
        id=workflow_id,
        task_queue=NOBODY,
        execution_timeout=timedelta(seconds=1),
        id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
    )


class RunEnded(Fault):
    """A run that waits for a person; every other time the person decides before the console has noticed."""

    invariant = CLOSED
    wanted = ""  # how Temporal then says that the workflow is
    says = ""  # a part of the run's error

    async def end(self) -> None:
        raise NotImplementedError

    async def steady(self) -> None:
        self.case = await Case.open(self.stage)
        self.approval = await self.case.steady_at(REFUND)
        self.answers: list[httpx.Response] = []

    async def strike(self) -> None:
        await self.end()

        async def is_ended() -> bool:
            return await status_of(self.stage, self.case.run_id) == self.wanted

        await until(is_ended, f"the end of {self.case.run_id} as {self.wanted}")
        self.stage.history.note("struck", self.case.run_id, self.name)
        if self.trial.number % 2:
            self.answers.append(await self.ask())

    async def ask(self) -> httpx.Response:
        path = f"/approvals/{self.approval['id']}/decision"
        return await self.stage.ask("alice", path, self.case.answer_to(self.approval), key=uuid.uuid4().hex)

    async def recover(self) -> None:
        async def is_closed() -> bool:
            return (await self.run())["status"] not in ("starting", "running", "waiting", "paused")

        await until(is_closed, f"the row of {self.case.run_id} to be closed")

    async def run(self) -> Row:
        query = "SELECT status, error, result FROM orchestration_run WHERE id = %s"
        return (await self.stage.sql(query, [self.case.run_id]))[0]

    async def judge(self) -> None:
        run, seen = await self.run(), self.trial.seen
        if run["status"] not in ("cancelled", "failed") or self.says not in str(run["error"]):
            seen.append(f"run {self.case.run_id} is {run['status']}: {run['error']}")
        late = await self.ask()
        if late.status_code != 409 or not late.json().get("detail"):
            seen.append(f"a decision after the end got {late.status_code}: {late.text[:200]}")
        taken = any(answer.is_success for answer in self.answers)
        if not taken and any(answer.status_code != 409 for answer in self.answers):
            seen.append(f"the decision got {[answer.status_code for answer in self.answers]}")
        await self.judge_approval(taken)
        if refunds := await self.case.refunds():
            seen.append(f"order {self.case.order_id} has refunds: {refunds}")

    async def judge_approval(self, taken: bool) -> None:
        columns = "status, took_effect_at, expected_by <= signalbox_now() AS late"
        query = f"SELECT {columns} FROM approvals_approval WHERE id = %s"
        row = (await self.stage.sql(query, [self.approval["id"]]))[0]
        wanted = ("decided", True) if taken else ("withdrawn", None)
        if (row["status"], row["late"]) != wanted or row["took_effect_at"] is not None:
            self.trial.seen.append(f"the approval is {row}; the decision was {'taken' if taken else 'refused'}")

        async def nothing_waits() -> bool:
            left = "SELECT 1 FROM console_outboxentry WHERE subject = %s AND delivered_at IS NULL"
            return not await self.stage.sql(left, [self.case.run_id])

        await until(nothing_waits, f"nothing more to be told to {self.case.run_id}")


class RunTerminated(RunEnded):
    name, wanted, says = "run terminated", "terminated", REASON

    async def end(self) -> None:
        await terminate(self.stage, self.case.run_id)


class RunDeleted(RunEnded):
    name, wanted, says = "run deleted with its history", "gone", "does not know its workflow"

    async def end(self) -> None:
        await delete(self.stage, self.case.run_id)


class RunTimedOut(RunEnded):
    name, wanted, says = "run timed out", "timed_out", "ran out of the time"

    async def end(self) -> None:
        await time_out(self.stage, self.case.run_id)


class CheckpointsGone(Fault):
    """A run's checkpoints are deleted while a person is asked. The decision is taken: nothing is there to resume."""

    name = "checkpoints deleted while a person is asked"
    invariant = "the decision is taken; the run fails and says why; the decision stands in the lane, no refund"

    async def steady(self) -> None:
        self.case = await Case.open(self.stage)
        self.approval = await self.case.steady_at(REFUND)

    async def strike(self) -> None:
        for table in ("checkpoint_writes", "checkpoint_blobs", "checkpoints"):
            await self.stage.sql(f"DELETE FROM agent.{table} WHERE thread_id = %s", [self.case.run_id])
        self.stage.history.note("struck", self.case.run_id, self.name)
        await self.case.decide(self.approval)

    async def recover(self) -> None:
        self.run = await self.case.finished()

    async def judge(self) -> None:
        if self.run["status"] != "failed" or "checkpoint" not in str(self.run["error"]):
            self.trial.seen.append(f"run {self.case.run_id} is {self.run['status']}: {self.run['error']}")
        columns = "status, took_effect_at IS NOT NULL AS took_effect, expected_by <= signalbox_now() AS late"
        query = f"SELECT {columns} FROM approvals_approval WHERE id = %s"
        row = (await self.stage.sql(query, [self.approval["id"]]))[0]
        if row != {"status": "decided", "took_effect": False, "late": True}:
            self.trial.seen.append(f"the approval is {row}")
        if refunds := await self.case.refunds():
            self.trial.seen.append(f"order {self.case.order_id} has refunds: {refunds}")


class OlderBackup(Fault):
    """The database is set back to a backup. Between them every other run went on; the rest stood still.

    The trials of one round share one backup and one restore, for those are of the whole database.
    """

    name = "an older backup of the database restored"
    invariant = "a run that went on since is closed and says so; one that stood still goes on; one refund each"
    _PARTS = ("web", "worker", "worker-2", "relay", "flows")

    async def steady(self) -> None:
        self.case = await Case.open(self.stage)
        self.approval = await self.case.steady_at(REFUND)
        self.goes_on = self.trial.number % 2 == 1

    async def strike(self) -> None:
        if self.trial.number % ROUND == 1:
            await self._stand_still()
            await self._keep_head()
            await asyncio.to_thread(self._with_postgres_down, self._back_up)
        if self.goes_on:
            await self.case.decide(self.approval)
            await self.case.pending(EMAIL)
        if self.trial.is_last_of_round:
            await self._keep_head()
            await asyncio.to_thread(self._with_postgres_down, self._restore)
            self.stage.history.note("struck", "postgres", self.name)

    async def _stand_still(self) -> None:
        """Wait until every run waits in Temporal too: what moves after the last head that is kept counts as lost."""
        for row in await self.stage.sql("SELECT id FROM orchestration_run WHERE closed_at IS NULL"):
            handle = await self.stage.workflow(row["id"])

            async def is_idle(handle: WorkflowHandle[Any, Any] = handle) -> bool:
                found = (await handle.describe()).raw_description
                return not found.pending_activities and not found.HasField("pending_workflow_task")

            await until(is_idle, f"{row['id']} to stand still")
        await service_token(self.stage, f"entry-{uuid.uuid4().hex[:8]}")  # an entry of the record that is newer

    async def _keep_head(self) -> None:
        """Wait until the relay has kept the newest entry of the record outside the database."""
        (newest,) = await self.stage.sql("SELECT max(seq) AS seq FROM approvals_auditevent")

        async def is_kept() -> bool:
            lines = (self.stage.home / "audit-heads.jsonl").read_text().splitlines()
            return bool(lines) and json.loads(lines[-1])["seq"] >= newest["seq"]

        await until(is_kept, f"the head {newest['seq']} of the record kept outside the database")

    def _with_postgres_down(self, work: Callable[[], None]) -> None:
        stack = self.stage.stack
        for part in (*self._PARTS, "postgres"):
            stack.hold(part)
        try:
            work()
        finally:
            for part in ("postgres", *self._PARTS):
                stack.release(part)
        stack.wait_ready(timeout_seconds=PATIENCE)

    def _back_up(self) -> None:
        self._copy(self.stage.home / "postgres", self.stage.home / "backup")

    def _restore(self) -> None:
        self._copy(self.stage.home / "backup", self.stage.home / "postgres")

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        """Copy with owners and modes, which PostgreSQL insists on."""
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["cp", "-a", source, target], check=True)

    async def recover(self) -> None:
        async def is_compared() -> bool:
            query = "SELECT body FROM orchestration_finding WHERE key = 'database-older'"
            found = await self.stage.sql(query)
            return bool(found) and self.case.run_id not in found[0]["body"]["runs"]

        await until(is_compared, f"{self.case.run_id} to be compared with Temporal after the restore")

    async def judge(self) -> None:
        if self.goes_on:
            run = await self.stage.get("olga", f"/runs/{self.case.run_id}")
            if run["status"] != "failed" or "backup" not in str(run["error"]):
                self.trial.seen.append(f"run {self.case.run_id} is {run['status']}: {run['error']}")
        else:
            await self.case.decide(self.approval)
            await self.case.to_the_end()
            self.expect(await checks.well_ended(self.case))
        if len(refunds := await self.case.refunds()) != 1:
            self.trial.seen.append(f"order {self.case.order_id} has refunds: {refunds}")


class WatchEnded(Fault):
    """A program's request whose watch is ended; the answer is a signal to the program's own workflow."""

    invariant = ANSWERED
    wanted = ""

    async def end(self) -> None:
        raise NotImplementedError

    async def steady(self) -> None:
        name = f"program-{uuid.uuid4().hex[:8]}"
        token = await service_token(self.stage, name)
        client = await self.stage.temporal()
        self.program = f"{name}-workflow"
        await client.start_workflow("Program", id=self.program, task_queue=NOBODY)
        body: dict[str, Any] = {
            "title": "Delete the old index",
            "tool": "delete_index",
            "arguments": {"name": "old"},
            "external_id": name,
            "deliver_to": {"temporal": {"workflow_id": self.program, "signal": "answered"}},
        }
        headers = {"Authorization": f"Bearer {token}"}

        async def asked() -> httpx.Response | None:
            found = await self.stage.api("olga").post("/approvals", json=body, headers=headers)
            return None if found.is_server_error else found

        answer = await until(asked, f"an answer to the request of {name}")  # its external id makes it one
        answer.raise_for_status()
        self.approval = answer.json()
        self.watch = str(self.approval["run_id"])

        async def is_watched() -> bool:
            return await status_of(self.stage, self.watch) == "running"

        await until(is_watched, f"the watch {self.watch}")

    async def strike(self) -> None:
        await self.end()

        async def is_ended() -> bool:
            return await status_of(self.stage, self.watch) == self.wanted

        await until(is_ended, f"the end of {self.watch} as {self.wanted}")
        self.stage.history.note("struck", self.watch, self.name)

    async def recover(self) -> None:
        """Every other time wait until the watch is there again; else decide at once."""
        if self.trial.number % 2:

            async def is_back() -> bool:
                return await status_of(self.stage, self.watch) == "running"

            await until(is_back, f"the watch {self.watch} again")

    async def judge(self) -> None:
        body = {"verdict": "approve", "version": self.approval["version"], "digest": self.approval["digest"]}
        answer = await self.stage.ask("alice", f"/approvals/{self.approval['id']}/decision", body, key=uuid.uuid4().hex)
        if not answer.is_success:
            raise NotStruck(f"the decision was not taken: {answer.text[:300]}")

        async def is_delivered() -> list[Row]:
            query = "SELECT 1 FROM orchestration_answerdelivery WHERE approval_id = %s AND state = 'delivered'"
            return await self.stage.sql(query, [self.approval["id"]])

        await until(is_delivered, f"the answer to {self.program}")
        history = await (await self.stage.workflow(self.program)).fetch_history()
        heard = sum(event.HasField("workflow_execution_signaled_event_attributes") for event in history.events)
        if heard != 1:
            self.trial.seen.append(f"{self.program} heard {heard} answers, not one")


class WatchTerminated(WatchEnded):
    name, wanted = "program's watch terminated", "terminated"

    async def end(self) -> None:
        await terminate(self.stage, self.watch)


class WatchDeleted(WatchEnded):
    name, wanted = "program's watch deleted with its history", "gone"

    async def end(self) -> None:
        await delete(self.stage, self.watch)


class WatchTimedOut(WatchEnded):
    name, wanted = "program's watch timed out", "timed_out"

    async def end(self) -> None:
        await time_out(self.stage, self.watch)


async def service_token(stage: Stage, name: str) -> str:
    """Make a service account and return its token, which the command prints alone on the last line."""
    status, output = await stage.manage("create_service", name)
    if status:
        raise NotStruck(f"no account {name}: {output[-300:]}")
    return output.split()[-1]


FAULTS: tuple[type[Fault], ...] = (
    RunTerminated,
    RunDeleted,
    RunTimedOut,
    CheckpointsGone,
    WatchTerminated,
    WatchDeleted,
    WatchTimedOut,
)
#: for everybody, so nothing else may be played beside it
ALONE: tuple[type[Fault], ...] = (OlderBackup,)
