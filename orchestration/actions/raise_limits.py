"""Raise limits: more steps in a turn, or more tokens, than the agent's registration allows, for this run alone."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from orchestration.actions import reset
from orchestration.actions.base import Action, Options, Preview, Wish
from orchestration.agents.registry import agent_named, agents
from orchestration.errors import ActionRefused
from orchestration.models import Run

STEPS_AT_MOST = 10_000
TOKENS_AT_MOST = 1_000_000_000
#: what stops a run -> the limit that lets it go on
_STOPPED_BY: Final = {
    "TooManySteps": "steps_per_turn",
    "BudgetUsedUp": "tokens_per_run",
    "DayBudgetUsedUp": "tokens_per_day",
}


class Limits(Options):
    """The new limits; what is not named stays."""

    steps_per_turn: Annotated[int, Field(ge=1, le=STEPS_AT_MOST)] | None = Field(
        None, title="Steps in one turn, at most"
    )
    tokens_per_run: Annotated[int, Field(ge=1, le=TOKENS_AT_MOST)] | None = Field(
        None, title="Tokens in the whole run, at most"
    )
    tokens_per_day: Annotated[int, Field(ge=1, le=TOKENS_AT_MOST)] | None = Field(
        None, title="Tokens of all the agent's runs today, up to which this run goes on"
    )


def preview(run: Run, options: Limits) -> Preview:
    if run.status == Run.Status.FINISHED:
        raise ActionRefused("The run has finished: it takes no further turn.")
    reset.check_agent(run)
    steps, tokens = _limit(run, "steps_per_turn"), _limit(run, "tokens_per_run")
    day = _limit(run, "tokens_per_day")
    found = []
    if options.steps_per_turn is not None:
        if steps is not None and options.steps_per_turn <= steps:
            raise ActionRefused(f"A turn may take {steps:,} steps already. Name a larger number.")
        found.append(f"A turn of this run may take {options.steps_per_turn:,} steps, in place of {steps:,}.")
    if options.tokens_per_run is not None:
        if tokens is None:
            raise ActionRefused("This run has no budget: its models may use any number of tokens.")
        if options.tokens_per_run <= tokens:
            raise ActionRefused(f"The run may use {tokens:,} tokens already. Name a larger number.")
        found.append(f"The models of this run may use {options.tokens_per_run:,} tokens, in place of {tokens:,}.")
    if options.tokens_per_day is not None:
        if day is None:
            raise ActionRefused("This run's agent has no budget for a day.")
        if options.tokens_per_day <= day:
            raise ActionRefused(f"The run may go on up to {day:,} tokens a day already. Name a larger number.")
        found.append(
            f"This run goes on until its agent's runs have used {options.tokens_per_day:,} tokens in a day, in place "
            f"of {day:,}. The others stop where they did."
        )
    if not found:
        raise ActionRefused("Name the limit that is to be raised: the steps of a turn, or the tokens of the run.")
    has_tokens = options.tokens_per_run is not None or options.tokens_per_day is not None
    found[-1] += " Each token costs." if has_tokens else " Each step may cost."
    if run.status not in Run.OPEN:
        found.append(f"The run is {run.status}. To let it go on, reset it to its last checkpoint afterwards.")
    return Preview(warnings=found, depends_on=(steps, tokens, day))


def _limit(run: Run, name: str) -> int | None:
    """Return the run's own limit, else its agent's; `None` where there is none."""
    found: int | None = run.limits.get(name, getattr(agent_named(run.agent), name))
    return found


def do(run: Run, wish: Wish) -> None:
    run.limits = {**run.limits, **wish.options.model_dump(exclude_none=True)}
    run.save(update_fields=["limits"])


def start(run: Run) -> dict[str, Any]:
    """Offer twice the limit that has stopped the run."""
    if run.agent not in agents():
        return {}
    name = _STOPPED_BY.get((run.error or {}).get("kind", ""), "steps_per_turn")
    now = _limit(run, name)
    return {} if now is None else {name: 2 * now}


ACTION = Action(
    name="raise_limits",
    title="Raise this run's limits",
    button="Raise the limits",
    icon="timer",
    explains="More steps in a turn, or more tokens, than the agent's registration says, in this run alone.",
    said="The limits are raised, from the next turn on.",
    kind="run.limits_raised",
    preview=preview,
    do=do,
    options=Limits,
    start=start,
    is_grave=False,
    is_offered=lambda run: (run.error or {}).get("kind") in _STOPPED_BY and run.status == Run.Status.FAILED,
)
