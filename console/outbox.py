"""What must reach an engine, written in the same transaction as the change that causes it.

A row is delivered at least once, in no promised order; whoever receives it de-duplicates by its content.
The relay (`orchestration.relay`) claims rows, delivers them and stamps them; it is woken by NOTIFY.
"""

from __future__ import annotations

import json
from typing import Any

from django.db import connection

CHANNEL = "signalbox_outbox"
# One statement: it stands in the path of every click.
_ENQUEUE = """
WITH entry AS (
    INSERT INTO console_outboxentry (kind, subject, payload, attempts, last_error) VALUES (%s, %s, %s, 0, '')
    RETURNING id
)
SELECT id, pg_notify(%s, '') FROM entry
"""


def enqueue(*, kind: str, subject: str, payload: dict[str, Any]) -> int:
    """Add one entry and wake the relay when the current transaction commits; return the entry's id.

    `kind`: one that `orchestration.relay` delivers. `subject`: the id it is about, for people who search.
    `payload`: JSON, ids only.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ENQUEUE, [kind, subject, json.dumps(payload), CHANNEL])
        entry_id: int = cursor.fetchone()[0]
    return entry_id


def wake() -> None:
    """Wake the relay when the current transaction commits, for entries that were made due."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
