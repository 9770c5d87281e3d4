"""Workflows of other people, in the JSON API: what operators send to them, and what came of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Router, Schema, Status

from console.api_access import require
from console.environment import environment
from orchestration.messages import sending
from orchestration.messages.sending import WorkflowLetter

router = Router(tags=["workflows"])


class MessageIn(Schema):
    """What to send to which workflow. `workflow_type`: has the arguments checked where that type is known."""

    model_config = {"extra": "forbid"}

    kind: Literal["signal", "query", "update"]
    workflow_id: str
    namespace: str = ""
    name: str
    arguments: Annotated[list[Any], Field(max_length=20)] = []
    workflow_type: Annotated[str, Field(max_length=200)] = ""
    reason: str = ""
    key: Annotated[str, Field(max_length=100)] = ""
    dry_run: bool = False


@router.post("/workflows/messages", response={200: Any, 202: Any})
def send_message(request: HttpRequest, body: MessageIn) -> Status[dict[str, Any]]:
    """Send a signal, a query or an update, with a reason; with `dry_run`, only say what that would do.

    The same again is the same message; another `key` sends it once more. It is carried by a relay: ask again under
    its `id` for what came of it.
    """
    user = require(request, "act_on_run")
    namespace = body.namespace or environment().temporal_namespace
    letter = WorkflowLetter(body.kind, namespace, body.workflow_id, body.name, body.arguments, body.workflow_type)
    if body.dry_run:
        return Status(200, {"warnings": sending.warnings_of(letter)})
    return Status(202, sending.as_json(sending.send(letter, reason=body.reason, by=user, key=body.key)))


@router.get("/workflows/messages/{message_id}")
def get_message(request: HttpRequest, message_id: str) -> dict[str, Any]:
    """Return one message: `state` is waiting, sent, answered, refused or unanswered."""
    require(request, "act_on_run")
    return sending.as_json(sending.message_for(message_id))
