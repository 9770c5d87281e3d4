"""Starting somebody else's deployment: a typed form by the deployment's own schema."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from console.http import needs, person
from dataplane import catalogue, selectors
from dataplane.deployments import Deployment, deployments
from dataplane.errors import DeploymentNotFound, InvalidParameters, PrefectAway, RefreshKeyTaken
from dataplane.forms import StartForm
from dataplane.parameters import asked
from dataplane.refreshes.start import may_start, start
from dataplane.registered import Registered


@require_http_methods(["GET", "HEAD", "POST"])
@needs("start_deployment")
def start_form(request: HttpRequest, dataset: str) -> HttpResponse:
    """The form, and what becomes of it; a form that cannot be taken comes back with words and all that was typed."""
    entry = catalogue.others().get(dataset)
    if entry is None:
        raise Http404(f"Nothing of somebody else's is registered as {dataset}.")
    if not may_start(entry, person(request)):
        raise PermissionDenied(f"Only {' and '.join(sorted(entry.may_start))} may start {entry.name}.")
    try:
        found = deployments().find(entry.flow, entry.deployment)
    except (PrefectAway, DeploymentNotFound) as exc:
        return render(request, "dataplane/start.html", {"entry": entry, "fault": exc.sentence}, status=exc.http_status)
    schema = asked(entry, found.schema, found.defaults)
    suggested = selectors.suggested_key(entry.name)
    if request.method != "POST":
        return _page(request, entry, found, StartForm(entry.name, schema, initial={"key": suggested}))
    form, status = StartForm(entry.name, schema, request.POST), 422
    if form.is_valid():
        try:
            row, is_new = start(
                entry, key=form.cleaned_data["key"], parameters=form.typed.value or {}, user=person(request)
            )
        except InvalidParameters as exc:
            form.show(exc)
        except RefreshKeyTaken as exc:
            form.add_error("key", exc.sentence)
            status = exc.http_status
        except PrefectAway as exc:
            form.add_error(None, f"{exc} Nothing was started; what you typed is still here, but for secrets.")
            status = exc.http_status
        else:
            said = "is on its way to Prefect" if is_new else f"exists already and is {row.status}: nothing ran twice"
            messages.success(request, f"The run {row.key} {said}.")
            if row.prefect_flow_run_id:
                return redirect("dataplane:flow_run", row.prefect_flow_run_id)
            return redirect(f"{reverse('dataplane:data')}#dataset-{dataset}")
    return _page(request, entry, found, form, status=status)


def _page(
    request: HttpRequest, entry: Registered, found: Deployment, form: StartForm, status: int = 200
) -> HttpResponse:
    context: dict[str, Any] = {
        "entry": entry,
        "found": found,
        "form": form,
        "fixed": sorted(entry.fixed),
        "hidden": [] if entry.shown is None else sorted(set(found.schema.get("properties", {})) - set(entry.shown)),
    }
    return render(request, "dataplane/start.html", context, status=status)
