"""What a kind of content has to be able to do. A new kind is one file beside this one.

A dataset's catalogue entry names its kind; publishing, pages and agents know this Protocol alone. A kind is used by
flows (psycopg, no Django) and by the console (Django's connection), so it asks for nothing but a cursor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


class Cursor(Protocol):
    """What psycopg's cursor and Django's have in common."""

    def execute(self, query: Any, params: Any = None, /) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Copy(Protocol):
    """A COPY under way: psycopg's."""

    def set_types(self, types: Sequence[Any]) -> None: ...

    def write_row(self, row: Sequence[Any]) -> None: ...


class CopyCursor(Cursor, Protocol):
    """psycopg's cursor, as far as writing a version needs it."""

    def copy(self, statement: Any, /) -> AbstractContextManager[Any]: ...


@dataclass(frozen=True)
class Stored:
    """One published version, as a kind is told of it."""

    id: int  # of the row in dataplane_datasetversion, which the kind's own rows point at
    dataset: str
    number: int
    rows: int
    embedder: str  # empty for kinds without vectors


class Content(Protocol):
    """What a flow has made, before it is a version."""

    @property
    def rows(self) -> int:
        """Return how many rows it has."""
        ...

    @property
    def embedder(self) -> str:
        """Return the name of the model that made its vectors; empty when it has none."""
        ...

    def digest(self) -> str:
        """Return the SHA-256, hex, of everything that a reader could see: the same content is the same version."""
        ...

    def copy(self, cursor: CopyCursor, version_id: int) -> None:
        """Write the rows of a new version, inside the transaction that publishes it."""
        ...


@runtime_checkable
class MadeFromVersions(Protocol):
    """Content that was made from versions of other datasets, which its lineage then names."""

    @property
    def inputs(self) -> Sequence[Mapping[str, Any]]:
        """Return them: [{"dataset", "version"}]."""
        ...


@dataclass(frozen=True)
class Withheld:
    """What a flow returns instead of content when it ended well and has nothing worth publishing."""

    sentence: str  # why, for the page
    confirms: bool = False  # it held the current version against what there is now, and that one stands


@dataclass(frozen=True)
class Shown:
    """Some rows of a version, as its page shows them."""

    items: Sequence[Any]  # what the kind's template shows; for `dataplane/contents/_table.html` lists of cells
    next_after: int | None  # position of the last one, when there are more
    columns: Sequence[str] = ()


@dataclass(frozen=True)
class Difference:
    """What a version has that an earlier one has not, by the names of its rows, each in order."""

    added: Sequence[str]
    removed: Sequence[str]
    changed: Sequence[str]


class ContentKind(Protocol):
    """One kind of content."""

    name: str  # kept with every version
    noun: str  # what its rows are called, in the plural
    template: str  # of the rows on a version's page; its context: shown (Shown)

    def facts(self, version: Stored) -> Sequence[tuple[str, str]]:
        """Return what the version's page says of it beside what all versions have: label and words."""
        ...

    def read(self, cursor: Cursor, version: Stored, question: Mapping[str, Any]) -> Sequence[Any]:
        """Return what an agent that asks this of the version is given. Raises DataplaneError."""
        ...

    def show(self, cursor: Cursor, version: Stored, *, after: int, limit: int) -> Shown:
        """Return the rows behind the position `after` (-1: from the first one) for the version's page."""
        ...

    def difference(self, cursor: Cursor, old: Stored, new: Stored) -> Difference:
        """Compare two versions of this kind."""
        ...


def compared(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    """Return the difference between rows by their names, in the order that each version has them in."""
    return Difference(
        added=[name for name in new if name not in old],
        removed=[name for name in old if name not in new],
        changed=[name for name in new if name in old and new[name] != old[name]],
    )
