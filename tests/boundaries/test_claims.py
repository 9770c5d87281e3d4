"""What is claimed at most so many at once is never more, whatever plan Postgres makes of the statement."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction

from console.models import OutboxEntry
from orchestration import reconciling
from orchestration.relay.entries import CLAIM
from tests.orchestration.conftest import make_run

PROJECT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("approvals", "bench", "console", "dataplane", "drills", "orchestration", "stack")
#: A planner may run such a subquery again for each row, and a claim skips what it has locked before: LIMIT is void.
CLAIM_IN_A_SUBQUERY = re.compile(r"\bIN\s*\(\s*\"?f?\"?\s*SELECT(?:(?!\bRETURNING\b).)*?\bFOR (?:NO KEY )?UPDATE", re.S)
#: what makes Postgres run the subquery of `IN` again for each row
NESTED_LOOPS = "".join(
    f"SET LOCAL enable_{method} = off; " for method in ("hashjoin", "mergejoin", "hashagg", "sort", "material")
)


def test_no_statement_claims_in_a_subquery_that_may_run_more_than_once() -> None:
    assert CLAIM_IN_A_SUBQUERY.search("WHERE id IN (\n SELECT id FROM t LIMIT 1 FOR UPDATE SKIP LOCKED)")
    modules = [path for room in ROOMS for path in (PROJECT / room).rglob("*.py")]
    assert len(modules) > 300
    assert [str(path) for path in modules if CLAIM_IN_A_SUBQUERY.search(path.read_text())] == []


@pytest.mark.django_db(transaction=True)
def test_a_claim_takes_no_more_than_its_limit_under_the_worst_plan(transactional_db: None) -> None:
    OutboxEntry.objects.bulk_create(OutboxEntry(kind="remind", subject=str(n), payload={}) for n in range(20))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(NESTED_LOOPS)
        values: dict[str, Any] = {"lease": timedelta(seconds=60), "kinds": ["remind"], "is_one_of": True, "most": 1}
        cursor.execute(CLAIM, values)
        assert len(cursor.fetchall()) == 1


@pytest.mark.django_db(transaction=True)
def test_no_more_workflows_are_looked_at_than_five_under_the_worst_plan(transactional_db: None) -> None:
    for _ in range(20):
        make_run(status="running")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE orchestration_run SET look_due_at = signalbox_now() - interval '1 hour'")
        cursor.execute(NESTED_LOOPS.replace("LOCAL ", ""))
        try:
            assert len(reconciling.claim()) == reconciling.LOOKS_AT_ONCE
        finally:
            cursor.execute("RESET ALL")
