"""Cursors for statements by hand that stand in the path of every click: PostgreSQL plans each once per connection.

Django's own cursors put the values into the text, so that PostgreSQL reads and plans every statement anew; for the
longest of ours that takes several times as long as carrying it out. A value's type is told by the statement here:
where it does not follow from what the value is compared with or written to, cast it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from psycopg import Cursor
from psycopg.pq import PipelineStatus


class _Planned(Cursor[Any]):
    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        return super().execute(query, params, prepare=True, **options)


def cursor() -> Any:
    """Return a cursor like `connection.cursor()`, whose statements are planned once. Close it, or use it by `with`.

    While Django keeps what is asked, it is Django's own: only that one knows the text with its values.
    """
    if connection.queries_logged:
        return connection.cursor()
    connection.ensure_connection()
    with connection.wrap_database_errors:
        made: Any = _Planned(connection.connection)
    return connection.make_cursor(made)


@contextmanager
def in_one_go() -> Iterator[None]:
    """Send what is executed inside the block together, and wait once for all of it: each still sees what others did.

    For statements by hand inside a transaction, none of which needs what another one gives: rows are fetched after the
    block, and the error of the first that fails is raised at its end. Django's own queries do not belong here, for
    they ask at once how many rows were changed.
    """
    connection.ensure_connection()
    raw = connection.connection
    if raw.pgconn.pipeline_status != PipelineStatus.OFF:  # inside of another one
        yield
        return
    with connection.wrap_database_errors, raw.pipeline():
        yield
