"""The one clock that decides: PostgreSQL's.

The SQL function `signalbox_now()` is `now()`. A drill replaces it in its own database to let days pass.
"""

from __future__ import annotations

from datetime import datetime

from django.db import connection
from django.db.models import DateTimeField, Func


class DatabaseNow(Func):
    """`signalbox_now()` in a query."""

    function = "signalbox_now"
    template = "%(function)s()"
    output_field = DateTimeField()


def database_now() -> datetime:
    """Return the database's time, aware, UTC."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT signalbox_now()")
        moment: datetime = cursor.fetchone()[0]
    return moment
