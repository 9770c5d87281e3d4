"""The record as people and programs read it: newest first, narrowed, page by page."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from approvals.models import AuditEvent
from approvals.record import audit, checked, heads
from approvals.record.audit import Head, Verification, WholeCheck
from console.clock import database_now
from console.lists.keyset import Order, page_after

AT_ONCE: Final = 100_000  # entries that one request walks, about two seconds
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


def last_check() -> WholeCheck | None:
    """Return how far the record was checked as a whole, and when; `None` where it never was."""
    return checked.last()


def check() -> Verification:
    """Verify the chain against the heads that this installation has written down, as far as one request may.

    That is all of it while it is short. Of a long one it is what came after the last check of the whole, AT_ONCE at
    most: a page's answer must not grow with the table.
    """
    newest, last = audit.newest_number(), checked.last()
    if newest <= AT_ONCE:
        return check_whole(heads.kept(), processes=1)
    after = newest - AT_ONCE
    return audit.verify_newest(heads.kept(), max(after, last.seq) if last is not None else after, last)


def check_whole(outside: Iterable[Head], *, processes: int) -> Verification:
    """Verify all of the chain, and keep that it was whole where that can be kept."""
    at = audit.moment(database_now())
    found = audit.verify(outside, processes=processes)
    if found.ok and found.entries:
        with suppress(OSError):
            checked.note(WholeCheck(found.last_seq, found.head, found.entries, at))
    return found
