"""The data plane in the JSON API. Datasets and refreshes come from Postgres, flow runs and logs from Prefect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from django.http import HttpRequest
from django.urls import reverse
from ninja import Field, Query, Router, Schema, Status

from console import problems
from console.api_access import require
from dataplane import catalogue, masking, selectors
from dataplane.api.shapes import datasets_json, instant, refresh_json
from dataplane.models import Refresh
from dataplane.prefect_gateway import STATE_TYPES, FlowRun, gateway
from dataplane.refreshes.request import request_refresh

router = Router(tags=["data"])
router.add_router("", "dataplane.api.schedules.router")
router.add_router("", "dataplane.api.jobs.router")
router.add_router("", "dataplane.api.flow_runs.router")
router.add_router("", "dataplane.api.versions.router")


class RefreshIn(Schema):
    """Which refresh, and with what; both may be left out."""

    model_config = {"extra": "forbid"}

    key: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    dry_run: bool = False


@router.get("/datasets")
def list_datasets(request: HttpRequest) -> dict[str, Any]:
    """List the datasets with their versions, newest first."""
    require(request, "see")
    return {"items": datasets_json(selectors.datasets()), "next": None}


@router.get("/datasets/{name}")
def get_dataset(request: HttpRequest, name: str) -> dict[str, Any]:
    """Return one dataset."""
    require(request, "see")
    return datasets_json([selectors.dataset(name)])[0]


@router.post("/datasets/{name}/refresh", response={200: dict[str, Any], 201: dict[str, Any]})
def post_refresh(request: HttpRequest, name: str, body: RefreshIn | None = None) -> Status[dict[str, Any]]:
    """Ask for a refresh; the same key is the same refresh. Works while Prefect is away.

    With `dry_run` its flow run only says what would change: once it is `finished`, `preview` says so.
    """
    user = require(request, "start_deployment" if name in catalogue.others() else "refresh")
    wanted = body or RefreshIn()
    refresh, is_new = request_refresh(
        dataset=name, key=wanted.key, parameters=wanted.parameters, user=user, is_dry_run=wanted.dry_run
    )
    return Status(201 if is_new else 200, {"refresh": refresh_json(selectors.refresh(refresh.pk))})


@router.get("/refreshes")
def list_refreshes(
    request: HttpRequest,
    dataset: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str = "",
) -> dict[str, Any]:
    """List refreshes, newest first."""
    require(request, "see")
    page = selectors.refreshes(dataset=dataset, limit=limit, cursor=cursor)
    return {"items": [refresh_json(refresh) for refresh in page.items], "next": page.next}


@router.get("/refreshes/{refresh_id}")
def get_refresh(request: HttpRequest, refresh_id: str) -> dict[str, Any]:
    """Return one refresh."""
    require(request, "see")
    return refresh_json(selectors.refresh(refresh_id))


@router.get("/flow-runs")
def list_flow_runs(
    request: HttpRequest,
    state: str = "",
    flow: str = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str = "",
) -> dict[str, Any]:
    """List Prefect's flow runs, latest start first. `state`: one of Prefect's state types, e.g. running."""
    require(request, "see")
    if state and state.upper() not in STATE_TYPES:
        known = ", ".join(word.lower() for word in STATE_TYPES)
        raise problems.invalid([{"path": "state", "message": f"must be one of {known}"}])
    page = gateway().flow_runs(states=[state.upper()] if state else [], flow=flow, limit=limit, cursor=cursor)
    return {"items": flow_runs_json(request, page.items), "next": page.next}


@router.get("/flow-runs/{flow_run_id}")
def get_flow_run(request: HttpRequest, flow_run_id: str) -> dict[str, Any]:
    """Return one flow run."""
    require(request, "see")
    return flow_runs_json(request, [gateway().flow_run(flow_run_id)])[0]


@router.get("/flow-runs/{flow_run_id}/logs")
def get_flow_run_logs(
    request: HttpRequest,
    flow_run_id: str,
    limit: Annotated[int, Query(ge=1, le=200)] = 200,
    cursor: str = "",
    search: str = "",
) -> dict[str, Any]:
    """Return the flow run's log lines, oldest first; `search`: those that hold these words."""
    require(request, "see")
    page = gateway().logs(flow_run_id, limit=limit, cursor=cursor, search=search)
    items = [
        {
            "at": line.at.isoformat(),
            "level": line.level,
            "message": line.message,
            "task_run_id": line.task_run_id or None,
        }
        for line in page.items
    ]
    return {"items": items, "next": page.next}


def flow_runs_json(request: HttpRequest, runs: Sequence[FlowRun]) -> list[dict[str, Any]]:
    """Render flow runs in Prefect's own words, each with the refresh it was made for."""
    refreshes = selectors.refreshes_by_flow_run(run.id for run in runs)
    return [_flow_run_json(request, run, refreshes.get(run.id)) for run in runs]


def _flow_run_json(request: HttpRequest, run: FlowRun, refresh: Refresh | None) -> dict[str, Any]:
    declared = run.declared(refresh.parameters if refresh else None)
    return {
        "id": run.id,
        "name": run.name,
        "flow": run.flow,
        "deployment": run.deployment or None,
        "state": run.state_type.lower(),
        "state_name": run.state_name,
        "state_message": run.state_message or None,
        "parameters": masking.shown(run.parameters, declared, request.user),
        "parameters_hidden_because": run.hidden_because or None,
        "refresh_id": refresh.pk if refresh else None,
        "run_count": run.run_count,
        "created_at": instant(run.created_at),
        "expected_start_at": instant(run.expected_start_at),
        "started_at": instant(run.started_at),
        "ended_at": instant(run.ended_at),
        "run_seconds": run.run_seconds,
        "url": request.build_absolute_uri(reverse("dataplane:flow_run", args=[run.id])),
    }
