"""What a spreadsheet is given: every cell shows everything and computes nothing.

A spreadsheet runs what begins with = + - or @, and shows no hidden character. So every cell is text on one line with
nothing hidden, and what could be taken for a formula begins with an apostrophe.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from console.text.visible import one_line

BOM: Final = "\ufeff"  # spreadsheets need it to see that a file is UTF-8
# Blanks and quotes before it are skipped by some; the wide signs count where input methods write them.
_COMPUTES: Final = re.compile("[\t\r\n]|[\\s\u200b\ufeff'\"]*[-=+@|%\uff1d\uff0b\uff0d\uff20\u2212]")


def cell(value: object) -> str:
    """Return a value as a cell that shows everything and computes nothing."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    text = "" if value is None else str(value)
    shown = one_line(text)
    return f"'{shown}" if _COMPUTES.match(text) else shown


class _Echo:
    """A file for the csv module that hands back what was written."""

    def write(self, text: str) -> str:
        return text


_WRITER: Final[Any] = csv.writer(_Echo(), quoting=csv.QUOTE_ALL)


def line(cells: Iterable[str]) -> str:
    """Return the cells as one line of a CSV file, all in quotes."""
    written: str = _WRITER.writerow(cells)
    return written
