"""The causes, one row each, in the order in which one blocks the other: of two at once the upper one is told.

A new cause is a function of the facts in `causes/` and a row here. `rank`: how bad it is, the lower the worse, for the
order of the stuck list; None for what needs nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from orchestration.diagnosis.causes import besides, delivery, ended, engines, people, turns
from orchestration.diagnosis.facts import RunFacts
from orchestration.diagnosis.told import State, ToldCause
from orchestration.failing import CAUSE, RANK


@dataclass(frozen=True)
class Cause:
    """One row. `heading`: what all runs with it have in common, for the stuck list and its mail."""

    name: str  # for programs; never changes
    state: State  # unless what is told says another one
    find: Callable[[RunFacts], ToldCause | None]
    heading: str
    actions: tuple[str, ...] = ()  # those that help, the best first; names of the public interface
    rank: int | None = None
    told_at_once: bool = True  # by mail; else only once the run is marked as failing for too long


_END = ("end",)
_AGAIN = ("fork", "reset")

CAUSES: Final = (
    # over, for Temporal or for us
    Cause("ended_outside", "failed", ended.ended_outside, "Ended outside of Signalbox", (*_AGAIN, "end"), 20),
    Cause("effect_unknown", "failed", ended.effect_left_open, "Nobody knows whether an effect happened"),
    Cause("code_changed", "failed", ended.code_changed, "The agent's code changed under the run", _AGAIN),
    Cause(
        "checkpoints_gone", "failed", ended.checkpoints_gone, "Its checkpoints are gone", ("end", "cancel", "fork"), 10
    ),
    Cause("budget_used", "failed", ended.budget_used, "It used up what it may use", ("raise_limits", *_AGAIN)),
    Cause("not_carried_out", "failed", ended.not_carried_out, "It ended without doing what was approved", _AGAIN),
    Cause("graph_raised", "failed", ended.graph_raised, "The agent's graph raised", _AGAIN),
    Cause("failed", "failed", ended.failed, "The run failed", _AGAIN),
    Cause("cancelled", "finished", ended.cancelled, "Cancelled"),
    Cause("finished", "finished", ended.finished, "Finished"),
    # somebody holds it
    Cause("paused", "waiting", turns.paused, "Paused by an operator", ("resume", "cancel", "end")),
    Cause("batch_held_back", "waiting", delivery.held_back, "Held back by its batch"),
    # the workflow itself cannot go on, whoever has the next step
    Cause(
        "workflow_task_failing",
        "stuck",
        engines.workflow_task_failing,
        "The worker's workflow code does not fit the run's history",
        ("reset", "end"),
        15,
    ),
    Cause(
        "held_in_temporal",
        "stuck",
        engines.held_in_temporal,
        "Paused in Temporal itself",
        ("retry_now", *_AGAIN, "end"),
        18,
    ),
    # the relay and Temporal have the next step
    Cause("not_started", "waiting", delivery.not_started, "Recorded, and its workflow has not begun", _END, 40),
    Cause("undelivered", "waiting", delivery.undelivered, "Decided, and the run has not been told", ("resend",), 30),
    Cause("end_undelivered", "waiting", delivery.end_undelivered, "Temporal has not been told to end it", _END, 45),
    # people have the next step
    Cause(
        "nobody_can_decide",
        "stuck",
        people.nobody_could_decide,
        "Nobody could decide what it asks",
        ("hand_over", "ask_again", "cancel"),
        25,
    ),
    Cause("effect_unknown", "stuck", people.effect_unknown, "Nobody knows whether an effect happened", (), 5),
    Cause("past_deadline", "stuck", people.past_its_deadline, "Past its deadline, and nobody closes it", (), 50),
    Cause("waiting_for_people", "waiting", people.waiting_for_people, "Waits for people", ("hand_over", "cancel")),
    # a worker has the next step
    Cause("temporal_away", "waiting", engines.temporal_away, "Temporal does not answer", _END, 35),
    Cause("no_worker", "waiting", engines.no_worker, "No worker is alive", _END, 35),
    Cause(
        CAUSE,
        "waiting",
        turns.turn_failing,
        "A turn fails and is tried again",
        ("retry_now", "fail_activity", "cancel", "end"),
        RANK,
        told_at_once=False,
    ),
    Cause("task_not_answered", "stuck", engines.task_not_answered, "Its workflow waits for a worker", _END, 38),
    Cause("no_free_place", "waiting", engines.no_free_place, "Its turn waits for a free place in a worker", (), 55),
    Cause("end_not_taken", "healthy", turns.end_not_taken, "It was to end, and has not", _END, 48),
    Cause("not_taken_up", "stuck", turns.not_taken_up, "Told of the decision, and not taken up", ("resend", "end"), 32),
    Cause("effect_slow", "stuck", turns.effect_takes_long, "An effect takes longer than it may", (), 28),
    Cause("working", "healthy", turns.working, "Works", ("pause", "cancel", "end")),
)

#: told besides, with whatever is told; by themselves they keep nobody waiting
BESIDES: Final = (
    Cause("end_not_taken", "healthy", turns.end_not_taken, "It was to end, and has not", _END, 48),
    Cause("pauses_soon", "healthy", turns.pauses_soon, "It pauses after this turn", ("resume",)),
    Cause("history_near_limit", "healthy", engines.history_near_limit, "Its history is near Temporal's limit", ()),
    Cause("data_stale", "healthy", besides.data_stale, "Its data may be out of date"),
    Cause("slot_held", "healthy", besides.slot_held, "The refresh of its data waits for a slot"),
    Cause("flow_crashed", "healthy", besides.flow_crashed, "The refresh of its data crashed"),
    Cause("flow_unheard", "healthy", besides.flow_unheard, "The refresh of its data gives no sign of life"),
    Cause("flow_late", "healthy", besides.flow_late, "The refresh of its data is late"),
    Cause("batch_held_back", "healthy", besides.batch_held, "Held back by its batch"),
    Cause("code_changed_since", "healthy", besides.code_moved_on, "The agent's code changed under it"),
)

HEADINGS: Final = {cause.name: cause.heading for cause in reversed(CAUSES)}
ACTIONS: Final = {cause.name: cause.actions for cause in reversed(CAUSES)}


def heading_of(name: str) -> str:
    """Return a cause, or a group of it, in words: "A turn fails and is tried again (RateLimited)"."""
    cause, _, detail = name.partition(":")
    heading = HEADINGS.get(cause, cause)
    return f"{heading} ({detail.replace('_', ' ')})" if detail else heading
