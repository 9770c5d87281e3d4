"""What somebody could do to the record who owns its table: take the guards away first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection


@contextmanager
def as_the_tables_owner() -> Iterator[Any]:
    """Give a cursor for which the audit trail has no guards; they stand again afterwards."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE approvals_auditevent DISABLE TRIGGER USER")
        yield cursor
        cursor.execute("ALTER TABLE approvals_auditevent ENABLE TRIGGER USER")
