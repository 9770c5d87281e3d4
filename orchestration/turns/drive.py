"""Call a graph from where its run stands, and read how it stands afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from django.utils.module_loading import import_string
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.runtime import RunControl
from langgraph.types import Command, Overwrite

from approvals.services import Proposal
from orchestration.agents.registry import agent_named
from orchestration.agents.runtime import Agent, AgentContext
from orchestration.contracts import Turn
from orchestration.dialects import dialect_of
from orchestration.errors import AgentCodeChanged, CheckpointsGone
from orchestration.models import Run
from orchestration.pausing import Kept, Stand
from orchestration.services import TurnEnd, TurnStart
from orchestration.turns.usage import usage_of


@cache
def graph_of(agent: str) -> Any:
    """Return the agent's graph as its author gives it, compiled or not. Raises TypeError for anything else."""
    found = agent_named(agent)
    return made_graph(found, import_string(found.graph))


def made_graph(agent: Agent, named: Any) -> Any:
    """Return the graph that `agent.graph` leads to: `named` is one, or a function that makes one of the agent."""
    graph = named if isinstance(named, StateGraph | Pregel) else named(agent)
    if not isinstance(graph, StateGraph | Pregel):
        raise TypeError(f"{agent.graph} gives a {type(graph).__name__} and no graph of LangGraph's.")
    return graph


def with_saver(graph: Any, saver: Any) -> Any:
    """Return the graph so that it keeps its checkpoints by the saver.

    A compiled one is copied: made anew from its builder, it would lose its stops before nodes and run through them.
    """
    if isinstance(graph, StateGraph):
        return graph.compile(checkpointer=saver)
    return graph.copy(update={"checkpointer": saver})


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
        name: Overwrite(value) if type(graph.channels[name]).__name__ == "BinaryOperatorAggregate" else value
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
        answers_at={name: places[0].checkpoint_id for name, places in start.answered.items()},
    )


def answers_of(before: Stand, start: TurnStart) -> dict[str, Any]:
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
    options: Any = {"version": "v2", "durability": "sync", "context": context, "control": control}
    given: Any = Command(resume=answers) if answers else None if before.checkpoint_id else run.input
    await graph.ainvoke(given, config, **options)


def end_of(agent: Agent, turn: Turn, run: Run, after: Stand, code: dict[str, Any]) -> TurnEnd:
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
            batch=run.batch,
        )
        for interrupt in after.interrupts
        for number, place in enumerate(dialect_of(interrupt).proposals_of(interrupt))
    ]
    pause = {"code": code, "asked_in": after.asked_in}
    result = after.values.get("result")
    return TurnEnd(after.checkpoint_id, proposals, result, versions, usage_of(after.values), pause)
