"""Refresh and ask again: what the run has read, what will happen, a reason, and the button."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from approvals import services as approvals
from approvals.errors import InvalidChange, NotTheirs
from approvals.models import Approval
from console import ports
from console.http import needs, person
from orchestration import selectors, thinking_again
from orchestration.errors import ActionRefused


@require_http_methods(["GET", "HEAD", "POST"])
@needs("see")
def think_again(request: HttpRequest, run_id: str) -> HttpResponse:
    """Have the run's data refreshed, and the run think again when that brings another version."""
    run = selectors.run_for(request.user, run_id)
    user, fault, refusal, status = person(request), "", "", 200
    if request.method == "POST":
        try:
            thinking_again.ask(run_id=run.pk, by=user, reason=request.POST.get("reason", ""))
        except (InvalidChange, ActionRefused, NotTheirs) as exc:
            fault, status = exc.sentence, exc.http_status
        else:
            messages.success(request, thinking_again.told(run.pk) or "The agent thinks again.")
            return redirect("orchestration:run", run.pk)
        run.refresh_from_db()
    reads = ports.data_plane().told(run.dataset_versions)
    waiting = thinking_again.waiting_of(run.pk)
    try:
        if waiting is None:
            thinking_again.check(run)
    except ActionRefused as exc:
        refusal = exc.sentence
    if not refusal and not thinking_again.may_ask(user, run):
        refusal = thinking_again.NOT_THEIRS
    context: dict[str, Any] = {
        "run": run,
        "reads": reads,
        "refreshed": thinking_again.stale_datasets(reads),
        "withdrawn": list(Approval.objects.filter(pk__in=approvals.open_of_run(run.pk)).order_by("opened_at", "pk")),
        "said": thinking_again.told(run.pk),
        "is_waiting": waiting is not None,
        "refusal": "" if fault == refusal else refusal,
        "is_refused": bool(refusal),
        "fault": fault,
        "reason": request.POST.get("reason", thinking_again.REASON),
        "typed": request.POST.get("reason", ""),
    }
    return render(request, "orchestration/think_again.html", context, status=status)
