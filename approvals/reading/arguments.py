"""The arguments of a proposal, leaf by leaf, as pages and files list them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from console.text.json_paths import leaves_of

FOLD_ABOVE, FOLD_LINES = 600, 10  # characters and lines of one value that is shown unfolded


@dataclass(frozen=True)
class ArgumentRow:
    """One leaf of the arguments: its path and its exact JSON text."""

    path: str
    exact: str

    @property
    def is_long(self) -> bool:
        """Return whether a page with script may fold it; approving then waits until it was opened."""
        return len(self.exact) > FOLD_ABOVE or self.exact.count("\\n") > FOLD_LINES


def argument_rows_of(arguments: dict[str, Any]) -> list[ArgumentRow]:
    """Return every leaf of the arguments in their own order, complete."""
    return [ArgumentRow(path, exact) for path, exact in leaves_of(arguments)]
