"""Which rows of a table one page of the story wants, taken in SQL in the very order in which the story shows them."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import F, Model, Q, QuerySet, TextField, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast, Collate, Concat

from orchestration.timeline.entries import Layer, Place, StoryWish

M = TypeVar("M", bound=Model)
Row = TypeVar("Row")


def named(kind: str, reference: str) -> Combinable:
    """Return `Entry.place`'s last part in SQL, for entries of one kind whose reference is this column."""
    return Concat(Value(f"{kind}:"), F(reference), output_field=TextField())


def named_by_row(kind: str, prefix: str, number: str) -> Combinable:
    """Return the same where the kind is a column too, and the reference a prefix with a number."""
    return Concat(F(kind), Value(f":{prefix}"), Cast(number, TextField()), output_field=TextField())


def nearest(rows: QuerySet[M, Row], moment: str, layer: Layer, name: Combinable, wish: StoryWish) -> QuerySet[M, Row]:
    """Return at most `wish.most` rows beyond the asked place, nearest first.

    `moment`: what gives the entry's `at`. `name`: the last part of its place. All that one transaction writes is of one
    instant, so the moment alone orders nothing: any number of rows may stand on both sides of a page's end.
    """
    # "C" compares by code points, as Python does. Any: the stubs forget the model at `alias`.
    found: Any = rows.alias(place_name=Collate(name, "C"))
    if wish.beyond is not None:
        found = found.filter(_beyond(moment, layer, wish.beyond, wish.newest_first))
    sign = "-" if wish.newest_first else ""
    part: QuerySet[M, Row] = found.order_by(f"{sign}{moment}", f"{sign}place_name")[: wish.most]
    return part


def _beyond(moment: str, layer: Layer, place: Place, newest_first: bool) -> Q:
    at, other, name = place
    side = "lt" if newest_first else "gt"
    of_this_instant = Q(**{moment: at})
    found = Q(**{f"{moment}__{side}": at})
    if layer == other:
        return found | (of_this_instant & Q(**{f"place_name__{side}": name}))
    return found | of_this_instant if (layer < other) == newest_first else found
