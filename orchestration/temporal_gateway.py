"""The console's only door to Temporal: start a workflow, signal it, ask the server how it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from temporalio.api.common.v1 import Payloads, WorkflowExecution
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeWorkflowExecutionRequest,
    SignalWorkflowExecutionRequest,
)
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from console import temporal_connection
from console.environment import environment
from console.temporal_connection import CannotConnect, connect
from orchestration.contracts import DECIDED, WATCH, WORKFLOW, ProgramSignal, StartRun, StartWatch
from orchestration.errors import TemporalAway, TemporalRefused, WorkflowGone

_CALL = timedelta(seconds=10)
_LOOK = timedelta(seconds=1.5)  # for a question about the server itself
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


class TemporalGateway(Protocol):
    """What the relay needs of Temporal."""

    async def start_run(self, start: StartRun) -> str:
        """Start the run's workflow, once; return its Temporal run id, "" when it ran before and has ended."""

    async def signal_decided(self, run_id: str, approval_id: str, decision_id: str) -> None:
        """Wake the run. Raises WorkflowGone when it has ended or never was."""

    async def start_watch(self, workflow_id: str, start: StartWatch, again: bool) -> None:
        """Start a program's watch; one that runs stays, unless it is `again` to be started in its place."""

    async def signal_program(self, signal: ProgramSignal) -> None:
        """Signal a workflow of somebody else's. Raises WorkflowGone when it is not there or has ended."""

    async def is_there(self) -> bool:
        """Say whether the server answers, lets us in, and has our namespace."""


@dataclass(frozen=True)
class RealTemporal:
    """The gateway over the SDK's client. Every call may raise TemporalAway or TemporalRefused."""

    client: Client

    @classmethod
    async def connect(cls) -> RealTemporal:
        """Connect once. Raises TemporalAway; the caller tries again with backoff."""
        return cls(await _translated(connect))

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

    async def histories(self, run_id: str) -> list[dict[str, Any]]:
        """Return the workflow's histories as Temporal's own JSON, oldest first: one, or one more per continuation."""
        found: list[dict[str, Any]] = []
        temporal_run_id: str | None = None
        while temporal_run_id != "":
            handle = self.client.get_workflow_handle(run_id, run_id=temporal_run_id)
            history = await _translated(lambda handle=handle: handle.fetch_history(rpc_timeout=_CALL))  # type: ignore[misc]
            found.insert(0, json.loads(history.to_json()))
            began = history.events[0].workflow_execution_started_event_attributes
            temporal_run_id = began.continued_execution_run_id
        return found

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

    async def is_there(self) -> bool:
        try:
            await temporal_connection.ask_for_namespace(self.client)
        except (RPCError, RuntimeError, OSError):
            return False
        return True


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


async def _translated(call: Callable[[], Coroutine[Any, Any, _R]]) -> _R:
    """Turn the SDK's errors into ours, most specific first."""
    try:
        return await call()
    except CannotConnect as exc:
        raise TemporalAway(str(exc)) from exc
    except RPCError as exc:
        if temporal_connection.is_about_namespace(exc):  # nothing is known of the workflow
            raise TemporalAway(f"Temporal answered: {exc.message}") from exc
        if exc.status == RPCStatusCode.NOT_FOUND:
            raise WorkflowGone(str(exc)) from exc
        if exc.status in _REFUSALS:
            raise TemporalRefused(f"Temporal refused with {exc.status.name}: {exc.message}") from exc
        raise TemporalAway(f"Temporal answered {exc.status.name}: {exc.message}") from exc
    except (TimeoutError, RuntimeError, OSError) as exc:
        raise TemporalAway(f"Temporal cannot be reached: {exc}") from exc
