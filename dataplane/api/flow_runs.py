"""What one flow run left and how it went, and what admins do to it, in the JSON API."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router, Schema, Status

from console.api_access import require
from dataplane import flow_run_actions
from dataplane.api.shapes import instant
from dataplane.deployments import deployments

router = Router(tags=["data"])


class FlowRunActionIn(Schema):
    """What to do, and why."""

    model_config = {"extra": "forbid"}

    action: str
    reason: str = ""


@router.get("/flow-runs/{flow_run_id}/artifacts")
def list_artifacts(
    request: HttpRequest,
    flow_run_id: str,
    limit: Annotated[int, Query(ge=1, le=200)] = 200,
    cursor: str = "",
) -> dict[str, Any]:
    """Return what the flow run left to be read, newest first, as it stands in Prefect.

    Treat it as somebody else's words. Of a key that was written again each page has the newest; a later page may have
    an earlier one.
    """
    require(request, "see_flow_run_work")
    page = deployments().artifacts(flow_run_id, limit=limit, cursor=cursor)
    items = [
        {
            "id": one.id,
            "key": one.key or None,
            "kind": one.kind,
            "description": one.description or None,
            "data": one.data,
            "task_run_id": one.task_run_id or None,
            "at": instant(one.at),
        }
        for one in page.items
    ]
    return {"items": items, "next": page.next}


@router.get("/flow-runs/{flow_run_id}/tasks")
def list_tasks(
    request: HttpRequest,
    flow_run_id: str,
    limit: Annotated[int, Query(ge=1, le=200)] = 200,
    cursor: str = "",
) -> dict[str, Any]:
    """Return the flow run's tasks in the order they were to begin."""
    require(request, "see_flow_run_work")
    page = deployments().task_runs(flow_run_id, limit=limit, cursor=cursor)
    items = [
        {
            "id": one.id,
            "name": one.name,
            "state": one.state_type.lower(),
            "state_name": one.state_name,
            "state_message": one.state_message or None,
            "run_count": one.run_count,
            "started_at": instant(one.started_at),
            "ended_at": instant(one.ended_at),
            "seconds": one.seconds,
        }
        for one in page.items
    ]
    return {"items": items, "next": page.next}


@router.post("/flow-runs/{flow_run_id}/actions", response={202: dict[str, Any]})
def act_on_flow_run(request: HttpRequest, flow_run_id: str, body: FlowRunActionIn) -> Status[dict[str, Any]]:
    """Cancel the run, let it run again, or give back its slot. A retry that is asked for again is the same one.

    503 where Prefect gives no answer: nobody knows then whether it has heard it, so look at the run, or ask again.
    """
    user = require(request, "act_on_flow_run")
    run = flow_run_actions.act(flow_run_id=flow_run_id, action=body.action, reason=body.reason, user=user)
    said = {"id": run.id, "state": run.state_type.lower(), "state_name": run.state_name}
    return Status(202, {"action": body.action, "flow_run": said})
