"""Versions: where one comes from and who used it, what differs, another one made current, windows of the past."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from console.clock import database_now
from console.http import needs, person
from dataplane import changes, lineage, selectors
from dataplane.errors import ContentUnknown, DatasetNotPublished, FlowRunActionRefused, InvalidParameters


@require_safe
@needs("see")
def origin(request: HttpRequest, dataset: str, number: int) -> HttpResponse:
    """The version's lineage, from its sources to the requests."""
    version = selectors.version(dataset, number)
    found = lineage.of(version)
    context = {"state": selectors.dataset(dataset), "version": version, "drawing": _drawn(found), "found": found}
    return render(request, "dataplane/origin.html", context)


COLUMN, ROW, WIDTH, HEIGHT = 240, 64, 200, 44  # of the drawing, in its own units
MOST_LETTERS = 26


@dataclass(frozen=True)
class _Box:
    node: lineage.LineageNode
    x: int
    y: int
    title: str  # as much of it as there is room for

    @property
    def text_x(self) -> int:
        return self.x + 12

    @property
    def text_y(self) -> int:
        return self.y + 27


def _drawn(found: lineage.Lineage) -> dict[str, Any]:
    """Return boxes and lines for the page; what the drawing says, the lists below it say in words."""
    boxes: dict[str, _Box] = {}
    columns = found.columns
    for across, (_, nodes) in enumerate(columns):
        for down, node in enumerate(nodes):
            title = node.title if len(node.title) <= MOST_LETTERS else f"{node.title[: MOST_LETTERS - 1]}…"
            boxes[node.id] = _Box(node, across * COLUMN + 4, down * ROW + 4, title)
    lines = []
    for before, after in found.edges:
        one, other = boxes[before], boxes[after]
        begin, end = (one.x + WIDTH, one.y + HEIGHT // 2), (other.x, other.y + HEIGHT // 2)
        middle = (begin[0] + end[0]) // 2
        lines.append(f"M{begin[0]},{begin[1]} C{middle},{begin[1]} {middle},{end[1]} {end[0]},{end[1]}")
    return {
        "boxes": list(boxes.values()),
        "lines": lines,
        "width": len(columns) * COLUMN,
        "height": max(len(nodes) for _, nodes in columns) * ROW + 8,
    }


@require_safe
@needs("see")
def difference(request: HttpRequest, dataset: str, number: int) -> HttpResponse:
    """What this version has that another one has not; the one before, unless another is asked for."""
    given = request.GET.get("against", "")
    other = int(given) if given.isdecimal() and len(given) < 10 else max(1, number - 1)
    version, against = selectors.version(dataset, number), selectors.version(dataset, other)
    context: dict[str, Any] = {
        "state": selectors.dataset(dataset),
        "version": version,
        "against": against,
        "kinds": [],
        "fault": "",
    }
    try:
        found = selectors.difference(against, version)
        context["kinds"] = [("Added", found.added), ("Removed", found.removed), ("Changed", found.changed)]
    except ContentUnknown as exc:
        context["fault"] = str(exc)
    return render(request, "dataplane/difference.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@needs("refresh")
def make_current(request: HttpRequest, dataset: str, number: int) -> HttpResponse:
    """Who would be affected, and then the change."""
    context: dict[str, Any] = {"state": selectors.dataset(dataset), "number": number, "fault": "", "reason": ""}
    status = 200
    try:
        context["touched"] = changes.preview_rollback(dataset, number)
        if request.method == "POST":
            context["reason"] = request.POST.get("reason", "")
            changes.roll_back(dataset=dataset, version=number, reason=context["reason"], user=person(request))
            messages.success(request, f"Version {number} is current now. Nothing was written or removed.")
            return redirect("dataplane:version", dataset, number)
    except InvalidParameters as exc:
        context["fault"], status = exc.errors[0]["message"], exc.http_status
    except (FlowRunActionRefused, DatasetNotPublished) as exc:
        context["refusal"], status = str(exc), exc.http_status
    return render(request, "dataplane/make_current.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@needs("refresh")
def backfill(request: HttpRequest, dataset: str) -> HttpResponse:
    """The windows between two days with what became of each; those without a refresh can be asked for."""
    state, status = selectors.dataset(dataset), 200
    today = database_now().astimezone(ZoneInfo(state.entry.window.zone)).date()
    sent = request.POST if request.method == "POST" else request.GET
    typed = {
        "begin": sent.get("from", str(today - timedelta(days=7))),
        "end": sent.get("to", str(today)),
        "limit": sent.get("limit", str(changes.USUAL_WINDOWS)),
    }
    context: dict[str, Any] = {"state": state, "typed": typed, "faults": {}, "found": None}
    try:
        begin, end = changes.span_of(dataset, typed["begin"], typed["end"])
        limit = int(typed["limit"]) if typed["limit"].isdecimal() and len(typed["limit"]) < 6 else 0
        context["found"] = changes.preview_backfill(dataset, begin, end, limit)
        if request.method == "POST":
            asked = len(context["found"].missing)
            changes.backfill(dataset=dataset, begin=begin, end=end, limit=limit, user=person(request))
            messages.success(request, f"Asked for {asked} refresh{'' if asked == 1 else 'es'}.")
            shown = urlencode({"from": typed["begin"], "to": typed["end"], "limit": limit})
            return redirect(f"{request.path}?{shown}")
    except InvalidParameters as exc:
        context["faults"], status = {one["path"]: one["message"] for one in exc.errors}, exc.http_status
    return render(request, "dataplane/backfill.html", context, status=status)
