"""Saved views: a query of the inbox under a name, a person's own or shared with everybody.

Only the owner changes a view; an admin may also change or remove a shared one. Each change is on the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.http import QueryDict
from django.urls import reverse

from approvals.errors import InvalidChange, NoSuchApproval, NotTheirs
from approvals.models import SavedView
from approvals.pages.inbox.asked import InboxWishes, asked_of
from approvals.record import audit
from approvals.services.view_names import checked_view_name
from console import roles
from console.live.announce import announce

AT_MOST: Final = 50  # views of one person
SHOWN_AT_MOST: Final = 200


@dataclass(frozen=True)
class Saved:
    """One saved view as somebody sees it."""

    view: SavedView
    asked: InboxWishes
    is_current: bool
    is_mine: bool
    may_change: bool

    @property
    def url(self) -> str:
        return reverse("approvals:inbox") + self.asked.query()


def saved_for(user: User, asked: InboxWishes | None = None) -> list[Saved]:
    """Return the person's own views and those that others share, by name. One query. `asked`: what is shown now."""
    rows = SavedView.objects.filter(Q(owner=user) | Q(is_shared=True)).select_related("owner")
    here = asked.query(cursor="") if asked else None
    return [_seen(user, view, here) for view in rows.order_by("name", "pk")[:SHOWN_AT_MOST]]


def _seen(user: User, view: SavedView, here: str | None) -> Saved:
    asked = asked_of(QueryDict(view.query))
    return Saved(view, asked, asked.query() == here, view.owner_id == user.pk, _may_change(user, view))


def _may_change(user: User, view: SavedView) -> bool:
    return view.owner_id == user.pk or (view.is_shared and roles.has_role(user, "admin"))


def save_view(*, owner: User, name: str, query: str, is_shared: bool) -> SavedView:
    """Keep a query under a name; the same name again with the same query is the same view.

    `query`: an inbox address's query string; what is not of the inbox is dropped. Raises InvalidChange.
    """
    name = checked_view_name(name)
    kept = asked_of(QueryDict(query)).query(cursor="").removeprefix("?")
    if len(kept) > 1000:
        raise InvalidChange("query", "This view has too many words to be kept. Take some filters away.")
    try:
        with transaction.atomic():
            if SavedView.objects.filter(owner=owner).count() >= AT_MOST:
                raise InvalidChange("name", f"You have {AT_MOST} views already. Delete one that you no longer need.")
            view = SavedView.objects.create(owner=owner, name=name, query=kept, is_shared=is_shared)
            _told(view, owner, "saved", {"query": kept})
    except IntegrityError as exc:
        earlier = SavedView.objects.get(owner=owner, name=name)
        if (earlier.query, earlier.is_shared) == (kept, is_shared):
            return earlier
        raise InvalidChange("name", f"You have a view called “{name}” already. Choose another name.") from exc
    return view


def change_view(*, user: User, view_id: int, name: str, is_shared: bool) -> SavedView:
    """Rename a view, share it or take it back. Raises NoSuchApproval, NotTheirs, InvalidChange."""
    name = checked_view_name(name)
    try:
        with transaction.atomic():
            view = _locked(user, view_id)
            before = {"name": view.name, "is_shared": view.is_shared}
            after = {"name": name, "is_shared": is_shared}
            if before != after:
                view.name, view.is_shared = name, is_shared
                view.save(update_fields=["name", "is_shared"])
                _told(view, user, "changed", {"before": before})
    except IntegrityError as exc:
        raise InvalidChange("name", f"There is a view called “{name}” already. Choose another name.") from exc
    return view


def delete_view(*, user: User, view_id: int) -> SavedView:
    """Remove a view; return what it was, so that it can be saved again. Raises NoSuchApproval, NotTheirs."""
    with transaction.atomic():
        view = _locked(user, view_id)
        SavedView.objects.filter(pk=view_id).delete()
        _told(view, user, "deleted", {"query": view.query})
    return view


def _locked(user: User, view_id: int) -> SavedView:
    visible = Q(owner=user) | Q(is_shared=True)
    view = SavedView.objects.select_for_update(of=("self",)).select_related("owner").filter(visible, pk=view_id).first()
    if view is None:
        raise NoSuchApproval("This view is not there any more.")
    if not _may_change(user, view):
        raise NotTheirs(f"This view is {view.owner.username}'s. Save it under a name of your own to change it.")
    return view


def _told(view: SavedView, user: User, what: str, body: dict[str, object]) -> None:
    announce("inbox")
    told = {"name": view.name, "is_shared": view.is_shared, "owner": view.owner.username, **body}
    audit.record(actor=user.username, kind=f"view.{what}", subject=f"view:{view.pk}", body=told)
