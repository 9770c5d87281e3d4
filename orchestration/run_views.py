"""A person's own views of the list of runs: its filters under a name. A deleted one can be brought back.

Each change is on the record. Nobody sees or changes the views of others.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.http import QueryDict

from approvals.errors import InvalidChange
from approvals.record import audit
from approvals.services.view_names import checked_view_name
from console.clock import DatabaseNow
from console.text.stored import asked_text
from orchestration.actions.bulk import FILTERS
from orchestration.errors import NoSuchRunView
from orchestration.models import RunView

AT_MOST: Final = 50  # views of one person
BROUGHT_BACK: Final = 10  # of those that were deleted, the newest


def query_of(given: QueryDict) -> str:
    """Return the filters of an address of the list, in a fixed order; what is no filter is left out."""
    told = {name: asked_text(given.get(name), 200) for name in FILTERS}
    return urlencode({name: words for name, words in told.items() if words})


def views_of(owner: User) -> list[RunView]:
    """Return a person's views by name. One query."""
    return list(RunView.objects.filter(owner=owner, deleted_at=None).order_by("name", "pk")[:AT_MOST])


def deleted_of(owner: User) -> list[RunView]:
    """Return the views that a person has deleted last, the newest first. One query."""
    rows = RunView.objects.filter(owner=owner, deleted_at__isnull=False)
    return list(rows.order_by("-deleted_at", "-pk")[:BROUGHT_BACK])


def save(*, owner: User, name: str, query: str) -> RunView:
    """Keep what the list shows under a name; the same again is the same view. Raises InvalidChange.

    `query`: the query string of an address of the list.
    """
    name, kept = checked_view_name(name), query_of(QueryDict(query[:4000]))
    if len(kept) > 1000:
        raise InvalidChange("query", "This view has too many words to be kept. Take some filters away.")
    try:
        with transaction.atomic():
            _check_room(owner)
            view = RunView.objects.create(owner=owner, name=name, query=kept)
            _record(view, "saved")
    except IntegrityError as exc:
        earlier = RunView.objects.get(owner=owner, name=name, deleted_at=None)
        if earlier.query == kept:
            return earlier
        raise InvalidChange("name", f"You have a view called “{name}” already. Choose another name.") from exc
    return view


def delete(*, owner: User, view_id: int) -> RunView:
    """Take a view off the list; a second click changes nothing. Raises NoSuchRunView."""
    with transaction.atomic():
        view = _locked(owner, view_id)
        if view.deleted_at is None:
            view.deleted_at = DatabaseNow()
            view.save(update_fields=["deleted_at"])
            _record(view, "deleted")
    return view


def bring_back(*, owner: User, view_id: int) -> RunView:
    """Undo a deletion; a second click changes nothing. Raises NoSuchRunView, InvalidChange when the name is taken."""
    try:
        with transaction.atomic():
            view = _locked(owner, view_id)
            if view.deleted_at is not None:
                _check_room(owner)
                view.deleted_at = None
                view.save(update_fields=["deleted_at"])
                _record(view, "brought_back")
    except IntegrityError as exc:
        message = f"You have another view called “{view.name}” by now. Delete that one first."
        raise InvalidChange("name", message) from exc
    return view


def _locked(owner: User, view_id: int) -> RunView:
    view = RunView.objects.select_for_update().filter(owner=owner, pk=view_id).first()
    if view is None:
        raise NoSuchRunView(NoSuchRunView.__doc__)
    return view


def _check_room(owner: User) -> None:
    if RunView.objects.filter(owner=owner, deleted_at=None).count() >= AT_MOST:
        raise InvalidChange("name", f"You have {AT_MOST} views already. Delete one that you no longer need.")


def _record(view: RunView, what: str) -> None:
    body = {"name": view.name, "query": view.query}
    audit.record(actor=view.owner.username, kind=f"run_view.{what}", subject=f"run_view:{view.pk}", body=body)
