"""Counts that stop at a cap, so that nobody waits until a hundred thousand rows are counted for a number in a badge."""

from __future__ import annotations

from typing import Final

COUNT_CAP: Final = 1000


def capped(count: int) -> str:
    """Return a count that stopped at the cap as people read it: "7", "999+"."""
    return f"{COUNT_CAP - 1}+" if count >= COUNT_CAP else str(count)
