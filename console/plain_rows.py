"""Rows of a model read by hand-written SQL: for the statements that stand in the path of every click.

Django puts a query together anew each time, which takes longer than PostgreSQL takes to answer it. The columns are the
model's own, so a column that is added or renamed is read as it is.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, models

_M = TypeVar("_M", bound=models.Model)


class Rows(Generic[_M]):
    """How rows of one model are read. What is left out is read by Django when somebody asks for it."""

    def __init__(self, model: type[_M], *, only: Collection[str] = (), but_for: Collection[str] = ()) -> None:
        """`only`: names of fields, as `by_id`; without them all, `but_for` these."""
        wanted = [one for one in model._meta.concrete_fields if (one.attname in only if only else True)]
        self._fields = [one for one in wanted if one.attname not in but_for]
        self._model = model
        self._names = [one.attname for one in self._fields]
        self._columns = [str(one.column) for one in self._fields]
        self._texts = [place for place, one in enumerate(self._fields) if isinstance(one, models.JSONField)]
        self._moments = {one.column for one in self._fields if isinstance(one, models.DateTimeField)}
        self._bytes = {one.column for one in self._fields if isinstance(one, models.BinaryField)}

    def __len__(self) -> int:
        return len(self._fields)

    def columns(self, alias: str) -> str:
        """Return what stands after SELECT for `read`."""
        return ", ".join(f'{alias}."{one.column}"' for one in self._fields)

    def json(self, alias: str) -> str:
        """Return the expression whose JSON `read_json` takes."""
        pairs = [f"'{one.column}', {alias}.\"{one.column}\"" for one in self._fields]
        return f"json_build_object({', '.join(pairs)})"

    def read(self, values: Sequence[Any]) -> _M:
        """Return the row as an object; `values`: those of `columns`, in their order."""
        found = list(values)
        for place in self._texts:  # Django has psycopg leave them as texts
            if found[place] is not None:
                found[place] = json.loads(found[place])
        return self._model.from_db(DEFAULT_DB_ALIAS, self._names, found)

    def read_json(self, found: Mapping[str, Any]) -> _M:
        """Return the row as an object, from JSON that PostgreSQL has made."""
        return self._model.from_db(DEFAULT_DB_ALIAS, self._names, [self._value(name, found) for name in self._columns])

    def _value(self, column: str, found: Mapping[str, Any]) -> Any:
        value = found[column]
        if column in self._moments:
            return _moment(value)
        if column in self._bytes and value is not None:
            return bytes.fromhex(value.removeprefix("\\x"))
        return value


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
