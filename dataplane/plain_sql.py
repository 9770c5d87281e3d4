"""How flow processes reach Postgres: psycopg, no Django."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import psycopg

from console.environment import environment

LIVE_CHANNEL = "signalbox_live"
REFRESHES_CHANNEL = "signalbox_refreshes"  # wakes `dataplane.refreshes.dispatch`


def connect() -> psycopg.Connection[Any]:
    """Return a connection in autocommit mode. Raises psycopg.OperationalError when Postgres is away."""
    return psycopg.connect(
        environment().database_url,
        autocommit=True,
        connect_timeout=5,
        application_name="signalbox flow",
        options="-c statement_timeout=120s",
    )


def announce(connection: psycopg.Connection[Any]) -> None:
    """Tell open pages, at commit, that something in the data plane has changed."""
    connection.execute("SELECT pg_notify(%s, %s)", [LIVE_CHANNEL, json.dumps({"topic": "data"})])


def one(connection: psycopg.Connection[Any], query: str, values: Sequence[Any]) -> tuple[Any, ...]:
    """Return the one row that the query must find. Raises LookupError when it is not there."""
    row = connection.execute(query, values).fetchone()
    if row is None:
        raise LookupError(f"no row: {query}")
    found: tuple[Any, ...] = row
    return found
