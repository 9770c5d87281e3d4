"""The one clock that decides: PostgreSQL's. No process says by its own how late it is.

The SQL function `signalbox_now()` is `now()`. A drill replaces it in its own database to let days pass.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
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


KNOWN_FOR_SECONDS = 10.0  # and then the database is asked again
#: the database's time as a statement, the same in a transaction that began long ago
NOW_SQL = "SELECT signalbox_now() + (clock_timestamp() - now())"
_known: tuple[datetime, float] | None = None  # what the database said, and this process's monotonic clock then


def shown_now() -> datetime:
    """Return the database's time for what is shown, aware, UTC: "4 min ago", and when a page was made.

    Asks at most every 10 seconds, by a connection that is open, and counts on from there: a page costs no query more,
    and one that tells of PostgreSQL's absence waits for nothing.
    """
    raw: Any = connection.connection
    if raw is not None and (_known is None or time.monotonic() - _known[1] > KNOWN_FOR_SECONDS):
        try:
            told = raw.execute(NOW_SQL).fetchone()
        except psycopg.Error:
            told = None
        if told is not None:
            learn(told[0])
    return reckoned()


def learn(moment: datetime) -> None:
    """Keep the database's time, which it has just said."""
    global _known
    _known = moment, time.monotonic()


def reckoned() -> datetime:
    """Return the database's time by what is known of it, without asking; this process's own while nothing is."""
    if _known is None:
        return datetime.now(UTC)
    moment, then = _known
    return (moment + timedelta(seconds=time.monotonic() - then)).astimezone(UTC)
