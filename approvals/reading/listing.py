"""The rows of a list of approvals: what narrows it, in which order, page by page.

Every order but one is paged by a keyset over an index of the same columns, so the first, the last and any other page
cost the same however many requests wait. The search is PostgreSQL's own (`search_words`, a column that the database
keeps): words and beginnings of words, what is written together is sought together. Where a script writes no spaces,
what is sought may begin at any letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db import connection
from django.db.models import (
    BooleanField,
    Count,
    Exists,
    F,
    Func,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
)
from django.db.models.functions import Coalesce

from approvals.models import Approval, Outlook
from approvals.people.permissions import visible_to
from approvals.people.persons import accounts_of
from approvals.reading.mine import may_be_decided_by
from approvals.reading.requests import with_parts
from approvals.services.claims import CLAIM_LASTS
from console.clock import DatabaseNow
from console.lists.capped import COUNT_CAP
from console.lists.keyset import Order

BY_RISK: Final = Order("risk", ("risk_rank", "due_at", "opened_at", "id"), (int, datetime, datetime, str))
BY_DEADLINE: Final = Order("due_at", ("due_at", "id"), (datetime, str))
NEWEST: Final = Order("opened_at", ("opened_at", "id"), (datetime, str), is_descending=True)
UNUSUAL: Final = Order("unusual", ("outlook_percent", "due_at", "id"), (int, datetime, str))  # see `_with_outlook`
ORDERS: Final = {order.name: order for order in (BY_RISK, BY_DEADLINE, NEWEST, UNUSUAL)}
RANKS: Final = {"high": 0, "medium": 1, "low": 2}  # as Approval.risk_rank counts
CHOICES_AT_MOST: Final = 200
FEW_AT_MOST: Final = 1000  # rows that are named one by one, of those that a search finds
WORDS_AT_MOST: Final = 8


@dataclass(frozen=True)
class Filters:
    """What a list can be narrowed by, all together; empty values narrow nothing."""

    status: str = "pending"  # pending, decided, expired, withdrawn, or "" for all
    agent: str = ""
    tool: str = ""
    risk: str = ""
    search: str = ""  # words in id, external id, tool, agent, run, summary and arguments
    mine: bool = False  # only what the user may decide
    order: str = ""  # a name of ORDERS; "": pending ones by deadline, others newest first
    claimed: bool = False  # only what the user has claimed
    due_hours: int = 0  # only what is due within so many hours
    batch: str = ""  # the id of a batch: only what its runs ask
    same_as: str = ""  # an approval's id: only those of the same agent for the same tool and bytes

    @property
    def ordered(self) -> Order:
        usual = BY_DEADLINE if self.status == Approval.Status.PENDING else NEWEST
        return ORDERS.get(self.order, usual)


@dataclass(frozen=True)
class ApprovalPage:
    """One page of approvals; a cursor is `None` where nothing lies beyond."""

    rows: list[Approval]
    next_cursor: str | None
    previous_cursor: str | None = None


def approvals_page(
    user: User,
    filters: Filters,
    *,
    cursor: str = "",
    limit: int = 50,
    with_everything: bool = False,
    repeats_once: bool = False,
) -> ApprovalPage:
    """Return one page in the order that the filters name. Keyset, never an offset.

    One query for what a list shows; `with_everything` adds bytes, decisions, versions and receipts in three more.
    `repeats_once`: of identical pending requests only the first that fits; see `counts_of_same`. The cursor
    `keyset.LAST` is the last page; an unreadable one starts at the beginning.
    """
    rows, order, position = filtered(user, filters), filters.ordered, filters.ordered.read(cursor)
    if repeats_once and filters.status == Approval.Status.PENDING and not filters.same_as:
        rows = rows.exclude(Exists(_earlier_same(rows, order)))
    rows = with_parts(rows) if with_everything else rows.only(*LISTED)
    back = position.is_backwards
    wanted = rows.order_by(*order.sorting(backwards=back))
    if position.values is not None:
        wanted = wanted.filter(order.beyond(position.values, backwards=back))
    found = list(wanted[: limit + 1])
    has_more, found = len(found) > limit, found[:limit]
    if back:
        if not has_more and position.values is not None:  # fewer than a page before it: begin at the beginning
            return approvals_page(
                user, filters, limit=limit, with_everything=with_everything, repeats_once=repeats_once
            )
        found.reverse()
    has_next = position.values is not None if back else has_more
    has_previous = has_more if back else position.values is not None
    return ApprovalPage(
        found,
        order.cursor(found[-1]) if has_next and found else None,
        order.cursor(found[0], backwards=True) if has_previous and found else None,
    )


#: the columns that a list shows, orders by or compares; a row has four times as many, most of them JSON to be read
LISTED: Final = (
    *("status", "kind", "tool", "agent", "risk", "risk_rank", "digest", "summary", "agent_words", "terms"),
    *("opened_at", "due_at", "claimed_by_id"),
)


def filtered(user: User, filters: Filters) -> QuerySet[Approval]:
    """Return the approvals that fit, in no order."""
    rows = visible_to(user)
    for column in ("status", "agent", "tool", "batch"):
        if value := getattr(filters, column):
            rows = rows.filter(**{column: value})
    if filters.risk:  # by the column that the orders begin with: the rows of one risk lie together
        rows = rows.filter(risk_rank=RANKS.get(filters.risk, -1))
    if filters.mine:
        rows = rows.filter(may_be_decided_by(user))
    if filters.claimed:
        rows = rows.filter(claimed_by__in=accounts_of(user), claimed_at__gt=DatabaseNow() - CLAIM_LASTS)
    if filters.due_hours:
        rows = rows.filter(due_at__lte=DatabaseNow() + timedelta(hours=filters.due_hours))
    if filters.same_as:
        rows = rows.filter(**_sameness(filters.same_as))
    if filters.search:
        rows = rows.filter(with_words(filters.search, "signalbox_requests_with"))
    return _with_outlook(rows) if filters.ordered is UNUSUAL else rows


def _with_outlook(rows: QuerySet[Approval]) -> QuerySet[Approval]:
    """Give each row what a model expects of it as it is now; what nothing is known of comes last.

    The one order without an index: it is sorted anew for each page.
    """
    told = Outlook.objects.filter(approval=OuterRef("pk"), version=OuterRef("version")).values("percent")
    return rows.annotate(outlook_percent=Coalesce(Subquery(told), Value(101), output_field=IntegerField()))


def _sameness(approval_id: str) -> dict[str, object]:
    found = Approval.objects.filter(pk=approval_id).only("agent", "tool", "digest").first()
    if found is None:
        return {"pk__in": []}
    return {"agent": found.agent, "tool": found.tool, "digest": found.digest}


def with_words(search: str, by_index: str) -> Q:
    """Return whether a row with `search_words` has the words of the search, or their beginnings. One query.

    Words that few rows have are looked up at once, and those rows named; any others are found soon on the way through
    the list. `by_index`: the SQL function that looks them up, with the words and how many at most.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {by_index}(%s, %s)", [_sought(search), FEW_AT_MOST + 1])
        few = [pk for (pk,) in cursor.fetchall()]
    return Q(pk__in=few) if len(few) <= FEW_AT_MOST else Q(has_words(F("search_words"), search))


def _sought(words: str) -> str:
    return " ".join(words.split()[:WORDS_AT_MOST])[:200]


def has_words(found_in: F | Func[Any], words: str) -> Func[Any]:
    """Return whether a tsvector has the words, or words that begin so, every one of them."""
    query = Func(Value(_sought(words)), function="signalbox_search_query")
    return Func(found_in, query, template="(%(expressions)s)", arg_joiner=" @@ ", output_field=BooleanField())


def _earlier_same(rows: QuerySet[Approval], order: Order) -> QuerySet[Approval]:
    """Return, inside a query of the rows, those that ask the same as the outer one and come before it."""
    return rows.filter(order.before_outer(), digest=OuterRef("digest"), agent=OuterRef("agent"), tool=OuterRef("tool"))


def counts_of_same(rows: Sequence[Approval]) -> dict[str, int]:
    """Return how many pending requests ask exactly the same as each of the rows, itself among them. One query."""
    asked = [row for row in rows if row.is_open]
    counted = (
        Approval.objects.filter(status=Approval.Status.PENDING, digest__in=[row.digest for row in asked])
        .values("agent", "tool", "digest")
        .annotate(count=Count("pk"))
        .order_by()
    )
    found = {(one["agent"], one["tool"], one["digest"]): one["count"] for one in counted}
    return {row.pk: found.get((row.agent, row.tool, row.digest), 1) for row in asked}


def pending_count_for(user: AbstractBaseUser | AnonymousUser) -> int:
    """Return how many approvals wait, at most COUNT_CAP: show the cap as "999+"."""
    return visible_to(user).filter(status=Approval.Status.PENDING).order_by()[:COUNT_CAP].count()


_VALUES = """
WITH RECURSIVE known(value) AS (
  (SELECT {column} FROM approvals_approval WHERE status = 'pending' ORDER BY 1 LIMIT 1)
  UNION ALL
  SELECT (SELECT {column} FROM approvals_approval WHERE status = 'pending' AND {column} > value ORDER BY 1 LIMIT 1)
  FROM known WHERE value IS NOT NULL
)
SELECT value FROM known WHERE value IS NOT NULL LIMIT %s
"""


def pending_values(column: str) -> list[str]:
    """Return the different agents or tools of pending approvals, sorted. Hops through the index: one step for each."""
    if column not in ("agent", "tool"):
        raise ValueError(column)
    with connection.cursor() as cursor:
        cursor.execute(_VALUES.format(column=column), [CHOICES_AT_MOST])
        return [row[0] for row in cursor.fetchall()]
