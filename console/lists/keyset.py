"""Cursors for lists that are read page by page without an offset: where the last row stands in the list's order."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from django.db.models import BooleanField, F, Func, Model, OuterRef, QuerySet, Value
from django.db.models.expressions import Combinable
from django.db.models.lookups import GreaterThan, LessThan

from console.text.stored import NUL

Row = TypeVar("Row", bound=Model)
LAST: Final = "last"  # the cursor of the last page


def _packed(content: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def _unpacked(cursor: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))


@dataclass(frozen=True)
class Position:
    """Where a page begins: behind the row with these values, or before it when read backwards; `None`: at an end."""

    values: tuple[Any, ...] | None = None
    is_backwards: bool = False


class _Row(Func):
    """Several values that are compared as one: PostgreSQL's row, which walks an index of the same columns."""

    template = "(%(expressions)s)"
    output_field = BooleanField()  # of the comparison; a row itself has no type

    def get_group_by_cols(self) -> list[Any]:
        """Return the columns in it: where rows are grouped, a row of values alone is nothing to group by."""
        return [column for part in self.get_source_expressions() for column in part.get_group_by_cols()]


@dataclass(frozen=True)
class Order:
    """A total order of rows: its columns, all upwards or all downwards; the last one is unique.

    An index of exactly these columns gives every page, from both ends, in the same time.
    """

    name: str
    columns: tuple[str, ...]
    kinds: tuple[type, ...]  # int, datetime or str, for each column
    is_descending: bool = False

    def cursor(self, row: Any, *, backwards: bool = False) -> str:
        """Return the cursor of the page behind the row, or of the one before it."""
        values = [getattr(row, column) for column in self.columns]
        told = [value.isoformat() if isinstance(value, datetime) else value for value in values]
        return _packed([self.name, "before" if backwards else "after", *told])

    def read(self, cursor: str) -> Position:
        """Return where the cursor stands; at the beginning for an empty, an unreadable or another list's cursor."""
        if cursor == LAST:
            return Position(None, is_backwards=True)
        try:
            name, side, *told = _unpacked(cursor)
            if name != self.name or side not in ("after", "before") or len(told) != len(self.columns):
                return Position()
            values = tuple(_READERS[kind](value) for kind, value in zip(self.kinds, told, strict=True))
        except (ValueError, TypeError, RecursionError):
            return Position()
        return Position(values, side == "before")

    def sorting(self, *, backwards: bool = False) -> list[str]:
        """Return what `order_by` takes."""
        return [f"-{column}" if self.is_descending != backwards else column for column in self.columns]

    def beyond(self, values: tuple[Any, ...], *, backwards: bool = False) -> Combinable:
        """Return the condition for rows that come after the values, or before them when read backwards."""
        return self._compared([Value(value) for value in values], later=not backwards)

    def before_outer(self) -> Combinable:
        """Return the condition, in a subquery, for rows that come before the outer row."""
        return self._compared([OuterRef(column) for column in self.columns], later=False)

    def _compared(self, others: list[Any], *, later: bool) -> Combinable:
        compare = LessThan if self.is_descending == later else GreaterThan
        mine = _Row(*(F(column) for column in self.columns))
        found: Combinable = compare(mine, _Row(*others))
        return found


def page_after(rows: QuerySet[Row], order: Order, cursor: str, limit: int) -> tuple[list[Row], str | None]:
    """Return a page of rows that are read forwards, and the cursor of the next one, `None` at the end. One query.

    An empty, an unreadable or another list's cursor begins at the beginning.
    """
    values = order.read(cursor).values
    if values is not None:
        rows = rows.filter(order.beyond(values))
    found = list(rows.order_by(*order.sorting())[: limit + 1])
    return found[:limit], order.cursor(found[limit - 1]) if len(found) > limit else None


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(value)
    return moment


def _number(value: Any) -> int:
    if type(value) is not int or abs(value) > 2**63 - 1:
        raise ValueError(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or NUL in value or not value.isascii():
        raise ValueError(value)
    return value


_READERS: Final[dict[type, Callable[[Any], Any]]] = {datetime: _moment, int: _number, str: _text}
