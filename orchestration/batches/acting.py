"""What an operator does about a batch: pause it, let it go on, cancel it, try what failed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q

from approvals.errors import NotTheirs
from approvals.models import AuditEvent
from approvals.reading.for_runs import taken_up_outside_the_ledger
from approvals.record import audit
from approvals.services.receipts import checked_reason
from console import outbox
from console.clock import database_now
from console.live.announce import announce
from console.outbox import Kind
from orchestration import restored
from orchestration.actions.acting import may_act
from orchestration.batches import counting
from orchestration.errors import ActionRefused, NoSuchBatch
from orchestration.models import Batch, BatchItem, Effect

NOTHING_FAILED: Final = "No row of this batch has failed."
Action = Literal["pause", "resume", "cancel", "retry_failed"]
Waiting = Literal["leave", "cancel"]
ACTIONS: Final[tuple[Action, ...]] = ("pause", "resume", "cancel", "retry_failed")
_Change = Callable[[Batch, str, Waiting, User], dict[str, Any] | None]


@dataclass(frozen=True)
class TriedAgain:
    """How often the failed rows of a batch were tried again, and what became of them the last time."""

    times: int = 0
    items: int = 0  # rows that were tried again
    left: int = 0  # rows that were not, for their runs have done something, or may have


def tried_again(batch_id: str) -> TriedAgain:
    """Return it, as the record says. One query."""
    told = AuditEvent.objects.filter(subject=batch_id, kind="batch.retry_failed").order_by("seq")
    bodies = list(told.values_list("body", flat=True))
    return TriedAgain(len(bodies), bodies[-1]["items"], bodies[-1].get("left", 0)) if bodies else TriedAgain()


def act(
    *,
    batch_id: str,
    action: Action,
    by: User,
    reason: str = "",
    waiting: Waiting = "leave",
    times: int | None = None,
) -> Batch:
    """Do it, on the record; return the batch. The same action again is the same answer.

    `reason`: needed to cancel. `waiting`: when cancelled, what becomes of the runs that have begun; what is left waits
    for people as before and goes on when it is decided. `times`: how often the failed had been tried again when it was
    asked for; where that is not so any more, it is a repetition. Without it, what has failed since is tried again too.
    Raises NoSuchBatch, ActionRefused, InvalidChange, and NotTheirs for who has lost the role.
    """
    if action == "cancel" or reason:
        reason = checked_reason(reason)
    with transaction.atomic():
        batch = Batch.objects.select_for_update(no_key=True).filter(pk=batch_id).first()
        if batch is None:
            raise NoSuchBatch(NoSuchBatch.__doc__)
        if not may_act(by.pk):  # asked again: the role may have been lost since the page was drawn
            raise NotTheirs("This is for operators and admins.")
        is_repeated = action == "retry_failed" and times is not None and times != tried_again(batch_id).times
        told = None if is_repeated else _CHANGES[action](batch, reason, waiting, by)
        if told is None and action == "retry_failed" and times is not None and not is_repeated:
            raise ActionRefused(NOTHING_FAILED)
        if told is not None:
            batch.save()
            outbox.enqueue(kind=Kind.FEED_BATCH, subject=batch_id, payload={"batch_id": batch_id})
            announce("batches", f"batch:{batch_id}")
            body = told | ({"reason": reason} if reason else {})
            audit.record(actor=by.username, kind=f"batch.{action}", subject=batch_id, body=body)
    return Batch.objects.select_related("requested_by").get(pk=batch_id)


def permitted(batch: Batch, failed: int) -> list[Action]:
    """Return what can be done about the batch as it is; `failed`: how many of its items have failed."""
    status = Batch.Status
    found: list[Action] = []
    if batch.closed_at is None and batch.status == status.FEEDING:
        found.append("pause")
    if batch.status == status.PAUSED:
        found.append("resume")
    if failed and batch.status != status.CANCELLED:
        found.append("retry_failed")
    if batch.closed_at is None and (batch.ending or {}).get("waiting") != "cancel":
        found.append("cancel")
    return found


def _pause(batch: Batch, reason: str, waiting: Waiting, by: User) -> dict[str, Any] | None:
    if batch.status == Batch.Status.PAUSED:
        return None
    if batch.status != Batch.Status.FEEDING:
        raise ActionRefused(f"The batch is {batch.status}: there is nothing to pause.")
    batch.status = Batch.Status.PAUSED
    return {}


def _resume(batch: Batch, reason: str, waiting: Waiting, by: User) -> dict[str, Any] | None:
    if batch.status == Batch.Status.FEEDING:
        return None
    if batch.status != Batch.Status.PAUSED:
        raise ActionRefused(f"The batch is {batch.status}: it cannot go on.")
    batch.status = Batch.Status.FEEDING
    return {}


def _cancel(batch: Batch, reason: str, waiting: Waiting, by: User) -> dict[str, Any] | None:
    """Start nothing more; a second time may ask for more than the first: that what has begun be cancelled too."""
    if batch.closed_at is not None and batch.status != Batch.Status.CANCELLED:
        raise ActionRefused("The batch has finished: there is nothing left to cancel.")
    asked = batch.ending or {}
    if asked and (batch.closed_at or waiting == "leave" or asked["waiting"] == "cancel"):
        return None
    batch.status = Batch.Status.CANCELLED
    batch.ending = {"by": by.username, "reason": reason, "at": database_now().isoformat(), "waiting": waiting}
    left = batch.items.filter(state=BatchItem.State.NOT_STARTED)
    dropped = left.update(state=BatchItem.State.CANCELLED, ended_at=database_now())
    counting.move(batch.pk, BatchItem.State.NOT_STARTED, BatchItem.State.CANCELLED, dropped)
    return {"waiting": waiting, "not_started": dropped}


def _retry_failed(batch: Batch, reason: str, waiting: Waiting, by: User) -> dict[str, Any] | None:
    """Put the failed rows back among those that wait to be started, each under the next attempt's number.

    Not one whose run has done something, or may have: a new run knows nothing of it and would do it again. What a tool
    did that nobody was asked about, and that goes past the ledger, nobody can see here. What a run did in the time that
    a restored database has lost is not known.
    """
    if batch.status == Batch.Status.CANCELLED:
        raise ActionRefused("The batch is cancelled. Start another one with the rows that failed.")
    failed = batch.items.filter(state=BatchItem.State.FAILED)
    effects = Effect.objects.filter(run=OuterRef("run_id")).exclude(status=Effect.Status.FAILED)
    acted = Q(Exists(effects)) | Q(Exists(taken_up_outside_the_ledger().filter(run_id=OuterRef("run_id"))))
    acted |= Q(Exists(restored.unsure_runs().filter(pk=OuterRef("run_id"))))
    left = failed.filter(acted).count()
    failed = failed.exclude(acted)
    again = failed.update(state=BatchItem.State.NOT_STARTED, run_id=None, attempt=F("attempt") + 1, ended_at=None)
    if not again and left:
        raise ActionRefused(
            "The runs of the failed rows have done something before they failed, or may have, and a new run would do "
            "it again. Set such a run back instead: its page says first what stands and what would be forgotten."
        )
    if not again and tried_again(batch.pk).times:
        return None
    if not again:
        raise ActionRefused(NOTHING_FAILED)
    counting.move(batch.pk, BatchItem.State.FAILED, BatchItem.State.NOT_STARTED, again)
    if batch.status == Batch.Status.FINISHED:
        batch.status, batch.closed_at = Batch.Status.FEEDING, None
    return {"items": again, "left": left}


_CHANGES: Final[dict[Action, _Change]] = {
    "pause": _pause,
    "resume": _resume,
    "cancel": _cancel,
    "retry_failed": _retry_failed,
}
