"""Passages of documents with their vectors: what an agent searches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import date
from typing import Any

from pgvector import Vector

from console.faults import reach
from dataplane.contents.base import Copy, CopyCursor, Cursor, Difference, Shown, Stored, compared
from dataplane.embedding import Vectors, embedder
from dataplane.errors import EmbedderChanged


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


_COLUMNS = ", ".join(field.name for field in fields(PassageRow))


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
class PassageContent:
    """The content of a version: passages, and a vector for each."""

    passages: Sequence[PassageRow]
    vectors: Vectors  # one row per passage
    embedder: str

    @property
    def rows(self) -> int:
        return len(self.passages)

    def digest(self) -> str:
        return content_digest(self.passages, embedder=self.embedder)

    def copy(self, cursor: CopyCursor, version_id: int) -> None:
        """Write the passages with binary COPY: one round trip, the vectors as they lie in memory."""
        statement = f"COPY dataplane_passage (version_id, position, {_COLUMNS}, embedding) FROM STDIN (FORMAT BINARY)"
        with cursor.copy(statement) as copy:
            self._write(copy, version_id)

    def _write(self, copy: Copy, version_id: int) -> None:
        # A vector goes over as the bytes that PostgreSQL's own type reads.
        copy.set_types(["int8", "int4", *["text"] * 4, "date", "text", "text", "bytea"])
        for position, (row, vector) in enumerate(zip(self.passages, self.vectors, strict=True)):
            copy.write_row((version_id, position, *astuple(row), Vector(vector).to_binary()))
            if position == self.rows // 2:
                reach("flow.in_copy")


def content_digest(rows: Sequence[PassageRow], *, embedder: str) -> str:
    """Return the SHA-256, hex, of everything that a reader of the version could see.

    The embedding model is part of it: the same words with other vectors are another index.
    """
    shape = [[value.isoformat() if isinstance(value, date) else value for value in astuple(row)] for row in rows]
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

        An exact scan of this one version. Loads the embedding model on first use (0.7 s). Raises EmbedderChanged.
        """
        model = embedder()
        if version.embedder != model.name:
            raise EmbedderChanged(
                f"Version {version.number} of {version.dataset} was embedded with {version.embedder}, "
                f"this process has {model.name}."
            )
        wanted = Vector(model.embed([question["query"]])[0]).to_text()
        cursor.execute(
            "SELECT document, title, heading, text, effective, status, embedding <=> %s::vector AS distance"
            " FROM dataplane_passage WHERE version_id = %s ORDER BY distance, position LIMIT %s",
            [wanted, version.id, question.get("limit", 6)],
        )
        return [PassageHit(*(*row[:6], 1.0 - float(row[6]))) for row in cursor.fetchall()]

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
            name, number = f"{row.document} # {row.heading}", 1
            while name in named:
                number += 1
                name = f"{row.document} # {row.heading} ({number})"
            named[name] = row
        return named


PASSAGES = PassageKind()
