"""The checkpoints of a run's thread in the JSON API."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router

from orchestration import checkpoint_gateway
from orchestration.api.runs import visible_run
from orchestration.state.between import changes_of
from orchestration.state.secrets import hidden_of

router = Router(tags=["runs"])


@router.get("/runs/{run_id}/checkpoints")
def list_checkpoints(
    request: HttpRequest,
    run_id: str,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str, Query(max_length=100)] = "",
    namespace: Annotated[str, Query(max_length=1000)] = "",
) -> dict[str, Any]:
    """List the checkpoints of a run's thread, newest first; the cursor is the last id of the page before.

    `namespace`: those of a graph inside the graph.
    """
    run = visible_run(request, run_id)
    lines = checkpoint_gateway.checkpoints_of(run.pk, before=cursor or "~", limit=limit, namespace=namespace)
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
            "failed": line.failed,
            "changed": line.changed,
            "began_at": line.began_at,
            "namespace": line.namespace,
        }
        for line in lines
    ]
    return {"items": items, "next": lines[-1].checkpoint_id if len(lines) == limit else None}


@router.get("/runs/{run_id}/checkpoints/{checkpoint_id}", url_name="checkpoint")
def get_checkpoint(request: HttpRequest, run_id: str, checkpoint_id: str) -> dict[str, Any]:
    """Return one checkpoint with its values; what the agent's author calls secret is hidden.

    `by_changes`: keys of the state that are not among them, for the checkpoint holds only what has changed in them.
    """
    run = visible_run(request, run_id)
    found, hidden = checkpoint_gateway.checkpoint_of(run.pk, checkpoint_id), hidden_of(run.agent)
    return {
        "values": hidden.without(found.values),
        "by_changes": found.by_changes,
        "next": found.next,
        "tasks": hidden.without_in(found.tasks),
        "metadata": found.metadata,
    }


@router.get("/runs/{run_id}/checkpoints/{checkpoint_id}/diff", url_name="difference")
def get_difference(
    request: HttpRequest, run_id: str, checkpoint_id: str, against: Annotated[str, Query(max_length=100)] = ""
) -> dict[str, Any]:
    """Return what changed since another checkpoint, the one before it by default, path by path."""
    run = visible_run(request, run_id)
    other, changes = changes_of(run, checkpoint_id, against)
    return {
        "against": other or None,
        "changes": [{"path": one.path, "kind": one.kind, "before": one.before, "after": one.after} for one in changes],
    }
