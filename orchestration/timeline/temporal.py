"""Temporal's part of a run's story: the chain of its histories, asked page by page and never waited for long.

The chain: a run that was continued names the one before it in its first event; one that was set back names it in the
event of the reset, and what stands before that event is a copy of the older one's.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from django.urls import reverse

from orchestration.errors import TemporalAway, TemporalRefused, WorkflowGone
from orchestration.models import Run
from orchestration.state.secrets import hidden_of
from orchestration.timeline import temporal_rows
from orchestration.timeline.entries import Entry, Place, StoryWish
from orchestration.timeline.temporal_rows import Event, TemporalRow

if TYPE_CHECKING:  # the web process loads the SDK when it asks Temporal, not before
    from orchestration.temporal_protocol import Described, Pending, TemporalReads

DEADLINE: Final = 1.5  # seconds for all that one page asks
_BATCH: Final = 150  # batches of events in one question
_PAGES: Final = 6  # questions for one page of the story
_PASSED_AT_MOST: Final = 60  # pages that lie before the asked place; they do not count
_AFTER_ALL: Final = "\U0010ffff"  # stands after the name of every layer
_REST: Final = 3.0  # seconds in which nobody asks again, after the server has not answered in time

AWAY: Final = "Temporal does not answer just now, so its events are not in this list. They are shown once it answers."
GONE: Final = "Temporal has no history of this run: it was never started, or its time of keeping is over."
PARTLY_GONE: Final = (
    "Temporal has deleted an earlier history of this run, for its time of keeping is over or somebody did so. What is"
    " left is in this list."
)
_silent_until = 0.0


@dataclass(frozen=True)
class Spot:
    """Where to go on reading: a Temporal run, a page of its history, and whether what comes first is a copy."""

    temporal_run_id: str = ""
    page: str = ""
    is_copy: bool = False  # until the event of the reset

    @classmethod
    def read(cls, text: str) -> Spot:
        parts = text.split("|")
        return cls(parts[0], parts[1], parts[2] == "copy") if len(parts) == 3 else cls()

    def write(self) -> str:
        return f"{self.temporal_run_id}|{self.page}|{'copy' if self.is_copy else ''}"


@dataclass
class TemporalPart:
    """What Temporal told."""

    entries: list[Entry] = field(default_factory=list)
    pending: list[Entry] = field(default_factory=list)
    missing: str = ""
    is_told: bool = False
    edge: Place | None = None  # up to where the history was read, when it goes on and not all that was asked is there
    #: each page read, and the time of the farthest event up to it; `None` while none has had one
    spots: list[tuple[Spot, datetime | None]] = field(default_factory=list)
    goes_back: bool = False

    def spot_after(self, end: Place) -> str:
        """Return where the next page of the story goes on: one page earlier, for what began there."""
        if not self.spots:
            return ""
        reached = len(self.spots) - 1
        if end != self.edge:  # from the edge on it goes on with what has not been read, though all be of one instant
            reached = next((number for number, (_, far) in enumerate(self.spots) if self.is_at(far, end)), reached)
        return self.spots[max(0, reached - 1)][0].write()

    def is_at(self, farthest: datetime | None, end: Place) -> bool:
        return farthest is not None and (farthest <= end[0] if self.goes_back else farthest >= end[0])


def part(run: Run, wish: StoryWish, spot: str) -> TemporalPart:
    """Ask for the part of the story that the wish names. Waits at most DEADLINE; raises nothing."""
    global _silent_until
    if time.monotonic() < _silent_until:
        return TemporalPart(missing=AWAY)
    try:
        return asyncio.run(asyncio.wait_for(_ask(run, wish, Spot.read(spot)), DEADLINE))
    except WorkflowGone:
        return TemporalPart(missing=GONE)
    except TemporalRefused as exc:
        return TemporalPart(missing=f"Temporal does not tell its part: {exc}")
    except (TimeoutError, TemporalAway):
        _silent_until = time.monotonic() + _REST
        return TemporalPart(missing=AWAY)


def events_of(run: Run, temporal_run_id: str, numbers: set[int], page: str) -> tuple[list[dict[str, Any]], str]:
    """Return what the events hold, {"name", "holds"} in their order, payloads decoded and secrets hidden; or why not.

    `page`: where they were seen, as a row of the timeline says.
    """

    async def ask() -> list[Event]:
        reads = await _door()
        found: list[Event] = []
        after = page
        for _ in range(3):
            told = await reads.history_back(run.pk, temporal_run_id, after=after, most=_BATCH)
            found += [event for event in told.events if int(event.get("eventId", 0)) in numbers]
            after = told.after
            if len(found) == len(numbers) or not after:
                break
        return found

    try:
        found = asyncio.run(asyncio.wait_for(ask(), 2 * DEADLINE))
    except WorkflowGone:
        return [], GONE
    except TemporalRefused:
        return [], "Temporal has no such page any more. Open the timeline again."
    except (TimeoutError, TemporalAway):
        return [], "Temporal does not answer just now. Close this and open it again later."
    hidden = hidden_of(run.agent)
    found.sort(key=lambda event: int(event.get("eventId", 0)))
    return [{"name": _name_of(event), "holds": hidden.without(payloads_in(event))} for event in found], ""


def _name_of(event: Event) -> str:
    return f"{event.get('eventId', '')} {temporal_rows.kind_of(event).replace('_', ' ').capitalize()}"


async def _door() -> TemporalReads:
    from orchestration.temporal_gateway import RealTemporal

    return await RealTemporal.connect()


async def _ask(run: Run, wish: StoryWish, spot: Spot) -> TemporalPart:
    reads = await _door()
    if wish.newest_first and wish.beyond is None:
        (found, described) = await asyncio.gather(read(reads, run, wish, spot), reads.describe(run.pk))
        found.pending = pending_of(run, described)
        return found
    return await read(reads, run, wish, spot)


async def read(reads: TemporalReads, run: Run, wish: StoryWish, spot: Spot) -> TemporalPart:
    """Read pages of the chain until the wish is fulfilled, or _PAGES are read; `edge` says how far."""
    part, told, passed = TemporalPart(is_told=True, goes_back=wish.newest_first), 0, 0
    chain = _Chain(reads, run)
    pages = chain.backwards(spot) if wish.newest_first else chain.forwards(spot)
    by_run: dict[str, list[Event]] = {}
    seen_at: dict[tuple[str, int], str] = {}  # the page in which an event was read first
    entries: list[Entry] = []
    farthest: datetime | None = None
    before = farthest  # of the page before
    async for here, events in pages:
        if told == _PAGES or passed == _PASSED_AT_MOST:
            if len(part.entries) < wish.most:
                part.edge = _edge(wish, entries, farthest, before) if farthest is not None else wish.beyond
            break
        by_run.setdefault(here.temporal_run_id, []).extend(events)
        for event in events:
            seen_at.setdefault((here.temporal_run_id, int(event.get("eventId", 0))), here.page)
        moments = [moment for event in events if (moment := temporal_rows.moment_of(event))]
        before = farthest
        if moments:
            farthest = min(moments) if wish.newest_first else max(moments)
        part.spots.append((here, farthest))
        if wish.beyond is not None and not part.is_at(farthest, wish.beyond):
            passed += 1
            continue
        told += 1
        rows = {
            (temporal_run_id, row.first): row
            for temporal_run_id, known in by_run.items()
            for row in temporal_rows.rows_of(known)
            if row.is_whole
        }
        entries = [_entry(run, temporal_run_id, row, seen_at) for (temporal_run_id, _), row in rows.items()]
        part.entries = wish.takes(entries)
        if len(part.entries) >= wish.most and (wish.newest_first or _are_whole(part.entries)):
            break
    if chain.lacks_some:
        part.missing = PARTLY_GONE
    return part


def _edge(wish: StoryWish, entries: list[Entry], farthest: datetime, before: datetime | None) -> Place:
    """Return up to where what was read is whole: not what is of the very instant at which the reading ended.

    Nor what began on the last page and has not ended on it: its end may stand on the next one.
    """
    if wish.newest_first:
        return (farthest, _AFTER_ALL, "")
    begun = [entry.at for entry in entries if entry.is_open and before is not None and entry.at > before]
    return (min([farthest, *begun]), "", "")


def _are_whole(entries: list[Entry]) -> bool:
    return not any(entry.is_open for entry in entries)


class _Chain:
    """The histories of one run, read page by page; a link that Temporal has deleted is passed over."""

    def __init__(self, reads: TemporalReads, run: Run) -> None:
        self.lacks_some = False
        self._reads = reads
        self._run = run

    async def backwards(self, spot: Spot) -> AsyncIterator[tuple[Spot, list[Event]]]:
        """Yield the pages, newest first; each once, and a copy only where what it was copied from is gone."""
        temporal_run_id, after = spot.temporal_run_id, spot.page
        if not temporal_run_id:
            temporal_run_id = (await self._reads.describe(self._run.pk)).temporal_run_id
        known: set[str] = set()
        while temporal_run_id and temporal_run_id not in known:
            known.add(temporal_run_id)
            before = ""
            while True:
                here = Spot(temporal_run_id, after)
                page = await self._reads.history_back(self._run.pk, temporal_run_id, after=after, most=_BATCH)
                events: list[Event] = []
                for event in page.events:
                    events.append(event)
                    named = temporal_rows.reset_of(event) or temporal_rows.continued_from(event)
                    if named and named != temporal_run_id and await self._is_kept(named):
                        before = named
                        break
                yield here, events
                after = page.after
                if not after or before:
                    break
            temporal_run_id, after = before, ""

    async def forwards(self, spot: Spot) -> AsyncIterator[tuple[Spot, list[Event]]]:
        """Yield the pages, oldest first; each once, and a copy only where what it was copied from is gone."""
        chain = self._run.temporal_run_ids
        temporal_run_id, after, is_copy = spot.temporal_run_id, spot.page, spot.is_copy
        if not temporal_run_id:
            temporal_run_id, _ = await self._first_kept(chain)
            temporal_run_id = temporal_run_id or (await self._reads.describe(self._run.pk)).temporal_run_id
        known: set[str] = set()
        while temporal_run_id and temporal_run_id not in known:
            known.add(temporal_run_id)
            following = ""
            while True:
                here = Spot(temporal_run_id, after, is_copy)
                page = await self._reads.history(self._run.pk, temporal_run_id, after=after, most=_BATCH)
                events = []
                for event in page.events:
                    is_copy = is_copy and not temporal_rows.reset_of(event)
                    following = temporal_rows.continued_by(event) or following
                    if not is_copy:
                        events.append(event)
                yield here, events
                after = page.after
                if not after:
                    break
            at = chain.index(temporal_run_id) + 1 if temporal_run_id in chain else len(chain)
            rest = [following, *chain[at:]] if following and following not in chain[at:] else chain[at:]
            temporal_run_id, passed = await self._first_kept(rest)
            is_copy, after = not following and not passed, ""

    async def _first_kept(self, links: list[str]) -> tuple[str, int]:
        """Return the first link that Temporal still has, "" for none, and how many before it are gone."""
        for number, link in enumerate(links):
            if await self._is_kept(link):
                return link, number
        return "", len(links)

    async def _is_kept(self, temporal_run_id: str) -> bool:
        try:
            await self._reads.history(self._run.pk, temporal_run_id, most=1)
        except WorkflowGone:
            self.lacks_some = True
            return False
        return True


def _entry(run: Run, temporal_run_id: str, row: TemporalRow, seen_at: dict[tuple[str, int], str]) -> Entry:
    assert row.at is not None
    state, ended_at = row.state, row.ended_at
    is_over = run.status not in Run.OPEN or (run.temporal_run_id and temporal_run_id != run.temporal_run_id)
    if state == "running" and is_over:  # its workflow ended first, so no event tells of its end
        state = "done"
    again = f"attempt {row.attempt}" if row.attempt > 1 else ""
    page = next((seen_at[key] for number in row.events if (key := (temporal_run_id, number)) in seen_at), "")
    asked = {"of": temporal_run_id, "events": ",".join(str(number) for number in row.events), "page": page}
    return Entry(
        at=row.at,
        layer="temporal",
        kind=row.kind,
        title=row.title,
        detail=" · ".join(word for word in (row.detail, again) if word),
        reference=f"{temporal_run_id}/{row.first}",
        state=state,
        began_at=row.at,
        ended_at=ended_at,
        opens=f"{reverse('orchestration:events', args=[run.pk])}?{urlencode(asked)}",
    )


def pending_of(run: Run, described: Described) -> list[Entry]:
    """Return the activities that have not ended and have failed before: attempt, last error, next try."""
    return [_pending(run, described, one) for one in described.pending if one.attempt > 1 and one.last_failure]


def _pending(run: Run, described: Described, one: Pending) -> Entry:
    next_try = f"next try {one.next_try_at:%H:%M:%S} UTC · " if one.next_try_at else ""
    return Entry(
        at=one.next_try_at or described.started_at,
        layer="temporal",
        kind="pending_activity",
        title=f"{one.activity}, attempt {one.attempt}",
        detail=f"{next_try}{one.last_failure}"[:600],
        reference=f"{described.temporal_run_id}/pending/{one.activity}",
        state="failed",
    )


def payloads_in(value: Any) -> Any:
    """Return Temporal's JSON with each payload decoded in its place, where it is JSON."""
    if isinstance(value, dict):
        if set(value) <= {"metadata", "data"} and "metadata" in value:
            return _decoded(value)
        return {name: payloads_in(item) for name, item in value.items()}
    return [payloads_in(item) for item in value] if isinstance(value, list) else value


def _decoded(payload: dict[str, Any]) -> Any:
    try:
        raw = base64.b64decode(payload.get("data", ""))
        encoding = base64.b64decode(payload["metadata"].get("encoding", "")).decode()
        if encoding.startswith("json/"):
            return json.loads(raw or b"null")
        if encoding == "binary/null":
            return None
    except (ValueError, AttributeError, TypeError):
        return "(cannot be read)"
    return f"({len(raw)} bytes, {encoding or 'of no known kind'})"
