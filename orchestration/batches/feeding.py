"""Make runs of a batch's rows while there is room, and close the batch when the last of its items has ended.

Room is the least of four: runs of the batch that may work at the same time, its requests that may wait for people (of
those to come, see `asking`), what the relay has not taken away yet, and how many open runs its account may have. So a
batch floods neither the worker nor an inbox, and it goes on by itself as room comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import transaction

from approvals.errors import NotTheirs
from approvals.record import audit
from console import outbox, roles
from console.clock import DatabaseNow, database_now
from console.environment import environment
from console.live.announce import announce
from console.models import OutboxEntry
from console.outbox import Kind
from console.text.digests import digest_of_json
from orchestration.actions import acting
from orchestration.agents.registry import UnknownAgent, agent_named
from orchestration.batches import asking, counting
from orchestration.batches.counting import Counts
from orchestration.contracts import Fed
from orchestration.errors import ActionRefused
from orchestration.models import Batch, BatchItem, Run

AT_ONCE: Final = 50  # runs that one step makes, or ends
BACKLOG: Final = 200  # entries that the relay may have before it
SOON, LATE = 5, 300  # seconds until the next look that nobody asks for, with and without something to do


@dataclass(frozen=True)
class Hold:
    """Why a batch starts nothing now, in words; `since`: when it was fed last."""

    cause: str  # paused, active, open_approvals, backlog, account, agent, right
    sentence: str
    since: datetime


@dataclass(frozen=True)
class Room:
    """How many runs may be made now. `cause`: what leaves no room, "" where there is some."""

    free: int
    cause: str = ""


def feed(batch_id: str) -> Fed:
    """Make the runs that there is room for, one step of it, and say when to look again.

    One transaction: runs, items and outbox entries, so a repetition finds what was made and makes what is left. A run's
    id is its batch's and its number, so none is made twice.
    """
    with transaction.atomic():
        batch = Batch.objects.select_for_update(no_key=True).filter(pk=batch_id).first()
        if batch is None or batch.closed_at is not None:
            return Fed(is_over=True)
        counts = counting.counts_of([batch_id])[batch_id]
        if _is_over(counts):
            _close(batch)
            return Fed(is_over=True)
        if batch.status == Batch.Status.FEEDING and counts["not_started"]:
            made = _make_runs(batch, min(room_of(batch, counts).free, AT_ONCE))
            return Fed(is_over=False, made=made, look_after=SOON)
    if (batch.ending or {}).get("waiting") == "cancel":
        return Fed(is_over=False, look_after=SOON if _cancel_some(batch) else LATE)
    return Fed(is_over=False, look_after=LATE)


def room_of(batch: Batch, counts: Counts) -> Room:
    """Return the room that the batch has, and what leaves none. Six short queries, each of as many rows as may be."""
    try:
        agent_named(batch.agent)
    except UnknownAgent:
        return Room(0, "agent")
    if not roles.may(batch.requested_by, "start_run"):
        return Room(0, "right")
    kinds = (Kind.START_RUN, Kind.DECIDED)
    waiting = OutboxEntry.objects.filter(delivered_at=None, kind__in=kinds).order_by()
    most = environment().requests_in_flight
    mine = Run.objects.filter(requested_by=batch.requested_by_id, status__in=Run.OPEN).order_by()
    rooms = (
        Room(batch.active - counts["running"], "active"),
        Room(asking.room_for(batch, counts["running"]), "open_approvals"),
        Room(BACKLOG - waiting[:BACKLOG].count(), "backlog"),
        Room(most - mine[:most].count(), "account"),
    )
    least = min(rooms, key=lambda room: room.free)
    return least if least.free <= 0 else Room(least.free)


def hold_of(batch: Batch, counts: Counts) -> Hold | None:
    """Return why a batch with rows left starts nothing now, `None` when it does or has nothing left."""
    since = batch.fed_at or batch.created_at
    if batch.closed_at is not None or not counts["not_started"]:
        return None
    left = f"{counts['not_started']:,} of {batch.total:,} rows wait to be started."
    if batch.status == Batch.Status.PAUSED:
        return Hold("paused", f"The batch is paused. {left}", since)
    room = room_of(batch, counts)
    if room.free > 0:
        return None
    words = {
        "active": f"{counts['running']:,} of its runs are at work, as many as may be.",
        "open_approvals": "Its requests wait for people, with those that its runs at work may still ask as many as may "
        f"be ({batch.open_approvals:,}). Deciding some lets it go on.",
        "backlog": "The relay has much to deliver, or cannot reach Temporal.",
        "account": f"{batch.requested_by.username} has as many open runs as one account may have.",
        "right": f"{batch.requested_by.username} may start no runs any more. An admin gives the account its role back, "
        "or somebody else starts what is left as a batch of their own.",
        "agent": f"The agent {batch.agent} is not registered now; System says why.",
    }
    return Hold(room.cause, f"{words[room.cause]} {left}", since)


def held_back(batch_id: str) -> Hold | None:
    """Return why a batch starts nothing now, for who knows its id only: a run's page, or a diagnosis."""
    batch = Batch.objects.select_related("requested_by").filter(pk=batch_id).first()
    return hold_of(batch, counting.counts_of([batch_id])[batch_id]) if batch else None


def hungry(known: dict[str, Counts]) -> tuple[list[str], dict[str, Counts]]:
    """Return the batches that have something to do now, and how all open ones stand; tell pages of those that moved.

    `known`: how they stood at the look before.
    """
    batches = list(Batch.objects.filter(closed_at=None).select_related("requested_by").order_by("id")[:500])
    if not batches:
        return [], {}
    stands = counting.counts_of(batch.pk for batch in batches)
    moved = [f"batch:{batch_id}" for batch_id, counts in stands.items() if known.get(batch_id) != counts]
    if moved:
        announce("batches", *moved)
    return [batch.pk for batch in batches if _wants(batch, stands[batch.pk])], stands


def _wants(batch: Batch, counts: Counts) -> bool:
    if _is_over(counts):
        return True
    if batch.status == Batch.Status.FEEDING and counts["not_started"]:
        return room_of(batch, counts).free > 0
    return (batch.ending or {}).get("waiting") == "cancel" and _to_cancel(batch).exists()


def _is_over(counts: Counts) -> bool:
    return not (counts["not_started"] or counts["running"] or counts["waiting"])


def _make_runs(batch: Batch, many: int) -> int:
    if many <= 0:
        return 0
    agent = agent_named(batch.agent)
    waiting = batch.items.select_for_update().filter(state=BatchItem.State.NOT_STARTED)
    items = list(waiting.order_by("number")[:many])
    runs, entries = [], []
    for item in items:
        item.run_id, item.state = item.next_run_id, BatchItem.State.RUNNING
        runs.append(
            Run(
                id=item.run_id,
                agent=batch.agent,
                input=item.input,
                input_digest=digest_of_json(item.input),
                requested_by_id=batch.requested_by_id,
                batch=batch.pk,
            )
        )
        start: dict[str, Any] = {
            "run_id": item.run_id,
            "agent": batch.agent,
            "turn_seconds": agent.turn_seconds,
            "heartbeat_seconds": environment().heartbeat_seconds,
        }
        entries.append((item.run_id, start))
    Run.objects.bulk_create(runs)
    BatchItem.objects.bulk_update(items, ["run_id", "state"])
    counting.move(batch.pk, BatchItem.State.NOT_STARTED, BatchItem.State.RUNNING, len(items))
    outbox.enqueue_each(kind=Kind.START_RUN, entries=entries)
    now = database_now()
    Batch.objects.filter(pk=batch.pk).update(fed_at=now, started_at=batch.started_at or now)
    announce("runs", "batches", f"batch:{batch.pk}")
    body = {"runs": [run.pk for run in runs]}
    audit.record(actor=batch.requested_by.username, kind="batch.fed", subject=batch.pk, body=body)
    return len(items)


def _close(batch: Batch) -> None:
    is_cancelled = batch.status == Batch.Status.CANCELLED
    status = batch.status if is_cancelled else Batch.Status.FINISHED
    Batch.objects.filter(pk=batch.pk).update(status=status, closed_at=DatabaseNow())
    announce("batches", f"batch:{batch.pk}")
    audit.record(actor="worker", kind="batch.closed", subject=batch.pk, body={"status": str(status)})


def _to_cancel(batch: Batch) -> Any:
    return Run.objects.filter(batch=batch.pk, status__in=Run.OPEN, ending__isnull=True).order_by("id")


def _cancel_some(batch: Batch) -> int:
    """Have runs that have begun cancelled, each as an operator would; return how many. A repetition skips what is.

    Who has cancelled the batch may have lost the right since: then what has begun is left.
    """
    assert batch.ending is not None
    runs = list(_to_cancel(batch).values_list("pk", flat=True)[:AT_ONCE])
    by = type(batch.requested_by).objects.get(username=batch.ending["by"])
    for run_id in runs:
        try:
            acting.act(run_id=run_id, action="cancel", reason=batch.ending["reason"], by=by)
        except ActionRefused:  # it has ended meanwhile, or somebody else has asked
            continue
        except NotTheirs:
            Batch.objects.filter(pk=batch.pk).update(ending=batch.ending | {"waiting": "leave"})
            return 0
    return len(runs)
