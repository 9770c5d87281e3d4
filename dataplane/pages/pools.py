"""Work pools and queues, and who serves them; what is late, crashed or silent."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from console.http import needs
from dataplane import catalogue
from dataplane.deployments import deployments
from dataplane.errors import DeploymentNotFound, PrefectError


@require_safe
@needs("see_flow_run_work")
def work_pools(request: HttpRequest) -> HttpResponse:
    """Every pool with its queues and workers, and every registered deployment with who asks for its work."""
    context: dict[str, Any] = {"away": "", "pools": [], "served": []}
    try:
        door = deployments()
        context["pools"] = door.work_pools()
        for entry in catalogue.others().values():
            try:
                context["served"].append((entry, door.find(entry.flow, entry.deployment), ""))
            except DeploymentNotFound as exc:
                context["served"].append((entry, None, str(exc)))
    except PrefectError as exc:
        context["away"] = str(exc)
    return render(request, "dataplane/work_pools.html", context)
