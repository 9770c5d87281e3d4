"""The database's address for connections of our own, outside Django's pool: listeners and LangGraph's saver.

A proxy or a dead host can swallow a connection without a word; the kernel's keepalive finds out.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from psycopg.conninfo import make_conninfo


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
    )
