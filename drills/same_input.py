"""Failure 4: the same start, decision or signal arrives again and again."""

from __future__ import annotations

import asyncio
import uuid
from http import HTTPStatus
from typing import Any

from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest

from drills import checks
from drills.case import MESSAGE, REFUND, Case
from drills.checks import first_of, statuses
from drills.stage import Lost
from drills.trials import Fault
from drills.waiting import until

#: the SDK's own code for a workflow that got no time of a busy machine for two seconds
NO_TIME = "TMPRL1101"
CLIENTS = 20
TIMES = 10


class SameStart(Fault):
    name = "the same start from 20 clients at once"
    invariant = "one run, one 201, the rest 200 with its id; another body 409"

    async def steady(self) -> None:
        order = {"customer": "Test Person", "amount": "80.00", "currency": "EUR", "status": "delivered"}
        self.order_id = str((await self.stage.shop_json("POST", "/orders", order))["id"])
        self.lost: list[Lost] = []

    async def strike(self) -> None:
        key = f"twice-{uuid.uuid4().hex[:12]}"
        body = {"agent": "support", "input": {"order_id": self.order_id, "message": MESSAGE}, "idempotency_key": key}
        self.answers = await asyncio.gather(
            *(self.stage.ask("olga", "/runs", body, lost=self.lost) for _ in range(CLIENTS))
        )
        other = {**body, "input": {"order_id": self.order_id, "message": "Something else."}}
        self.other = await self.stage.ask("olga", "/runs", other)
        self.again = await self.stage.ask("olga", "/runs", body)
        self.key = key

    async def judge(self) -> None:
        self.expect(first_of(self.answers, HTTPStatus.CREATED, HTTPStatus.OK, self.lost))
        ids = {answer.json()["id"] for answer in [*self.answers, self.again] if answer.is_success}
        rows = await self.stage.sql("SELECT id FROM orchestration_run WHERE idempotency_key = %s", [self.key])
        if len(ids) != 1 or len(rows) != 1:
            self.trial.seen.append(f"the answers name {ids}, the table has {rows}")
        if self.other.status_code != HTTPStatus.CONFLICT:
            self.trial.seen.append(f"another body under the key: {self.other.status_code}")
        case = Case(self.stage, self.order_id, ids.pop())
        await case.decide(await case.steady_at(REFUND))
        await case.to_the_end()
        self.expect(await checks.well_ended(case))


class Waiting(Fault):
    """A run that waits for its refund's approval."""

    async def steady(self) -> None:
        self.case = await Case.open(self.stage)
        self.approval = await self.case.steady_at(REFUND)
        self.path = f"/approvals/{self.approval['id']}/decision"

    async def decisions(self) -> list[dict[str, Any]]:
        return await self.stage.sql(
            "SELECT d.id, u.username FROM approvals_decision d JOIN auth_user u ON u.id = d.by_id"
            " WHERE d.approval_id = %s",
            [self.approval["id"]],
        )

    async def judge(self) -> None:
        rows = await self.decisions()
        if len(rows) != 1:
            self.trial.seen.append(f"approval {self.approval['id']} has {len(rows)} decisions: {rows}")
        await self.case.to_the_end()
        self.expect(await checks.well_ended(self.case))


class SameDecisionWithKey(Waiting):
    name = "one decision posted 10 times at once, one key"
    invariant = "one decision, every answer 200 and the same; one effect"

    async def strike(self) -> None:
        body, key = self.case.answer_to(self.approval), uuid.uuid4().hex
        answers = await asyncio.gather(*(self.stage.ask("alice", self.path, body, key=key) for _ in range(TIMES)))
        other = await self.stage.ask("alice", self.path, {**body, "note": "another"}, key=key)
        if {answer.status_code for answer in answers} != {HTTPStatus.OK}:
            self.trial.seen.append(f"{TIMES} posts under one key were answered {statuses(answers)}")
        ids = {answer.json()["decision"]["id"] for answer in answers if answer.is_success}
        if len(ids) != 1:
            self.trial.seen.append(f"the answers name {len(ids)} decisions: {ids}")
        if other.status_code != HTTPStatus.CONFLICT:
            self.trial.seen.append(f"another body under the key: {other.status_code}")


class SameDecisionWithoutKey(Waiting):
    name = "one decision posted 10 times at once, no key"
    invariant = "one 200, the rest 409 that name who decided; one effect"
    people: tuple[str, ...] = ("alice",)

    async def strike(self) -> None:
        body = self.case.answer_to(self.approval)
        clients = [self.people[number % len(self.people)] for number in range(TIMES)]
        lost: list[Lost] = []
        answers = await asyncio.gather(*(self.stage.ask(who, self.path, body, lost=lost) for who in clients))
        self.expect(first_of(answers, HTTPStatus.OK, HTTPStatus.CONFLICT, lost))
        winners = {who for who, answer in zip(clients, answers, strict=True) if answer.is_success}
        named = {answer.json().get("decided_by") for answer in answers if not answer.is_success}
        if len(named) != 1 or not named <= (winners or set(self.people)):
            self.trial.seen.append(f"{winners} was first, and the losers are told {named}")
        for answer in answers:
            if answer.status_code == HTTPStatus.CONFLICT:
                told = answer.json()
                if told.get("verdict") != "approve" or not told.get("decided_at"):
                    self.trial.seen.append(f"a loser is told {told}")


class TwoReviewers(SameDecisionWithoutKey):
    name = "alice and bob decide at once"
    invariant = "one wins, the other gets 409 with the winner's name; one effect"
    people = ("alice", "bob")


class ForgedSignals(Waiting):
    name = "the signal 10 times, made-up ids, every wrong shape"
    invariant = "nothing changes; the honest decision still works; one effect"

    async def strike(self) -> None:
        await self._is_still_waiting("before the signals")
        before = await self._signals()
        sent = 0
        for payloads, name in self._forgeries():
            await self._signal(name, payloads)
            sent += 1

        async def all_arrived() -> bool:
            return await self._signals() >= before + sent

        await until(all_arrived, f"{sent} signals in the history")

        async def all_handled() -> bool:
            handle = await self.stage.workflow(self.case.run_id)
            raw = (await handle.describe()).raw_description
            return not raw.HasField("pending_workflow_task") and not raw.pending_activities

        await until(all_handled, "the end of the turns that the signals woke")
        await self._is_still_waiting("after the signals")
        await self._no_task_failed()
        self.decided_before = await self.decisions()
        if self.decided_before:
            self.trial.seen.append(f"a signal decided: {self.decided_before}")
        await self.case.decide(self.approval)
        decision = (await self.decisions())[0]["id"]
        honest = {"approval_id": self.approval["id"], "decision_id": decision}
        for _ in range(TIMES):
            try:
                await self._signal("decided", [await self._json(honest)])
            except Exception:  # noqa: BLE001  the run may have ended meanwhile, which is the point
                break

    async def judge(self) -> None:
        await super().judge()
        await self._no_task_failed()

    def _forgeries(self) -> list[tuple[list[Payload], str]]:
        """Return payloads and signal name of everything that somebody with a client could send."""
        ours = self.approval["id"]

        def plain(text: bytes, encoding: bytes = b"json/plain") -> Payload:
            return Payload(metadata={"encoding": encoding}, data=text)

        made_up = b'{"approval_id": "%s", "decision_id": "dec_%d"}'
        shapes: list[tuple[list[Payload], str]] = [
            *(([plain(made_up % (ours.encode(), 0))], "decided") for _ in range(TIMES)),
            *(([plain(made_up % (ours.encode(), number))], "decided") for number in range(1, 4)),
            ([plain(made_up % (b"apr_nobody", 5))], "decided"),
            ([], "decided"),
            ([plain(made_up % (ours.encode(), 6)), plain(b'"more"')], "decided"),
            ([plain(b'"approve"')], "decided"),
            ([plain(b'["%s", "dec_7"]' % ours.encode())], "decided"),
            ([plain(b"null")], "decided"),
            ([plain(b"{}")], "decided"),
            ([plain(b'{"approval_id": 5, "decision_id": {"a": []}}')], "decided"),
            ([plain(b'{"approval_id": ["%s"], "decision_id": "dec_8"}' % ours.encode())], "decided"),
            ([plain(b"{broken")], "decided"),
            ([plain(b"\x00\xff\xfe", b"binary/garbage")], "decided"),
            ([plain(b"\x00\xff\xfe", b"\xff\xfe")], "decided"),
            ([Payload(data=b"no metadata")], "decided"),
            ([plain(b'{"approval_id": "%s", "decision_id": "%s"}' % (ours.encode(), b"x" * 300_000))], "decided"),
            ([plain(b"[" * 5_000 + b"]" * 5_000)], "decided"),
            ([plain(made_up % (ours.encode(), 9))], "Decided"),
            ([plain(made_up % (ours.encode(), 10))], "approve"),
            ([plain(made_up % (ours.encode(), 11))], "x" * 200),
            ([], "__temporal_unknown"),
        ]
        return shapes

    async def _json(self, body: dict[str, str]) -> Payload:
        client = await self.stage.temporal()
        return (await client.data_converter.encode([body]))[0]

    async def _signal(self, name: str, payloads: list[Payload]) -> None:
        client = await self.stage.temporal()
        await client.workflow_service.signal_workflow_execution(
            SignalWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=self.case.run_id),
                signal_name=name,
                input=Payloads(payloads=payloads),
                identity="drill",
                request_id=uuid.uuid4().hex,
            )
        )

    async def _signals(self) -> int:
        return await self._events(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)

    async def _events(self, kind: EventType.ValueType) -> int:
        history = await (await self.stage.workflow(self.case.run_id)).fetch_history()
        return sum(event.event_type == kind for event in history.events)

    async def _no_task_failed(self) -> None:
        history = await (await self.stage.workflow(self.case.run_id)).fetch_history()
        failed = [event for event in history.events if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED]
        why = [event.workflow_task_failed_event_attributes.failure.message for event in failed]
        if found := [one for one in why if NO_TIME not in one]:
            self.trial.seen.append(f"run {self.case.run_id}: workflow tasks failed: {found}")

    async def _is_still_waiting(self, when: str) -> None:
        run = await self.stage.get("olga", f"/runs/{self.case.run_id}")
        if run["status"] != "waiting" or run["waiting_for"] != [self.approval["id"]]:
            self.trial.seen.append(f"{when} the run is {run['status']}, waiting for {run['waiting_for']}")


FAULTS: tuple[type[Fault], ...] = (
    SameStart,
    SameDecisionWithKey,
    SameDecisionWithoutKey,
    TwoReviewers,
    ForgedSignals,
)
