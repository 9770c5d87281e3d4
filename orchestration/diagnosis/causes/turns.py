"""Runs whose turn is due, under way or failing: by the row, and by what Temporal says of the activity."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from approvals.models import ReceiptStep
from orchestration.diagnosis.facts import RunFacts
from orchestration.diagnosis.look import TurnActivity
from orchestration.diagnosis.told import State, ToldCause, asked_to_end, at, exact, moment, quoted, times
from orchestration.models import Effect, Run

#: it is tried again by itself, so it needs somebody only after this, and this many attempts
FAILING_FOR: Final = timedelta(minutes=2)
FAILING_TIMES: Final = 5
EFFECT_TAKES: Final = timedelta(minutes=3)  # at most, with its own time-out


def turn_failing(facts: RunFacts) -> ToldCause | None:
    """The newest attempt failed: how often, of what, since when, and when it is tried again."""
    failure = facts.failure
    turn = facts.look.turn if facts.look else None
    if facts.next != "worker":
        return None
    if failure is None:
        return _failing_in_temporal(facts, turn)
    kept = facts.run.failure or {}
    attempt = max(failure.attempt, turn.attempt - 1 if turn else 0)
    is_placed = not kept.get("node") or f"the node “{kept['node']}”" in failure.error
    node = "" if is_placed else f" at the node “{quoted(str(kept['node']))}”"
    since = facts.run.failing_since or failure.since
    next_try = failure.next_try_at
    then = f" The next try is at {exact(next_try)}." if next_try and next_try > facts.now else ""
    if next_try and next_try <= facts.now:
        then = " It is being tried again."
    sentence = (
        f"Turn {facts.run.turn} fails, attempt {attempt:,}{node}, since {at(since)}: {quoted(failure.error)}.{then}"
    )
    is_long = facts.now - since >= FAILING_FOR and attempt >= FAILING_TIMES
    state: State = "stuck" if is_long or failure.stuck_at else "waiting"
    about = f"A turn fails with {quoted(failure.kind)} and is tried again"
    return ToldCause(sentence, since, facts.operators, state, failure.kind[:100], about)


def _failing_in_temporal(facts: RunFacts, turn: TurnActivity | None) -> ToldCause | None:
    """What failed before the row could be told, such as an activity that the worker does not know."""
    if turn is None or turn.attempt < 2 or not turn.last_failure:
        return None
    if turn.state == "started" and turn.attempt <= FAILING_TIMES:
        return None  # a newer attempt is at work
    next_try = moment(turn.next_try_at)
    then = f" The next try is at {exact(next_try)}." if next_try else ""
    attempt = turn.attempt - 1 if next_try else turn.attempt
    sentence = f"Turn {max(facts.run.turn, 1)} fails, attempt {attempt:,}: {quoted(turn.last_failure)}.{then}"
    return ToldCause(
        sentence, moment(turn.since), facts.operators, "stuck" if turn.attempt > FAILING_TIMES else "waiting"
    )


def not_taken_up(facts: RunFacts) -> ToldCause | None:
    """The run was told of a decision long ago, and nothing came of it."""
    if facts.next != "worker" or facts.run.status != Run.Status.WAITING or facts.run.ending:
        return None
    late = [one for one in facts.unheard if one.expected_by is not None and one.expected_by <= facts.now]
    if not late:
        return None
    told = [step.at for step in late[0].receipt.all() if step.step == ReceiptStep.Step.SIGNALLED]
    since = told[-1] if told else late[0].closed_at or late[0].opened_at
    sentence = f"The run was told of the decision {at(since)} and has not taken it up, though a worker is alive."
    link = ("The decision", "approvals:approval", late[0].pk)
    return ToldCause(sentence, since, facts.operators, links=(link,))


def end_not_taken(facts: RunFacts) -> ToldCause | None:
    """Somebody asked for its end, Temporal knows, and the workflow has not closed it."""
    asked = facts.run.ending
    if facts.next != "worker" or not asked:
        return None
    since = moment(str(asked.get("at") or ""))
    is_late = since is not None and facts.now - since >= FAILING_FOR
    late = ", which takes long by now. To end it is surer." if is_late else "."
    sentence = f"{asked_to_end(asked)} Its workflow has been told and closes it{late}"
    return ToldCause(sentence, since, facts.operators if is_late else [], "stuck" if is_late else "healthy")


def effect_takes_long(facts: RunFacts) -> ToldCause | None:
    """Something is being done to the world, for longer than it may take."""
    executing = [one for one in facts.effects if one.status == Effect.Status.EXECUTING]
    if facts.next != "worker" or not executing or facts.now - executing[0].started_at < EFFECT_TAKES:
        return None
    one = executing[0]
    sentence = (
        f"{quoted(one.tool)} is under way since {at(one.started_at)}, longer than it may take "
        f"({times(one.attempts, 'attempt')}{', under one key' if one.is_idempotent and one.attempts > 1 else ''})."
    )
    return ToldCause(sentence, one.started_at, facts.operators)


def paused(facts: RunFacts) -> ToldCause | None:
    if facts.run.status != Run.Status.PAUSED:
        return None
    by, reason, since = _pause(facts)
    sentence = f"Paused by {by}{f': {reason}' if reason else ''}. It begins no turn until somebody resumes it."
    return ToldCause(sentence, since, facts.operators)


def pauses_soon(facts: RunFacts) -> ToldCause | None:
    """It is to be paused, and its turn is not over."""
    if not facts.is_open or facts.run.status == Run.Status.PAUSED or not facts.run.paused:
        return None
    by, reason, since = _pause(facts)
    return ToldCause(f"It pauses after this turn, as {by} asked{f': {reason}' if reason else ''}.", since)


def _pause(facts: RunFacts) -> tuple[str, str, datetime | None]:
    asked = facts.run.paused or {}
    by = quoted(str(asked.get("by") or "an operator"))
    return by, quoted(str(asked.get("reason") or "")), moment(str(asked.get("at") or ""))


def working(facts: RunFacts) -> ToldCause | None:
    """A turn is under way: at which node since when, and by when it has to end."""
    if facts.next != "worker":
        return None
    run, turn = facts.run, facts.look.turn if facts.look else None
    number = max(run.turn, 1)
    if run.status == Run.Status.WAITING:
        return ToldCause("The run has been told of the decision and is about to take it up.", None)
    if turn is None or turn.state == "scheduled":
        return ToldCause(f"Turn {number} is about to begin.", _began(facts))
    ends = facts.turn_ends_at()
    until = f" It has until {exact(ends)}." if ends else ""
    if ends is not None and facts.now > ends:
        until = " Its time is over, so the next worker tries it again."
    attempt = f", attempt {turn.attempt}" if turn.attempt > 1 else ""
    since = moment(turn.node_since) or moment(turn.since)
    if turn.node:
        return ToldCause(
            f"Works on turn {number}{attempt}: the node “{quoted(turn.node)}” since {_ago(facts, since)}.{until}", since
        )
    return ToldCause(f"Works on turn {number}{attempt} since {_ago(facts, since)}.{until}", since)


def _ago(facts: RunFacts, since: datetime | None) -> str:
    if since is None:
        return "a moment"
    seconds = max(0, int((facts.now - since).total_seconds()))
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"


def _began(facts: RunFacts) -> datetime | None:
    turn = facts.look.turn if facts.look else None
    return moment(turn.since) if turn else facts.run.started_at
