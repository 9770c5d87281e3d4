"""Agents and runs in the JSON API."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from django.urls import reverse
from ninja import Field, Query, Router, Schema, Status

from approvals.reading.requests import waiting_of_runs
from console import problems
from console.api_access import require
from console.ports import Read
from dataplane.currency import told, told_of_all
from orchestration import acting, checkpoint_gateway, failing, selectors, services
from orchestration.agents.arguments import asked_schema, schema_of
from orchestration.agents.registry import agents, faults
from orchestration.agents.runtime import Agent
from orchestration.errors import ActionRefused, RunKeyReused
from orchestration.models import Run

router = Router(tags=["runs"])


class RunIn(Schema):
    """A run to start; the same `idempotency_key` with the same body finds the same run."""

    agent: str
    input: dict[str, Any]
    idempotency_key: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")] | None = None


@router.get("/agents")
def list_agents(request: HttpRequest) -> dict[str, Any]:
    """List the registered agents with their schemas, and what stands in SIGNALBOX_AGENTS and cannot be used."""
    require(request, "see")
    return {
        "items": [_agent_json(agent) for agent in agents().values()],
        "next": None,
        "faults": [asdict(fault) for fault in faults()],
    }


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
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str = "",
) -> dict[str, Any]:
    """List runs, newest first; `stuck=1`: those whose turn has failed for half an hour."""
    user = require(request, "see_runs")
    page = selectors.runs_page(
        user, status=status, agent=agent, search=search, is_stuck=bool(stuck), cursor=cursor, limit=limit
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
    run = _visible(request, run_id)
    return run_json(request, run, waiting_of_runs([run.pk]).get(run.pk, []))


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
    run = _visible(request, run_id)
    try:
        if body.dry_run:
            seen = acting.preview(run, body.action)
            return Status(200, {**asdict(seen), "state": seen.state})
        run = acting.act(run_id=run.pk, action=body.action, reason=body.reason, by=user, state=body.state)
    except ActionRefused as exc:
        raise problems.of(exc, status_now=run.status) from exc
    run_now = run_json(request, run, waiting_of_runs([run.pk]).get(run.pk, []))
    return Status(202, {"action": body.action, "run": run_now})


@router.get("/runs/{run_id}/checkpoints")
def list_checkpoints(
    request: HttpRequest,
    run_id: str,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str, Query(max_length=100)] = "",
) -> dict[str, Any]:
    """List the checkpoints of a run's thread, newest first; the cursor is the last id of the page before."""
    run = _visible(request, run_id)
    lines = checkpoint_gateway.checkpoints_of(run.pk, before=cursor or "~", limit=limit)
    items = [
        {
            "checkpoint_id": line.checkpoint_id,
            "parent_checkpoint_id": line.parent_checkpoint_id,
            "step": line.step,
            "source": line.source,
            "node": line.node,
            "next": line.next,
            "at": line.at,
            "interrupted": line.interrupted,
        }
        for line in lines
    ]
    return {"items": items, "next": lines[-1].checkpoint_id if len(lines) == limit else None}


@router.get("/runs/{run_id}/checkpoints/{checkpoint_id}")
def get_checkpoint(request: HttpRequest, run_id: str, checkpoint_id: str) -> dict[str, Any]:
    """Return one checkpoint with its values."""
    run = _visible(request, run_id)
    return checkpoint_gateway.checkpoint_of(run.pk, checkpoint_id)


def _visible(request: HttpRequest, run_id: str) -> Run:
    return selectors.run_for(require(request, "see_runs"), run_id)


def _agent_json(agent: Agent) -> dict[str, Any]:
    return {
        "name": agent.name,
        "title": agent.title,
        "input_schema": schema_of(agent.input),
        "tools": [
            {
                "name": tool.name,
                "title": tool.title,
                "risk": tool.risk,
                "needs_approval": tool.needs_approval,
                "idempotent": tool.is_idempotent,
                "arguments_schema": asked_schema(tool),
            }
            for tool in agent.tools
        ],
    }


def run_json(request: HttpRequest, run: Run, waiting_for: list[str], reads: list[Read] | None = None) -> dict[str, Any]:
    """Return the public shape of one run. `reads`: of its dataset versions; asked for when not given."""
    failure = failing.failure_of(run)
    return {
        "id": run.pk,
        "agent": run.agent,
        "status": run.status,
        "input": run.input,
        "result": run.result,
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
        "failure": failure.as_json() if failure else None,
        "stuck_since": run.stuck_at,
        "code_changes": run.code_changes,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "closed_at": run.closed_at,
        "ending": run.ending,
        "url": request.build_absolute_uri(reverse("orchestration:run", args=[run.pk])),
    }
