"""What a program gets after it has asked for an approval, and what it says came of it, in the JSON API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from approvals.api.approvals import approval_json
from approvals.errors import InvalidRequest
from approvals.reading import requests
from console.api_access import require
from console.live.held import LONGEST_SECONDS, Wait, wait_for
from console.text.json_text import NotJson, read_exactly
from orchestration import deliveries, outcomes
from orchestration.outcomes import ERROR_LIMIT, Word

router = Router(tags=["approvals"])


class OutcomeIn(Schema):
    """What came of it. `failed`: nothing happened, for certain; `unknown`: the program does not know either."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["done", "failed", "unknown"]
    result: Any = None
    error: Annotated[str, Field(max_length=ERROR_LIMIT)] = ""


@router.get("/approvals/{approval_id}/answer", response={200: Any, 202: Any})
def get_answer(
    request: HttpRequest, approval_id: str, wait: Annotated[float, Query(ge=0, le=LONGEST_SECONDS)] = 0
) -> Status[dict[str, Any]]:
    """Return the answer to a request of one's own, as it is delivered elsewhere; 202 while nobody has decided.

    `wait`: seconds that the request may be held for the answer, which then comes as soon as there is one.
    """
    user = require(request, "request_approval")
    approval = requests.own_of(user, approval_id)
    if approval.is_open:
        if wait:
            topics = (f"approval:{approval.pk}", f"user:{user.pk}")
            wait_for(request, Wait(topics=topics, whose=user.username, seconds=wait))
        return Status(202, {"status": "pending"})
    return Status(200, deliveries.fetched(approval, user.username))


@router.post("/approvals/{approval_id}/outcome")
def post_outcome(request: HttpRequest, approval_id: str, body: OutcomeIn) -> dict[str, Any]:
    """Say what came of what was approved. The same again is 200, another word 409: the first one stands."""
    user = require(request, "request_approval")
    try:
        read_exactly(request.body.decode())  # reading it may have lost digits or keys
    except (NotJson, UnicodeDecodeError) as exc:
        raise InvalidRequest([{"path": "", "message": str(exc)}]) from exc
    outcomes.report(approval_id=approval_id, by=user, word=Word(body.status, body.result, body.error))
    return approval_json(request, requests.approval_for(user, approval_id))
