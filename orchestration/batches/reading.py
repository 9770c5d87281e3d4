"""What pages and the API read about batches: lists by keyset, counts that were kept, never a count of a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import QuerySet

from approvals.models import Approval
from console import roles
from console.clock import database_now
from console.lists.keyset import Order, page_after
from orchestration.batches import acting, counting, feeding
from orchestration.batches.counting import Counts
from orchestration.batches.feeding import Hold
from orchestration.errors import NoSuchBatch
from orchestration.models import Batch, BatchItem, Run
from orchestration.state.secrets import hidden_of

NEWEST_BATCH_FIRST: Final = Order("batches", ("created_at", "id"), (datetime, str), is_descending=True)
RATE_OVER: Final = timedelta(minutes=10)
RATE_AT_MOST: Final = 5_000  # items that are looked at for it


def visible_to(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Batch]:
    """Return the batches that the user may see: all with a role that sees, a service account its own."""
    if roles.may(user, "see"):
        return Batch.objects.all()
    if roles.has_role(user, "service"):
        return Batch.objects.filter(requested_by_id=user.pk)
    return Batch.objects.none()


def batch_for(user: AbstractBaseUser | AnonymousUser, batch_id: str) -> Batch:
    """Return one batch. Raises NoSuchBatch, also for what may not be seen."""
    found = visible_to(user).select_related("requested_by").filter(pk=batch_id).first()
    if found is None:
        raise NoSuchBatch(NoSuchBatch.__doc__)
    return found


@dataclass(frozen=True)
class BatchRow:
    """A batch with how its items stand."""

    batch: Batch
    counts: Counts

    @property
    def ended(self) -> int:
        return sum(self.counts[state] for state in BatchItem.ENDED)

    @property
    def left(self) -> int:
        return max(0, self.batch.total - self.ended)

    @property
    def percent(self) -> int:
        """Return how much has ended, in whole per cent; 100 only when nothing is left."""
        return self.ended * 100 // self.batch.total if self.left else 100


@dataclass(frozen=True)
class BatchPage:
    """One page of batches; `next_cursor` is `None` at the end."""

    rows: list[BatchRow]
    next_cursor: str | None


def batches_page(user: AbstractBaseUser | AnonymousUser, *, cursor: str = "", limit: int = 50) -> BatchPage:
    """Return one page of batches, newest first. Two queries, whatever the page size."""
    rows = visible_to(user).select_related("requested_by")
    shown, next_cursor = page_after(rows, NEWEST_BATCH_FIRST, cursor, limit)
    return BatchPage(with_counts(shown), next_cursor)


def with_counts(batches: list[Batch]) -> list[BatchRow]:
    counts = counting.counts_of(batch.pk for batch in batches)
    return [BatchRow(batch, counts[batch.pk]) for batch in batches]


@dataclass(frozen=True)
class Progress:
    """How fast a batch goes. `per_minute`: runs that have ended, over the last minutes; `left`: until the last ends.

    Both are `None` while nothing has ended lately, and while nothing is started: then nobody can say.
    """

    per_minute: float | None
    left: timedelta | None

    @property
    def words(self) -> str:
        """Return "about 12 min left, 30 a minute", "" when nobody can say."""
        if self.per_minute is None or self.left is None:
            return ""
        rate = f"{self.per_minute:.0f}" if self.per_minute >= 10 else f"{self.per_minute:.1f}"
        return f"about {_long(self.left)} left, at {rate} a minute"


def _long(time: timedelta) -> str:
    minutes = max(1, round(time.total_seconds() / 60))
    if minutes < 120:
        return f"{minutes} min"
    return f"{round(minutes / 60)} h" if minutes < 48 * 60 else f"{round(minutes / 1440)} d"


@dataclass(frozen=True)
class BatchStory:
    """One batch as its page shows it."""

    row: BatchRow
    hold: Hold | None
    progress: Progress
    actions: list[acting.Action]
    open_requests: int  # that wait for people, counted to the batch's limit
    tried_again: acting.TriedAgain

    @property
    def batch(self) -> Batch:
        return self.row.batch


def story_of(batch: Batch) -> BatchStory:
    """Return a batch with its progress, what holds it and what can be done. At most nine queries."""
    (row,) = with_counts([batch])
    pending = Approval.objects.filter(batch=batch.pk, status=Approval.Status.PENDING).order_by()
    return BatchStory(
        row,
        feeding.hold_of(batch, row.counts),
        _progress(row),
        acting.permitted(batch, row.counts["failed"]),
        pending[: batch.open_approvals + 1].count(),
        acting.tried_again(batch.pk),
    )


def _progress(row: BatchRow) -> Progress:
    batch = row.batch
    if batch.status != Batch.Status.FEEDING or batch.started_at is None or not row.left:
        return Progress(None, None)
    now = database_now()
    since = max(batch.started_at, now - RATE_OVER)
    by_itself = (BatchItem.State.FINISHED, BatchItem.State.FAILED)
    ended = batch.items.filter(ended_at__gte=since, state__in=by_itself).order_by("-ended_at")
    moments: list[datetime | None] = list(ended.values_list("ended_at", flat=True)[:RATE_AT_MOST])
    if not moments:
        return Progress(None, None)
    oldest = moments[-1]
    if len(moments) == RATE_AT_MOST and oldest is not None:
        since = oldest
    minutes = max((now - since).total_seconds(), 1.0) / 60
    per_minute = len(moments) / minutes
    return Progress(per_minute, timedelta(minutes=row.left / per_minute))


@dataclass(frozen=True)
class ItemRow:
    """One item with what became of its run, secrets hidden. `error`: {"kind", "message"} or `None`."""

    item: BatchItem
    given: dict[str, Any]  # the input
    result: Any
    error: dict[str, Any] | None


@dataclass(frozen=True)
class Items:
    """One page of items; `next_cursor` is `None` at the end."""

    rows: list[ItemRow]
    next_cursor: str | None


def items_page(batch: Batch, *, state: str = "", cursor: str = "", limit: int = 50) -> Items:
    """Return one page of items in the order of the table. Two queries, each by an index."""
    items = batch.items.all()
    if state:
        items = items.filter(state=state)
    if cursor.isascii() and cursor.isdigit() and len(cursor) < 8:
        items = items.filter(number__gt=int(cursor))
    found = list(items.order_by("number")[: limit + 1])
    shown = found[:limit]
    return Items(_with_runs(batch.agent, shown), str(shown[-1].number) if len(found) > limit else None)


def pages_of_items(batch: Batch, *, at_once: int = 500) -> Iterator[list[ItemRow]]:
    """Go through all items in the order of the table, a few at a time: a file of 50,000 takes no more memory."""
    cursor: str | None = "0"
    while cursor is not None:
        page = items_page(batch, cursor=cursor, limit=at_once)
        yield page.rows
        cursor = page.next_cursor


def _with_runs(agent: str, items: list[BatchItem]) -> list[ItemRow]:
    runs = Run.objects.filter(pk__in=[item.run_id for item in items if item.run_id]).values_list(
        "pk", "result", "error"
    )
    ended = {run_id: (result, error) for run_id, result, error in runs}
    hidden = hidden_of(agent)
    rows = []
    for item in items:
        result, error = ended.get(item.run_id or "", (None, None))
        rows.append(ItemRow(item, hidden.without(item.input), hidden.without(result), error))
    return rows
