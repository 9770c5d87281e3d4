"""Passages of documents with their vectors: what an agent searches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from functools import cached_property
from operator import attrgetter
from typing import Any

from pgvector import Vector

from console.faults import reach
from dataplane.contents.base import Copy, CopyCursor, Cursor, Difference, Shown, Stored, compared
from dataplane.embedding import Vectors, embedder_named
from dataplane.search_figures import SearchFigures, keep
from dataplane.suspicious import flags_of

INDEX_FROM_ROWS = 5000  # below, an exact search takes a few milliseconds and misses nothing


@dataclass(frozen=True)
class PassageRow:
    """One passage as it is stored, without its vector."""

    document: str  # path below the handbook
    title: str
    heading: str
    text: str
    effective: date | None
    status: str  # as the document says of itself
    topics: str  # comma-separated

    @property
    def flags(self) -> Sequence[str]:
        """Return what a person should look at in it; the passage is kept as it is, and is data to every agent."""
        return flags_of(f"{self.title}\n{self.heading}\n{self.text}")


_COLUMNS = ", ".join(field.name for field in fields(PassageRow))
_values = attrgetter(*(field.name for field in fields(PassageRow)))  # a tuple; `astuple` copies deeply, and slowly


@dataclass(frozen=True)
class PassageHit:
    """One passage that is near a query."""

    document: str  # path below the handbook
    title: str
    heading: str
    text: str
    effective: date | None
    status: str  # as the document says of itself
    score: float  # cosine similarity, -1 to 1


@dataclass(frozen=True)
class Nearest:
    """What a search found, nearest first, and whether an index was asked."""

    hits: list[PassageHit]
    by_index: bool


def passage_name(document: str, heading: str) -> str:
    """Return what people call a passage; several pieces of one section share it."""
    return f"{document} # {heading}"


@dataclass(frozen=True)
class PassageContent:
    """The content of a version: passages, and a vector for each."""

    passages: Sequence[PassageRow]
    vectors: Vectors  # one row per passage
    embedder: str
    figures: SearchFigures | None = None  # how well an exact search of them answers the questions; None: none are there

    @property
    def rows(self) -> int:
        return len(self.passages)

    def digest(self) -> str:
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return content_digest(self.passages, embedder=self.embedder)

    def copy(self, cursor: CopyCursor, version_id: int) -> None:
        """Write the passages with binary COPY: one round trip, the vectors as they lie in memory."""
        statement = f"COPY dataplane_passage (version_id, position, {_COLUMNS}, embedding) FROM STDIN (FORMAT BINARY)"
        with cursor.copy(statement) as copy:
            self._write(copy, version_id)
        if self.figures is not None:
            keep(cursor, version_id, self.figures)

    def _write(self, copy: Copy, version_id: int) -> None:
        # A vector goes over as the bytes that PostgreSQL's own type reads.
        copy.set_types(["int8", "int4", *["text"] * 4, "date", "text", "text", "bytea"])
        for position, (row, vector) in enumerate(zip(self.passages, self.vectors, strict=True)):
            copy.write_row((version_id, position, *_values(row), Vector(vector).to_binary()))
            if position == self.rows // 2:
                reach("flow.in_copy")


def content_digest(rows: Sequence[PassageRow], *, embedder: str) -> str:
    """Return the SHA-256, hex, of everything that a reader of the version could see.

    The embedding model is part of it: the same words with other vectors are another index.
    """
    shape = [[value.isoformat() if isinstance(value, date) else value for value in _values(row)] for row in rows]
    canonical = json.dumps([embedder, shape], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class PassageKind:
    """Passages: searched by nearness, shown by document."""

    name = "passages"
    noun = "passages"
    template = "dataplane/contents/_passages.html"

    def facts(self, version: Stored) -> Sequence[tuple[str, str]]:
        return [("Embedding model", version.embedder)]

    def read(self, cursor: Cursor, version: Stored, question: Mapping[str, Any]) -> list[PassageHit]:
        """Return the passages nearest to `question["query"]`, nearest first, `question["limit"]` (6) at most.

        Asks with the model that made the version, loaded on first use (0.7 s). Raises EmbedderChanged.
        """
        model = embedder_named(version.embedder, whose=f"Version {version.number} of {version.dataset}")
        vector = model.embed([question["query"]])[0]
        return self.nearest(cursor, version, vector, limit=question.get("limit", 6)).hits

    def nearest(
        self, cursor: Cursor, version: Stored, vector: Any, *, limit: int, exactly: bool = False, index: str = ""
    ) -> Nearest:
        """Return the version's passages nearest to the vector: by its index, if one is in service, else exactly.

        `exactly`: by no index. `index`: by this one, in service or not; see `dataplane.search_index`.
        """
        wanted = Vector(vector).to_text()
        values: list[Any]
        if index:
            source, values = "SELECT n.*, true AS by_index FROM signalbox_nearest_by(%s, %s::vector, %s) n", [index]
        else:
            source, values = "SELECT * FROM signalbox_nearest(%s, %s::vector, %s, %s)", [version.id]
        cursor.execute(
            "SELECT p.document, p.title, p.heading, p.text, p.effective, p.status, n.distance, n.by_index"
            f" FROM ({source}) n JOIN dataplane_passage p ON p.version_id = %s AND p.position = n.place"
            " ORDER BY n.distance, p.position",
            [*values, wanted, limit, *([] if index else [exactly]), version.id],
        )
        rows = cursor.fetchall()
        hits = [PassageHit(*(*row[:6], 1.0 - float(row[6]))) for row in rows]
        return Nearest(hits, any(row[7] for row in rows))

    def show(self, cursor: Cursor, version: Stored, *, after: int, limit: int) -> Shown:
        """Return passages in the order of documents and sections, without their vectors."""
        cursor.execute(
            f"SELECT position, {_COLUMNS} FROM dataplane_passage WHERE version_id = %s AND position > %s"
            " ORDER BY position LIMIT %s",
            [version.id, after, limit],
        )
        rows = cursor.fetchall()
        last = rows[-1][0] if rows else version.rows
        return Shown([PassageRow(*row[1:]) for row in rows], last if last + 1 < version.rows else None)

    def difference(self, cursor: Cursor, old: Stored, new: Stored) -> Difference:
        """Compare by document and heading; of several passages below one heading, by their order."""
        return compared(self._named(cursor, old), self._named(cursor, new))

    def _named(self, cursor: Cursor, version: Stored) -> dict[str, PassageRow]:
        cursor.execute(
            f"SELECT {_COLUMNS} FROM dataplane_passage WHERE version_id = %s ORDER BY position", [version.id]
        )
        named: dict[str, PassageRow] = {}
        for found in cursor.fetchall():
            row = PassageRow(*found)
            name, number = passage_name(row.document, row.heading), 1
            while name in named:
                number += 1
                name = f"{passage_name(row.document, row.heading)} ({number})"
            named[name] = row
        return named


PASSAGES = PassageKind()
