"""The page of the record: who did what when, and whether it is still whole."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_POST, require_safe

from approvals.reading import record
from approvals.reading.record import RecordFilters, RecordPage
from console.app_role import loose_record
from console.clock import database_now
from console.fragments import page_or_fragment
from console.http import is_htmx, needs
from console.lists.longer_lists import address_of, more_of, rows_wanted
from console.text.stored import asked_text

_WISHES: Final = ("actor", "subject", "since", "cursor", "limit")  # what the address says


@dataclass(frozen=True)
class ListedEntries:
    """What the address asks to show, and the rows."""

    actor: str
    subject: str
    since: str  # as typed: a day, YYYY-MM-DD, UTC
    cursor: str
    limit: int
    fault: str  # what is wrong with `since`, "" when nothing is
    page: RecordPage

    def address(self, **changes: Any) -> str:
        """Return this list's address with changes."""
        return address_of("approvals:record", {name: getattr(self, name) for name in _WISHES} | changes)

    @property
    def more(self) -> str:
        return more_of(self, self.page.next_cursor)

    @property
    def is_narrowed(self) -> bool:
        return bool(self.actor or self.subject or self.since)


@require_safe
@needs("audit")
def entries(request: HttpRequest) -> HttpResponse:
    """The entries, newest first."""
    context: dict[str, Any] = {"listed": _listed(request)}
    if not is_htmx(request):
        context |= {"loose": loose_record(), "last": record.last_check()}
    return page_or_fragment(request, "approvals/record.html", "approvals/_record_rows.html", context)


@require_POST
@needs("audit")
def verify(request: HttpRequest) -> HttpResponse:
    """Verify the whole record now and say in words what was found. Changes nothing."""
    context: dict[str, Any] = {"found": record.check(), "checked_at": database_now()}
    context["last"] = record.last_check()
    if not is_htmx(request):
        context |= {"listed": _listed(request), "loose": loose_record()}
    return page_or_fragment(request, "approvals/record.html", "approvals/_record_check.html", context)


def _listed(request: HttpRequest) -> ListedEntries:
    asked = {name: asked_text(request.GET.get(name), 300) for name in _WISHES}
    since, fault = _day(asked["since"])
    wanted = rows_wanted(asked["limit"])
    page = record.entries_page(
        RecordFilters(asked["actor"], asked["subject"], since), cursor=asked["cursor"], limit=wanted
    )
    return ListedEntries(asked["actor"], asked["subject"], asked["since"], asked["cursor"], wanted, fault, page)


def _day(typed: str) -> tuple[datetime | None, str]:
    if not typed:
        return None, ""
    try:
        day = date.fromisoformat(typed)
    except ValueError:
        return None, f"“{typed[:40]}” is not a day. Write it as 2026-11-24; the list below is not narrowed by it."
    return datetime(day.year, day.month, day.day, tzinfo=UTC), ""
