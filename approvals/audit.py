"""The record: each entry carries the digest of the one before, so a change anywhere breaks the chain.

An entry's digest is SHA-256 over RFC 8785 JSON of its fields and the previous digest. Entries are written inside
the transaction of the change they tell, one at a time (an advisory lock held until commit keeps the order).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import rfc8785
from django.db import connection

from approvals.models import AuditEvent

_CHAIN_LOCK = 7_310_001


def record(*, actor: str, kind: str, subject: str, body: dict[str, Any]) -> None:
    """Append one entry. Call it last in a transaction: everyone else's entries wait until that commits.

    `body`: JSON of strings, whole numbers and lists; ids and digests, no payloads.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CHAIN_LOCK])
        # clock_timestamp would differ from the rows of the same change; signalbox_now is the transaction's.
        cursor.execute("SELECT signalbox_now(), (SELECT digest FROM approvals_auditevent ORDER BY seq DESC LIMIT 1)")
        at, previous = cursor.fetchone()
    event = AuditEvent(at=at, actor=actor, kind=kind, subject=subject, body=body, previous=previous or "")
    event.digest = digest_of(event)
    event.save(force_insert=True)


def digest_of(event: AuditEvent) -> str:
    """Return the digest that the entry must have."""
    fields = {
        "at": _text(event.at),
        "actor": event.actor,
        "kind": event.kind,
        "subject": event.subject,
        "body": event.body,
        "previous": event.previous,
    }
    return hashlib.sha256(rfc8785.dumps(fields)).hexdigest()


@dataclass(frozen=True)
class Verification:
    """The state of the chain; `first_bad` is the seq of the first entry that does not fit."""

    ok: bool
    entries: int
    head: str
    first_bad: int | None


def verify() -> Verification:
    """Walk the whole chain and say whether every entry fits the one before."""
    entries, head = 0, ""
    for event in AuditEvent.objects.order_by("seq").iterator(chunk_size=2000):
        if event.previous != head or event.digest != digest_of(event):
            return Verification(False, entries, head, event.seq)
        entries, head = entries + 1, event.digest
    return Verification(True, entries, head, None)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
