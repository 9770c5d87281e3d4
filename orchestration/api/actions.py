"""What operators do about a run, in the JSON API."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from django.http import HttpRequest
from ninja import Router, Schema, Status

from approvals.reading.requests import waiting_of_runs
from console import problems
from console.api_access import require
from orchestration import acting
from orchestration.api.runs import run_json, visible_run
from orchestration.errors import ActionRefused

router = Router(tags=["runs"])


class ActionIn(Schema):
    """What to do about a run. `state`, from a preview: refuse it when it would do something else by now."""

    action: Literal["cancel", "end"]
    reason: str = ""
    dry_run: bool = False
    state: str = ""


@router.post("/runs/{run_id}/actions", response={200: Any, 202: Any})
def act_on_run(request: HttpRequest, run_id: str, body: ActionIn) -> Status[dict[str, Any]]:
    """Cancel or end a run, with a reason; with `dry_run`, only say what that would do."""
    user = require(request, "act_on_run")
    run = visible_run(request, run_id)
    try:
        if body.dry_run:
            seen = acting.preview(run, body.action)
            return Status(200, {**asdict(seen), "state": seen.state})
        run = acting.act(run_id=run.pk, action=body.action, reason=body.reason, by=user, state=body.state)
    except ActionRefused as exc:
        raise problems.of(exc, status_now=run.status) from exc
    run_now = run_json(request, run, waiting_of_runs([run.pk]).get(run.pk, []))
    return Status(202, {"action": body.action, "run": run_now})
