"""What the engines themselves remember of a run, for evidence. Asked by name; each function takes the run's id."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from orchestration import checkpoint_gateway
from orchestration.errors import NoSuchRun
from orchestration.models import Run
from orchestration.temporal_gateway import RealTemporal, histories

_KEPT = (
    *("id", "agent", "input", "input_digest", "idempotency_key", "status", "result", "error", "temporal_run_id"),
    *("turn", "checkpoint_id", "dataset_versions", "usage", "created_at", "started_at", "closed_at"),
)


def run(run_id: str) -> dict[str, Any]:
    """Return the run's row. Raises NoSuchRun for a run that is not one of ours."""
    found = Run.objects.select_related("requested_by").filter(pk=run_id).first()
    if found is None:
        raise NoSuchRun("The run is not one of our own agents'.")
    by = found.requested_by.username if found.requested_by else None
    return {name: getattr(found, name) for name in _KEPT} | {"requested_by": by}


def temporal(run_id: str) -> list[dict[str, Any]]:
    """Return Temporal's histories of the run, oldest first. Raises TemporalAway, WorkflowGone."""

    async def ask() -> list[dict[str, Any]]:
        return await histories(await RealTemporal.connect(), run_id)

    return asyncio.run(ask())  # on a loop of this thread's own, over the one connection of the process


def checkpoints(run_id: str) -> list[dict[str, Any]]:
    """Return every checkpoint of the run with its values, newest first; none before the first turn."""
    found: list[dict[str, Any]] = []
    before = "~"
    while lines := checkpoint_gateway.checkpoints_of(run_id, before=before):
        found += [asdict(line) | asdict(checkpoint_gateway.checkpoint_of(run_id, line.checkpoint_id)) for line in lines]
        before = lines[-1].checkpoint_id
    return found
