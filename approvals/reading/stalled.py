"""The lane "Decided, did not take effect": what is decided, has not been done, and should have been by now.

`expected_by` of an approval says from when on its next step is late; `approvals.services.receipts` keeps it. Why it
stands still is known by who carries decisions out, which is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db.models import Exists, OuterRef, Prefetch, Q

from approvals.models import Approval, Decision
from approvals.people.permissions import may_redrive, visible_to
from approvals.reading.receipt import is_late, not_known, standstills_of
from console.lists.capped import COUNT_CAP
from console.lists.keyset import Order, page_after
from console.live.announce import announce
from console.ports import Standstill

LATEST_FIRST: Final = Order("stalled", ("expected_by", "id"), (datetime, str), is_descending=True)
TOLD_AT_MOST = 50  # approvals whose pages hear that theirs has come to stand still


@dataclass(frozen=True)
class StalledDecision:
    """One decision in the lane."""

    approval: Approval
    decision: Decision | None  # the one that closed it
    standstill: Standstill
    may_redrive: bool


@dataclass(frozen=True)
class StalledPage:
    """One page of the lane; `next_cursor` is `None` at the end."""

    items: list[StalledDecision]
    next_cursor: str | None


def lane_page(user: User, *, cursor: str = "", limit: int = 50) -> StalledPage:
    """Return one page of the lane, what came last first. A constant number of queries; keyset, never an offset."""
    rows = visible_to(user).filter(is_late())
    decisions = Decision.objects.select_related("by", "on_behalf_of").order_by("number")
    rows = rows.defer("canonical", "arguments_schema").prefetch_related(Prefetch("decisions", decisions))
    shown, next_cursor = page_after(rows, LATEST_FIRST, cursor, limit)
    reasons = standstills_of([row.pk for row in shown])
    items = [_item(user, row, reasons.get(row.pk)) for row in shown]
    return StalledPage(items, next_cursor)


def _item(user: User, row: Approval, reason: Standstill | None) -> StalledDecision:
    decisions = list(row.decisions.all())
    return StalledDecision(
        approval=row,
        decision=decisions[-1] if decisions else None,
        standstill=reason or not_known(row),
        may_redrive=may_redrive(user, decisions),
    )


def count_for(user: AbstractBaseUser | AnonymousUser) -> int:
    """Return how many decisions stand in the lane, at most COUNT_CAP: show the cap as "999+"."""
    return visible_to(user).filter(is_late()).order_by()[:COUNT_CAP].count()


def own_count(user: User) -> int:
    """Return how many of the user's own decisions stand in the lane. Nearly free while the lane is empty."""
    own = Decision.objects.filter(Q(by=user) | Q(on_behalf_of=user), approval=OuterRef("pk"))
    return visible_to(user).filter(is_late()).filter(Exists(own)).order_by()[:COUNT_CAP].count()


def announce_changes(known: frozenset[str]) -> frozenset[str]:
    """Tell open pages when a decision has come to stand still since `known`, or left; return who stands there now.

    Nothing happens when a step becomes late, so somebody has to look. Looks at the newest COUNT_CAP.
    """
    rows = Approval.objects.filter(is_late()).order_by("-expected_by", "-id")
    now = frozenset(rows.values_list("pk", flat=True)[:COUNT_CAP])
    if now != known:
        landed = sorted(now - known, reverse=True)[:TOLD_AT_MOST]
        announce("inbox", *(f"approval:{approval_id}" for approval_id in landed))
    return now
