"""Why a run stands where it stands, and all that need somebody, in the JSON API."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router

from console.api_access import require
from orchestration.api.runs import visible_run
from orchestration.diagnosis import diagnosing, stuck

router = Router(tags=["runs"])


@router.get("/runs/{run_id}/diagnosis")
def diagnosis_of_run(request: HttpRequest, run_id: str) -> dict[str, Any]:
    """Say in a sentence why the run stands where it stands, since when, who can do something, and what."""
    user = require(request, "see_runs")
    run = visible_run(request, run_id)
    return diagnosing.as_json(diagnosing.diagnose(run), user, run)


@router.get("/stuck")
def list_stuck(
    request: HttpRequest, limit: Annotated[int, Query(ge=1, le=200)] = 200, cursor: str = ""
) -> dict[str, Any]:
    """List what runs need somebody for, the worst first; runs that one cure helps are one item."""
    user = require(request, "see")
    page = stuck.groups_for(user, limit=limit, cursor=cursor)
    return {
        "items": [
            {
                "cause": group.cause,
                "group": group.name,
                "sentence": group.sentence,
                "count": group.count,
                "oldest_since": group.oldest_since,
                "runs": [run.pk for run in group.runs],
                "actions": [one.name for one in group.actions],
            }
            for group in page.groups
        ],
        "next": page.next,
    }
