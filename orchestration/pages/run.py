"""One run: what it waits for, what it did, its timeline and the newest steps of its graph."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from console import roles
from console.fragments import page_or_fragment, part_of_page
from console.http import needs
from console.live.parts import is_a_part
from dataplane.currency import told
from orchestration import checkpoint_gateway, prices, selectors, spending, thinking_again, under_way
from orchestration.actions import acting
from orchestration.agents.registry import agents
from orchestration.diagnosis import diagnosing
from orchestration.messages import sending
from orchestration.models import Run
from orchestration.pages.timeline import FEW, shown_of
from orchestration.state.secrets import hidden_of
from orchestration.titles import title_of

STEPS: Final = 12  # of the graph, on a run's page


@is_a_part
@require_safe
@needs("see")
def run(request: HttpRequest, run_id: str) -> HttpResponse:
    """One run: its head and what happens now as one part, the timeline and the rest beside it."""
    found = selectors.run_for(request.user, run_id)
    story = selectors.story_of(found, request.GET.get("asked", "")[:200])
    context = _head(request, found, story)
    if not request.headers.get("HX-Request"):
        context |= _rest(request, found, story) | {"shown": shown_of(request, found, FEW)}
        context["progress"] = under_way.progress_of(found)
    return page_or_fragment(request, "orchestration/run.html", "orchestration/_run.html", context)


@is_a_part
@require_safe
@needs("see")
def rest(request: HttpRequest, run_id: str) -> HttpResponse:
    """The part of a run's page below its timeline: what it asked, its newest steps, its facts."""
    found = selectors.run_for(request.user, run_id)
    story = selectors.story_of(found, request.GET.get("asked", "")[:200])
    page = reverse("orchestration:run", args=[found.pk])
    return part_of_page(request, page, "orchestration/_run_rest.html", lambda: _rest(request, found, story))


@is_a_part
@require_safe
@needs("see")
def progress(request: HttpRequest, run_id: str) -> HttpResponse:
    """The part of a run's page that says where a turn under way is."""
    found = selectors.run_for(request.user, run_id)
    page = reverse("orchestration:run", args=[found.pk])
    return part_of_page(
        request,
        page,
        "orchestration/_run_progress.html",
        lambda: {"run": found, "progress": under_way.progress_of(found)},
    )


def _head(request: HttpRequest, found: Run, story: selectors.RunStory) -> dict[str, Any]:
    diagnosis = diagnosing.diagnose(found)
    may_act = roles.may(request.user, "act_on_run")
    helping = diagnosing.offers(diagnosis, request.user, found) if may_act else []
    others = [one for one in acting.offered(found) if one.name not in {offer.name for offer in helping}]
    return {
        "run": found,
        "story": story,
        "diagnosis": diagnosis,
        "offers": helping,
        "others": others if may_act else [],
        "title": agents()[found.agent].title if found.agent in agents() else found.agent,
        "about": title_of(found),
    }


def _rest(request: HttpRequest, found: Run, story: selectors.RunStory) -> dict[str, Any]:
    hidden = hidden_of(found.agent)
    may_write = roles.may(request.user, "act_on_run")
    return {
        "may_write": may_write,
        "letters": sending.of_run(found) if may_write else [],
        "story": story,
        "checkpoints": checkpoint_gateway.checkpoints_of(found.pk, limit=STEPS),
        "reads": told(found.dataset_versions),
        "thinking": thinking_again.told(found.pk),
        "uses": spending.by_turn(found.pk),
        "cost": prices.words(found.usage.get("cost_micros")),
        "given": hidden.without(found.input),
        "result": hidden.without(found.result),
        "hidden_because": hidden.why,
    }
