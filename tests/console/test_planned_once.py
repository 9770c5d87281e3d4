"""Statements that are planned once per connection, and behave like Django's own in all else."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from approvals.services import decision_sql, receipts
from console import planned_once

_KEPT = "SELECT generic_plans + custom_plans FROM pg_prepared_statements WHERE statement = %s"


def _ask(sql: str, values: Any = ()) -> list[Any]:
    with planned_once.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall()) if cursor.description else []


def _uses(statement: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(_KEPT, [statement])
        return list(cursor.fetchall())


@pytest.mark.django_db(transaction=True)
def test_a_statement_is_planned_once_for_its_connection() -> None:
    for number in range(3):
        assert _ask("SELECT 'kept' || %s::text", [f"-{number}"]) == [(f"kept-{number}",)]
    assert _uses("SELECT 'kept' || $1::text") == [(3,)]


@pytest.mark.django_db(transaction=True)
def test_a_statement_outlives_a_transaction_that_is_taken_back(alice: User) -> None:
    again = "INSERT INTO auth_group (name) VALUES (%s)"
    _ask(again, ["once"])
    for _ in range(2):
        with pytest.raises(IntegrityError), transaction.atomic():
            _ask(again, ["once"])
    _ask(again, ["twice"])


@pytest.mark.django_db
def test_tests_count_it_like_any_other() -> None:
    with CaptureQueriesContext(connection) as seen:
        _ask("SELECT %s::int + 1", [1])
    assert [one["sql"] for one in seen.captured_queries] == ["SELECT 1::int + 1"]


def _planned() -> dict[str, int]:
    """Return how often each statement of a decision was run by its plan, in this connection: it may be an older one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT statement, generic_plans + custom_plans FROM pg_prepared_statements"
            " WHERE statement LIKE '%FROM approvals_approval a WHERE a.id = $1 FOR NO KEY UPDATE%'"
            " OR statement LIKE '%INSERT INTO approvals_receiptstep%'"
        )
        return dict(cursor.fetchall())


@pytest.mark.django_db(transaction=True)
def test_the_statements_of_a_decision_are_planned_once() -> None:
    before = _planned()
    for _ in range(2):
        assert decision_sql.hold("apr_none") is None
        receipts.note_receipt(approval_ids=["apr_none"], step="resumed")
    times = [count - before.get(statement, 0) for statement, count in _planned().items()]
    assert sorted(count for count in times if count) == [2, 2]


@pytest.mark.django_db(transaction=True)
def test_what_goes_together_is_done_in_its_order_and_read_afterwards() -> None:
    with transaction.atomic():
        with planned_once.in_one_go(), planned_once.cursor() as first:
            first.execute("INSERT INTO auth_group (name) VALUES (%s)", ["of one go"])
            second = planned_once.cursor()
            second.execute("SELECT name FROM auth_group WHERE name = %s", ["of one go"])
        with second:
            assert second.fetchall() == [("of one go",)]


@pytest.mark.django_db(transaction=True)
def test_the_first_error_of_what_goes_together_is_raised_and_all_is_taken_back() -> None:
    add = "INSERT INTO auth_group (name) VALUES (%s)"
    for logged in (False, True):
        with pytest.raises(IntegrityError), transaction.atomic(), planned_once.in_one_go():
            connection.force_debug_cursor = logged
            for _ in range(3):
                with planned_once.cursor() as cursor:
                    cursor.execute(add, ["thrice"])
        connection.force_debug_cursor = False
        assert _ask("SELECT count(*) FROM auth_group WHERE name = 'thrice'") == [(0,)]
