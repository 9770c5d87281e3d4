"""An outbox entry in the relay's hands: claimed for a while, then stamped as delivered or given back.

An entry is claimed by moving its due time on (the lease), so that two relays do not fight over it and a killed relay's
entries come back by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction

from console import planned_once
from console.clock import database_now
from console.live.announce import announce
from console.models import OutboxEntry
from console.text.stored import storable

#: takes lease (duration), kinds, is_one_of (whether only those kinds are claimed, or only all others) and most
CLAIM = """
UPDATE console_outboxentry SET attempts = attempts + 1, due_at = signalbox_now() + %(lease)s
WHERE id = ANY(ARRAY(SELECT id FROM console_outboxentry WHERE delivered_at IS NULL AND due_at <= signalbox_now()
                     AND (kind = ANY(%(kinds)s)) = %(is_one_of)s ORDER BY id LIMIT %(most)s
                     FOR UPDATE SKIP LOCKED))
RETURNING id, kind, subject, payload, attempts
"""


@dataclass(frozen=True)
class Claimed:
    """One outbox entry that is ours for the length of its lease."""

    id: int
    kind: str
    subject: str
    payload: dict[str, Any]
    attempts: int


_STAMP = "UPDATE console_outboxentry SET delivered_at = signalbox_now(), last_error = %s WHERE id = ANY(%s)"


def stamp(entries: list[Claimed], note: str = "") -> None:
    """Mark entries as delivered. `note`: what to know of it, kept where a failure would stand."""
    with planned_once.cursor() as cursor:
        cursor.execute(_STAMP, [note, [entry.id for entry in entries]])


def put_back(entry: Claimed, error: str, pause: float) -> None:
    """Give the entry back, to be tried again after `pause` seconds."""
    with transaction.atomic():
        due_at = database_now() + timedelta(seconds=pause)
        OutboxEntry.objects.filter(pk=entry.id).update(due_at=due_at, last_error=storable(error)[:500])
        announce(f"run:{entry.subject}")
