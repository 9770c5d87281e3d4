"""The record as people and programs read it: newest first, narrowed, page by page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from approvals.models import AuditEvent
from approvals.record import audit, heads
from approvals.record.audit import Verification
from console.lists.keyset import make_cursor, read_cursor

_NUMBER = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True)
class RecordFilters:
    """What the list can be narrowed by; empty ones narrow nothing."""

    actor: str = ""
    subject: str = ""
    since: datetime | None = None  # aware; that moment included


@dataclass(frozen=True)
class RecordPage:
    """One page of entries; `next_cursor` is `None` at the end."""

    rows: list[AuditEvent]
    next_cursor: str | None


def entries_page(filters: RecordFilters, *, cursor: str = "", limit: int = 50) -> RecordPage:
    """Return one page, newest first. One query; keyset over the numbers, never an offset.

    An unreadable cursor starts at the newest entry.
    """
    rows = AuditEvent.objects.order_by("-seq")
    if filters.actor:
        rows = rows.filter(actor=filters.actor)
    if filters.subject:
        rows = rows.filter(subject=filters.subject)
    if filters.since is not None:
        rows = rows.filter(at__gte=filters.since)
    after = read_cursor(cursor)
    if after is not None and _NUMBER.fullmatch(after[1]):
        rows = rows.filter(seq__lt=min(int(after[1]), 2**63 - 1))
    found = list(rows[: limit + 1])
    last = found[limit - 1] if len(found) > limit else None
    return RecordPage(found[:limit], make_cursor(last.at, str(last.seq)) if last else None)


def check() -> Verification:
    """Verify the whole chain against the heads that this installation has written down."""
    return audit.verify(heads.kept())
