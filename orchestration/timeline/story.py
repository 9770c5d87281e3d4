"""All layers of one run on one time axis, page by page. What an engine has not told is said, never waited for long."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from typing import Final

from console.text.stored import can_be_kept
from orchestration.models import Run
from orchestration.timeline import data, effects, people, steps, temporal
from orchestration.timeline.entries import LAYERS, Entry, Layer, Place, StoryWish

PAGE: Final = 40  # rows of a page
MOST: Final = 200  # rows of one answer of the API
_URGENT: Final = 12  # rows that are not done, above the others

#: what each layer is made of, as far as our own database tells it
_SOURCES: Final[dict[Layer, tuple[Callable[[Run, StoryWish], list[Entry]], ...]]] = {
    "console": (people.record, people.record_of_requests, people.requests, people.deliveries),
    "langgraph": (steps.steps,),
    "prefect": (data.reads,),
    "world": (effects.effects,),
}


@dataclass(frozen=True)
class Story:
    """One page of a run's story."""

    run: Run
    entries: list[Entry]  # in the asked order
    next_cursor: str  # "" at the end
    now: list[Entry] = field(default_factory=list)  # what is not done or went wrong, worst first; on the first page
    is_first: bool = True
    missing: str = ""  # a sentence, when Temporal has not told its part
    has_temporal: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.entries and not self.now


def page(
    run: Run,
    *,
    layers: Iterable[str] = (),
    only: str = "",
    cursor: str = "",
    newest_first: bool = True,
    most: int = PAGE,
    ask_temporal: bool = False,
) -> Story:
    """Return one page of the story.

    `layers`: those asked for, all if none is named. `only`: "open" or "failed", to leave the others out. Queries: at
    most 16, however long the story is. `ask_temporal` waits for the server, at most `temporal.DEADLINE`.

    A page holds fewer rows than `most`, or none, where a layer has not been read farther; the next one goes on there.
    """
    chosen = [layer for layer in LAYERS if layer in set(layers)] or list(LAYERS)
    spot = _Spot.read(cursor)
    wish = StoryWish((MOST if only else most) + 1, newest_first, spot.place)
    told = [source(run, wish) for layer in chosen for source in _SOURCES.get(layer, ())]
    from_temporal = temporal.TemporalPart()
    if ask_temporal and "temporal" in chosen:
        from_temporal = temporal.part(run, wish, spot.temporal)
        told.append(from_temporal.entries)
    edge = _edge(wish, told, from_temporal)
    wanted = [[entry for entry in _filtered(entries, only) if _is_before(wish, entry.place, edge)] for entries in told]
    rows = list(islice(merge(*wanted, key=lambda entry: entry.place, reverse=newest_first), most + 1))
    shown = rows[:most]
    end = shown[-1].place if len(rows) > most else edge
    return Story(
        run=run,
        entries=shown,
        next_cursor=_Spot(end, from_temporal.spot_after(end) or spot.temporal).write() if end else "",
        now=_now(run, chosen, from_temporal) if newest_first and not cursor else [],
        is_first=not cursor,
        missing=from_temporal.missing,
        has_temporal=from_temporal.is_told,
    )


def _edge(wish: StoryWish, told: list[list[Entry]], from_temporal: temporal.TemporalPart) -> Place | None:
    """Return up to where every layer has been read, `None` when all have told all; never before the asked place."""
    ends = [entries[-1].place for entries in told if len(entries) >= wish.most]
    if from_temporal.edge is not None:
        ends.append(from_temporal.edge)
    if not ends:
        return None
    nearest = max(ends) if wish.newest_first else min(ends)
    return nearest if wish.beyond is None or _is_before(wish, wish.beyond, nearest) else wish.beyond


def _is_before(wish: StoryWish, place: Place, edge: Place | None) -> bool:
    """Return whether a place stands before the edge in the asked order, or on it."""
    return edge is None or (place >= edge if wish.newest_first else place <= edge)


def _filtered(entries: list[Entry], only: str) -> list[Entry]:
    if only == "failed":
        return [entry for entry in entries if entry.state in ("failed", "unknown")]
    return [entry for entry in entries if entry.is_open] if only == "open" else entries


def _now(run: Run, layers: list[Layer], from_temporal: temporal.TemporalPart) -> list[Entry]:
    """Return what waits, works or went wrong, worst first. Six queries at most, none for a run that has ended."""
    found = list(from_temporal.pending)
    if run.status in Run.OPEN:
        found += [_failing(run)] if run.failure else []
        found += effects.unsettled(run, _URGENT)
        found += people.open_requests(run, _URGENT)
        found += steps.under_way(run)
    return sorted((one for one in found if one.layer in layers), key=lambda one: (one.urgency, one.place))[:_URGENT]


def _failing(run: Run) -> Entry:
    kept = run.failure or {}
    since = datetime.fromisoformat(kept["since"]) if kept.get("since") else run.created_at
    at = kept.get("next_try_at")
    next_try = f"next try {datetime.fromisoformat(at):%H:%M:%S} UTC · " if at else ""
    return Entry(
        at=since,
        layer="langgraph",
        kind="turn",
        title=f"Turn {kept.get('turn', run.turn)} fails, attempt {kept.get('attempt', 1)}",
        detail=f"{next_try}{kept.get('message', '')}"[:600],
        reference=f"turn {kept.get('turn', run.turn)}",
        state="failed",
        began_at=since,
    )


@dataclass(frozen=True)
class _Spot:
    """Where a page ends and the next one begins."""

    place: Place | None = None
    temporal: str = ""

    @classmethod
    def read(cls, text: str) -> _Spot:
        """Return what a cursor says; the beginning, when it is none of ours."""
        try:
            at, layer, reference, spot = json.loads(base64.urlsafe_b64decode(text.encode()))
            moment = datetime.fromisoformat(at)
            told = str(layer), str(reference), str(spot)
            if moment.tzinfo is None or not all(map(can_be_kept, told)):
                return cls()
            return cls((moment.astimezone(UTC), told[0], told[1]), told[2])
        except (ValueError, TypeError, OverflowError, RecursionError):
            return cls()

    def write(self) -> str:
        assert self.place is not None
        at, layer, reference = self.place
        said = json.dumps([at.isoformat(), layer, reference, self.temporal], separators=(",", ":"))
        return base64.urlsafe_b64encode(said.encode()).decode()
