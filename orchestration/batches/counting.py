"""How many items of a batch are in each state, kept as they move: no page counts a table."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connection
from django.db.models import Sum

from orchestration.models import BatchCount, BatchItem

Counts = dict[str, int]  # of every state


def move(batch_id: str, was: str, becomes: str, many: int) -> None:
    """Count `many` items as moved; "" is no state. Part of the transaction that moves them."""
    if many:
        with connection.cursor() as cursor:
            cursor.execute("SELECT signalbox_batch_counts(%s, %s, %s, %s)", [batch_id, was, becomes, many])


def counts_of(batch_ids: Iterable[str]) -> dict[str, Counts]:
    """Return the counts of each batch. One query of at most 96 rows a batch."""
    wanted = list(batch_ids)
    found: dict[str, Counts] = {batch_id: dict.fromkeys(BatchItem.State.values, 0) for batch_id in wanted}
    summed = BatchCount.objects.filter(batch_id__in=wanted).values("batch_id", "state").annotate(items=Sum("count"))
    for one in summed.order_by():
        found[one["batch_id"]][one["state"]] = max(0, one["items"])
    return found
