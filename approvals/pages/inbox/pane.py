"""The list pane: tabs, filters, saved views, rows and the way to other pages; and what the palette finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from django.contrib.auth.models import User
from django.urls import reverse
from django.utils.text import Truncator

from approvals.models import Approval, Decision, Delegation
from approvals.pages.inbox.asked import ALL, DUE, RISKS, SORTED, InboxWishes, filters_of
from approvals.pages.inbox.saved import Saved, saved_for
from approvals.people.permissions import visible_to
from approvals.reading import stalled
from approvals.reading.bulk import may_pick
from approvals.reading.listing import ApprovalPage, Filters, approvals_page, counts_of_same, pending_values
from approvals.reading.reach import stranded
from approvals.reading.team import live_claims, to_confirm
from console.lists.capped import COUNT_CAP, capped
from console.lists.keyset import LAST
from console.lists.longer_lists import MOST, STEP
from console.ports import Found
from console.text.visible import make_visible

WORDS_SHOWN: Final = 160


@dataclass(frozen=True)
class TabKind:
    """One tab of the inbox: a status to list, or another page (`address`, a URL's name).

    `count` is asked for the number beside the title; it stops at COUNT_CAP. `hides_empty`: no tab at all for none.
    `is_alarm`: the count should be nought, which is then not told.
    """

    name: str
    title: str
    count: Callable[[User], int] | None = None
    address: str = ""
    hides_empty: bool = False
    is_alarm: bool = False


def _counted(status: str) -> Callable[[User], int]:
    return lambda user: visible_to(user).filter(status=status).order_by()[:COUNT_CAP].count()


TABS: Final = (
    TabKind("pending", "Waiting", _counted(Approval.Status.PENDING)),
    TabKind("decided", "Decided", _counted(Approval.Status.DECIDED)),
    TabKind("expired", "Expired", _counted(Approval.Status.EXPIRED), hides_empty=True),
    TabKind("withdrawn", "Withdrawn", _counted(Approval.Status.WITHDRAWN), hides_empty=True),
    TabKind(ALL, "All"),
    TabKind("lane", "Did not take effect", stalled.count_for, "approvals:lane", is_alarm=True),
)


@dataclass(frozen=True)
class InboxTab:
    """One tab to look at; `count` is a number, "999+", or "" where it would say nothing."""

    name: str
    title: str
    count: str
    url: str
    is_current: bool
    is_alarm: bool = False  # its count is one that should be nought


@dataclass(frozen=True)
class Chip:
    """One filter that is on, with the address without it."""

    name: str
    words: str
    without: str


@dataclass(frozen=True)
class FilterChoice:
    """One value of a select field."""

    value: str
    label: str
    is_chosen: bool


@dataclass(frozen=True)
class InboxRow:
    """One request in the list; `word` is its state to show: a verdict once it was decided. Texts are made visible."""

    approval: Approval
    word: str
    url: str  # of the request, with the list beside it
    summary: str
    words: str  # how the agent's begin
    asked_times: int = 1  # how many pending requests are exactly this one
    may_pick: bool = False  # it can be decided together with others
    claimed_by: str = ""
    is_stranded: bool = False  # too few people can decide it

    @property
    def group(self) -> str:
        """Return the address that lists each of the identical requests."""
        return reverse("approvals:inbox") + InboxWishes(same=self.approval.pk).query()


@dataclass(frozen=True)
class Inbox:
    """The list pane."""

    asked: InboxWishes
    tabs: list[InboxTab]
    page: ApprovalPage
    rows: list[InboxRow]
    chips: list[Chip]
    fields: dict[str, list[FilterChoice]]  # of the filter form: agent, tool, risk, due, order, limit
    saved: list[Saved]
    to_confirm: list[Delegation]  # what others arranged in the reader's name, and waits for a word

    @property
    def here(self) -> str:
        return self._at(cursor=self.asked.cursor)

    @property
    def query(self) -> str:
        return self.asked.query(cursor="")

    @property
    def is_empty(self) -> bool:
        return not self.page.rows

    @property
    def first(self) -> str:
        return self._at(cursor="") if self.page.previous_cursor or (self.is_empty and self.asked.cursor) else ""

    @property
    def previous(self) -> str:
        return self._at(cursor=self.page.previous_cursor) if self.page.previous_cursor else ""

    @property
    def next(self) -> str:
        return self._at(cursor=self.page.next_cursor) if self.page.next_cursor else ""

    @property
    def last(self) -> str:
        return self._at(cursor=LAST) if self.page.next_cursor else ""

    @property
    def everywhere(self) -> str:
        """Return the address of the same search over requests in every state."""
        return self._at(status=ALL, due=0, order="", cursor="") if self.asked.status != ALL else ""

    @property
    def bare(self) -> str:
        """Return the address of this tab without any filter."""
        return reverse("approvals:inbox") + InboxWishes(status=self.asked.status).query()

    @property
    def saved_as(self) -> Saved | None:
        """Return the view that is shown, `None` when what is shown is not saved."""
        return next((view for view in self.saved if view.is_current), None)

    @property
    def may_save(self) -> bool:
        return self.saved_as is None and self.query != ""

    def _at(self, **changes: object) -> str:
        return reverse("approvals:inbox") + self.asked.query(**changes)


def inbox_for(user: User, asked: InboxWishes) -> Inbox:
    """Return the list pane.

    A constant number of queries: its rows, their verdicts, repeats and claims, who could decide them, the saved views,
    the choices of the filter form, one for each counted tab; a few more where a filter asks who the user is.
    """
    page = approvals_page(user, filters_of(asked), cursor=asked.cursor, limit=asked.limit, repeats_once=True)
    return Inbox(
        asked=asked,
        tabs=tabs_for(user, asked.status),
        page=page,
        rows=_rows(page.rows, asked),
        chips=[Chip(name, words, _without(asked, name)) for name, words in asked.narrowed_by().items()],
        fields=_fields(asked),
        saved=saved_for(user, asked),
        to_confirm=to_confirm(user),
    )


def _without(asked: InboxWishes, name: str) -> str:
    return reverse("approvals:inbox") + asked.query(cursor="", **{name: type(getattr(asked, name))()})


def _rows(approvals: list[Approval], asked: InboxWishes) -> list[InboxRow]:
    decided = [row.pk for row in approvals if row.status == Approval.Status.DECIDED]
    verdicts = dict(
        Decision.objects.filter(approval_id__in=decided).order_by("number").values_list("approval_id", "verdict")
    )
    claims = live_claims(row.pk for row in approvals if row.claimed_by_id)
    times = {} if asked.same else counts_of_same(approvals)
    nobody = stranded(approvals)
    query = asked.query(cursor="")
    return [
        InboxRow(
            approval=row,
            word=verdicts.get(row.pk, row.status),
            url=reverse("approvals:approval", args=[row.pk]) + query,
            summary=make_visible(row.summary),
            words=_beginning(row.agent_words),
            asked_times=times.get(row.pk, 1),
            may_pick=may_pick(row),
            claimed_by=claims[row.pk].by if row.pk in claims else "",
            is_stranded=row.pk in nobody,
        )
        for row in approvals
    ]


def _beginning(words: str) -> str:
    """Return the first WORDS_SHOWN characters; no more of a long text is read than may be shown."""
    shown = make_visible(words[: 4 * WORDS_SHOWN])
    return shown if len(shown) <= WORDS_SHOWN else Truncator(shown).chars(WORDS_SHOWN)


def tabs_for(user: User, current: str) -> list[InboxTab]:
    """Return the tabs of the inbox, the named one as the current one. One query for each that is counted.

    A tab whose count should be nought and is not comes early.
    """
    found: list[InboxTab] = []
    for kind in TABS:
        count, is_current = kind.count(user) if kind.count else None, kind.name == current
        if kind.hides_empty and not count and not is_current:
            continue
        url = (
            reverse(kind.address)
            if kind.address
            else reverse("approvals:inbox") + InboxWishes(status=kind.name).query()
        )
        told = "" if count is None or (kind.is_alarm and not count) else capped(count)
        alarms = kind.is_alarm and bool(count)
        found.insert(1 if alarms else len(found), InboxTab(kind.name, kind.title, told, url, is_current, alarms))
    return found


def _fields(asked: InboxWishes) -> dict[str, list[FilterChoice]]:
    sizes = sorted({STEP, 2 * STEP, MOST, asked.limit})
    fields = {
        "tool": _choices("Every tool", asked.tool, {one: make_visible(one) for one in pending_values("tool")}),
        "agent": _choices("Every agent", asked.agent, {one: make_visible(one) for one in pending_values("agent")}),
        "risk": _choices("Every risk", asked.risk, RISKS),
        "due": _choices("Any time", str(asked.due or ""), {str(hours): f"in {words}" for hours, words in DUE.items()}),
        "limit": [FilterChoice(str(rows), f"{rows} rows", rows == asked.limit) for rows in sizes],
    }
    if asked.status == Approval.Status.PENDING:
        fields["order"] = [FilterChoice(name, words, name == asked.order) for name, words in SORTED.items()]
    return fields


def _choices(nothing: str, chosen: str, values: dict[str, str]) -> list[FilterChoice]:
    """Return what a select offers; the chosen value is among it even when nothing pending has it."""
    offered = values if not chosen or chosen in values else {chosen: make_visible(chosen), **values}
    return [
        FilterChoice("", nothing, not chosen),
        *(FilterChoice(one, label, one == chosen) for one, label in offered.items()),
    ]


def found(user: User, words: str) -> list[Found]:
    """Return what the palette offers for the words: waiting requests first."""
    rows = approvals_page(user, Filters(status="", search=words), limit=6).rows
    waiting_first = sorted(rows, key=lambda row: not row.is_open)
    return [
        {
            "title": make_visible(row.summary),
            "hint": "waiting" if row.is_open else row.get_status_display().lower(),
            "icon": "inbox",
            "url": reverse("approvals:approval", args=[row.pk]),
        }
        for row in waiting_first
    ]
