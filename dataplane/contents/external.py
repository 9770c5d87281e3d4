"""Versions whose rows stand in somebody else's store: the console keeps where they are, never the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dataplane.contents.base import Cursor, Difference, Shown, Stored
from dataplane.errors import ContentUnknown


class External:
    """Known by digest, number of rows and location alone."""

    name = "external"
    noun = "rows"
    template = ""

    def facts(self, version: Stored) -> Sequence[tuple[str, str]]:
        return ()

    def read(self, cursor: Cursor, version: Stored, question: Mapping[str, Any]) -> Sequence[Any]:
        """Return where the version is; an agent's tool reads it there."""
        cursor.execute("SELECT location, metadata FROM dataplane_datasetversion WHERE id = %s", [version.id])
        return [{"location": location, "metadata": metadata} for location, metadata in cursor.fetchall()]

    def show(self, cursor: Cursor, version: Stored, *, after: int, limit: int) -> Shown:
        return Shown([], None)

    def difference(self, cursor: Cursor, old: Stored, new: Stored) -> Difference:
        raise ContentUnknown("The rows stand in another store, so they cannot be compared here.")


EXTERNAL = External()
