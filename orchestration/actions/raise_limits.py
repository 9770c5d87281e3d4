"""Raise limits: more steps in one turn than the agent's registration allows, for this run, from its next turn on."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from orchestration.actions import reset
from orchestration.actions.base import Action, Options, Preview, Wish
from orchestration.agents.registry import agent_named, agents
from orchestration.errors import ActionRefused
from orchestration.models import Run

STEPS_AT_MOST = 10_000


class Limits(Options):
    """The new limits."""

    steps_per_turn: Annotated[int, Field(ge=1, le=STEPS_AT_MOST, title="Steps in one turn, at most")]


def preview(run: Run, options: Limits) -> Preview:
    if run.status == Run.Status.FINISHED:
        raise ActionRefused("The run has finished: it takes no further turn.")
    reset.check_agent(run)
    now = _steps(run)
    if options.steps_per_turn <= now:
        raise ActionRefused(f"A turn may take {now:,} steps already. Name a larger number.")
    found = [f"A turn of this run may take {options.steps_per_turn:,} steps, in place of {now:,}. Each step may cost."]
    if run.status not in Run.OPEN:
        found.append(f"The run is {run.status}. To let it go on, reset it to its last checkpoint afterwards.")
    return Preview(warnings=found, depends_on=(now,))


def _steps(run: Run) -> int:
    return int(run.limits.get("steps_per_turn", agent_named(run.agent).steps_per_turn))


def do(run: Run, wish: Wish) -> None:
    run.limits = {**run.limits, "steps_per_turn": wish.options.steps_per_turn}
    run.save(update_fields=["limits"])


def start(run: Run) -> dict[str, Any]:
    return {"steps_per_turn": 2 * _steps(run)} if run.agent in agents() else {}


ACTION = Action(
    name="raise_limits",
    title="Raise this run's limits",
    button="Raise the limits",
    icon="timer",
    explains="A turn may take more steps than its agent's registration says, in this run alone.",
    said="The limits are raised, from the next turn on.",
    kind="run.limits_raised",
    preview=preview,
    do=do,
    options=Limits,
    start=start,
    is_grave=False,
    is_offered=lambda run: (run.error or {}).get("kind") == "TooManySteps" and run.status == Run.Status.FAILED,
)
