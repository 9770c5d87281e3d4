"""What the inbox shows besides its rows, and what the command palette finds of approvals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.http import HttpRequest
from django.urls import reverse

from approvals import lane
from approvals.inbox.listing import Filters, Page, approvals_page
from approvals.models import Approval, Decision
from approvals.selectors import COUNT_CAP, visible_to
from approvals.visible import make_visible

STATUSES: Final = {"pending": "Waiting", "decided": "Decided", "expired": "Expired", "all": "All"}
STEP, MOST = 50, 200  # rows at first and with each "more", rows on one page


@dataclass(frozen=True)
class Tab:
    """One status to look at; `count` is a number, "999+", or "" where it would say nothing."""

    name: str
    title: str
    count: str
    url: str
    is_current: bool
    is_alarm: bool = False  # its count is one that should be nought


@dataclass(frozen=True)
class Asked:
    """What the address asks the list to show. Everything is in the address, so it can be shared."""

    status: str  # a key of STATUSES
    search: str
    cursor: str
    limit: int

    def query(self, **changes: Any) -> str:
        """Return the query string for this list, with changes; what is usual is left out."""
        values = {
            "status": self.status,
            "search": self.search,
            "cursor": self.cursor,
            "limit": self.limit,
        } | changes
        usual = {"status": "pending", "search": "", "cursor": "", "limit": STEP}
        told = {name: value for name, value in values.items() if value != usual[name]}
        return f"?{urlencode(told)}" if told else ""


def read_asked(request: HttpRequest) -> Asked:
    """Read the list's wishes from the address; what cannot be understood is as usual."""
    status = request.GET.get("status", "pending")
    limit = request.GET.get("limit", "")
    return Asked(
        status=status if status in STATUSES else "pending",
        search=request.GET.get("search", "").replace("\x00", "")[:200],
        cursor=request.GET.get("cursor", "")[:300],
        limit=min(MOST, max(STEP, int(limit))) if limit.isascii() and limit.isdigit() else STEP,
    )


@dataclass(frozen=True)
class Row:
    """One request in the list; `word` is its state to show: a verdict once it was decided."""

    approval: Approval
    word: str


@dataclass(frozen=True)
class Inbox:
    """The list pane."""

    asked: Asked
    tabs: list[Tab]
    page: Page
    rows: list[Row]

    @property
    def here(self) -> str:
        return reverse("approvals:inbox") + self.asked.query()

    @property
    def query(self) -> str:
        return self.asked.query(cursor="")

    @property
    def more(self) -> str:
        """Return the address with more rows: a longer list first, then the next page. Empty at the end."""
        if self.page.next_cursor is None:
            return ""
        if self.asked.limit < MOST:
            return reverse("approvals:inbox") + self.asked.query(limit=self.asked.limit + STEP)
        return reverse("approvals:inbox") + self.asked.query(cursor=self.page.next_cursor)


def filters_of(asked: Asked) -> Filters:
    """Return what the list is narrowed by."""
    return Filters(status="" if asked.status == "all" else asked.status, search=asked.search)


def inbox_for(user: User, asked: Asked) -> Inbox:
    """Return the list pane: one query for its rows, one for their verdicts, one for each counted tab."""
    page = approvals_page(user, filters_of(asked), cursor=asked.cursor, limit=asked.limit)
    decided = [row.pk for row in page.rows if row.status == Approval.Status.DECIDED]
    verdicts = dict(
        Decision.objects.filter(approval_id__in=decided).order_by("number").values_list("approval_id", "verdict")
    )
    rows = [Row(row, verdicts.get(row.pk, row.status)) for row in page.rows]
    return Inbox(asked, tabs_for(user, asked), page, rows)


def tabs_for(user: User, asked: Asked) -> list[Tab]:
    """Return the tabs of the inbox. The lane is a page of its own, `approvals.lane_views`; not empty, it comes early."""
    tabs = [
        Tab(
            name=status,
            title=title,
            count="" if status == "all" else _count(user, status),
            url=reverse("approvals:inbox") + Asked(status, asked.search, "", STEP).query(),
            is_current=status == asked.status,
        )
        for status, title in STATUSES.items()
    ]
    late = lane.count_for(user)
    here = asked.status == "lane"
    count = _capped(late) if late else ""
    tabs.insert(
        1 if late else len(tabs),
        Tab("lane", "Did not take effect", count, reverse("approvals:lane"), here, bool(late)),
    )
    return tabs


def _count(user: User, status: str) -> str:
    return _capped(visible_to(user).filter(status=status).order_by()[:COUNT_CAP].count())


def _capped(count: int) -> str:
    return "999+" if count >= COUNT_CAP else str(count)


def found(user: User, words: str) -> list[dict[str, str]]:
    """Return what the palette offers for the words: waiting requests first."""
    rows = approvals_page(user, Filters(status="", search=words), limit=6).rows
    waiting_first = sorted(rows, key=lambda row: row.status != Approval.Status.PENDING)
    return [
        {
            "title": make_visible(row.summary),
            "hint": "waiting" if row.status == Approval.Status.PENDING else row.get_status_display().lower(),
            "icon": "inbox",
            "url": reverse("approvals:approval", args=[row.pk]),
        }
        for row in waiting_first
    ]
