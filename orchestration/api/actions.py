"""What operators do about a run, in the JSON API."""

from __future__ import annotations

import json
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Router, Schema, Status

from approvals.reading.for_runs import waiting_of_runs
from console import problems
from console.api_access import require
from orchestration.actions import acting
from orchestration.api.runs import run_json, visible_run
from orchestration.errors import ActionRefused
from orchestration.messages import sending
from orchestration.messages.known import KINDS

router = Router(tags=["runs"])


class ActionIn(Schema):
    """What to do about a run; what an action takes besides stands beside these.

    `state`, from a preview: refuse it when it would do something else by now.
    """

    action: Annotated[str, Field(max_length=40)]
    reason: str = ""
    dry_run: bool = False
    state: Annotated[str, Field(max_length=100)] = ""


@router.post("/runs/{run_id}/actions", response={200: Any, 202: Any})
def act_on_run(request: HttpRequest, run_id: str, body: ActionIn) -> Status[dict[str, Any]]:
    """Do something about a run, with a reason; with `dry_run`, only say what that would do."""
    user = require(request, "act_on_run")
    run = visible_run(request, run_id)
    options = {name: value for name, value in json.loads(request.body).items() if name not in ActionIn.model_fields}
    try:
        if body.dry_run:
            return Status(200, acting.preview(run, body.action, options).as_json())
        done = acting.act(
            run_id=run.pk, action=body.action, reason=body.reason, by=user, state=body.state, options=options
        )
    except ActionRefused as exc:
        raise problems.of(exc, status_now=run.status) from exc
    answer = {"action": body.action, "run": run_json(request, done.run, _waiting(done.run.pk))}
    if done.new_run is not None:
        answer["new_run"] = run_json(request, done.new_run, _waiting(done.new_run.pk))
    if body.action in KINDS:
        answer["message"] = sending.as_json(sending.of_run(done.run)[0])
    return Status(202, answer)


def _waiting(run_id: str) -> list[str]:
    return waiting_of_runs([run_id]).get(run_id, [])
