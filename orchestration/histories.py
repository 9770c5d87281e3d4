"""What the engines themselves remember of a run, for evidence. Asked by name; each function takes the run's id.

What the agent's author has marked as secret is hidden here too: a pack is handed to people outside.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import asdict
from typing import Any

from orchestration import checkpoint_gateway
from orchestration.errors import NoSuchRun
from orchestration.models import Run
from orchestration.state.secrets import Hidden, hidden_of
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
    facts = {name: getattr(found, name) for name in _KEPT} | {"requested_by": by}
    hidden = hidden_of(found.agent)
    return facts | {name: hidden.without(facts[name]) for name in ("input", "result", "error")}


def temporal(run_id: str) -> list[dict[str, Any]]:
    """Return Temporal's histories of the run, oldest first, secrets hidden. Raises TemporalAway, WorkflowGone."""
    told, hidden = temporal_as_it_is(run_id), _hidden_of(run_id)
    return [_without(hidden, one) for one in told]


def temporal_as_it_is(run_id: str) -> list[dict[str, Any]]:
    """Return what `temporal` does with all that agents' authors hide: to be worked with, and shown to nobody."""

    async def ask() -> list[dict[str, Any]]:
        return await histories(await RealTemporal.connect(), run_id)

    return asyncio.run(ask())  # on a loop of this thread's own, over the one connection of the process


def checkpoints(run_id: str) -> list[dict[str, Any]]:
    """Return every checkpoint of the run with its values, newest first; none before the first turn."""
    found: list[dict[str, Any]] = []
    before, hidden = "~", _hidden_of(run_id)
    while lines := checkpoint_gateway.checkpoints_of(run_id, before=before):
        for line in lines:
            opened = checkpoint_gateway.checkpoint_of(run_id, line.checkpoint_id)
            seen = {"values": hidden.without(opened.values), "tasks": hidden.without_in(opened.tasks)}
            found.append(asdict(line) | asdict(opened) | seen | {"metadata": hidden.without(opened.metadata)})
        before = lines[-1].checkpoint_id
    return found


def _hidden_of(run_id: str) -> Hidden:
    agent = Run.objects.filter(pk=run_id).values_list("agent", flat=True).first()
    return hidden_of(agent or "")


def _without(hidden: Hidden, value: Any) -> Any:
    """Return Temporal's JSON with secrets hidden inside its payloads; a payload without any keeps its very bytes."""
    if isinstance(value, list):
        return [_without(hidden, one) for one in value]
    if not isinstance(value, dict):
        return value
    if isinstance(data := value.get("data"), str) and "metadata" in value and set(value) == {"metadata", "data"}:
        try:
            given = json.loads(base64.b64decode(data))
        except ValueError:
            return value
        told = hidden.without(given)
        if told == given:
            return value
        return value | {"data": base64.b64encode(json.dumps(told, ensure_ascii=False).encode()).decode()}
    return {name: _without(hidden, one) for name, one in value.items()}
