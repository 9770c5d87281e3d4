"""What the run did to the outside world, from the ledger of effects."""

from __future__ import annotations

from typing import Final

from django.urls import reverse

from orchestration.models import Effect, Run
from orchestration.timeline.entries import Entry, State, StoryWish
from orchestration.timeline.places import named, nearest

_STATES: Final[dict[str, State]] = {
    Effect.Status.EXECUTING: "running",
    Effect.Status.DONE: "done",
    Effect.Status.FAILED: "failed",
    Effect.Status.UNKNOWN: "unknown",
}


def effects(run: Run, wish: StoryWish) -> list[Entry]:
    """Return the run's effects. One query."""
    rows = Effect.objects.filter(run=run).defer("arguments", "result")
    part = nearest(rows, "started_at", "world", named("effect", "approval_id"), wish)
    return wish.takes(_entry(row) for row in part)


def unsettled(run: Run, most: int) -> list[Entry]:
    """Return effects that have not ended, or of which nobody knows how. One query."""
    rows = Effect.objects.filter(run=run, status__in=(Effect.Status.EXECUTING, Effect.Status.UNKNOWN))
    return [_entry(row) for row in rows.order_by("started_at")[:most]]


def _entry(row: Effect) -> Entry:
    again = f"attempt {row.attempts}" if row.attempts > 1 else ""
    words = " · ".join(part for part in (row.error[:500], again) if part)
    return Entry(
        at=row.started_at,
        layer="world",
        kind="effect",
        title=row.tool,
        detail=words,
        reference=row.approval_id,
        state=_STATES.get(row.status, "done"),
        began_at=row.started_at,
        ended_at=row.finished_at,
        url=reverse("approvals:approval", args=[row.approval_id]),
    )
