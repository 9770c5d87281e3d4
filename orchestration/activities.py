"""What the worker does for the workflow: take a turn of the graph, climb the ladder, close a run.

On retry every activity finds what the attempt before has done: rows are moved by conditional updates, the graph
goes on from its last checkpoint, the ledger knows its effects.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from django.db import DatabaseError, DataError
from django.utils.module_loading import import_string
from langgraph.errors import GraphDrained, GraphRecursionError, UnknownInterruptError
from langgraph.graph import StateGraph
from langgraph.runtime import RunControl
from langgraph.types import Command, Interrupt
from temporalio import activity
from temporalio.exceptions import ApplicationError

from approvals import services as approvals
from approvals.errors import ApprovalError
from approvals.services import Proposal
from console import faults
from dataplane import selectors as datasets
from dataplane.errors import DataplaneError
from orchestration import deliveries, services, webhook_gateway
from orchestration.agents.models import chat_model, model_name
from orchestration.agents.registry import UnknownAgent, agent_named
from orchestration.agents.runtime import Agent, AgentContext, Passage, Passages, World
from orchestration.checkpoint_gateway import Checkpoints
from orchestration.contracts import (
    CLIMB,
    CLOSE_RUN,
    DELIVER,
    GIVE_UP,
    RUN_TURN,
    Climb,
    Climbed,
    CloseRun,
    DeliverAnswer,
    GiveUpAnswer,
    Turn,
    TurnResult,
)
from orchestration.effects import EffectLedger
from orchestration.errors import OrchestrationError, RunClosed
from orchestration.models import Run
from orchestration.services import ATTEMPTS_PER_TURN, TurnEnd, TurnStart
from orchestration.temporal_gateway import TemporalGateway
from orchestration.threads import in_database

STEPS_AT_MOST = 100  # of the graph in one turn
HEARTBEATS_PER_TIMEOUT = 6

#: trying the same again cannot help: the agent's code or its input is wrong
_PERMANENT = (
    ValueError,
    TypeError,
    LookupError,
    AssertionError,
    AttributeError,
    ImportError,
    DataError,
    GraphRecursionError,
)


@dataclass(frozen=True)
class PublishedDatasets:
    """The data plane as a graph sees it: published versions, through its selector."""

    async def search(self, dataset: str, query: str, limit: int) -> Passages:
        """Return the nearest passages; the turn is tried again while nothing has been published yet."""
        found = await in_database(datasets.nearest_passages, dataset=dataset, query=query, limit=limit)
        return Passages(
            dataset=found.dataset,
            version=found.version,
            passages=[
                Passage(
                    document=hit.document,
                    title=hit.title,
                    heading=hit.heading,
                    text=hit.text,
                    effective=hit.effective.isoformat() if hit.effective else "",
                    status=hit.status,
                )
                for hit in found.passages
            ],
        )


class Activities:
    """The activities of one worker process; holds what they share."""

    def __init__(self, checkpoints: Checkpoints, world: World) -> None:
        self._checkpoints = checkpoints
        self._world = world

    @activity.defn(name=RUN_TURN)
    async def run_turn(self, turn: Turn) -> TurnResult:
        """Settle what the run waits for and, if something was decided, run the graph to its next pause or its end.

        On retry: rows settled before are settled again, the graph goes on from its last checkpoint, an answer that
        has landed is not given twice, and no approval is opened twice. Raises a non-retryable error for permanent
        failures, whose type and message close the run.
        """
        fence = turn.turn * ATTEMPTS_PER_TURN + activity.info().attempt
        try:
            async with _failure_kept(turn, fence):
                start = await in_database(services.begin_turn, turn, fence)
                if turn.approval_ids and not start.answers:
                    return _still_waiting(turn, start)
                agent = agent_named(turn.agent)
                result = await self._run_graph(agent, turn, start, fence)
                faults.reach("turn.before_report", turn.run_id)
                return result
        except RunClosed as exc:
            if exc.status == Run.Status.FINISHED:  # by an attempt whose report was lost
                return TurnResult("finished")
            raise ApplicationError(str(exc), type="RunClosed", non_retryable=True) from exc
        except GraphDrained as exc:
            raise ApplicationError("The worker is stopping; another one goes on.", type="Drained") from exc
        except (OrchestrationError, ApprovalError, DataplaneError, UnknownAgent) as exc:
            permanent = getattr(exc, "permanent", True)
            raise ApplicationError(str(exc), type=type(exc).__name__, non_retryable=permanent) from exc
        except _PERMANENT as exc:
            raise ApplicationError(
                f"{type(exc).__name__}: {exc}"[:2000], type="AgentError", non_retryable=True
            ) from exc

    @activity.defn(name=CLIMB)
    async def climb(self, climb: Climb) -> Climbed:
        """Take the ladder steps that are due. On retry: none is taken twice."""
        rungs = await in_database(approvals.climb, climb.approval_ids)
        following = [rung.next_step_at for rung in rungs if rung.next_step_at]
        return Climbed(
            closed=any(rung.next_step_at is None for rung in rungs),
            next_step_at=min(following).isoformat() if following else None,
        )

    @activity.defn(name=CLOSE_RUN)
    async def close_run(self, close: CloseRun) -> None:
        """Close the run's row and withdraw what waits. On retry: a closed run stays as it is."""
        await in_database(
            services.close_run,
            run_id=close.run_id,
            status=close.status,
            kind=close.kind,
            message=close.message,
        )

    async def _run_graph(self, agent: Agent, turn: Turn, start: TurnStart, fence: int) -> TurnResult:
        control = RunControl()
        async with self._checkpoints.thread(turn.run_id) as saver, _alive(control, turn):
            graph = _graph_of(agent.name).compile(checkpointer=saver)
            context = AgentContext(
                run_id=turn.run_id,
                effects=EffectLedger(turn.run_id, fence, agent, self._world),
                datasets=PublishedDatasets(),
                world=self._world,
                model=chat_model(),
            )
            faults.reach("turn.before_graph", turn.run_id)
            output = await _drive(graph, turn.run_id, start, context, control)
            head = await saver.aget_tuple({"configurable": {"thread_id": turn.run_id, "checkpoint_ns": ""}})
            checkpoint_id = str(head.checkpoint["id"]) if head else ""
        faults.reach("turn.after_graph", turn.run_id)
        end = _end_of(agent, turn, start, output.value, output.interrupts, checkpoint_id)
        if end.proposals:
            waiting_for, next_step_at = await in_database(services.pause_turn, turn, fence, end)
            return TurnResult(
                outcome="needs_approval",
                waiting_for=waiting_for,
                next_step_at=next_step_at.isoformat(),
                checkpoint_id=checkpoint_id,
                dataset_versions=end.dataset_versions,
                usage=end.usage,
            )
        await in_database(services.finish_turn, turn, fence, end)
        return TurnResult("finished", [], None, checkpoint_id, end.dataset_versions, end.usage)


@asynccontextmanager
async def _failure_kept(turn: Turn, fence: int) -> AsyncIterator[None]:
    """Keep with the run why this attempt failed; Temporal tells that only to who asks it."""
    try:
        yield
    except (RunClosed, GraphDrained):
        raise
    except Exception as exc:
        with suppress(DatabaseError):
            message = str(exc) if isinstance(exc, OrchestrationError) else f"{type(exc).__name__}: {exc}"
            await in_database(services.note_failure, turn, fence, message)
        raise


class WatchActivities:
    """What the worker does for a program's watch besides climbing its ladder."""

    def __init__(self, temporal: TemporalGateway) -> None:
        self._temporal = temporal

    @activity.defn(name=DELIVER)
    async def deliver_answer(self, deliver: DeliverAnswer) -> None:
        """Send the answer once. On retry: what was taken is not sent again; an attempt cut off in between is.

        Raises a retryable error for everything: addresses come back, and workflows start late.
        """
        try:
            parcel = await in_database(deliveries.begin, deliver.approval_id)
            if parcel is None:
                return
            if parcel.signal is not None:
                await self._temporal.signal_program(parcel.signal)
                taken_by = f"signal {parcel.signal.signal} to workflow {parcel.signal.workflow_id}"
            else:
                taken_by = await webhook_gateway.post(parcel.url, parcel.body)
        except OrchestrationError as exc:
            await in_database(deliveries.failed, deliver.approval_id, str(exc))
            raise ApplicationError(str(exc), type=type(exc).__name__) from exc
        await in_database(deliveries.delivered, deliver.approval_id, taken_by)

    @activity.defn(name=GIVE_UP)
    async def give_up_answer(self, give_up: GiveUpAnswer) -> None:
        """Show the answer as undelivered. On retry: it is shown already."""
        await in_database(deliveries.give_up, give_up.approval_id)


@cache
def _graph_of(agent: str) -> StateGraph[Any, Any, Any, Any]:
    found = agent_named(agent)
    graph: StateGraph[Any, Any, Any, Any] = import_string(found.graph)(found)
    return graph


async def _drive(graph: Any, run_id: str, start: TurnStart, context: AgentContext, control: RunControl) -> Any:
    """Call the graph so that it can be called again at any point and nothing happens twice.

    Answers go by interrupt id in strict mode: unknown and used ids are refused before anything is written. The same
    `run_id` in the metadata makes a repeated start go on instead of beginning again. Both are internal to langgraph
    1.2.22 and covered by tests.
    """
    config: Any = {
        "configurable": {"thread_id": run_id, "__pregel_strict_resume": True},
        "metadata": {"run_id": run_id},
        "recursion_limit": STEPS_AT_MOST,
    }
    options: Any = {"version": "v2", "durability": "sync", "context": context, "control": control}
    if not start.answers:
        return await graph.ainvoke(start.input, config, **options)
    try:
        return await graph.ainvoke(Command(resume=start.answers), config, **options)
    except UnknownInterruptError as exc:
        if exc.reason != "not_pending":
            raise
        return await graph.ainvoke(None, config, **options)  # the answer had landed: go on from there


def _end_of(
    agent: Agent,
    turn: Turn,
    start: TurnStart,
    state: dict[str, Any],
    interrupts: Sequence[Interrupt],
    checkpoint_id: str,
) -> TurnEnd:
    versions = state.get("dataset_versions", [])
    proposals = [
        Proposal(
            external_id=f"{turn.run_id}:{interrupt.id}",
            kind=interrupt.value["kind"],
            canonical=interrupt.value["canonical"].encode(),
            digest=interrupt.value["digest"],
            summary=interrupt.value["summary"],
            agent_words=interrupt.value["agent_words"],
            arguments_schema=interrupt.value["arguments_schema"],
            risk=interrupt.value["risk"],
            agent=agent.name,
            run_id=turn.run_id,
            interrupt_id=interrupt.id,
            checkpoint_id=checkpoint_id,
            requested_by_id=start.requested_by_id,
            dataset_versions=versions,
        )
        for interrupt in interrupts
    ]
    return TurnEnd(checkpoint_id, proposals, state.get("result"), versions, _usage(state))


def _usage(state: dict[str, Any]) -> dict[str, Any]:
    """Add up what the model's messages say they cost; kept in state, so a crash loses none of it."""
    spent = [getattr(message, "usage_metadata", None) or {} for message in state.get("messages", [])]
    return {
        "model": model_name(),
        "input_tokens": sum(one.get("input_tokens", 0) for one in spent),
        "output_tokens": sum(one.get("output_tokens", 0) for one in spent),
    }


def _still_waiting(turn: Turn, start: TurnStart) -> TurnResult:
    next_step_at = start.next_step_at
    return TurnResult(
        outcome="still_waiting",
        waiting_for=turn.approval_ids,
        next_step_at=next_step_at.isoformat() if next_step_at else None,
    )


@asynccontextmanager
async def _alive(control: RunControl, turn: Turn) -> AsyncIterator[None]:
    """Send heartbeats, and let the graph stop after its current step when the worker is stopping."""

    timeout = activity.info().heartbeat_timeout or timedelta(seconds=30)

    async def beat() -> None:
        while True:
            activity.heartbeat({"turn": turn.turn})
            await asyncio.sleep(timeout.total_seconds() / HEARTBEATS_PER_TIMEOUT)

    async def drain() -> None:
        await activity.wait_for_worker_shutdown()
        control.request_drain("the worker is stopping")

    side = [asyncio.create_task(beat()), asyncio.create_task(drain())]
    try:
        yield
    finally:
        for task in side:
            task.cancel()
