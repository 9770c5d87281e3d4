"""The console's only door to Temporal: start a workflow, signal it, ask the server how it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from temporalio.api.common.v1 import Payloads, WorkflowExecution
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
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
