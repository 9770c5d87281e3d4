"""What must reach an engine, written in the same transaction as the change that causes it.

A row is delivered at least once, in no promised order; whoever receives it de-duplicates by its content.
The relay (`orchestration.relay`) claims rows, delivers them and stamps them; it is woken by NOTIFY.
"""

from __future__ import annotations

from typing import Any

from django.db import connection

from console.models import OutboxEntry

CHANNEL = "signalbox_outbox"


def enqueue(*, kind: str, subject: str, payload: dict[str, Any]) -> OutboxEntry:
    """Add one entry and wake the relay when the current transaction commits.

    `kind`: a name of `orchestration.contracts.Delivery`. `subject`: the id it is about, for people who search.
    `payload`: JSON, ids only.
    """
    entry = OutboxEntry.objects.create(kind=kind, subject=subject, payload=payload)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
    return entry
