"""Several decisions in one call of the JSON API, each with a result of its own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja import Field, Header, Router, Schema

from approvals.api.approvals import approvals_json, decision_json
from approvals.people.permissions import visible_to
from approvals.reading import bulk, requests
from approvals.reading.bulk import Item, Result
from console.api_access import require
from console.database import AWAY
from console.http import signed_in_at

router = Router(tags=["approvals"])


class ItemIn(Schema):
    """A verdict on exactly what was shown of one approval."""

    id: Annotated[str, Field(max_length=40)]
    verdict: Literal["approve", "edit", "reject", "respond"]
    version: int
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    note: str = ""


class DecisionsIn(Schema):
    items: Annotated[list[ItemIn], Field(min_length=1, max_length=bulk.MOST)]


@router.post("/approvals/decisions")
def post_decisions(
    request: HttpRequest,
    body: DecisionsIn,
    idempotency_key: Annotated[str, Header(alias="Idempotency-Key", max_length=200)] = "",
) -> dict[str, Any]:
    """Decide several approvals, at most 100, each on its own; results come in the order asked.

    Each result has the `status` that the single call would have had, and with 200 its `approval` and `decision`, else
    the problem's fields. High risk, and what a rule keeps out of bulk, is 403 with the rule `no-bulk`. 503 says of each
    whether it was not recorded or is not known yet; `approval` is null when it is recorded and cannot be read just now.
    The same Idempotency-Key with the same items gets the same answer.
    """
    user = require(request, "see")  # as for a single one
    items = [Item(one.id, one.verdict, one.version, one.digest, one.note) for one in body.items]
    results = bulk.decide_each(user, items, key=idempotency_key, signed_in_at=signed_in_at(request))
    try:
        shown = _shown(request, user, [one.item.approval_id for one in results if one.status == 200])
    except AWAY:  # what is known of each item must not be lost with it
        shown = {}
    return {"items": [_result_json(result, shown) for result in results]}


def _shown(request: HttpRequest, user: User, approval_ids: list[str]) -> dict[str, dict[str, Any]]:
    rows = list(requests.with_parts(visible_to(user).filter(pk__in=approval_ids)))
    return {shape["id"]: shape for shape in approvals_json(request, rows)} if rows else {}


def _result_json(result: Result, shown: dict[str, dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {"id": result.item.approval_id, "status": result.status}
    if result.decision is not None:
        return told | {"approval": shown.get(result.item.approval_id), "decision": decision_json(result.decision)}
    assert result.error is not None
    error = result.error
    return {"title": error.title, "detail": error.detail, **error.facts(), **told}
