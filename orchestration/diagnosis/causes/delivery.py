"""Runs that are to be started, told or ended, by the outbox; the relay and Temporal have the next step."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from approvals.models import Approval
from console.models import OutboxEntry
from console.outbox import Kind
from orchestration.diagnosis.facts import ENDING, RunFacts
from orchestration.diagnosis.parts import RESTARTS_WITHIN
from orchestration.diagnosis.told import State, ToldCause, asked_to_end, at, exact, quoted, times

SOON: Final = timedelta(seconds=30)  # a delivery takes a moment


def held_back(facts: RunFacts) -> ToldCause | None:
    """Its batch has not let it begin."""
    run = facts.run
    if facts.next != "start" or not run.batch or facts.entries_of(Kind.START_RUN, Kind.RESTART_RUN):
        return None
    sentence = f"Held back: its batch {quoted(run.batch)} lets only so many run at once. It begins by itself."
    return ToldCause(sentence, run.created_at)


def not_started(facts: RunFacts) -> ToldCause | None:
    """It is recorded, and its workflow is not there yet."""
    if facts.next != "start":
        return None
    entries = facts.entries_of(Kind.START_RUN, Kind.RESTART_RUN)
    if not entries:
        words = "Recorded; its workflow is about to begin."
        return ToldCause(words, facts.run.created_at, state="healthy")
    why = _why_not_delivered(facts, entries[0])
    is_again = entries[0].kind == Kind.RESTART_RUN
    since = entries[0].created_at if is_again else facts.run.created_at
    begun = f"Set back {at(since)} and not begun again" if is_again else f"Recorded {at(since)} and not begun"
    sentence = f"{begun}: {why}. It begins by itself as soon as it can."
    return ToldCause(sentence, since, facts.operators, _state(facts, entries[0]), _group(facts))


def undelivered(facts: RunFacts) -> ToldCause | None:
    """It was decided, and the run has not been told."""
    if facts.next != "delivery" or facts.run.ending:
        return None
    entry = facts.entries_of(Kind.DECIDED)[0]
    decided = [one for one in facts.unheard if one.status == Approval.Status.DECIDED]
    who = [vote.by_name for one in decided for vote in one.decisions.all()]
    by = f" by {quoted(who[-1])}" if who else ""
    why = _why_not_delivered(facts, entry)
    sentence = f"Decided{by} {at(entry.created_at)}, not delivered: {why}. It is delivered by itself as soon as it can."
    return ToldCause(sentence, entry.created_at, facts.operators, _state(facts, entry), _group(facts))


def end_undelivered(facts: RunFacts) -> ToldCause | None:
    """Somebody asked for its end, and Temporal has not been told."""
    if facts.next != "delivery" or not facts.run.ending:
        return None
    entry = facts.entries_of(*ENDING)[0]
    sentence = f"{asked_to_end(facts.run.ending)} Temporal has not taken that yet: {_why_not_delivered(facts, entry)}."
    return ToldCause(sentence, entry.created_at, facts.operators, _state(facts, entry), _group(facts))


def _why_not_delivered(facts: RunFacts, entry: OutboxEntry) -> str:
    parts, tried = facts.parts, f" ({times(entry.attempts, 'attempt')})" if entry.attempts else ""
    if parts.relay_since is not None:
        return f"no relay is alive since {at(parts.relay_since)}"
    if parts.temporal_since is not None:
        return f"Temporal does not answer since {exact(parts.temporal_since)}{tried}"
    if facts.away:
        return f"Temporal does not answer ({quoted(facts.away)}){tried}"
    if entry.last_error:
        return f"Temporal did not take it{tried}: {quoted(entry.last_error)}"
    return "the relay is about to do it"


def _state(facts: RunFacts, entry: OutboxEntry) -> State:
    age = facts.now - entry.created_at
    if age < SOON and not entry.attempts:
        return "healthy"
    return "stuck" if age >= RESTARTS_WITHIN else "waiting"


def _group(facts: RunFacts) -> str:
    if facts.parts.relay_since is not None:
        return "relay"
    return "temporal" if facts.parts.temporal_since is not None else "refused"
