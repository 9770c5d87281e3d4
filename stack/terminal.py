"""What the person at the terminal reads: one line per part while it starts, then what to do next."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import TextIO

_NAME_WIDTH = 11
_TIME_COLUMN = 66


class Terminal:
    """Writes whole lines from any thread; quiet when asked."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._quiet = quiet
        self._lock = threading.Lock()
        self._is_terminal = self._stream.isatty()

    def hush(self) -> None:
        """Write nothing from now on."""
        self._quiet = True

    def line(self, text: str = "") -> None:
        """Write one line, or several."""
        if self._quiet:
            return
        with self._lock:
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                self._quiet = True  # the terminal is gone; the stack still has to stop in good order

    def part(self, name: str, text: str, seconds: float | None = None) -> None:
        """Write what a part has to say; `seconds` goes to the right-hand column."""
        first, *rest = text.splitlines() or [""]
        line = f"  {name:<{_NAME_WIDTH}}{first}"
        if seconds is not None:
            line = f"{line:<{_TIME_COLUMN}} {seconds:5.1f} s"
        self.line("\n".join([line, *(f"  {'':<{_NAME_WIDTH}}{more}" for more in rest)]))

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Write rows with aligned columns."""
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            self.line(("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))).rstrip())

    def strong(self, text: str) -> str:
        """Return the text so that it stands out on a terminal, unchanged elsewhere."""
        return f"\x1b[1m{text}\x1b[0m" if self._is_terminal else text
