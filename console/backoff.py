"""How long to wait before something that failed is tried again: the one way in which it is done here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

_DOUBLINGS: Final = 60  # beyond them nothing grows any more, and a power of two stays a small number


@dataclass(frozen=True)
class Backoff:
    """`first` seconds after the first failure, doubled with each further one, and at most `longest`."""

    first: float
    longest: float

    def pause(self, failures: int) -> float:
        """Return the seconds to wait after `failures` failures in a row; none counts as one."""
        return min(self.first * 2.0 ** min(max(failures, 1) - 1, _DOUBLINGS), self.longest)

    def delay(self, failures: int) -> timedelta:
        """Return the same as a duration."""
        return timedelta(seconds=self.pause(failures))
