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
    """List what was used on the last days, in UTC, the newest first; `cost_micros` is in millionths of `currency`.

    `total` is of all those days, also of rows that are not listed: `is_cut` says that there are more than 1,000.
    """
    require(request, "see")
    used = spending.by_day(days)
    items = [
        {
            "day": row.day,
            "agent": row.agent,
            "model": row.model,
            "input_tokens": row.tokens.given,
            "output_tokens": row.tokens.taken,
            "cost_micros": row.cost_micros,
        }
        for row in used.rows
    ]
    total = {"input_tokens": used.tokens.given, "output_tokens": used.tokens.taken, "cost_micros": used.cost_micros}
    return {
        "items": items,
        "total": total,
        "is_cut": used.is_cut,
        "currency": environment().currency,
        "next": None,
    }
