"""What checkpoints cost, and what is let go of."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from console.environment import environment
from console.http import needs
from orchestration.retention import costs


@require_safe
@needs("act_on_run")
def storage(request: HttpRequest) -> HttpResponse:
    """The tables of checkpoints, by agent, and what a sweep would free."""
    return render(request, "orchestration/storage.html", {"costs": costs.costs(), "policy": environment()})
