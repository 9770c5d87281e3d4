from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from orchestration.batches import starting
from orchestration.batches.tables import TableRow
from orchestration.models import Batch, BatchItem, Effect, Run


def inputs(many: int) -> list[dict[str, Any]]:
    return [{"order_id": f"{8800 + number}", "message": f"Number {number} is broken."} for number in range(1, many + 1)]


def rows(many: int) -> list[TableRow]:
    return [TableRow(number, given) for number, given in enumerate(inputs(many), start=1)]


def make_batch(by: User, many: int = 3, key: str = "k", **changes: Any) -> Batch:
    fields: dict[str, Any] = {"agent": "support", "rows": rows(many), "key": key, "requested_by": by}
    return starting.start_batch(**fields | changes)[0]


def run_of(batch: Batch, number: int) -> Run:
    run_id = BatchItem.objects.values_list("run_id", flat=True).get(batch=batch, number=number)
    assert run_id is not None
    return Run.objects.get(pk=run_id)


def states(batch: Batch) -> list[str]:
    return list(batch.items.order_by("number").values_list("state", flat=True))


@pytest.fixture
def batch(olga: User) -> Batch:
    return make_batch(olga)


def acted(run: Run, status: str = "done") -> None:
    """Let the run have begun an effect, which ended so."""
    Effect.objects.create(
        approval_id="apr_1",
        run=run,
        tool="issue_refund",
        digest="0" * 64,
        decision_id="dec_1",
        is_idempotent=True,
        status=status,
        fence=1,
    )
