"""The rows of a list of approvals: what narrows it, in which order, page by page."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db.models import Q, QuerySet

from approvals.models import Approval
from approvals.selectors import COUNT_CAP, visible_to, with_parts
from console import roles
from console.keyset import make_cursor, read_cursor


@dataclass(frozen=True)
class Filters:
    """What the inbox can be narrowed by; empty strings narrow nothing."""

    status: str = "pending"  # pending, decided, expired, withdrawn, or "" for all
    agent: str = ""
    tool: str = ""
    risk: str = ""
    search: str = ""  # words in id, summary, tool, run
    mine: bool = False  # only what the user may decide
    order: str = ""  # "due_at": by deadline, also when not only pending ones are listed


@dataclass(frozen=True)
class Page:
    """One page of approvals; `next_cursor` is `None` at the end."""

    rows: list[Approval]
    next_cursor: str | None


def approvals_page(
    user: User, filters: Filters, *, cursor: str = "", limit: int = 50, with_everything: bool = False
) -> Page:
    """Return one page: pending ones by deadline, the others newest first. Keyset, never an offset.

    One query for what a list shows; `with_everything` adds bytes, decisions and receipts in two more.
    An unreadable cursor starts at the beginning.
    """
    rows = _filtered(user, filters)
    ascending = filters.status == Approval.Status.PENDING or filters.order == "due_at"
    key, after = ("due_at", read_cursor(cursor)) if ascending else ("opened_at", read_cursor(cursor))
    if after is not None:
        moment, last_id = after
        later = Q(**{f"{key}__gt" if ascending else f"{key}__lt": moment})
        same = Q(**{key: moment, "id__gt" if ascending else "id__lt": last_id})
        rows = rows.filter(later | same)
    order = (key, "id") if ascending else (f"-{key}", "-id")
    rows = with_parts(rows) if with_everything else rows.defer("canonical", "arguments_schema")
    found = list(rows.order_by(*order)[: limit + 1])
    more = len(found) > limit
    last = found[limit - 1] if more else None
    return Page(found[:limit], make_cursor(getattr(last, key), last.pk) if last else None)


def _filtered(user: User, filters: Filters) -> QuerySet[Approval]:
    rows = visible_to(user)
    for field in ("status", "agent", "tool", "risk"):
        if value := getattr(filters, field):
            rows = rows.filter(**{field: value})
    if filters.mine:
        audience = Q(pk__in=[])
        for role in roles.roles_of(user):
            audience |= Q(audience__contains=[role])
        rows = rows.filter(audience).filter(Q(requested_by=None) | ~Q(requested_by=user))
    for word in filters.search.split()[:8]:
        rows = rows.filter(
            Q(id__icontains=word) | Q(summary__icontains=word) | Q(tool__icontains=word) | Q(run_id__icontains=word)
        )
    return rows


def pending_count_for(user: AbstractBaseUser | AnonymousUser) -> int:
    """Return how many approvals wait, at most COUNT_CAP: show the cap as "999+"."""
    return visible_to(user).filter(status=Approval.Status.PENDING).order_by()[:COUNT_CAP].count()
