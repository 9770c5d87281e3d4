"""A batch is kept whole or not at all, and its key starts nothing twice."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from approvals.models import AuditEvent
from approvals.record import audit
from console.models import OutboxEntry
from console.outbox import Kind
from orchestration.batches import counting, starting
from orchestration.batches.tables import TableRow
from orchestration.errors import BatchKeyReused, InvalidInput
from orchestration.models import Batch, BatchItem, Run
from tests.at_once import at_once
from tests.orchestration.batches.conftest import inputs, make_batch, rows


def test_a_batch_is_kept_with_everything_that_must_follow(olga: User) -> None:
    batch = make_batch(olga, 3)
    assert [item.input for item in batch.items.order_by("number")] == inputs(3)
    assert (batch.status, batch.total, batch.active, batch.open_approvals) == ("feeding", 3, 10, 200)
    counts = counting.counts_of([batch.pk])[batch.pk]
    assert counts == dict.fromkeys(BatchItem.State.values, 0) | {"not_started": 3}
    entry = OutboxEntry.objects.get()
    assert (entry.kind, entry.payload) == (Kind.FEED_BATCH, {"batch_id": batch.pk})
    event = AuditEvent.objects.get()
    assert (event.actor, event.kind, event.subject) == ("olga", "batch.requested", batch.pk)
    assert audit.verify().ok
    assert Run.objects.count() == 0  # the worker makes them


@pytest.mark.django_db(transaction=True)
def test_ten_clients_at_once_with_one_key_start_one_batch(olga: User) -> None:
    found = at_once(*(lambda: starting.start_batch(agent="support", rows=rows(5), key="k", requested_by=olga),) * 10)
    assert len({batch.pk for batch, _ in found}) == 1
    assert sum(is_new for _, is_new in found) == 1
    assert (Batch.objects.count(), BatchItem.objects.count(), OutboxEntry.objects.count()) == (1, 5, 1)


def test_the_same_key_with_other_inputs_is_refused(olga: User) -> None:
    make_batch(olga, 3)
    for other in (rows(2), [*rows(2), TableRow(3, {"order_id": "1", "message": "another"})]):
        with pytest.raises(BatchKeyReused):
            make_batch(olga, rows=other)
    assert BatchItem.objects.count() == 3


def test_one_wrong_row_starts_nothing_and_says_where_it_is(olga: User) -> None:
    given = [*rows(3), TableRow(9, {"message": "m"}), TableRow(10, errors=[("", "no JSON")])]
    with pytest.raises(InvalidInput) as refused:
        make_batch(olga, rows=given)
    told = [(one["path"], one["row"], one["line"]) for one in refused.value.errors]
    assert told == [("inputs/3/order_id", 4, 9), ("inputs/4", 5, 10)]
    assert (Batch.objects.count(), BatchItem.objects.count(), OutboxEntry.objects.count()) == (0, 0, 0)


def test_rows_that_say_the_same_are_named(olga: User) -> None:
    given = [*rows(2), TableRow(3, dict(reversed(inputs(2)[0].items())))]
    assert starting.check("support", given).same == [(3, 1)]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"key": " "}, "key"),
        ({"key": "k" * 201}, "key"),
        ({"key": "a\nb"}, "key"),
        ({"active": 0}, "active"),
        ({"active": 10_000}, "active"),
        ({"open_approvals": 0}, "open_approvals"),
        ({"rows": []}, "inputs"),
        ({"agent": "nobody"}, "agent"),
    ],
)
def test_wishes_that_make_no_sense_are_refused_in_words(changes: dict[str, Any], path: str, olga: User) -> None:
    with pytest.raises(InvalidInput) as refused:
        make_batch(olga, **changes)
    assert [one["path"] for one in refused.value.errors] == [path]
