"""The record as people and programs read it: newest first, narrowed, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from approvals.models import AuditEvent
from approvals.record import audit, heads
from approvals.record.audit import Verification
from console.lists.keyset import Order, page_after

NEWEST_ENTRY_FIRST: Final = Order("record", ("seq",), (int,), is_descending=True)


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
    rows = AuditEvent.objects.all()
    if filters.actor:
        rows = rows.filter(actor=filters.actor)
    if filters.subject:
        rows = rows.filter(subject=filters.subject)
    if filters.since is not None:
        rows = rows.filter(at__gte=filters.since)
    return RecordPage(*page_after(rows, NEWEST_ENTRY_FIRST, cursor, limit))


def check() -> Verification:
    """Verify the whole chain against the heads that this installation has written down."""
    return audit.verify(heads.kept())
