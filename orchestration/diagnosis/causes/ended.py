"""Runs that are over, by their rows, and runs whose workflow is over while their row is open, by Temporal."""

from __future__ import annotations

from typing import Any, Final

from orchestration import ending
from orchestration.diagnosis.facts import RunFacts
from orchestration.diagnosis.told import ToldCause, at, moment, quoted
from orchestration.models import Effect, Run

_GONE: Final = {
    "terminated": "was terminated",
    "canceled": "was cancelled",
    "timed_out": "ran out of the time it had been given",
    "failed": "failed",
    "completed": "has ended without telling what it came to",
    "not_found": "is not known to Temporal any more",
}
_CODE_CHANGED: Final = "AgentCodeChanged"
_GONE_KINDS: Final = ("CheckpointsGone", "EmptyInputError")
_SPENT: Final = ("TooManySteps", "BudgetUsedUp", "DayBudgetUsedUp")
_OURS: Final = (ending.ENDED, "cancelled")


def ended_outside(facts: RunFacts) -> ToldCause | None:
    """The workflow is over, and nobody here ended it."""
    error = _error(facts)
    if error.get("kind") == ending.ENDED_OUTSIDE:
        return ToldCause(quoted(_message(facts)) + ".", facts.run.closed_at, facts.operators)
    look = facts.look
    if not facts.is_open or look is None or look.is_open or facts.next == "start":
        return None
    words = f", “{quoted(look.reason)}”" if look.reason else ""
    sentence = (
        f"Its workflow {_GONE.get(look.status, f'is {look.status}')} outside of Signalbox{words}. Nothing more will "
        "happen; the run is closed as soon as that is certain."
    )
    return ToldCause(sentence, moment(look.closed_at) or moment(look.at), facts.operators, "stuck", look.status)


def effect_left_open(facts: RunFacts) -> ToldCause | None:
    """The run is over, and nobody knows whether an effect of it happened."""
    is_left = _error(facts).get("kind") == "EffectLeftOpen"
    unknown = [one for one in facts.effects if one.status == Effect.Status.UNKNOWN or is_left]
    if facts.is_open or not unknown:
        return None
    sentence = (
        f"The run is over, and nobody saw whether {quoted(unknown[0].tool)} happened. A person has to look, and say so "
        "where its decision is shown."
    )
    return ToldCause(sentence, unknown[0].started_at, facts.operators, links=(_decision_of(unknown[0]),))


def _decision_of(effect: Effect) -> tuple[str, str, str]:
    return "The decision behind it", "approvals:approval", effect.pk


def code_changed(facts: RunFacts) -> ToldCause | None:
    return _failed_of(facts, (_CODE_CHANGED,), "The agent's code changed under the run")


def checkpoints_gone(facts: RunFacts) -> ToldCause | None:
    """What the run had reached is lost; while it is open, that is seen before it goes on."""
    if facts.is_open and not facts.has_checkpoints:
        sentence = (
            f"Its checkpoints are gone: the one of its newest pause, {facts.run.checkpoint_id[:40]}, is not in the "
            "database. It cannot go on, whatever is decided."
        )
        return ToldCause(sentence, None, facts.operators, "stuck")
    return _failed_of(facts, _GONE_KINDS, "Its checkpoints are gone")


def budget_used(facts: RunFacts) -> ToldCause | None:
    return _failed_of(facts, _SPENT, "It used up what it may use")


def not_carried_out(facts: RunFacts) -> ToldCause | None:
    return _failed_of(facts, ("NotCarriedOut",), "It ended without doing what was approved")


def graph_raised(facts: RunFacts) -> ToldCause | None:
    """The agent's own code raised: at which node, and where the state stands that it saw."""
    error = _error(facts)
    if facts.run.status != Run.Status.FAILED or not (error.get("node") or error.get("trace")):
        return None
    node = f" at the node “{quoted(str(error['node']))}”" if error.get("node") else ""
    sentence = f"The agent's graph raised{node} in turn {facts.run.turn}: {quoted(_message(facts))}."
    return ToldCause(sentence, facts.run.closed_at, facts.operators, links=_state_seen(facts))


def failed(facts: RunFacts) -> ToldCause | None:
    if facts.run.status != Run.Status.FAILED:
        return None
    kind = f" ({quoted(str(_error(facts)['kind']))})" if _error(facts).get("kind") else ""
    return ToldCause(f"The run failed{kind}: {quoted(_message(facts) or 'no reason was given')}.", facts.run.closed_at)


def cancelled(facts: RunFacts) -> ToldCause | None:
    if facts.run.status != Run.Status.CANCELLED:
        return None
    error = _error(facts)
    is_ours = error.get("kind") in _OURS
    message = quoted(_message(facts)) or "The run was cancelled"
    known = bool(facts.run.ending)
    outside = "" if known or not is_ours else " Nobody asked for that here: it came from outside of Signalbox."
    return ToldCause(f"{message}.{outside}", facts.run.closed_at)


def finished(facts: RunFacts) -> ToldCause | None:
    if facts.run.status != Run.Status.FINISHED:
        return None
    when = f" on {at(facts.run.closed_at)}" if facts.run.closed_at else ""
    return ToldCause(f"Finished{when}.", facts.run.closed_at)


def _failed_of(facts: RunFacts, kinds: tuple[str, ...], words: str) -> ToldCause | None:
    if facts.run.status != Run.Status.FAILED or _error(facts).get("kind") not in kinds:
        return None
    return ToldCause(
        f"{words}: {quoted(_message(facts))}.", facts.run.closed_at, facts.operators, links=_state_seen(facts)
    )


def _state_seen(facts: RunFacts) -> tuple[tuple[str, str, str], ...]:
    return (("The state it saw", "orchestration:run", facts.run.pk),)


def _error(facts: RunFacts) -> dict[str, Any]:
    return facts.run.error or {}


def _message(facts: RunFacts) -> str:
    return str(_error(facts).get("message") or "")
