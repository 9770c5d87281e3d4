"""What an operator does about a run: what it would do, a reason, and the button."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from approvals.errors import InvalidChange
from console.http import needs, person
from orchestration import acting, selectors
from orchestration.errors import ActionRefused
from orchestration.models import Run

_DONE: Final = {
    "cancel": "The run is being cancelled. The reason is in the record.",
    "end": "The run is ended. The reason is in the record.",
}


@require_http_methods(["GET", "HEAD", "POST"])
@needs("act_on_run")
def act(request: HttpRequest, run_id: str, action: str) -> HttpResponse:
    """Cancel or end a run: what that would do, a reason, and the button that does it."""
    found = selectors.run_for(request.user, run_id)
    known = next((one for one in acting.ACTIONS if one == action), None)
    if known is None:
        raise Http404
    fault, status, reason = "", 200, request.POST.get("reason", "")
    if request.method == "POST":
        try:
            state = request.POST.get("state", "")[:100]
            acting.act(run_id=found.pk, action=known, reason=reason, by=person(request), state=state)
        except (InvalidChange, ActionRefused) as exc:
            fault, status = exc.sentence, exc.http_status
        else:
            messages.success(request, _DONE[known])
            return redirect("orchestration:run", found.pk)
        found.refresh_from_db()
    context = {"run": found, "action": known, "reason": reason, "fault": fault, **_preview(found, known)}
    return render(request, "orchestration/action.html", context, status=status)


def _preview(run: Run, action: acting.Action) -> dict[str, Any]:
    """Return what the action would do, or why it would not be taken."""
    try:
        seen = acting.preview(run, action)
    except ActionRefused as exc:
        return {"preview": None, "refusal": str(exc)}
    asked = {approval.pk: approval for approval in selectors.story_of(run).approvals}
    return {"preview": seen, "withdrawn": [asked[pk] for pk in seen.approvals_withdrawn if pk in asked], "refusal": ""}
