"""What checkpoints cost, in the JSON API."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router

from console.api_access import require
from orchestration.retention import costs

router = Router(tags=["runs"])


@router.get("/storage")
def get_storage(request: HttpRequest) -> dict[str, Any]:
    """Return how many bytes the tables of checkpoints take, those of each agent, and what a sweep would free."""
    require(request, "act_on_run")
    return costs.as_json(costs.costs())
