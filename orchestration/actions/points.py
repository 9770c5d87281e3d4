"""Where a run is set back to, or forked from: a checkpoint, named by itself, by a turn or by an event of Temporal's."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, model_validator

from approvals import services as approvals
from approvals.models import Approval, Decision
from orchestration import checkpoint_gateway, ending
from orchestration.actions.base import Options
from orchestration.contracts import RUN_TURN
from orchestration.errors import ActionRefused, NoSuchCheckpoint, OrchestrationError
from orchestration.models import Effect, Run


class Where(Options):
    """A point in a run: exactly one of these."""

    checkpoint_id: Annotated[str, Field(max_length=100, title="Checkpoint")] = ""
    turn: Annotated[int | None, Field(ge=1, title="Before this turn")] = None
    event_id: Annotated[int | None, Field(ge=1, title="Before the first turn from this event of Temporal's on")] = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Where:
        if sum((bool(self.checkpoint_id), self.turn is not None, self.event_id is not None)) != 1:
            raise ValueError("Say where: give a checkpoint_id, a turn or an event_id, and only one of them.")
        return self


@dataclass(frozen=True)
class Point:
    """A checkpoint and what lies after it. What was asked at the checkpoint itself is asked once more."""

    checkpoint_id: str
    at: datetime
    dropped: list[str]  # checkpoints of the run's present line that come after it, oldest first
    asked: list[str]  # approvals that were asked at it or after it, oldest first
    begun: list[str]  # approvals, asked whenever, whose effect was begun after it and has not failed; oldest first
    again: list[str]  # of `begun`, those that were asked at it or after it: they would be asked for anew
    counting: list[str] = field(default_factory=list)  # asked before it, and set back by a reset to another line

    def pending(self) -> list[str]:
        rows = Approval.objects.filter(pk__in=self.asked, status=Approval.Status.PENDING)
        return list(rows.order_by("opened_at", "pk").values_list("pk", flat=True))

    def voided(self, run_id: str) -> list[str]:
        """Return the decisions that come to nothing: those on what is open, and on what has not begun."""
        not_begun = approvals.not_begun_of_run(run_id, ending.begun(run_id))
        return approvals.decisions_of([*self.pending(), *(pk for pk in not_begun if pk in self.asked)])

    def forgotten(self) -> int:
        """Return how many decisions had taken effect without an effect of the ledger's: the agent was told of them."""
        rows = Decision.objects.filter(approval_id__in=self.asked, approval__took_effect_at__isnull=False)
        return rows.exclude(approval_id__in=Effect.objects.values("pk")).count()


def point_of(run: Run, where: Where) -> Point:
    """Find the point and what lies after it. Raises ActionRefused, with a sentence, where there is none."""
    where = settled(run.pk, where)
    checkpoint_id = where.checkpoint_id or _of_turn(run, where)
    try:
        at = checkpoint_gateway.made_at(run.pk, checkpoint_id)
    except NoSuchCheckpoint:
        raise ActionRefused(f"This run has no checkpoint {checkpoint_id}. See its list of checkpoints.") from None
    before = set(checkpoint_gateway.line_to(run.pk, checkpoint_id)) - {checkpoint_id}
    line = checkpoint_gateway.line_to(run.pk, checkpoint_gateway.newest_of(run.pk))
    kept = Approval.objects.filter(run_id=run.pk, is_seeded=False, checkpoint_id__in=set(line) - before)
    asked = list(kept.order_by("opened_at", "pk").values_list("pk", flat=True))
    effects = Effect.objects.filter(run=run).exclude(status=Effect.Status.FAILED).order_by("started_at", "pk")
    again = list(effects.filter(pk__in=asked).values_list("pk", flat=True))
    stands = [one for one in effects if not (one.is_set_back and one.taken_up_by)]  # else its twin stands for it
    begun = [one.pk for one in effects if one.pk in again or (one in stands and one.started_at > at)]
    earlier = Approval.objects.filter(run_id=run.pk, checkpoint_id__in=before).values("pk")
    counting = list(effects.filter(pk__in=earlier, is_set_back=True).values_list("pk", flat=True))
    dropped = [one for one in line if one not in before and one != checkpoint_id]
    return Point(checkpoint_id, at, dropped, asked, begun, again, counting)


def _of_turn(run: Run, where: Where) -> str:
    """Return the checkpoint at which the turn began."""
    turn = where.turn
    if turn == 1:
        if first := checkpoint_gateway.first_of(run.pk):
            return first
        raise ActionRefused("The run has no checkpoint yet.")
    rows = Approval.objects.filter(run_id=run.pk, receipt__step="resumed", receipt__detail=f"turn {turn}")
    found = rows.exclude(checkpoint_id="").values_list("checkpoint_id", flat=True).order_by("-opened_at").first()
    if found is None:
        raise ActionRefused(
            f"It is not known where turn {turn} of this run began; it has come to turn {run.turn}. Name a checkpoint."
        )
    return str(found)


def settled(run_id: str, where: Where) -> Where:
    """Return the same point by its turn where it was named by an event. Asks Temporal: never while a row is held."""
    if where.event_id is None:
        return where
    return where.model_copy(update={"turn": _turn_from(run_id, where.event_id), "event_id": None})


def _turn_from(run_id: str, event_id: int) -> int:
    """Return the first turn that Temporal's newest history of the run schedules at an event or after it."""
    from orchestration import histories  # the engine's SDK is loaded when somebody asks

    try:
        events: list[dict[str, Any]] = histories.temporal_as_it_is(run_id)[-1]["events"]
    except OrchestrationError as exc:
        raise ActionRefused(f"Temporal's history cannot be read, so name a turn or a checkpoint: {exc}") from exc
    if not 1 <= event_id <= int(events[-1]["eventId"]):
        raise ActionRefused(f"There is no event {event_id}: the history has {events[-1]['eventId']}.")
    for event in events:
        asked = event.get("activityTaskScheduledEventAttributes")
        if asked and asked["activityType"]["name"] == RUN_TURN and int(event["eventId"]) >= event_id:
            return int(json.loads(base64.b64decode(asked["input"]["payloads"][0]["data"]))["turn"])
    raise ActionRefused(f"No turn was begun at event {event_id} or after it.")
