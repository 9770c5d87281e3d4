"""Runs in the JSON API: start one, list them, read one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest
from django.urls import reverse
from ninja import Field, Query, Router, Schema, Status

from approvals.reading.for_runs import waiting_of_runs
from console.api_access import require
from console.environment import environment
from console.ports import Read
from console.text.stored import StoredText
from dataplane.currency import told, told_of_all
from orchestration import failing, selectors, services
from orchestration.diagnosis import look
from orchestration.diagnosis.look import Look
from orchestration.errors import RunKeyReused
from orchestration.models import Run
from orchestration.state.secrets import hidden_of
from orchestration.titles import title_of

router = Router(tags=["runs"])


class RunIn(Schema):
    """A run to start; the same `idempotency_key` with the same body finds the same run."""

    agent: str
    input: dict[str, Any]
    idempotency_key: Annotated[StoredText, Field(max_length=200)] | None = None


@router.post("/runs", response={200: Any, 201: Any})
def start_run(request: HttpRequest, body: RunIn) -> Status[dict[str, Any]]:
    """Start a run. 201 when it is new, 200 when the key was used for the same before."""
    user = require(request, "start_run")
    run, is_new = services.start_run(
        agent=body.agent, given=body.input, requested_by=user, idempotency_key=body.idempotency_key or ""
    )
    if not is_new and not selectors.visible_to(user).filter(pk=run.pk).exists():
        raise RunKeyReused("This idempotency key was used by somebody else. Use a new key.")
    return Status(201 if is_new else 200, run_json(request, run, waiting_of_runs([run.pk]).get(run.pk, [])))


@router.get("/runs")
def list_runs(
    request: HttpRequest,
    status: Literal["starting", "running", "waiting", "paused", "finished", "failed", "cancelled", ""] = "",
    agent: str = "",
    search: str = "",
    stuck: Literal["1", ""] = "",
    cause: str = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str = "",
) -> dict[str, Any]:
    """List runs, newest first; `stuck=1`: those that need somebody, `cause`: for this cause, or this group."""
    user = require(request, "see_runs")
    page = selectors.runs_page(
        user,
        status=status,
        agent=agent,
        search=search,
        is_stuck=bool(stuck),
        cause=cause,
        cursor=cursor,
        limit=limit,
    )
    return {
        "items": [
            run_json(request, row.run, row.waiting_for, read)
            for row, read in zip(page.rows, told_of_all([row.run.dataset_versions for row in page.rows]), strict=True)
        ],
        "next": page.next_cursor,
    }


@router.get("/runs/{run_id}")
def get_run(request: HttpRequest, run_id: str) -> dict[str, Any]:
    """Return one run."""
    run = visible_run(request, run_id)
    found = run_json(request, run, waiting_of_runs([run.pk]).get(run.pk, []))
    if run.status == Run.Status.RUNNING:
        found["node"] = node_of(run, look.now(run.pk, run.seen).look)
    return found


def visible_run(request: HttpRequest, run_id: str) -> Run:
    """Return the run, when the one who asks may see it. Raises NoSuchRun."""
    return selectors.run_for(require(request, "see_runs"), run_id)


def node_of(run: Run, seen: Look | None = None) -> dict[str, Any] | None:
    """Return the node that the turn under way was at when Temporal was last asked, `None` where that is not known."""
    found = seen or look.read(run.seen)
    turn = found.turn if found and run.status == Run.Status.RUNNING else None
    return {"name": turn.node, "since": turn.node_since} if turn and turn.node else None


def cost_json(run: Run) -> dict[str, Any] | None:
    """Return what the run's models have cost as {"micros", "currency"}, `None` where no price is known."""
    micros = run.usage.get("cost_micros")
    return None if micros is None else {"micros": micros, "currency": environment().currency}


def run_json(request: HttpRequest, run: Run, waiting_for: list[str], reads: list[Read] | None = None) -> dict[str, Any]:
    """Return the public shape of one run. `reads`: of its dataset versions; asked for when not given."""
    failure, hidden = failing.failure_of(run), hidden_of(run.agent)
    return {
        "id": run.pk,
        "agent": run.agent,
        "status": run.status,
        "input": hidden.without(run.input),
        "result": hidden.without(run.result),
        "hidden_because": hidden.why or None,
        "error": run.error,
        "requested_by": run.requested_by.username if run.requested_by else None,
        "waiting_for": waiting_for,
        "temporal_workflow_id": run.pk,
        "temporal_run_id": run.temporal_run_id or None,
        "temporal_run_ids": run.temporal_run_ids,
        "thread_id": run.pk,
        "dataset_versions": told(run.dataset_versions) if reads is None else reads,
        "turn": run.turn,
        "usage": run.usage,
        "cost": cost_json(run),
        "failure": failure.as_json() if failure else None,
        "stuck_since": run.cause_since,
        "code_changes": run.code_changes,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "closed_at": run.closed_at,
        "ending": run.ending,
        "paused": run.paused if run.status in Run.OPEN else None,
        "title": title_of(run),
        "era": run.era,
        "parent": run.parent_id,
        "batch": run.batch,
        "node": node_of(run),
        "cause": run.cause or None,
        "url": request.build_absolute_uri(reverse("orchestration:run", args=[run.pk])),
    }
