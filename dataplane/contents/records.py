"""Rows that are objects: cases to evaluate on, and what else has no table of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataplane.contents.base import CopyCursor, Cursor, Difference, Shown, Stored, compared
from dataplane.errors import QuestionInvalid


@dataclass(frozen=True)
class RecordRow:
    """One row: its name, once in a version, and what it says."""

    name: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Records:
    """The content of a version: objects in their order."""

    records: Sequence[RecordRow]
    embedder = ""

    @property
    def rows(self) -> int:
        return len(self.records)

    def digest(self) -> str:
        shape = [[row.name, row.body] for row in self.records]
        return hashlib.sha256(json.dumps(shape, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def copy(self, cursor: CopyCursor, version_id: int) -> None:
        with cursor.copy("COPY dataplane_record (version_id, position, name, body) FROM STDIN") as copy:
            for position, row in enumerate(self.records):
                copy.write_row((version_id, position, row.name, json.dumps(row.body, ensure_ascii=False)))


Cells = Callable[[Mapping[str, Any]], Sequence[str]]


class RecordKind:
    """One kind of objects: read by a filter on their fields, shown as a table."""

    template = "dataplane/contents/_table.html"

    def __init__(self, name: str, noun: str, *, columns: Sequence[str], cells: Cells, filters: Sequence[str]) -> None:
        """`cells` gives a row's cells below `columns`; `filters` are the fields that a question may name."""
        self.name, self.noun = name, noun
        self._columns, self._cells, self._filters = columns, cells, filters

    def facts(self, version: Stored) -> Sequence[tuple[str, str]]:
        return []

    def read(self, cursor: Cursor, version: Stored, question: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the bodies of the rows whose fields are as the question says, all of them for an empty one."""
        unknown = question.keys() - set(self._filters)
        if unknown:
            raise QuestionInvalid(f"{self.noun.capitalize()} are asked by {', '.join(self._filters)} only.")
        cursor.execute(
            "SELECT name, body::text FROM dataplane_record WHERE version_id = %s AND body @> %s::jsonb"
            " ORDER BY position",
            [version.id, json.dumps(dict(question))],
        )
        return [{"name": name, **json.loads(body)} for name, body in cursor.fetchall()]

    def show(self, cursor: Cursor, version: Stored, *, after: int, limit: int) -> Shown:
        cursor.execute(
            "SELECT position, name, body::text FROM dataplane_record WHERE version_id = %s AND position > %s"
            " ORDER BY position LIMIT %s",
            [version.id, after, limit],
        )
        rows = cursor.fetchall()
        items = [[name, *self._cells(json.loads(body))] for _, name, body in rows]
        last = rows[-1][0] if rows else version.rows
        return Shown(items, last if last + 1 < version.rows else None, ("Name", *self._columns))

    def difference(self, cursor: Cursor, old: Stored, new: Stored) -> Difference:
        return compared(self._bodies(cursor, old), self._bodies(cursor, new))

    def _bodies(self, cursor: Cursor, version: Stored) -> dict[str, str]:
        cursor.execute(
            "SELECT name, body::text FROM dataplane_record WHERE version_id = %s ORDER BY position", [version.id]
        )
        return dict(cursor.fetchall())


def _case_cells(body: Mapping[str, Any]) -> list[str]:
    return [str(body["tool"]), str(body["verdict"]), str(body["split"]), str(body["note"]), str(body["summary"])]


EVALUATION_CASES = RecordKind(
    "evaluation_cases",
    "cases",
    columns=("Tool", "Verdict", "Split", "Reason", "Proposal"),
    cells=_case_cells,
    filters=("tool", "verdict", "split", "agent"),
)
