"""The checkpoints of a run's thread in the JSON API."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router

from orchestration import checkpoint_gateway
from orchestration.api.runs import visible_run

router = Router(tags=["runs"])


@router.get("/runs/{run_id}/checkpoints")
def list_checkpoints(
    request: HttpRequest,
    run_id: str,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str, Query(max_length=100)] = "",
) -> dict[str, Any]:
    """List the checkpoints of a run's thread, newest first; the cursor is the last id of the page before."""
    run = visible_run(request, run_id)
    lines = checkpoint_gateway.checkpoints_of(run.pk, before=cursor or "~", limit=limit)
    items = [
        {
            "checkpoint_id": line.checkpoint_id,
            "parent_checkpoint_id": line.parent_checkpoint_id,
            "step": line.step,
            "source": line.source,
            "node": line.node,
            "next": line.next,
            "at": line.at,
            "interrupted": line.interrupted,
        }
        for line in lines
    ]
    return {"items": items, "next": lines[-1].checkpoint_id if len(lines) == limit else None}


@router.get("/runs/{run_id}/checkpoints/{checkpoint_id}")
def get_checkpoint(request: HttpRequest, run_id: str, checkpoint_id: str) -> dict[str, Any]:
    """Return one checkpoint with its values."""
    run = visible_run(request, run_id)
    return checkpoint_gateway.checkpoint_of(run.pk, checkpoint_id)
