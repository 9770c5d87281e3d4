"""A run's timeline: all layers on one axis beside a list, page by page; and what one Temporal event holds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2s
from typing import Any, Final

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from console.clock import database_now
from console.fragments import page_or_fragment, part_of_page
from console.http import needs
from console.live.parts import is_a_part
from orchestration import selectors
from orchestration.models import Run
from orchestration.timeline import drawing, story, temporal
from orchestration.timeline.drawing import LaneDrawing
from orchestration.timeline.entries import LAYERS, TITLES, Entry, Layer
from orchestration.timeline.story import PAGE, Story

ONLY: Final = {"": "All", "open": "Waiting or running", "failed": "Failed"}
FEW: Final = 12  # rows on a run's own page
_LONGEST: Final = 40_000  # characters of an event's values on a page


@dataclass(frozen=True)
class TimelineRow:
    """One row of the list; `key` is the same at every look, so that what is opened stays open."""

    entry: Entry
    key: str


@dataclass(frozen=True)
class ShownTimeline:
    """The timeline as the address asks for it."""

    run: Run
    story: Story
    rows: list[TimelineRow]
    now: list[TimelineRow]
    drawing: LaneDrawing | None
    layers: tuple[Layer, ...]
    only: str
    cursor: str
    asks_temporal: bool
    most: int = PAGE

    def address(self, **changes: Any) -> str:
        wishes = {
            "layer": ",".join(self.layers),
            "only": self.only,
            "cursor": self.cursor,
            "temporal": "1" if self.asks_temporal else "",
            "most": "" if self.most == PAGE else str(self.most),
        } | changes
        asked = urlencode({name: wish for name, wish in wishes.items() if wish})
        return reverse("orchestration:timeline", args=[self.run.pk]) + (f"?{asked}" if asked else "")

    @property
    def here(self) -> str:
        """Where the same is asked for with Temporal's part, for which the page itself does not wait."""
        return self.address(temporal="1" if self.wants_temporal else "")

    @property
    def wants_temporal(self) -> bool:
        return not self.layers or "temporal" in self.layers

    @property
    def is_waiting(self) -> bool:
        """Whether Temporal's part is still to come."""
        return self.wants_temporal and not self.asks_temporal

    @property
    def older(self) -> str:
        return self.address(cursor=self.story.next_cursor, most="") if self.story.next_cursor else ""

    @property
    def newest(self) -> str:
        return self.address(cursor="", most="") if self.cursor else ""

    @property
    def layer_tabs(self) -> list[tuple[str, str, bool]]:
        tabs = [(self.address(layer="", cursor="", most=""), "All layers", not self.layers)]
        return tabs + [
            (self.address(layer=layer, cursor="", most=""), TITLES[layer], self.layers == (layer,)) for layer in LAYERS
        ]

    @property
    def only_tabs(self) -> list[tuple[str, str, bool]]:
        return [(self.address(only=only, cursor="", most=""), title, self.only == only) for only, title in ONLY.items()]


@is_a_part
@require_safe
@needs("see")
def timeline(request: HttpRequest, run_id: str) -> HttpResponse:
    """The timeline of one run. Without `temporal=1` no engine is asked, so the page is there at once."""
    found = selectors.run_for(request.user, run_id)
    context = {"run": found, "shown": shown_of(request, found)}
    return page_or_fragment(request, "orchestration/timeline.html", "orchestration/_timeline.html", context)


def shown_of(request: HttpRequest, run: Run, most: int = 0) -> ShownTimeline:
    """Return the timeline as the address asks for it; `most`: rows, where the page says how many."""
    asked = request.GET
    most = most or (FEW if asked.get("most") == str(FEW) else PAGE)
    named = asked.get("layer", "").split(",")
    layers = tuple(layer for layer in LAYERS if layer in named)
    only = asked.get("only", "") if asked.get("only", "") in ONLY else ""
    asks = asked.get("temporal") == "1"
    cursor = asked.get("cursor", "")[:2000]
    told = story.page(run, layers=layers, only=only, cursor=cursor, most=most, ask_temporal=asks)
    rows, now = [_row(entry) for entry in told.entries], [_row(entry) for entry in told.now]
    both = rows + [row for row in now if row.key not in {one.key for one in rows}]
    drawn = drawing.drawn([row.entry for row in both], [row.key for row in both], _now(run), run.created_at)
    return ShownTimeline(run, told, rows, now, drawn, layers, only, cursor, asks, most)


def _now(run: Run) -> datetime | None:
    return run.closed_at or database_now()


def _row(entry: Entry) -> TimelineRow:
    said = f"{entry.layer}:{entry.kind}:{entry.reference}"
    return TimelineRow(entry, blake2s(said.encode(), digest_size=6).hexdigest())


@require_safe
@needs("see")
def events(request: HttpRequest, run_id: str) -> HttpResponse:
    """What some events of one of the run's Temporal histories hold, decoded; `download=1`: as a file."""
    found = selectors.run_for(request.user, run_id)
    asked = request.GET
    named = asked.get("events", "")[:400].split(",")[:20]
    numbers = {int(one) for one in named if one.isascii() and one.isdigit() and len(one) < 10}
    if not numbers:
        raise Http404
    of, page = asked.get("of", "")[:100], asked.get("page", "")[:1000]
    told, fault = temporal.events_of(found, of, numbers, page)
    if asked.get("download") == "1" and not fault:
        response = HttpResponse(_json(told), content_type="application/json; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="events-{min(numbers)}.json"'
        return response
    whole = {one["name"]: _json(one["holds"]) for one in told}
    context = {
        "events": [(name, text[:_LONGEST], len(text) > _LONGEST) for name, text in whole.items()],
        "fault": fault,
        "copy": _json(told) if sum(len(text) for text in whole.values()) < _LONGEST else "",
        "download": f"{request.path}?{urlencode({**asked.dict(), 'download': '1'})}",
    }
    return part_of_page(
        request, reverse("orchestration:timeline", args=[found.pk]), "orchestration/_events.html", lambda: context
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)
