"""Call a graph from where its run stands, and read how it stands afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, Final
from weakref import WeakKeyDictionary

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.runtime import RunControl
from langgraph.types import Command, Overwrite

from approvals.proposal.canonical import read_canonical
from approvals.reading.for_runs import Settled
from approvals.services import Proposal
from orchestration import pausing
from orchestration.agents.graphs import Factory, compiled, graph_from, tools_of
from orchestration.agents.guarding import NotForTheModel
from orchestration.agents.loading import named_graph
from orchestration.agents.registry import agent_named
from orchestration.agents.runtime import Agent, AgentContext
from orchestration.contracts import Turn
from orchestration.dialects import dialect_of
from orchestration.dialects.base import Place, Untellable
from orchestration.errors import (
    AgentCodeChanged,
    CheckpointsGone,
    NotAllowedToGoOn,
    OrchestrationError,
    RunExpired,
)
from orchestration.models import Run
from orchestration.pausing import Kept, Stand
from orchestration.services import TurnEnd, TurnStart
from orchestration.stops import PREFIX as STOP
from orchestration.stops import Stop
from orchestration.turns.asked import Around
from orchestration.turns.result import result_of
from orchestration.turns.usage import Spending


@cache
def graph_of(agent: str) -> Any:
    """Return the agent's graph, compiled once in a process, or a Factory of it. Raises TypeError."""
    registered = agent_named(agent)
    return compiled(graph_from(registered, named_graph(registered)))


@asynccontextmanager
async def made_graph(graph: Any, run_id: str) -> AsyncIterator[Any]:
    """Yield the graph for one turn: a function that makes one is called with the turn's configuration."""
    if not isinstance(graph, Factory):
        yield graph
        return
    config = {"configurable": {"thread_id": run_id}, "metadata": {"run_id": run_id}}
    async with graph.made(config) as made:
        yield made


def with_saver(graph: Any, saver: Any) -> Any:
    """Return the graph so that it keeps its checkpoints by the saver.

    A compiled one is copied: made anew from its builder, it would lose its stops before nodes and run through them.
    Copied as it is, for `Pregel.copy` loses which types of the state may be read back (langgraph 1.2.22).
    """
    if isinstance(graph, StateGraph):
        return graph.compile(checkpointer=saver)
    copied = copy(graph)
    copied.checkpointer = copied._apply_checkpointer_allowlist(saver)  # once, so that all who read share what was read
    return copied


@dataclass(frozen=True)
class GraphFacts:
    """What is read from a graph's code: its nodes and edges for `pausing`, and LangChain's tools by name."""

    code: dict[str, Any]
    tools: dict[str, Any]


_REDUCED: Final = ("BinaryOperatorAggregate", "DeltaChannel")  # channels that add what they are given to what they hold
_SHAPES: Final[WeakKeyDictionary[Pregel[Any, Any, Any, Any], GraphFacts]] = WeakKeyDictionary()


def shape_of(made: Any, graph: Any) -> GraphFacts:
    """Return the shape of the graph; `made`: what it is a copy of, whose shape is kept for as long as it lives."""
    kept = _SHAPES.get(made) if isinstance(made, Pregel) else None
    if kept is None:
        kept = GraphFacts(pausing.code_of(graph), tools_of(graph))
        if isinstance(made, Pregel):
            _SHAPES[made] = kept
    return kept


async def place(graph: Any, saver: Any, run: Run) -> str:
    """Make the checkpoint at which the first turn of an era begins, the thread's newest; return its id.

    It is a copy of the one that an operator named, or follows it where some of its state is changed. What had been
    asked there is asked again, by interrupts with ids of their own. On retry: another one, newer still; the one of
    before stays behind, and nothing has come of it. Raises CheckpointsGone, and AgentCodeChanged where the code has
    no place for the state that is changed.
    """
    restart: dict[str, Any] = run.restart or {}
    where = {"thread_id": run.pk, "checkpoint_ns": "", "checkpoint_id": restart["checkpoint_id"]}
    config: Any = {"configurable": where}
    if await saver.aget_tuple(config) is None:
        raise CheckpointsGone("The checkpoint that the run was to begin from is gone.")
    values = restart.get("values") or {}
    if not values:
        placed = await graph.aupdate_state(config, None, as_node="__copy__")
        return str(placed["configurable"]["checkpoint_id"])
    if unknown := sorted(values.keys() - graph.channels.keys()):
        raise AgentCodeChanged(f"The agent's code has not got the state key “{unknown[0]}”, so it cannot be changed.")
    whole = {
        name: Overwrite(value) if type(graph.channels[name]).__name__ in _REDUCED else value
        for name, value in values.items()
    }
    placed = await graph.aupdate_state(config, whole)
    return str(placed["configurable"]["checkpoint_id"])


def kept_of(turn: Turn, start: TurnStart, run: Run) -> Kept:
    """Return what our rows say of the thread before a turn."""
    return Kept(
        must_be_there=bool(run.checkpoint_id) or bool(turn.approval_ids),
        checkpoint_id=run.checkpoint_id,
        asked_in=dict((run.pause or {}).get("asked_in", {})),
        answers_at={
            name: places[0].checkpoint_id for name, places in start.answered.items() if not name.startswith(STOP)
        },
    )


@dataclass(frozen=True)
class Answers:
    """What the graph is called with."""

    resume: dict[str, Any] = field(default_factory=dict)  # by interrupt id, for those that it waits for
    may_go_on: bool = True  # it does not stand at a stop of its compilation, or people let it go on from there
    #: interrupt id -> approvals; nothing of that is given, for the state holds another call than was approved
    asked_again: dict[str, list[str]] = field(default_factory=dict)


def unseen_of(stand: Stand, start: TurnStart) -> list[str]:
    """Return the approvals whose answers the graph would be given now and which the ledger does not ask about again."""
    given = [place for one in stand.asked for place in start.answered.get(one.id, ())]
    return [place.approval_id for place in given if not place.is_tracked]


def answers_of(around: Around, start: TurnStart, refused: Mapping[str, str] = MappingProxyType({})) -> Answers:
    """Return the answers to what the graph waits for, each checked completely before the graph is touched.

    `refused`: approval id -> why what was approved may not be done any more, so that its question is asked again.
    Raises AgentCodeChanged when an interrupt asks for more or fewer places than were decided, RunExpired and
    NotAllowedToGoOn where the graph takes no true word for how a request ended.
    """
    stop = around.stand.stop
    answers: dict[str, Any] = {}
    given = {one.id: start.answered[one.id] for one in around.stand.asked if one.id in start.answered}
    differs = False
    for interrupt in around.stand.asked:
        settled = given.get(interrupt.id)
        if settled is None:
            continue
        dialect = dialect_of(interrupt)
        places = dialect.proposals_of(interrupt)
        if [place.place for place in settled] != list(range(len(places))):
            raise AgentCodeChanged(
                f"The agent's question is read in another way than when it was asked: it has {len(places)} parts now, "
                f"and {len(settled)} were decided."
            )
        if reasons := [refused[place.approval_id] for place in settled if place.approval_id in refused]:
            if isinstance(interrupt, Stop):
                raise NotAllowedToGoOn(f"The agent was let go on, and may not go on any more. {reasons[0]}")
            differs = True
            continue
        if any(around.is_other(interrupt, *pair) for pair in zip(settled, places, strict=True)):
            differs = True
            continue
        try:
            around.check_tellable(interrupt, settled)
            answers[interrupt.id] = dialect.answer(interrupt, settled, around.agent.on_silence)
        except Untellable as exc:
            raise _end_of_run(settled, str(exc)) from exc
    may_go_on = stop is None or answers.pop(stop.id, False) is True
    if not differs:
        return Answers(answers, may_go_on)
    # What waits in the same step is asked anew with it, under other ids, so no answer would find its question.
    again = {name: [one.approval_id for one in settled] for name, settled in given.items() if not name.startswith(STOP)}
    return Answers({}, may_go_on, again)


def _end_of_run(places: Sequence[Settled], sentence: str) -> OrchestrationError:
    endings = {place.ending.verdict for place in places if place.ending is not None}
    if not endings & {"expired", "withdrawn"}:
        return NotAllowedToGoOn(sentence)
    return RunExpired(
        f"{sentence} The agent can be told nothing that is true, so its run ends here. `on_silence` of its "
        "registration says what a question is answered with instead."
    )


async def call(
    graph: Any,
    agent: Agent,
    run: Run,
    before: Stand,
    answers: dict[str, Any],
    context: AgentContext,
    control: RunControl,
    callbacks: Sequence[Any] = (),
) -> None:
    """Call the graph so that it can be called again at any point and nothing happens twice.

    `callbacks`: LangChain's, which hear of each node. `answers`: by interrupt id, those that the thread still waits
    for. Those that have landed are not given again, and strict mode refuses unknown and used ids before anything is
    written. The same `run_id` in the metadata makes a repeated start go on instead of beginning again. Both are
    internal to langgraph 1.2.22 and covered by tests.
    """
    config: Any = {
        "configurable": {"thread_id": run.pk, "__pregel_strict_resume": True},
        "metadata": {"run_id": run.pk},
        "recursion_limit": run.limits.get("steps_per_turn", agent.steps_per_turn),
        "callbacks": list(callbacks),
    }
    options: Any = {"version": "v2", "durability": "sync", "context": _context_for(graph, context), "control": control}
    given: Any = Command(resume=answers) if answers else None if before.checkpoint_id else run.input
    try:
        await graph.ainvoke(given, config, **options)
    except NotForTheModel as exc:
        raise exc.error from exc.error.__cause__


def _context_for(graph: Any, context: AgentContext) -> Any:
    """Return our context, or for a graph that wants another one, that one with its defaults; None where it has none."""
    wanted = getattr(graph, "context_schema", None)
    if wanted is None or wanted is AgentContext or not isinstance(wanted, type):
        return context
    with suppress(TypeError, ValueError):
        return wanted()
    return None


def end_of(around: Around, graph: Any, turn: Turn, run: Run, code: dict[str, Any], spending: Spending) -> TurnEnd:
    agent, after = around.agent, around.stand
    versions = _versions_of(after.values)
    asked = [(interrupt, around.places_of(interrupt)) for interrupt in after.asked]
    proposals = [
        Proposal(
            **vars(place),
            external_id=f"{turn.run_id}:{interrupt.id}{f':{number}' if number else ''}",
            agent=agent.name,
            agent_owners=tuple(agent.owners),
            run_id=turn.run_id,
            interrupt_id=interrupt.id,
            interrupt_place=number,
            checkpoint_id=after.checkpoint_id,
            requested_by_id=run.requested_by_id,
            dataset_versions=versions,
            batch=run.batch,
            dialect=dialect_of(interrupt).name,
            places=len(places),
            model=spending.models(),
            tool_is_known=place.is_tracked or place.kind != "action" or around.is_known(_tool_of(place)),
        )
        for interrupt, places in asked
        for number, place in enumerate(places)
    ]
    pause = {"code": code, "asked_in": after.asked_in}
    result = None if asked else result_of(graph, after.values)
    usage, used = spending.usage(after.values), spending.used(after.values)
    return TurnEnd(after.checkpoint_id, proposals, result, versions, usage, pause, used)


def _tool_of(place: Place) -> str:
    return read_canonical(place.canonical)[0]


def _versions_of(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the dataset versions that the graph has read; a foreign state may use the name for something else."""
    versions = values.get("dataset_versions", [])
    is_ours = isinstance(versions, list) and all(isinstance(one, dict) and "dataset" in one for one in versions)
    return versions if is_ours else []
