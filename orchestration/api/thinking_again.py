"""Refresh what a request's agent has read, and have it ask again, in the JSON API."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Router, Schema, Status

from approvals.reading import requests
from console import ports, problems
from console.api_access import require
from console.text.stored import StoredText
from orchestration import thinking_again
from orchestration.errors import ActionRefused
from orchestration.models import Rethinking

router = Router(tags=["approvals"])


class ThinkAgainIn(Schema):
    """Why; may be left out."""

    model_config = {"extra": "forbid"}

    reason: Annotated[StoredText, Field(max_length=400)] = thinking_again.REASON


@router.post("/approvals/{approval_id}/refresh-and-ask-again", response={202: Any})
def refresh_and_ask_again(
    request: HttpRequest, approval_id: str, body: ThinkAgainIn | None = None
) -> Status[dict[str, Any]]:
    """Refresh what the agent has read; once there is another version, the request is withdrawn and the agent asks anew.

    For whoever may decide the request, operators and admins. The request stays open meanwhile, and may be decided.
    The same again, by whomever, is the same wish while it waits. 409 says why an agent cannot think again.
    """
    user = require(request, "see")  # whoever the policy names: `thinking_again.may_ask` says
    approval = requests.approval_for(user, approval_id)
    if not approval.is_open:
        raise problems.of(ActionRefused("The request is closed, so there is nothing to ask again."))
    if not approval.run_id:
        raise problems.of(ActionRefused("A program has asked this: let it withdraw the request and ask anew."))
    reason = (body or ThinkAgainIn()).reason
    wish = thinking_again.ask(run_id=approval.run_id, by=user, reason=reason)
    return Status(202, _wish_json(wish, approval.pk))


def _wish_json(wish: Rethinking, approval_id: str) -> dict[str, Any]:
    """Return the public shape of a wish: its refreshes, and which requests it withdraws if they bring a new version.

    `refresh`: the first of `refreshes`; null where the newer version is there already.
    """
    refreshes = ports.data_plane().refreshes_told(wish.refreshes)
    return {
        "refresh": refreshes[0] if refreshes else None,
        "refreshes": refreshes,
        "superseded": approval_id,
        "superseded_all": wish.approvals,
        "state": wish.state,
        "asked_by": wish.by.get_username(),
        "reason": wish.reason,
        "run_id": wish.run_id,
    }
