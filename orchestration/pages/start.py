"""The form that starts a run."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods
from ulid import ULID

from console.http import needs, person
from console.in_flight import TooManyInFlight
from orchestration import services
from orchestration.agents.registry import agents, faults
from orchestration.agents.runtime import Agent
from orchestration.errors import InvalidInput, RunKeyReused
from orchestration.forms import input_form, place_faults


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
