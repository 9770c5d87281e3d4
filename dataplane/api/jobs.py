"""Other people's deployments in the JSON API: jobs, their starts, and versions that their flows tell of."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Field, Router, Schema, Status

from console.api_access import require
from dataplane import catalogue, publishing, selectors
from dataplane.api.shapes import datasets_json, refresh_json, version_json
from dataplane.errors import DatasetNotFound
from dataplane.refreshes.request import request_refresh

router = Router(tags=["data"])


class StartIn(Schema):
    """Which run, and with what; both may be left out."""

    model_config = {"extra": "forbid"}

    key: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)


class VersionIn(Schema):
    """One version that a flow has made in a store of its own."""

    model_config = {"extra": "forbid"}

    key: str
    digest: str
    rows: int
    location: str = ""
    inputs: list[dict[str, Any]] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    flow_run_id: str = ""
    code_version: str = ""


@router.get("/jobs")
def list_jobs(request: HttpRequest) -> dict[str, Any]:
    """List what is registered, runs, and publishes no versions."""
    require(request, "see")
    return {"items": datasets_json(selectors.jobs()), "next": None}


@router.post("/jobs/{name}/start", response={200: dict[str, Any], 201: dict[str, Any]})
def start_job(request: HttpRequest, name: str, body: StartIn | None = None) -> Status[dict[str, Any]]:
    """Start a job; the same key is the same run. With other parameters it is refused."""
    user = require(request, "start_deployment")
    entry = catalogue.others().get(name)
    if entry is None or not entry.is_job:
        raise DatasetNotFound(f"There is no job called {name}.")
    wanted = body or StartIn()
    refresh, is_new = request_refresh(dataset=name, key=wanted.key, parameters=wanted.parameters, user=user)
    return Status(201 if is_new else 200, {"refresh": refresh_json(selectors.refresh(refresh.pk))})


@router.post("/datasets/{name}/versions", response={200: dict[str, Any], 201: dict[str, Any]})
def tell_of_version(request: HttpRequest, name: str, body: VersionIn) -> Status[dict[str, Any]]:
    """Tell of a version; the same key with the same digest is the same version, with another one it is refused."""
    user = require(request, "publish_version")
    told = publishing.ToldVersion(**body.model_dump())
    version, is_new = publishing.publish(name, told, by=user)
    return Status(201 if is_new else 200, version_json(version))
