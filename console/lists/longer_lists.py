"""Lists that a button makes longer: how many rows an address asks for, and where "Show more" leads.

Everything a list shows is in its address, so that it can be shared and comes back after a reload.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlencode

from django.urls import reverse

STEP: Final = 50  # rows at first, and with each "more"
MOST: Final = 200  # rows on one page


class Listed(Protocol):
    """A list as its page shows it."""

    @property
    def limit(self) -> int:
        """Return how many rows it shows at most."""

    def address(self, *, limit: int = ..., cursor: str = ...) -> str:
        """Return the list's own address with changes."""


def rows_wanted(typed: str) -> int:
    """Return how many rows the text asks for, from STEP to MOST; STEP when it is no number."""
    is_number = typed.isascii() and typed.isdigit() and len(typed) < 6  # int() takes no text of thousands of digits
    return min(MOST, max(STEP, int(typed))) if is_number else STEP


def address_of(route: str, wishes: Mapping[str, str | int]) -> str:
    """Return the address of the route's list with its wishes; what is usual is left out."""
    told = {name: wish for name, wish in wishes.items() if wish and (name, wish) != ("limit", STEP)}
    return reverse(route) + (f"?{urlencode(told)}" if told else "")


def more_of(listed: Listed, next_cursor: str | None) -> str:
    """Return the address with more rows: a longer list first, then the next page. Empty at the end."""
    if next_cursor is None:
        return ""
    if listed.limit < MOST:
        return listed.address(limit=listed.limit + STEP)
    return listed.address(cursor=next_cursor)
