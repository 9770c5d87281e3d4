"""Where a graph stands still by its own compilation. No engine here: the web process reads how runs stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PREFIX: Final = "stop-"  # of the ids, in an interrupt's place


@dataclass(frozen=True)
class Stop:
    """Where a graph stands still by its own compilation; the id is that of the checkpoints that it stands at."""

    id: str
    nodes: tuple[str, ...]  # that come next

    @property
    def value(self) -> Stop:
        return self
