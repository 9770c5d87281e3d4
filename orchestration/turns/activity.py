"""What the worker does for the workflow: take a turn of the graph, climb the ladder, close a run.

On retry every activity finds what the attempt before has done: rows are moved by conditional updates, the graph
goes on from its last checkpoint, the ledger knows its effects.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from django.db import DatabaseError
from langgraph.errors import GraphDrained, is_invalid_resume
from langgraph.runtime import RunControl
from temporalio import activity
from temporalio.exceptions import ApplicationError

from approvals import services as approvals
from console import faults
from console.text.stored import storable
from orchestration import failing, pausing, services
from orchestration import spending as spent
from orchestration.agents.guarding import GuardedTurn, lent
from orchestration.agents.models import chat_model, model_name, model_of
from orchestration.agents.registry import agent_named
from orchestration.agents.runtime import Agent, AgentContext, ModelCalls, World
from orchestration.checkpoint_gateway import Checkpoints
from orchestration.contracts import (
    CLIMB,
    CLOSE_RUN,
    RUN_TURN,
    Climb,
    Climbed,
    CloseRun,
    Turn,
    TurnResult,
)
from orchestration.effects import EffectLedger
from orchestration.errors import (
    AgentStopped,
    AnswerNotTaken,
    GaveUp,
    RunClosed,
)
from orchestration.fences import Attempt
from orchestration.models import Run
from orchestration.pausing import Stand
from orchestration.prices import Tokens
from orchestration.services import TurnEnd, TurnStart
from orchestration.threads import in_database, waiting_for_database
from orchestration.turns import drive
from orchestration.turns.asked import Around
from orchestration.turns.asking_again import ask_again
from orchestration.turns.datasets import PublishedDatasets
from orchestration.turns.failure import OURS, failed_of, failure_kept, said_of
from orchestration.turns.looking import SeenThread, looking
from orchestration.turns.progress import Nodes, alive, watched
from orchestration.turns.usage import DayBudget, Spending, Tell, ahead_of


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
            async with failure_kept(turn) as taken:
                info = activity.info()
                due_at = info.current_attempt_scheduled_time.timestamp()
                attempt = Attempt(info.workflow_run_id or "", turn.turn, info.attempt, due_at)
                async with self._checkpoints.reaching_for(turn.run_id) as reach, looking(turn, reach) as look:
                    start = await in_database(services.begin_turn, turn, attempt)
                    if start.is_paused:
                        return TurnResult("paused", waiting_for=turn.approval_ids)
                    if start.run is None:
                        return _still_waiting(turn, start)
                    taken.run = start.run
                    if start.run.failure:
                        await in_database(failing.check_lost, start.run, turn)
                    agent = agent_named(turn.agent)
                    end, after = await self._run_graph(agent, turn, start, start.run, await reach.held(), await look)
                result = await _end_turn(turn, start.run, end, after)
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
            failed = failed_of(exc)
            if isinstance(exc, OURS) or failed.is_permanent:
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
        """Close the run's row and withdraw what waits. On retry: a closed run stays, and one set back since."""
        await in_database(
            services.close_run,
            run_id=close.run_id,
            status=close.status,
            kind=close.kind,
            message=close.message,
            era=close.era,
            temporal_run_id=activity.info().workflow_run_id or "",
        )

    async def _run_graph(
        self, agent: Agent, turn: Turn, start: TurnStart, run: Run, held: Any, seen: SeenThread | None
    ) -> tuple[TurnEnd, Stand]:
        """Call the graph if it may go on; return how the turn ends, and how the thread then stands.

        `held`: the thread's saver. `seen`: what was read of the thread before, if anything.
        """
        assert start.began_at is not None
        control, nodes = RunControl(), Nodes(start.began_at)
        async with (
            alive(control, turn, nodes),
            watched(turn, run.fence, nodes),
            drive.made_graph(drive.graph_of(agent.name), turn.run_id) as made,
        ):
            graph = seen.graph if seen else drive.with_saver(made, held)
            saver = graph.checkpointer
            shape = drive.shape_of(made, graph)
            ledger = EffectLedger(turn.run_id, run.fence, agent, self._world)
            context = AgentContext(
                run_id=turn.run_id,
                effects=ledger,
                datasets=PublishedDatasets(),
                world=self._world,
                model=model_of(agent) if agent.model or agent.model_calls != ModelCalls() else chat_model(),
            )
            ahead = _ahead_of(run)
            if run.restart and not run.restart["placed"]:
                placed = await drive.place(graph, saver, run)
                before = await pausing.stand_of(graph, saver, turn.run_id)
                ahead = ahead_of(run.usage, before.values)
                await in_database(services.note_placed, turn, run.fence, placed, ahead)
                faults.reach("turn.after_place", turn.run_id)
                faults.reach("fork.after_place", run.parent_id or "")
            else:
                before = seen.stand if seen else await pausing.stand_of(graph, saver, turn.run_id)
            changed = pausing.changes_between((run.pause or {}).get("code", {}), shape.code)
            pausing.check(before, drive.kept_of(turn, start, run), changed)
            if changed:
                await in_database(services.note_code_changed, turn, run.fence, changed)
            faults.reach("turn.before_graph", turn.run_id)
            budget = run.limits.get("tokens_per_run", agent.tokens_per_run)
            today = await _budget_of_today(agent, run)
            spending = Spending(run.usage, budget, today, model_name(agent), _tell_of(turn, run.fence), ahead)
            unseen = drive.unseen_of(before, start)
            refused = await in_database(services.refuse_what_may_not_run, turn, run.fence, unseen) if unseen else {}
            answers = drive.answers_of(Around(agent, shape.tools, before), start, refused)
            if answers.asked_again:
                # Noted first: once the graph asks anew, the next attempt finds nothing of what was answered.
                undone = [one for approval_ids in answers.asked_again.values() for one in approval_ids]
                await in_database(services.note_asked_again, turn, run.fence, undone)
                faults.reach("turn.before_ask_again", turn.run_id)
                acted = await in_database(services.acted_since_asked, run)
                await ask_again(graph, before, set(answers.asked_again), acted)
                faults.reach("turn.after_ask_again", turn.run_id)
            if answers.may_go_on:
                with lent(GuardedTurn(ledger, start.approved_calls)):
                    try:
                        heard = [nodes, spending.callers, spending]
                        async with ledger.seen_through():
                            await drive.call(graph, agent, run, before, answers.resume, context, control, heard)
                    except Exception as exc:  # what it has used is used, whatever became of it
                        with suppress(DatabaseError):
                            await in_database(services.note_usage, turn, run.fence, spending.usage(), spending.used())
                        if is_invalid_resume(exc):
                            await _have_asked_again(graph, turn, run, start, answers, exc)
                        raise
            after = await pausing.stand_of(graph, saver, turn.run_id)
            end = drive.end_of(Around(agent, shape.tools, after), graph, turn, run, shape.code, spending)
        return end, after


async def _have_asked_again(
    graph: Any, turn: Turn, run: Run, start: TurnStart, answers: drive.Answers, exc: Exception
) -> None:
    """Have the graph ask again what it did not take the answers to. Raises AnswerNotTaken, after which it is called.

    Beside one answer that was not taken others may not have landed either: they are asked again too.
    """
    stand = await pausing.stand_of(graph, graph.checkpointer, turn.run_id)
    given = {one.id: start.answered[one.id] for one in stand.asked if one.id in answers.resume}
    if not given:
        return
    why = storable(f"The agent did not take the answer, or one beside it: {said_of(exc)}")
    undone = [place.approval_id for places in given.values() for place in places]
    await in_database(services.note_asked_again, turn, run.fence, undone, why)
    faults.reach("turn.before_ask_again", turn.run_id)
    acted = await in_database(services.acted_since_asked, run)
    await ask_again(graph, stand, set(given), acted)
    raise AnswerNotTaken(f"{why} It is asked again.") from exc


async def _end_turn(turn: Turn, run: Run, end: TurnEnd, after: Stand) -> TurnResult:
    """Open what the graph asks, or close the run with its result."""
    faults.reach("turn.after_graph", turn.run_id)
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
            "so nobody can let it go on. A graph waits for people by `interrupt()`, or by a stop that it was "
            "compiled with."
        )
    await in_database(services.finish_turn, turn, run.fence, end)
    return TurnResult("finished", [], None, end.checkpoint_id, end.dataset_versions, end.usage)


async def _budget_of_today(agent: Agent, run: Run) -> DayBudget | None:
    """Return the agent's budget of today, as this run may use it; `None`, without a query, where it has none."""
    most: int | None = run.limits.get("tokens_per_day", agent.tokens_per_day)
    if most is None:
        return None
    look = partial(waiting_for_database, spent.used_today, agent.name)
    return DayBudget(await in_database(spent.used_today, agent.name), most, look)


def _ahead_of(run: Run) -> Tokens:
    return Tokens(*(run.restart or {}).get("ahead", (0, 0)))


def _tell_of(turn: Turn, fence: int) -> Tell:
    """Return how what a call has used is told while its turn goes on."""

    def tell(usage: dict[str, Any], used: dict[str, Tokens]) -> None:
        waiting_for_database(services.note_usage, turn, fence, usage, used)

    return tell


def _still_waiting(turn: Turn, start: TurnStart) -> TurnResult:
    next_step_at = start.next_step_at
    return TurnResult(
        outcome="still_waiting",
        waiting_for=turn.approval_ids,
        next_step_at=next_step_at.isoformat() if next_step_at else None,
    )
