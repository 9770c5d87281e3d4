"""The rows of one page as bars on one time axis: what is needed to draw them. Pure.

The axis is not to scale: a wait of three days beside steps of milliseconds would leave nothing of the steps. Each
stretch between two beginnings or ends is as wide as the fourth root of its length, so the order and all overlaps stay.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from orchestration.timeline.entries import LAYERS, TITLES, Entry, Layer

WIDTH: Final = 1000  # units of the drawing
BAR: Final = 10
ROWS: Final = 4  # bars of one lane on top of each other, at most
_STEP: Final = BAR + 4
_LEAST: Final = 4  # units, of the shortest bar
_TICKS: Final = 5


@dataclass(frozen=True)
class LaneBar:
    """One row's rectangle in its lane."""

    entry: Entry
    key: str
    x: float
    y: int
    width: float


@dataclass(frozen=True)
class Lane:
    layer: Layer
    title: str
    bars: list[LaneBar]
    height: int


@dataclass(frozen=True)
class LaneDrawing:
    """The lanes that hold anything, and the moments under the axis, evenly spaced."""

    lanes: list[Lane]
    ticks: list[datetime]
    is_bent: bool  # long waits are drawn shorter


class _Axis:
    """Places moments; what lies between two known ones is placed in proportion."""

    def __init__(self, moments: Sequence[datetime]) -> None:
        self.moments = sorted(set(moments))
        spans = [(later - earlier).total_seconds() for earlier, later in pairwise(self.moments)]
        widths = [max(span, 0.001) ** 0.25 for span in spans]
        scale = WIDTH / (sum(widths) or 1)
        self.places = [0.0]
        for width in widths:
            self.places.append(self.places[-1] + width * scale)
        self.is_bent = bool(spans) and max(spans) > 20 * (sorted(spans)[len(spans) // 2] or 0.001)

    def place(self, moment: datetime) -> float:
        at = bisect_right(self.moments, moment) - 1
        if at < 0:
            return 0.0
        if at >= len(self.moments) - 1:
            return float(WIDTH) if len(self.moments) > 1 else 0.0
        whole = (self.moments[at + 1] - self.moments[at]) / timedelta(seconds=1)
        part = (moment - self.moments[at]) / timedelta(seconds=1)
        return self.places[at] + (self.places[at + 1] - self.places[at]) * part / whole

    def moment(self, place: float) -> datetime:
        at = min(bisect_right(self.places, place) - 1, len(self.moments) - 2)
        if at < 0:
            return self.moments[0]
        share = (place - self.places[at]) / ((self.places[at + 1] - self.places[at]) or 1)
        return self.moments[at] + (self.moments[at + 1] - self.moments[at]) * share


def drawn(entries: Sequence[Entry], keys: Sequence[str], now: datetime | None, begins: datetime) -> LaneDrawing | None:
    """Return how the rows are drawn; `None` when there is nothing to draw.

    `now`: where what goes on ends. `begins`: what is older, such as data made long before, stands at the left edge.
    """
    spans = [(max(begins, one.began_at or one.at), max(begins, _end_of(one, now))) for one in entries]
    if not spans:
        return None
    axis = _Axis([moment for span in spans for moment in span])
    lanes = []
    for layer in LAYERS:
        found = [
            (one, key, axis.place(span[0]), axis.place(span[1]))
            for one, key, span in zip(entries, keys, spans, strict=True)
            if one.layer == layer
        ]
        if found:
            lanes.append(_lane(layer, sorted(found, key=lambda one: (one[2], one[3]))))
    ticks = [axis.moment(WIDTH * number / (_TICKS - 1)) for number in range(_TICKS)]
    return LaneDrawing(lanes, ticks, axis.is_bent)


def _end_of(entry: Entry, now: datetime | None) -> datetime:
    if entry.ended_at is not None:
        return entry.ended_at
    return now if entry.is_open and now is not None else (entry.began_at or entry.at)


def _lane(layer: Layer, found: list[tuple[Entry, str, float, float]]) -> Lane:
    free = [-1.0] * ROWS  # where each row is free again
    bars, used = [], 0
    for entry, key, begin, end in found:
        width = max(_LEAST, end - begin)
        x = min(begin, WIDTH - width)
        row = next((row for row in range(ROWS) if free[row] <= x), None)
        row = min(range(ROWS), key=lambda one: free[one]) if row is None else row
        free[row] = x + width
        used = max(used, row)
        bars.append(LaneBar(entry, key, round(x, 1), row * _STEP + 3, round(width, 1)))
    return Lane(layer, TITLES[layer], bars, (used + 1) * _STEP + 2)
