"""The database's address for connections of our own, outside Django's pool: listeners and LangGraph's saver.

And what Postgres being away looks like, and that the pool needs to be told of it.

A proxy or a dead host can swallow a connection without a word; the kernel's keepalive finds out.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import DataError, InterfaceError, OperationalError, connection
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

#: what Django raises when Postgres refuses, dies or has no connection to give in time
AWAY = (OperationalError, InterfaceError)
#: what is raised for a value that PostgreSQL takes in no column: NUL or half a character in a text, a number beyond
#: its column, a moment beyond the calendar. Where a door knows the field, it refuses it by name before.
NOT_KEPT = (DataError, UnicodeEncodeError)


def conninfo(application_name: str) -> str:
    """Return libpq's connection string; `application_name` is what pg_stat_activity shows."""
    database: dict[str, Any] = settings.DATABASES["default"]
    return make_conninfo(
        host=database["HOST"],
        port=database["PORT"],
        dbname=database["NAME"],
        user=database["USER"],
        password=database["PASSWORD"],
        application_name=application_name,
        connect_timeout=5,
        keepalives_idle=15,
        keepalives_interval=5,
        keepalives_count=3,
        **settings.LIBPQ,
    )


def renew_pool() -> None:
    """Replace the idle connections of this process's pool: after Postgres was away every one of them is dead.

    The pool finds that out by itself only one by one, with a growing pause after each.
    """
    pool: ConnectionPool | None = getattr(connection, "pool", None)
    if pool is not None:
        pool.drain()
