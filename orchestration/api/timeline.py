"""A run's timeline in the JSON API: every layer in one list."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router

from orchestration.api.runs import visible_run
from orchestration.timeline import story
from orchestration.timeline.entries import Entry

router = Router(tags=["runs"])


@router.get("/runs/{run_id}/timeline", url_name="timeline")
def get_timeline(
    request: HttpRequest,
    run_id: str,
    layer: Annotated[str, Query(max_length=100, description="those wanted, separated by commas; all if none")] = "",
    limit: Annotated[int, Query(ge=1, le=story.MOST)] = 100,
    cursor: Annotated[str, Query(max_length=2000)] = "",
) -> dict[str, Any]:
    """List what happened to a run, oldest first. `missing` says which layer has not told its part, and why."""
    run = visible_run(request, run_id)
    layers = [name for name in layer.split(",") if name]
    told = story.page(run, layers=layers, cursor=cursor, newest_first=False, most=limit, ask_temporal=True)
    return {
        "items": [_entry_json(request, entry) for entry in told.entries],
        "next": told.next_cursor or None,
        "missing": [{"layer": "temporal", "sentence": told.missing}] if told.missing else [],
    }


def _entry_json(request: HttpRequest, entry: Entry) -> dict[str, Any]:
    return {
        "at": entry.at,
        "layer": entry.layer,
        "kind": entry.kind,
        "title": entry.title,
        "detail": entry.detail,
        "reference": entry.reference,
        "state": entry.state,
        "began_at": entry.began_at,
        "ended_at": entry.ended_at,
        "duration_seconds": entry.took.total_seconds() if entry.took is not None else None,
        "url": request.build_absolute_uri(entry.url) if entry.url else None,
    }
