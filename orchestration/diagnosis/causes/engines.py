"""Runs that need a worker or Temporal and have none: our own heartbeats are asked, then the server."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from orchestration.diagnosis.facts import RunFacts
from orchestration.diagnosis.parts import RESTARTS_WITHIN
from orchestration.diagnosis.told import State, ToldCause, at, moment, quoted
from orchestration.models import Run

HISTORY_ENDS_AT: Final = 51_200  # events, Temporal's own limit
HISTORY_IS_LONG_FROM: Final = 40_000
SLOT_WITHIN: Final = timedelta(minutes=2)


def temporal_away(facts: RunFacts) -> ToldCause | None:
    """The worker can take and report nothing without Temporal."""
    since, words = facts.parts.temporal_since, facts.parts.temporal_words or facts.away
    if facts.next != "worker" or since is None:
        return None
    why = f": {quoted(words)}" if words else ""
    sentence = f"Temporal does not answer since {at(since)}{why}. The run goes on by itself when it is back."
    return ToldCause(sentence, since, facts.operators, _state_since(facts, since))


def no_worker(facts: RunFacts) -> ToldCause | None:
    """Nobody is there to work on it. A poller lingers for five minutes, so our heartbeat counts."""
    since, words = facts.parts.worker_since, facts.parts.worker_words
    if facts.next != "worker" or since is None:
        return None
    if words:
        sentence = f"No worker can work since {at(since)}: {quoted(words)}."
    else:
        sentence = f"No worker is alive since {at(since)}."
    sentence += f" {_what_waits(facts)} The run goes on by itself from its last checkpoint when one is back."
    return ToldCause(sentence, since, facts.operators, _state_since(facts, since))


def _what_waits(facts: RunFacts) -> str:
    if facts.run.ending:
        return "Its end waits for one."
    if facts.run.status == Run.Status.WAITING:
        return "The decision waits to be taken up."
    return f"Turn {max(facts.run.turn, 1)} stands still."


def workflow_task_failing(facts: RunFacts) -> ToldCause | None:
    """The workflow's own code cannot go on from its history, and Temporal tries the same for ever."""
    look = facts.look
    if facts.next == "nobody" or look is None or look.task_attempt < 2 or not look.fault:
        return None
    if facts.parts.worker_since is not None or facts.parts.temporal_since is not None:
        return None  # nobody tries it now
    fault = look.fault
    is_other_code = fault["cause"] == "NON_DETERMINISTIC_ERROR"
    why = (
        "the worker's workflow code is another one than that which made its history"
        if is_other_code
        else f"the workflow's code fails ({fault['cause'].lower().replace('_', ' ')})"
    )
    since = moment(fault["at"])
    sentence = (
        f"Its workflow cannot go on, attempt {look.task_attempt}{f' since {at(since)}' if since else ''}: {why}. "
        f"Worker {quoted(fault['worker'])} says: {quoted(fault['words'])}. Bring back the code that it began with, or "
        "reset it."
    )
    return ToldCause(sentence, since, facts.operators, group=fault["cause"])


def held_in_temporal(facts: RunFacts) -> ToldCause | None:
    """Somebody has paused its workflow, or the activity of its turn, with Temporal's own means."""
    look = facts.look
    if not facts.is_open or look is None:
        return None
    if look.status == "paused":
        sentence = (
            "Its workflow is paused in Temporal itself: it takes up no decision and begins no turn. Whoever paused it"
            f" lets it go on there (temporal workflow unpause --workflow-id {facts.run.pk}), or you reset it."
        )
        return ToldCause(sentence, moment(look.at), facts.operators)
    turn = look.turn
    if turn is None or not turn.is_held or facts.next != "worker":
        return None
    since = moment(turn.since)
    until = " once the attempt under way has ended" if turn.is_at_work else ""
    failed = f" Its last attempt failed: {quoted(turn.last_failure)}." if turn.last_failure else ""
    sentence = (
        f"Turn {max(facts.run.turn, 1)} is paused in Temporal itself{f' since {at(since)}' if since else ''}: it is not"
        f" tried any more{until}.{failed} Trying it again now lets it go on."
    )
    return ToldCause(sentence, since, facts.operators)


def task_not_answered(facts: RunFacts) -> ToldCause | None:
    """A worker that we believe alive has had the workflow's task for minutes."""
    look = facts.look
    if facts.next != "worker" or look is None or look.task_attempt < 1 or not look.task_since:
        return None
    since = moment(look.task_since)
    if since is None or facts.now - since < RESTARTS_WITHIN or _is_old(facts, look.at):
        return None
    sentence = (
        f"Its workflow waits for a worker since {at(since)}, attempt {look.task_attempt}, though one is alive. It may "
        "be frozen, or listen to another task queue."
    )
    return ToldCause(sentence, since, facts.operators)


def no_free_place(facts: RunFacts) -> ToldCause | None:
    """Its turn is offered, and no worker has room for it."""
    turn = facts.look.turn if facts.look else None
    if facts.next != "worker" or turn is None or turn.state != "scheduled" or turn.next_try_at or not turn.since:
        return None
    since = moment(turn.since)
    if since is None or facts.now - since < SLOT_WITHIN:
        return None
    sentence = f"Turn {max(facts.run.turn, 1)} waits for a free place in a worker since {at(since)}: all are taken."
    return ToldCause(sentence, since, facts.operators, _state_since(facts, since))


def history_near_limit(facts: RunFacts) -> ToldCause | None:
    """Temporal ends a workflow whose history is too long."""
    look = facts.look
    if not facts.is_open or look is None or look.events < HISTORY_IS_LONG_FROM:
        return None
    sentence = f"Its history has {look.events:,} events; at {HISTORY_ENDS_AT:,} Temporal ends it."
    return ToldCause(sentence, moment(look.at), facts.operators)


def _state_since(facts: RunFacts, since: datetime) -> State:
    return "stuck" if facts.now - since >= RESTARTS_WITHIN else "waiting"


def _is_old(facts: RunFacts, asked_at: str) -> bool:
    asked = moment(asked_at)
    return asked is None or facts.now - asked > timedelta(minutes=5)
