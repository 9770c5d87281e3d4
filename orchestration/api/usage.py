"""What models were used, by agent and day, in the JSON API."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router

from console.api_access import require
from console.environment import environment
from orchestration import spending

router = Router(tags=["usage"])


@router.get("/usage")
def list_usage(request: HttpRequest, days: Annotated[int, Query(ge=1, le=spending.MOST_DAYS)] = 7) -> dict[str, Any]:
    """List what was used on the last days, in UTC, the newest first; `cost_micros` is in millionths of `currency`."""
    require(request, "see")
    items = [
        {
            "day": row.day,
            "agent": row.agent,
            "model": row.model,
            "input_tokens": row.tokens.given,
            "output_tokens": row.tokens.taken,
            "cost_micros": row.cost_micros,
        }
        for row in spending.by_day(days)
    ]
    return {"items": items, "currency": environment().currency, "next": None}
