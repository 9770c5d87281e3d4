"""One thing that happened to a run, whichever layer tells it, and the order in which all of them stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

Layer = Literal["console", "temporal", "langgraph", "prefect", "world"]
State = Literal["done", "running", "waiting", "failed", "unknown"]

LAYERS: Final[tuple[Layer, ...]] = ("console", "temporal", "langgraph", "prefect", "world")
#: what a reader calls a layer
TITLES: Final[dict[Layer, str]] = {
    "console": "People",
    "temporal": "Temporal",
    "langgraph": "LangGraph",
    "prefect": "Data",
    "world": "Effects",
}
#: worst first: how those that are not done stand above the others
_URGENCY: Final[dict[State, int]] = {"failed": 0, "unknown": 0, "waiting": 1, "running": 2, "done": 3}
Place = tuple[datetime, str, str]


@dataclass(frozen=True)
class Entry:
    """One row. Instants are aware, UTC; `title` and `detail` may hold words of others, which are untrusted.

    `at` gives the row its place: when it began, of a step of the graph when it ended. `began_at` and `ended_at` are the
    two ends of its bar; without an end it goes on, and without a beginning it is a moment.
    """

    at: datetime
    layer: Layer
    kind: str
    title: str
    detail: str = ""
    reference: str = ""  # the layer's own id for it
    state: State = "done"
    began_at: datetime | None = None
    ended_at: datetime | None = None
    url: str = ""
    opens: str = ""  # an address that gives what it holds, as a fragment; "" when there is nothing more

    @property
    def place(self) -> Place:
        """Where it stands among all, the same at every look."""
        return (self.at, self.layer, f"{self.kind}:{self.reference}")

    @property
    def took(self) -> timedelta | None:
        """How long it lasted; `None` for a moment, and for what goes on."""
        if self.began_at is None or self.ended_at is None:
            return None
        return max(timedelta(), self.ended_at - self.began_at)

    @property
    def is_open(self) -> bool:
        return self.state in ("running", "waiting")

    @property
    def urgency(self) -> int:
        return _URGENCY[self.state]


@dataclass(frozen=True)
class StoryWish:
    """Which part of the story is asked for: `most` rows on one side of a place."""

    most: int
    newest_first: bool = False
    beyond: Place | None = None  # rows after this one in the asked order

    def takes(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return the asked part of what one layer tells, in the asked order."""
        rows = sorted(entries, key=lambda entry: entry.place, reverse=self.newest_first)
        if self.beyond is not None:
            place = self.beyond
            rows = [row for row in rows if (row.place < place if self.newest_first else row.place > place)]
        return rows[: self.most]
