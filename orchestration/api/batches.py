"""Batches in the JSON API: start one, list them, read one with its items, act on it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from django.urls import reverse
from ninja import Field, Query, Router, Schema, Status

from console.api_access import require
from console.text.stored import StoredText
from orchestration.batches import acting, reading, starting
from orchestration.batches.reading import BatchRow, ItemRow
from orchestration.batches.tables import TableRow
from orchestration.errors import BatchKeyReused

router = Router(tags=["batches"])


class BatchIn(Schema):
    """A batch to start; the same `key` with the same inputs finds the same batch."""

    agent: str
    inputs: list[Any]
    key: Annotated[StoredText, Field(min_length=1, max_length=starting.KEY_LIMIT)]
    active: int = starting.ACTIVE
    open_approvals: int = starting.OPEN_APPROVALS


class BatchActionIn(Schema):
    """What to do about a batch. `waiting`, when cancelled: what becomes of the runs that have begun.

    `times`, for `retry_failed`: `tried_again.times` as the batch told it. A repetition then tries nothing again.
    """

    action: Literal["pause", "resume", "cancel", "retry_failed"]
    reason: str = ""
    waiting: Literal["leave", "cancel"] = "leave"
    times: Annotated[int, Field(ge=0)] | None = None


@router.post("/batches", response={200: Any, 201: Any})
def start_batch(request: HttpRequest, body: BatchIn) -> Status[dict[str, Any]]:
    """Start a batch: every input is checked before any run. 201 when it is new, 200 when the key found the same."""
    user = require(request, "start_run")
    rows = [
        TableRow(number, one) if isinstance(one, dict) else TableRow(number, errors=[("", "Each input is an object.")])
        for number, one in enumerate(body.inputs, start=1)
    ]
    batch, is_new = starting.start_batch(
        agent=body.agent,
        rows=rows,
        key=body.key,
        requested_by=user,
        active=body.active,
        open_approvals=body.open_approvals,
    )
    if not is_new and not reading.visible_to(user).filter(pk=batch.pk).exists():
        raise BatchKeyReused("This key was used by somebody else. Use a new key.")
    return Status(201 if is_new else 200, batch_json(request, reading.with_counts([batch])[0]))


@router.get("/batches")
def list_batches(
    request: HttpRequest, limit: Annotated[int, Query(ge=1, le=200)] = 50, cursor: str = ""
) -> dict[str, Any]:
    """List batches, newest first."""
    page = reading.batches_page(require(request, "see_runs"), cursor=cursor, limit=limit)
    return {"items": [batch_json(request, row) for row in page.rows], "next": page.next_cursor}


@router.get("/batches/{batch_id}")
def get_batch(request: HttpRequest, batch_id: str) -> dict[str, Any]:
    """Return one batch; `held` says why it starts nothing now, `progress` how fast it goes.

    `tried_again`: how many `times` the failed rows were tried again, how many `items` the last time, and how many were
    `left` as they are, for their runs have done something, or may have.
    """
    story = reading.story_of(reading.batch_for(require(request, "see_runs"), batch_id))
    hold, progress = story.hold, story.progress
    return batch_json(request, story.row) | {
        "held": {"cause": hold.cause, "sentence": hold.sentence, "since": hold.since} if hold else None,
        "progress": {
            "ended": story.row.ended,
            "per_minute": round(progress.per_minute, 2) if progress.per_minute is not None else None,
            "seconds_left": round(progress.left.total_seconds()) if progress.left is not None else None,
        },
        "tried_again": asdict(story.tried_again),
        "actions": story.actions,
    }


@router.get("/batches/{batch_id}/items")
def list_items(
    request: HttpRequest,
    batch_id: str,
    status: Literal["not_started", "running", "waiting", "finished", "failed", "cancelled", ""] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str = "",
) -> dict[str, Any]:
    """List a batch's items in the order of its table, each with what became of it."""
    batch = reading.batch_for(require(request, "see_runs"), batch_id)
    page = reading.items_page(batch, state=status, cursor=cursor, limit=limit)
    return {"items": [item_json(row) for row in page.rows], "next": page.next_cursor}


@router.post("/batches/{batch_id}/actions", response={202: Any})
def act_on_batch(request: HttpRequest, batch_id: str, body: BatchActionIn) -> Status[dict[str, Any]]:
    """Pause a batch, let it go on, cancel it, or try what failed again. The same again is the same answer.

    `retry_failed` tries again what has failed since too, unless it says `times`. It answers with `tried_again` besides.
    """
    user = require(request, "act_on_run")
    batch = reading.batch_for(user, batch_id)
    batch = acting.act(
        batch_id=batch.pk, action=body.action, by=user, reason=body.reason, waiting=body.waiting, times=body.times
    )
    answer = batch_json(request, reading.with_counts([batch])[0])
    if body.action == "retry_failed":
        answer["tried_again"] = asdict(acting.tried_again(batch.pk))
    return Status(202, answer)


def batch_json(request: HttpRequest, row: BatchRow) -> dict[str, Any]:
    """Return the public shape of one batch."""
    batch = row.batch
    return {
        "id": batch.pk,
        "agent": batch.agent,
        "key": batch.key,
        "status": batch.status,
        "total": batch.total,
        "counts": row.counts,
        "active": batch.active,
        "open_approvals": batch.open_approvals,
        "requested_by": batch.requested_by.username,
        "ending": batch.ending,
        "created_at": batch.created_at,
        "started_at": batch.started_at,
        "closed_at": batch.closed_at,
        "url": request.build_absolute_uri(reverse("orchestration:batch", args=[batch.pk])),
    }


def item_json(row: ItemRow) -> dict[str, Any]:
    """Return the public shape of one item."""
    item = row.item
    return {
        "number": item.number,
        "input": row.given,
        "run_id": item.run_id,
        "status": item.state,
        "attempt": item.attempt + 1,
        "result": row.result,
        "error": row.error,
        "ended_at": item.ended_at,
    }
