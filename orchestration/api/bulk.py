"""One action about many runs, in the JSON API."""

from __future__ import annotations

import json
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Router, Schema

from console.api_access import require
from console.text.stored import StoredText
from orchestration.actions import bulk
from orchestration.models import BulkAction

router = Router(tags=["runs"])


Words = Annotated[StoredText, Field(max_length=200)]


class BulkIn(Schema):
    """What to do about which runs, by `ids` or by a `filter` as `GET runs` takes it; options stand beside these."""

    action: Annotated[str, Field(max_length=40)]
    ids: Annotated[list[Words], Field(max_length=bulk.MOST)] | None = None
    filter: dict[str, Words] | None = None
    reason: str = ""
    dry_run: bool = False
    key: Annotated[str, Field(max_length=100)] = ""


@router.post("/runs/actions")
def act_on_runs(request: HttpRequest, body: BulkIn) -> dict[str, Any]:
    """Do something about many runs, with a reason; with `dry_run`, only say what that would do to each.

    It is carried out by the relays: `status` is `waiting`, `done`, `refused` or `stopped`, asked again under the `id`.
    """
    user = require(request, "act_on_run")
    options = {name: value for name, value in json.loads(request.body).items() if name not in BulkIn.model_fields}
    bulk.check(body.action, options)
    asked: dict[str, Any] = {
        "by": user,
        "action": body.action,
        "reason": body.reason,
        "options": options,
        "asked_for": bulk.meant(ids=body.ids, wanted=body.filter),
    }
    if not body.dry_run and (begun := bulk.found_under(body.key, **asked)) is not None:
        return _json(begun)
    run_ids = bulk.chosen(user, ids=body.ids, wanted=body.filter)
    if body.dry_run:
        seen = bulk.preview(run_ids, body.action, options)
        return {
            "items": [
                {
                    "id": one.run_id,
                    "status": "refused" if one.refusal else "would_be_done",
                    "detail": one.refusal or " ".join(one.warnings),
                    "approvals_withdrawn": one.withdrawn,
                    "decisions_voided": one.voided,
                }
                for one in seen
            ]
        }
    return _json(bulk.begin(run_ids=run_ids, key=body.key, **asked))


@router.get("/runs/actions/{bulk_id}")
def get_bulk(request: HttpRequest, bulk_id: str) -> dict[str, Any]:
    """Return how far an action about many runs has got."""
    require(request, "act_on_run")
    return _json(bulk.bulk_for(bulk_id))


@router.post("/runs/actions/{bulk_id}/stop")
def stop_bulk(request: HttpRequest, bulk_id: str) -> dict[str, Any]:
    """Begin no more of it; what is done stays."""
    user = require(request, "act_on_run")
    return _json(bulk.stop(bulk_id=bulk_id, by=user))


def _json(found: BulkAction) -> dict[str, Any]:
    items = found.items.order_by("number").values_list("run_id", "state", "detail")
    return {
        "id": found.pk,
        "action": found.action,
        "reason": found.reason,
        "by": found.by.username,
        "total": found.total,
        "counts": bulk.counts_of(found),
        "created_at": found.created_at,
        "closed_at": found.closed_at,
        "stopped_by": found.stopped_by or None,
        "items": [{"id": run_id, "status": state, "detail": detail} for run_id, state, detail in items],
    }
