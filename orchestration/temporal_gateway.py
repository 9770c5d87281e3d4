"""The console's only door to Temporal: start a workflow, signal it, ask the server how it is."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict
from temporalio.api.common.v1 import Payloads, WorkflowExecution
from temporalio.api.enums.v1 import (
    EventType,
    HistoryEventFilterType,
    PendingActivityState,
    TaskQueueType,
    UpdateWorkflowExecutionLifecycleStage,
    WorkflowExecutionStatus,
    WorkflowTaskFailedCause,
)
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.update import v1 as update
from temporalio.api.workflow.v1 import PendingActivityInfo, WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryReverseRequest,
    PauseActivityRequest,
    QueryWorkflowRequest,
    RequestCancelWorkflowExecutionRequest,
    RespondActivityTaskFailedByIdRequest,
    SignalWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
    UnpauseActivityRequest,
    UpdateWorkflowExecutionRequest,
)
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from console import temporal_connection
from console.environment import environment
from console.temporal_connection import CannotConnect, kept
from orchestration.contracts import (
    BATCH,
    DECIDED,
    LOOK,
    RESUMED,
    WATCH,
    WORKFLOW,
    FeedBatch,
    HandWritten,
    ProgramSignal,
    StartRun,
    StartWatch,
)
from orchestration.errors import NamespaceGone, NotAnswered, TemporalAway, TemporalRefused, WorkflowGone
from orchestration.temporal_protocol import (
    Described,
    HistoryPage,
    Pending,
    TemporalReads,
    WorkflowSeen,
    WorkflowTaskFault,
)

_CALL = timedelta(seconds=10)
_LOOK = timedelta(seconds=1.5)  # for a question about the server itself
_ANSWER = timedelta(seconds=8)  # of a worker, to a query or an update
_NEWEST = 30  # events that are read back for the newest workflow task
_ERA = "era"  # in the memo of a workflow that was started anew
_UNDER_WAY = frozenset(
    {
        PendingActivityState.PENDING_ACTIVITY_STATE_STARTED,
        PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED,
    }
)
_COMPLETED = UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
_R = TypeVar("_R")
#: answers about this one call, which say nothing about the next
_REFUSALS = frozenset(
    {
        RPCStatusCode.INVALID_ARGUMENT,
        RPCStatusCode.ALREADY_EXISTS,
        RPCStatusCode.FAILED_PRECONDITION,
        RPCStatusCode.OUT_OF_RANGE,
        RPCStatusCode.UNIMPLEMENTED,
        RPCStatusCode.DATA_LOSS,
    }
)


@dataclass(frozen=True)
class RealTemporal:
    """The gateway over the SDK's client. Every call may raise TemporalAway or TemporalRefused."""

    client: Client

    @classmethod
    async def connect(cls) -> RealTemporal:
        """Return the gateway over this process's one connection. Raises TemporalAway; the caller tries again later."""
        return cls(await _translated(kept))

    async def start_run(self, start: StartRun) -> str:
        async def call() -> str:
            try:
                handle = await self.client.start_workflow(
                    WORKFLOW,
                    start,
                    id=start.run_id,
                    task_queue=environment().temporal_task_queue,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    rpc_timeout=_CALL,
                )
            except WorkflowAlreadyStartedError:
                return ""
            return handle.result_run_id or ""

        return await _translated(call)

    async def signal_decided(self, run_id: str, approval_id: str, decision_id: str) -> None:
        """Signal with the decision as the request id, so that the server drops a repetition by itself."""
        body = {"approval_id": approval_id, "decision_id": decision_id}
        request = SignalWorkflowExecutionRequest(
            namespace=self.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=run_id),
            signal_name=DECIDED,
            input=Payloads(payloads=await self.client.data_converter.encode([body])),
            identity=self.client.identity,
            request_id=decision_id,
        )
        service = self.client.workflow_service
        await _translated(lambda: service.signal_workflow_execution(request, timeout=_CALL))

    async def start_watch(self, workflow_id: str, start: StartWatch, again: bool) -> None:
        """Start it also when one has ended before: a watch looks at the rows first, and ends when all is done."""
        policies = WorkflowIDConflictPolicy
        await _translated(
            lambda: self.client.start_workflow(
                WATCH,
                start,
                id=workflow_id,
                task_queue=environment().temporal_task_queue,
                id_conflict_policy=policies.TERMINATE_EXISTING if again else policies.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                rpc_timeout=_CALL,
            )
        )

    async def feed_batch(self, batch_id: str) -> None:
        """Start it and wake it in one call: it looks first, and ends at once where nothing is left to do."""
        await _translated(
            lambda: self.client.start_workflow(
                BATCH,
                FeedBatch(batch_id),
                id=batch_id,
                task_queue=environment().temporal_task_queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                start_signal=LOOK,
                rpc_timeout=_CALL,
            )
        )

    async def signal_program(self, signal: ProgramSignal) -> None:
        request = SignalWorkflowExecutionRequest(
            namespace=signal.namespace or self.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=signal.workflow_id, run_id=signal.run_id),
            signal_name=signal.signal,
            input=Payloads(payloads=await self.client.data_converter.encode([signal.body])),
            identity=self.client.identity,
            request_id=signal.request_id,
        )
        service = self.client.workflow_service
        await _translated(lambda: service.signal_workflow_execution(request, timeout=_CALL))

    async def look(self, workflow_id: str) -> WorkflowSeen:
        try:
            found = await self._described(workflow_id)
        except TemporalRefused as exc:
            if exc.is_data_loss:
                raise WorkflowGone(f"its history cannot be read any more: {exc}") from exc
            raise
        return await self._seen(found.workflow_execution_info)

    async def _described(self, workflow_id: str, temporal_run_id: str = "") -> DescribeWorkflowExecutionResponse:
        """Return what the server says: the SDK's own `describe` fails on a status that it does not know, "paused"."""
        request = DescribeWorkflowExecutionRequest(
            namespace=self.client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id, run_id=temporal_run_id),
        )
        service = self.client.workflow_service
        return await _translated(lambda: service.describe_workflow_execution(request, timeout=_CALL))

    async def _seen(self, info: WorkflowExecutionInfo) -> WorkflowSeen:
        """Return how the workflow is, and why it ended: another call for one that has."""
        status = _word(WorkflowExecutionStatus, info.status, "WORKFLOW_EXECUTION_STATUS_")
        if WorkflowSeen(status).is_open:
            return WorkflowSeen(status)
        try:
            return WorkflowSeen(status, await self._reason(info.execution.workflow_id, info.execution.run_id))
        except (WorkflowGone, TemporalRefused):  # it has ended, whatever is left of its history
            return WorkflowSeen(status)

    async def describe(self, workflow_id: str, temporal_run_id: str = "") -> Described:
        found = await self._described(workflow_id, temporal_run_id)
        info, task = found.workflow_execution_info, found.pending_workflow_task
        return Described(
            temporal_run_id=info.execution.run_id,
            seen=await self._seen(info),
            started_at=info.start_time.ToDatetime(UTC),
            closed_at=_moment(info, "close_time"),
            events=info.history_length,
            pending=tuple(_pending(one) for one in found.pending_activities),
            task_attempt=task.attempt,
            task_since=_moment(task, "original_scheduled_time"),
            workflow_type=info.type.name,
            task_queue=info.task_queue,
        )

    async def history(
        self, workflow_id: str, temporal_run_id: str = "", *, after: str = "", most: int = 100
    ) -> HistoryPage:
        request = GetWorkflowExecutionHistoryRequest(
            namespace=self.client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id, run_id=temporal_run_id),
            maximum_page_size=most,
            next_page_token=_token(after),
        )
        service = self.client.workflow_service
        answer = await _translated(lambda: service.get_workflow_execution_history(request, timeout=_CALL))
        return _page(answer.history.events, answer.next_page_token)

    async def history_back(
        self, workflow_id: str, temporal_run_id: str = "", *, after: str = "", most: int = 100
    ) -> HistoryPage:
        request = GetWorkflowExecutionHistoryReverseRequest(
            namespace=self.client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id, run_id=temporal_run_id),
            maximum_page_size=most,
            next_page_token=_token(after),
        )
        service = self.client.workflow_service
        answer = await _translated(lambda: service.get_workflow_execution_history_reverse(request, timeout=_CALL))
        return _page(answer.history.events, answer.next_page_token)

    async def task_fault(self, workflow_id: str, temporal_run_id: str = "") -> WorkflowTaskFault | None:
        request = GetWorkflowExecutionHistoryReverseRequest(
            namespace=self.client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id, run_id=temporal_run_id),
            maximum_page_size=_NEWEST,
        )
        service = self.client.workflow_service
        answer = await _translated(lambda: service.get_workflow_execution_history_reverse(request, timeout=_CALL))
        for event in answer.history.events:  # newest first
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                return None
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                fault = event.workflow_task_failed_event_attributes
                cause = _word(WorkflowTaskFailedCause, fault.cause, "WORKFLOW_TASK_FAILED_CAUSE_").upper()
                return WorkflowTaskFault(cause, fault.failure.message, fault.identity, event.event_time.ToDatetime(UTC))
        return None

    async def _reason(self, workflow_id: str, run_id: str) -> str:
        """Return why a workflow ended, as whoever ended it said, "" when nobody did."""
        request = GetWorkflowExecutionHistoryRequest(
            namespace=self.client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            history_event_filter_type=HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
        )
        service = self.client.workflow_service
        answer = await _translated(lambda: service.get_workflow_execution_history(request, timeout=_CALL))
        return _reason_of(answer.history.events[-1]) if answer.history.events else ""

    async def moved_between(self, workflow_id: str, begin: datetime, end: datetime) -> bool:
        service, token = self.client.workflow_service, b""
        while True:
            request = GetWorkflowExecutionHistoryReverseRequest(
                namespace=self.client.namespace,
                execution=WorkflowExecution(workflow_id=workflow_id),
                maximum_page_size=100,
                next_page_token=token,
            )
            answer = await _translated(
                lambda request=request: service.get_workflow_execution_history_reverse(request, timeout=_CALL)  # type: ignore[misc]
            )
            for event in answer.history.events:  # newest first
                at = event.event_time.ToDatetime(UTC)
                if at <= begin:
                    return False
                if at <= end:
                    return True
            token = answer.next_page_token
            if not token:
                return False

    async def cancel(self, workflow_id: str, reason: str, request_id: str, era: int | None) -> None:
        seen = await self._seen_in(era, workflow_id)
        request = RequestCancelWorkflowExecutionRequest(
            namespace=self.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id),
            first_execution_run_id=seen.workflow_execution_info.first_run_id,
            identity=self.client.identity,
            reason=reason,
            request_id=request_id,
        )
        service = self.client.workflow_service
        await _translated(lambda: service.request_cancel_workflow_execution(request, timeout=_CALL))

    async def terminate(self, workflow_id: str, reason: str, era: int | None) -> None:
        await self._terminate((await self._seen_in(era, workflow_id)).workflow_execution_info, reason)

    async def _terminate(self, seen: WorkflowExecutionInfo, reason: str) -> None:
        """End the workflow that was seen, or what it goes on as; never one that was started anew since."""
        request = TerminateWorkflowExecutionRequest(
            namespace=self.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=seen.execution.workflow_id),
            first_execution_run_id=seen.first_run_id,
            identity=self.client.identity,
            reason=reason,
        )
        service = self.client.workflow_service
        await _translated(lambda: service.terminate_workflow_execution(request, timeout=_CALL))

    async def _seen_in(self, era: int | None, workflow_id: str) -> DescribeWorkflowExecutionResponse:
        """Describe the newest workflow of this id. Raises WorkflowGone where it is another era's; `None`: any."""
        found = await self._described(workflow_id)
        if era is not None and await self._era_of(found.workflow_execution_info) != era:
            raise WorkflowGone(f"The workflow of era {era} is not the newest.")
        return found

    async def restart_run(self, start: StartRun, reason: str) -> str:
        try:
            before = (await self._described(start.run_id)).workflow_execution_info
            if await self._era_of(before) == start.era:
                return before.execution.run_id
            if not before.HasField("close_time"):  # by itself it would be said to be replaced, and not by whom
                await self._terminate(before, reason)
        except WorkflowGone:
            pass

        async def call() -> str:
            try:
                again = await self.client.start_workflow(
                    WORKFLOW,
                    start,
                    id=start.run_id,
                    task_queue=environment().temporal_task_queue,
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    memo={_ERA: start.era},
                    rpc_timeout=_CALL,
                )
            except WorkflowAlreadyStartedError as exc:  # since it was looked at, maybe for a newer era
                raise TemporalRefused("Another workflow of this run was started meanwhile.") from exc
            return again.result_run_id or ""

        return await _translated(call)

    async def _era_of(self, info: WorkflowExecutionInfo) -> Any:
        if _ERA not in info.memo.fields:  # it was never started anew
            return 0
        return (await self.client.data_converter.decode([info.memo.fields[_ERA]]))[0]

    async def resume(self, run_id: str, request_id: str) -> None:
        request = SignalWorkflowExecutionRequest(
            namespace=self.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=run_id),
            signal_name=RESUMED,
            identity=self.client.identity,
            request_id=request_id,
        )
        service = self.client.workflow_service
        await _translated(lambda: service.signal_workflow_execution(request, timeout=_CALL))

    async def hurry(self, run_id: str, activity: str) -> None:
        await self._hurry(await self._described(run_id), activity)

    async def _hurry(self, found: DescribeWorkflowExecutionResponse, activity: str) -> None:
        service = self.client.workflow_service
        for pending in _pending_of(found, activity):
            if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED:
                continue  # it is being tried
            which: dict[str, Any] = {
                "namespace": self.client.namespace,
                "execution": found.workflow_execution_info.execution,
                "identity": self.client.identity,
                "id": pending.activity_id,
            }
            # What is let go on after a pause is tried at once, and its attempts go on counting.
            if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
                await _translated(partial(service.pause_activity, PauseActivityRequest(**which), timeout=_CALL))
            await _translated(partial(service.unpause_activity, UnpauseActivityRequest(**which), timeout=_CALL))

    async def fail_activity(self, run_id: str, activity: str, kind: str, message: str, era: int | None) -> None:
        found = await self._seen_in(era, run_id)
        for pending in _pending_of(found, activity):
            if pending.state not in _UNDER_WAY:
                continue
            about = ApplicationFailureInfo(type=kind, non_retryable=True)
            request = RespondActivityTaskFailedByIdRequest(
                namespace=self.client.namespace,
                workflow_id=run_id,
                run_id=found.workflow_execution_info.execution.run_id,
                activity_id=pending.activity_id,
                failure=Failure(message=message, source="Signalbox", application_failure_info=about),
                identity=self.client.identity,
            )
            fail = self.client.workflow_service.respond_activity_task_failed_by_id
            await _translated(partial(fail, request, timeout=_CALL))
            return
        await self._hurry(found, activity)

    def within(self, namespace: str) -> RealTemporal:
        """Return the same door to another namespace, over the same connection."""
        if namespace == self.client.namespace:
            return self
        return RealTemporal(Client(**self.client.config() | {"namespace": namespace}))

    async def send(self, written: HandWritten) -> Any:
        door = self.within(written.namespace)
        calls = {"signal": door._signal, "query": door._query, "update": door._update}
        try:
            return await _translated(lambda: calls[written.kind](written))
        except NamespaceGone as exc:
            if door is self:
                raise
            raise TemporalRefused(f"Temporal has no namespace {written.namespace}.") from exc

    async def _signal(self, written: HandWritten) -> None:
        request = SignalWorkflowExecutionRequest(
            namespace=self.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=written.workflow_id),
            signal_name=written.name,
            input=await self._payloads(written.arguments),
            identity=self.client.identity,
            request_id=written.message_id,
        )
        with _for_one_call():
            await self.client.workflow_service.signal_workflow_execution(request, timeout=_CALL)

    async def _query(self, written: HandWritten) -> Any:
        request = QueryWorkflowRequest(
            namespace=self.client.namespace,
            execution=WorkflowExecution(workflow_id=written.workflow_id),
            query=WorkflowQuery(query_type=written.name, query_args=await self._payloads(written.arguments)),
        )
        with _for_one_call():
            answer = await self.client.workflow_service.query_workflow(request, timeout=_ANSWER)
        return await self._read(answer.query_result)

    async def _update(self, written: HandWritten) -> Any:
        request = UpdateWorkflowExecutionRequest(
            namespace=self.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=written.workflow_id),
            wait_policy=update.WaitPolicy(lifecycle_stage=_COMPLETED),
            request=update.Request(
                meta=update.Meta(update_id=written.message_id, identity=self.client.identity),
                input=update.Input(name=written.name, args=await self._payloads(written.arguments)),
            ),
        )
        with _for_one_call():
            answer = await self.client.workflow_service.update_workflow_execution(request, timeout=_ANSWER)
        if not answer.HasField("outcome"):
            raise NotAnswered("The workflow has not answered yet.")
        if answer.outcome.HasField("failure"):
            raise TemporalRefused(f"The workflow said no: {answer.outcome.failure.message}")
        return await self._read(answer.outcome.success)

    async def _payloads(self, arguments: list[Any]) -> Payloads | None:
        return Payloads(payloads=await self.client.data_converter.encode(arguments)) if arguments else None

    async def _read(self, payloads: Payloads) -> Any:
        """Return what was answered: `None` for nothing, in words what is no JSON."""
        if not payloads.payloads:
            return None
        try:
            return (await self.client.data_converter.decode(payloads.payloads[:1]))[0]
        except Exception:  # noqa: BLE001  whatever its converter made of it
            first = payloads.payloads[0]
            encoding = first.metadata.get("encoding", b"").decode(errors="replace") or "of no known kind"
            return f"({len(first.data)} bytes, {encoding})"

    async def home(self) -> str:
        request = DescribeNamespaceRequest(namespace=self.client.namespace)
        service = self.client.workflow_service
        answer = await _translated(lambda: service.describe_namespace(request, timeout=_CALL))
        return str(answer.namespace_info.id)

    async def is_there(self) -> bool:
        try:
            await temporal_connection.ask_for_namespace(self.client)
        except (RPCError, RuntimeError, OSError):
            return False
        return True


def _token(after: str) -> bytes:
    try:
        return base64.b64decode(after.encode(), altchars=b"-_", validate=True)
    except ValueError as exc:
        raise TemporalRefused("There is no such page of the history.") from exc


def _page(events: Iterable[HistoryEvent], token: bytes) -> HistoryPage:
    return HistoryPage([MessageToDict(event) for event in events], base64.urlsafe_b64encode(token).decode())


async def histories(reads: TemporalReads, workflow_id: str) -> list[dict[str, Any]]:
    """Return a workflow's histories as Temporal's own JSON, oldest first: one, or one more per continuation.

    Without those that Temporal has deleted: the first one then names in its first event the one that it continues.
    Raises WorkflowGone when there is none.
    """
    found: list[dict[str, Any]] = []
    temporal_run_id = ""
    while True:
        try:
            events = await _whole_history(reads, workflow_id, temporal_run_id)
        except WorkflowGone:
            if not found:
                raise
            return found
        found.insert(0, {"events": events})
        began = events[0]["workflowExecutionStartedEventAttributes"]
        temporal_run_id = began.get("continuedExecutionRunId", "")
        if not temporal_run_id:
            return found


async def _whole_history(reads: TemporalReads, workflow_id: str, temporal_run_id: str) -> list[dict[str, Any]]:
    page = await reads.history(workflow_id, temporal_run_id)
    events = page.events
    while page.after:
        page = await reads.history(workflow_id, temporal_run_id, after=page.after)
        events += page.events
    return events


def _word(kind: Any, number: int, prefix: str) -> str:
    """Return the server's word in lower case, "unspecified" for one that only a newer server knows."""
    try:
        return str(kind.Name(number)).removeprefix(prefix).lower()
    except ValueError:
        return "unspecified"


def _pending(info: PendingActivityInfo) -> Pending:
    waits = info.HasField("scheduled_time") and info.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    since = "scheduled_time" if waits else "last_started_time"
    return Pending(
        activity=info.activity_type.name,
        state=_word(PendingActivityState, info.state, "PENDING_ACTIVITY_STATE_"),
        attempt=info.attempt,
        last_failure=_last_failure(info),
        next_try_at=info.scheduled_time.ToDatetime(UTC) if waits and info.attempt > 1 else None,
        heartbeat=_said(info),
        heartbeat_at=_moment(info, "last_heartbeat_time"),
        since=_moment(info.pause_info, "pause_time") or _moment(info, since),
    )


def _last_failure(info: PendingActivityInfo) -> str:
    """Return what the newest attempt failed of. Temporal wraps what is too long for it into a sentence of its own."""
    failure = info.last_failure
    if failure.HasField("server_failure_info") and failure.HasField("cause"):
        failure = failure.cause
    return failure.message or failure.application_failure_info.type


def _said(info: PendingActivityInfo) -> Any:
    """Return what the newest heartbeat said, `None` for nothing and for what is no JSON."""
    for payload in info.heartbeat_details.payloads:
        try:
            return json.loads(payload.data)
        except ValueError:
            return None
    return None


def _moment(message: Any, name: str) -> datetime | None:
    """Return an instant of a message of the server's, aware, UTC; `None` where it is not set."""
    if not message.HasField(name):
        return None
    found: datetime = getattr(message, name).ToDatetime(UTC)
    return found


@contextmanager
def _for_one_call() -> Iterator[None]:
    """Turn what says something about this call alone, and nothing about the server, into our errors."""
    try:
        yield
    except RPCError as exc:
        if exc.status in _TOO_LATE:
            raise NotAnswered("No worker has answered in time.") from exc
        if exc.status == RPCStatusCode.RESOURCE_EXHAUSTED:  # of queries and updates, a workflow takes a few at a time
            raise NotAnswered(f"Temporal takes no more for this workflow now: {exc.message}") from exc
        if exc.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED):
            raise TemporalRefused(f"Temporal does not let us: {exc.message}") from exc
        raise


async def examine(client: Client) -> None:
    """Ask the server what it is for: its own health, our namespace, and a workflow in it.

    The last goes to the history service, which may be down while the frontend answers.
    Raises TemporalAway or TemporalRefused with a sentence.
    """
    nobody = WorkflowExecution(workflow_id="nobody")
    service = client.workflow_service
    try:
        if not await client.service_client.check_health(timeout=_LOOK):
            raise TemporalAway("Temporal's own health check says that it does not serve")
        await temporal_connection.ask_for_namespace(client)
        request = DescribeWorkflowExecutionRequest(namespace=client.namespace, execution=nobody)
        await service.describe_workflow_execution(request, timeout=_LOOK)
    except RPCError as exc:
        if exc.status is RPCStatusCode.NOT_FOUND and not temporal_connection.is_about_namespace(exc):
            return
        raise _in_words(exc, client) from exc
    except temporal_connection.NoSuchNamespace as exc:
        raise TemporalRefused(str(exc)) from exc


async def pollers(client: Client, task_queue: str) -> dict[str, datetime]:
    """Return who asks for workflow tasks on the queue, by identity, with when it last asked (server's clock, UTC).

    Kept by the server for 5 minutes. Raises TemporalAway or TemporalRefused with a sentence.
    """
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=task_queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    try:
        found = await client.workflow_service.describe_task_queue(request, timeout=_LOOK)
    except RPCError as exc:
        raise _in_words(exc, client) from exc
    return {one.identity: one.last_access_time.ToDatetime(tzinfo=UTC) for one in found.pollers}


def _in_words(exc: RPCError, client: Client) -> TemporalAway | TemporalRefused:
    address, namespace = client.service_client.config.target_host, client.namespace
    if temporal_connection.is_about_namespace(exc):
        return TemporalRefused(temporal_connection.missing_namespace(namespace, address))
    if exc.status in (RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED):
        return TemporalRefused(f"Temporal at {address} refuses us in the namespace {namespace!r}: {exc.message}")
    words = "does not answer in time" if exc.status in _TOO_LATE else f"answers {exc.status.name}: {exc.message}"
    return TemporalAway(f"Temporal at {address} cannot be reached: it {words}")


_TOO_LATE = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)


def _reason_of(event: HistoryEvent) -> str:
    if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
        return event.workflow_execution_terminated_event_attributes.reason
    if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
        return event.workflow_execution_failed_event_attributes.failure.message
    return ""


def _pending_of(found: DescribeWorkflowExecutionResponse, activity: str) -> list[PendingActivityInfo]:
    if found.workflow_execution_info.HasField("close_time"):
        raise WorkflowGone("It has ended.")
    return [one for one in found.pending_activities if one.activity_type.name == activity]


async def _translated(call: Callable[[], Coroutine[Any, Any, _R]]) -> _R:
    """Turn the SDK's errors into ours, most specific first."""
    try:
        return await call()
    except CannotConnect as exc:
        raise TemporalAway(str(exc)) from exc
    except RPCError as exc:
        if temporal_connection.is_about_namespace(exc):  # nothing is known of the workflow
            raise NamespaceGone(f"Temporal answered: {exc.message}") from exc
        if exc.status == RPCStatusCode.NOT_FOUND:
            raise WorkflowGone(str(exc)) from exc
        if exc.status in _REFUSALS:
            refused = TemporalRefused(f"Temporal refused with {exc.status.name}: {exc.message}")
            refused.is_data_loss = exc.status == RPCStatusCode.DATA_LOSS
            raise refused from exc
        raise TemporalAway(f"Temporal answered {exc.status.name}: {exc.message}") from exc
    except (TimeoutError, RuntimeError, OSError) as exc:
        raise TemporalAway(f"Temporal cannot be reached: {exc}") from exc
