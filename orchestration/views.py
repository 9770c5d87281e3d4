"""The list of runs, one run, one checkpoint of it, and the form that starts a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe
from ulid import ULID

from approvals.errors import InvalidChange
from console import roles
from console.fragments import page_or_fragment
from console.http import needs, person
from console.in_flight import TooManyInFlight
from console.lists.longer_lists import MOST, STEP, address_of, more_of, rows_wanted
from dataplane.currency import told
from orchestration import acting, checkpoint_gateway, selectors, services
from orchestration.agents.registry import agents, faults
from orchestration.agents.runtime import Agent
from orchestration.errors import ActionRefused, InvalidInput, RunKeyReused
from orchestration.forms import input_form, place_faults
from orchestration.models import Run
from orchestration.selectors import Page

_WISHES: Final = ("status", "stuck", "agent", "search", "cursor", "limit")  # what the address says
STATUSES: Final = {"": "All"} | {status.value: str(status.label) for status in Run.Status}


@dataclass(frozen=True)
class Listed:
    """What the address asks the list to show, and the rows."""

    status: str
    agent: str
    search: str
    cursor: str
    limit: int
    page: Page
    stuck: str = ""  # "1": only those whose turn has failed for too long

    def address(self, **changes: Any) -> str:
        """Return this list's address with changes."""
        return address_of("orchestration:runs", {name: getattr(self, name) for name in _WISHES} | changes)

    @property
    def here(self) -> str:
        return self.address()

    @property
    def more(self) -> str:
        return more_of(self, self.page.next_cursor)

    @property
    def tabs(self) -> list[tuple[str, str, bool]]:
        """Return address, title and whether it is open, for each status."""
        tabs = [
            (
                self.address(status=status, stuck="", cursor="", limit=STEP),
                title,
                status == self.status and not self.stuck,
            )
            for status, title in STATUSES.items()
        ]
        return [*tabs, (self.address(status="", stuck="1", cursor="", limit=STEP), "Stuck", bool(self.stuck))]


@require_safe
@needs("see")
def runs(request: HttpRequest) -> HttpResponse:
    """All runs, newest first."""
    context = {"listed": _listed(request, person(request)), "may_start": roles.may(request.user, "start_run")}
    return page_or_fragment(request, "orchestration/runs.html", "orchestration/_runs_rows.html", context)


def _listed(request: HttpRequest, user: User) -> Listed:
    asked = {name: request.GET.get(name, "").replace("\x00", "")[:200] for name in ("agent", "search", "cursor")}
    status = request.GET.get("status", "")
    size = rows_wanted(request.GET.get("limit", ""))
    status = status if status in STATUSES else ""
    stuck = "1" if request.GET.get("stuck") == "1" else ""
    page = selectors.runs_page(user, status=status, is_stuck=bool(stuck), limit=size, **asked)
    return Listed(status, **asked, limit=size, page=page, stuck=stuck)


@require_safe
@needs("see")
def run(request: HttpRequest, run_id: str) -> HttpResponse:
    """One run: what it waits for, what it did, and the checkpoints of its thread."""
    found = _find(request, run_id)
    context = {
        "story": selectors.story_of(found),
        "checkpoints": checkpoint_gateway.checkpoints_of(found.pk, limit=MOST),
        "reads": told(found.dataset_versions),
        "title": agents()[found.agent].title if found.agent in agents() else found.agent,
        "may_act": found.status in Run.OPEN and roles.may(request.user, "act_on_run"),
        "is_told": found.ending is None or acting.is_told(found),
    }
    return page_or_fragment(request, "orchestration/run.html", "orchestration/_run.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@needs("act_on_run")
def act(request: HttpRequest, run_id: str, action: str) -> HttpResponse:
    """Cancel or end a run: what that would do, a reason, and the button that does it."""
    found = _find(request, run_id)
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


_DONE: Final = {
    "cancel": "The run is being cancelled. The reason is in the record.",
    "end": "The run is ended. The reason is in the record.",
}


def _preview(run: Run, action: acting.Action) -> dict[str, Any]:
    """Return what the action would do, or why it would not be taken."""
    try:
        seen = acting.preview(run, action)
    except ActionRefused as exc:
        return {"preview": None, "refusal": str(exc)}
    asked = {approval.pk: approval for approval in selectors.story_of(run).approvals}
    return {"preview": seen, "withdrawn": [asked[pk] for pk in seen.approvals_withdrawn if pk in asked], "refusal": ""}


@require_safe
@needs("see")
def checkpoint(request: HttpRequest, run_id: str, checkpoint_id: str) -> HttpResponse:
    """One checkpoint with its values, read when somebody asks for it."""
    found = _find(request, run_id)
    values = checkpoint_gateway.checkpoint_of(found.pk, checkpoint_id)
    context = {"run": found, "checkpoint_id": checkpoint_id, "checkpoint": values}
    return page_or_fragment(request, "orchestration/checkpoint.html", "orchestration/_checkpoint.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@needs("start_run")
def start(request: HttpRequest) -> HttpResponse:
    """Start a run of an agent, from a form that its input schema draws."""
    agent = _chosen_agent(request)
    if agent is None:
        known = {"agents": list(agents().values()), "agent": None, "unusable": faults()}
        return render(request, "orchestration/start.html", known)
    sent = request.POST if request.method == "POST" else None
    form = input_form(agent, sent)
    fault, status = "", 200 if sent is None else 422
    if sent is not None and form.is_valid:
        try:
            run, _ = services.start_run(
                agent=agent.name,
                given=form.value,
                requested_by=person(request),
                idempotency_key=sent.get("key", "")[:200],
            )
        except InvalidInput as exc:
            place_faults(form, exc.errors)
        except RunKeyReused:
            fault = "This form has already started a run with other values. Start another one to change them."
        except TooManyInFlight as exc:
            fault, status = exc.sentence, exc.http_status
        else:
            return redirect("orchestration:run", run.pk)
    context = {
        "agents": list(agents().values()),
        "agent": agent,
        "form": form,
        "fault": fault,
        "key": str(ULID()).lower(),  # a second send of this very form finds the same run
    }
    return render(request, "orchestration/start.html", context, status=status)


def _chosen_agent(request: HttpRequest) -> Agent | None:
    known = agents()
    name = request.POST.get("agent") or request.GET.get("agent") or ""
    if not name and len(known) == 1:
        return next(iter(known.values()))
    return known.get(name)


def _find(request: HttpRequest, run_id: str) -> Run:
    return selectors.run_for(request.user, run_id)
