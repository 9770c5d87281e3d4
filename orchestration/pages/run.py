"""One run: what it waits for, what it did, the checkpoints of its thread."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from console import roles
from console.fragments import page_or_fragment
from console.http import needs
from console.lists.longer_lists import MOST
from dataplane.currency import told
from orchestration import checkpoint_gateway, selectors
from orchestration.actions import acting
from orchestration.agents.registry import agents
from orchestration.diagnosis import diagnosing
from orchestration.titles import title_of


@require_safe
@needs("see")
def run(request: HttpRequest, run_id: str) -> HttpResponse:
    """One run: what it waits for, what it did, and the checkpoints of its thread."""
    found = selectors.run_for(request.user, run_id)
    diagnosis = diagnosing.diagnose(found)
    may_act = roles.may(request.user, "act_on_run")
    helping = diagnosing.offers(diagnosis, request.user, found) if may_act else []
    others = [one for one in acting.offered(found) if one.name not in {offer.name for offer in helping}]
    context = {
        "diagnosis": diagnosis,
        "offers": helping,
        "others": others if may_act else [],
        "story": selectors.story_of(found),
        "checkpoints": checkpoint_gateway.checkpoints_of(found.pk, limit=MOST),
        "reads": told(found.dataset_versions),
        "title": agents()[found.agent].title if found.agent in agents() else found.agent,
        "about": title_of(found),
    }
    return page_or_fragment(request, "orchestration/run.html", "orchestration/_run.html", context)


@require_safe
@needs("see")
def checkpoint(request: HttpRequest, run_id: str, checkpoint_id: str) -> HttpResponse:
    """One checkpoint with its values, read when somebody asks for it."""
    found = selectors.run_for(request.user, run_id)
    values = checkpoint_gateway.checkpoint_of(found.pk, checkpoint_id)
    context = {"run": found, "checkpoint_id": checkpoint_id, "checkpoint": values}
    return page_or_fragment(request, "orchestration/checkpoint.html", "orchestration/_checkpoint.html", context)
