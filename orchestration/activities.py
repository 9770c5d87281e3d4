"""What the worker does for the workflow: take a turn of the graph, climb the ladder, close a run.

On retry every activity finds what the attempt before has done: rows are moved by conditional updates, the graph
goes on from its last checkpoint, the ledger knows its effects.
"""

from __future__ import annotations

import asyncio
import re
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from django.db import DatabaseError, DataError
from django.utils.module_loading import import_string
from langgraph.errors import EmptyInputError, GraphDrained, GraphRecursionError, InvalidUpdateError
from langgraph.graph import StateGraph
from langgraph.runtime import RunControl
from langgraph.types import Command
from temporalio import activity
from temporalio.exceptions import ApplicationError

from approvals import services as approvals
from approvals.errors import ApprovalError
from approvals.services import Proposal
from console import faults
from dataplane import selectors as datasets
from dataplane.errors import DataplaneError
from orchestration import deliveries, failing, pausing, services, webhook_gateway
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
from orchestration.dialects import dialect_of
from orchestration.effects import EffectLedger
from orchestration.errors import (
    AgentCodeChanged,
    AgentStopped,
    Fenced,
    GaveUp,
    OrchestrationError,
    RunClosed,
    SignalHeld,
    TooManySteps,
)
from orchestration.failing import Failed
from orchestration.fences import Attempt
from orchestration.models import Run
from orchestration.pausing import Kept, Stand
from orchestration.services import TurnEnd, TurnStart
from orchestration.temporal_gateway import TemporalGateway
from orchestration.threads import in_database

HEARTBEATS_PER_TIMEOUT = 6

#: trying the same again cannot help: the agent's code or its input is wrong
_PERMANENT = (
    ValueError,
    TypeError,
    LookupError,
    AssertionError,
    AttributeError,
    ImportError,
    NameError,
    SyntaxError,
    ArithmeticError,
    NotImplementedError,
    RecursionError,
    DataError,
    InvalidUpdateError,
    EmptyInputError,
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
        try:
            async with _failure_kept(turn) as taken:
                info = activity.info()
                attempt = Attempt(info.workflow_run_id or "", turn.turn, info.attempt)
                start = await in_database(services.begin_turn, turn, attempt)
                if start.run is None:
                    return _still_waiting(turn, start)
                taken.run = start.run
                await in_database(failing.check_lost, start.run, turn)
                agent = agent_named(turn.agent)
                result = await self._run_graph(agent, turn, start, start.run)
                faults.reach("turn.before_report", turn.run_id)
                return result
        except RunClosed as exc:
            if exc.status == Run.Status.FINISHED:  # by an attempt whose report was lost
                return TurnResult("finished")
            raise ApplicationError(str(exc), type="RunClosed", non_retryable=True) from exc
        except GraphDrained as exc:
            raise ApplicationError("The worker is stopping; another one goes on.", type="Drained") from exc
        except GaveUp as exc:
            raise ApplicationError(str(exc), type=exc.kind, non_retryable=True) from exc
        except Exception as exc:
            failed = _failed(exc)
            if isinstance(exc, _OURS) or failed.is_permanent:
                raise ApplicationError(failed.message, type=failed.kind, non_retryable=failed.is_permanent) from exc
            raise

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

    async def _run_graph(self, agent: Agent, turn: Turn, start: TurnStart, run: Run) -> TurnResult:
        control = RunControl()
        async with self._checkpoints.thread(turn.run_id) as saver, _alive(control, turn):
            graph = _graph_of(agent.name).compile(checkpointer=saver)
            code = pausing.code_of(graph)
            context = AgentContext(
                run_id=turn.run_id,
                effects=EffectLedger(turn.run_id, run.fence, agent, self._world),
                datasets=PublishedDatasets(),
                world=self._world,
                model=chat_model(),
            )
            before = await pausing.stand_of(graph, saver, turn.run_id)
            changed = pausing.changes_between((run.pause or {}).get("code", {}), code)
            pausing.check(before, _kept(turn, start, run), changed)
            if changed:
                await in_database(services.note_code_changed, turn, run.fence, changed)
            faults.reach("turn.before_graph", turn.run_id)
            answers = _answers(before, start)
            await _drive(graph, agent, run, before, answers, context, control)
            after = await pausing.stand_of(graph, saver, turn.run_id)
        faults.reach("turn.after_graph", turn.run_id)
        end = _end_of(agent, turn, run, after, code)
        if end.proposals:
            waiting_for, next_step_at = await in_database(services.pause_turn, turn, run.fence, end)
            return TurnResult(
                outcome="needs_approval",
                waiting_for=waiting_for,
                next_step_at=next_step_at.isoformat(),
                checkpoint_id=end.checkpoint_id,
                dataset_versions=end.dataset_versions,
                usage=end.usage,
            )
        if after.next:
            raise AgentStopped(
                f"The agent stopped before {' and '.join(f'“{node}”' for node in after.next)} without asking anybody, "
                "so nobody can let it go on. A graph waits for people by `interrupt()`, not by a stop before a node."
            )
        await in_database(services.finish_turn, turn, run.fence, end)
        return TurnResult("finished", [], None, end.checkpoint_id, end.dataset_versions, end.usage)


@dataclass
class _Taken:
    """The run as an attempt holds it, once it has begun."""

    run: Run | None = None


@asynccontextmanager
async def _failure_kept(turn: Turn) -> AsyncIterator[_Taken]:
    """Keep with the run why this attempt failed; Temporal tells that only to who asks it.

    Raises GaveUp in the error's place where the agent's limits say so.
    """
    taken = _Taken()
    try:
        yield taken
    except (RunClosed, GaveUp, Fenced):
        raise
    except GraphDrained:
        if taken.run is not None:
            with suppress(DatabaseError):
                await in_database(services.let_go, turn, taken.run.fence)
        raise
    except Exception as exc:
        if taken.run is not None:
            with suppress(DatabaseError):
                attempt = activity.info().attempt
                await in_database(failing.note, turn, taken.run.fence, attempt, _failed(exc))
        raise


_OURS = (OrchestrationError, ApprovalError, DataplaneError, UnknownAgent)
_IN_NODE = re.compile(r"During task with name '(.+?)' and id '")
_FRAMES_AT_MOST = 12


def _failed(exc: Exception) -> Failed:
    """Return what an attempt failed of, in a sentence, with the node and the folded trace where they are known."""
    kinds = tuple(kind.__name__ for kind in type(exc).__mro__ if issubclass(kind, Exception))
    nodes = [found[1] for note in getattr(exc, "__notes__", ()) if (found := _IN_NODE.match(note))]
    node = "/".join(reversed(nodes))  # the innermost is noted first
    if isinstance(exc, _OURS):
        return Failed(kinds, str(exc), bool(getattr(exc, "permanent", True)), node)
    if isinstance(exc, GraphRecursionError):
        sentence = (
            "The agent took more steps in one turn than it may, so it does not seem to come to an end. "
            "`steps_per_turn` of its registration is the limit."
        )
        return Failed((TooManySteps.__name__, *kinds), sentence, is_permanent=True, node=node)
    trace = "".join(traceback.format_list(traceback.extract_tb(exc.__traceback__)[-_FRAMES_AT_MOST:]))
    where = f" in the node “{node}”" if node else ""
    if isinstance(exc, _PERMANENT):
        said = f"The agent's code raised {type(exc).__name__}{where}: {exc}"[:1500]
        return Failed(("AgentError", *kinds), said, is_permanent=True, node=node, trace=trace)
    return Failed(kinds, f"{type(exc).__name__}{where}: {exc}"[:1500], node=node, trace=trace)


class WatchActivities:
    """What the worker does for a program's watch besides climbing its ladder."""

    def __init__(self, temporal: TemporalGateway) -> None:
        self._temporal = temporal

    @activity.defn(name=DELIVER)
    async def deliver_answer(self, deliver: DeliverAnswer) -> None:
        """Send the answer once. On retry: what was taken is not sent again; an attempt cut off in between is.

        Raises a retryable error for everything but an admin's missing yes: addresses come back, workflows start late.
        """
        try:
            parcel = await in_database(deliveries.begin, deliver.approval_id)
            if parcel is None:
                return
            if parcel.signal is not None:
                await self._temporal.signal_program(parcel.signal)
                taken_by = f"signal {parcel.signal.signal} to workflow {parcel.signal.workflow_id}"
            else:
                taken_by = await webhook_gateway.post(parcel.url, parcel.id, parcel.body)
        except SignalHeld as exc:  # an admin's yes starts the watch once more, and the time to deliver from then
            raise ApplicationError(str(exc), type=type(exc).__name__, non_retryable=True) from exc
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


def _kept(turn: Turn, start: TurnStart, run: Run) -> Kept:
    """Return what our rows say of the thread before a turn."""
    return Kept(
        must_be_there=bool(run.checkpoint_id) or turn.turn > 1,
        checkpoint_id=run.checkpoint_id,
        asked_in=dict((run.pause or {}).get("asked_in", {})),
        answers_at={name: places[0].checkpoint_id for name, places in start.answered.items()},
    )


def _answers(before: Stand, start: TurnStart) -> dict[str, Any]:
    """Return what the graph is resumed with: by interrupt id, for those that it waits for and that are answered.

    Raises AgentCodeChanged when an interrupt asks for more or fewer places than were decided.
    """
    answers: dict[str, Any] = {}
    for interrupt in before.interrupts:
        places = start.answered.get(interrupt.id)
        if places is None:
            continue
        dialect = dialect_of(interrupt)
        asked = len(dialect.proposals_of(interrupt))
        if [place.place for place in places] != list(range(asked)):
            raise AgentCodeChanged(
                f"The agent's question is read in another way than when it was asked: it has {asked} parts now, and "
                f"{len(places)} were decided."
            )
        answers[interrupt.id] = dialect.answer(places)
    return answers


async def _drive(
    graph: Any,
    agent: Agent,
    run: Run,
    before: Stand,
    answers: dict[str, Any],
    context: AgentContext,
    control: RunControl,
) -> None:
    """Call the graph so that it can be called again at any point and nothing happens twice.

    `answers`: by interrupt id, those that the thread still waits for. Those that have landed are not given again, and
    strict mode refuses unknown and used ids before anything is written. The same `run_id` in the metadata makes a
    repeated start go on instead of beginning again. Both are internal to langgraph 1.2.22 and covered by tests.
    """
    config: Any = {
        "configurable": {"thread_id": run.pk, "__pregel_strict_resume": True},
        "metadata": {"run_id": run.pk},
        "recursion_limit": agent.steps_per_turn,
    }
    options: Any = {"version": "v2", "durability": "sync", "context": context, "control": control}
    given: Any = Command(resume=answers) if answers else None if before.checkpoint_id else run.input
    await graph.ainvoke(given, config, **options)


def _end_of(agent: Agent, turn: Turn, run: Run, after: Stand, code: dict[str, Any]) -> TurnEnd:
    versions = after.values.get("dataset_versions", [])
    proposals = [
        Proposal(
            **vars(place),
            external_id=f"{turn.run_id}:{interrupt.id}{f':{number}' if number else ''}",
            agent=agent.name,
            run_id=turn.run_id,
            interrupt_id=interrupt.id,
            interrupt_place=number,
            checkpoint_id=after.checkpoint_id,
            requested_by_id=run.requested_by_id,
            dataset_versions=versions,
        )
        for interrupt in after.interrupts
        for number, place in enumerate(dialect_of(interrupt).proposals_of(interrupt))
    ]
    pause = {"code": code, "asked_in": after.asked_in}
    result = after.values.get("result")
    return TurnEnd(after.checkpoint_id, proposals, result, versions, _usage(after.values), pause)


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
