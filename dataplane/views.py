"""The Data pages: datasets and their versions, refreshes, flow runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.models import AnonymousUser, User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from console import roles
from console.clock import shown_now
from console.fragments import page_or_fragment, part_of_page
from console.http import needs, person
from console.live.parts import is_a_part
from dataplane import catalogue, health, masking, registered, selectors
from dataplane.catalogue import CATALOGUE
from dataplane.contents.passages import PASSAGES
from dataplane.errors import (
    ContentUnknown,
    DryRunRefused,
    PrefectAway,
    PrefectError,
    RefreshKeyTaken,
)
from dataplane.flow_run_actions import offers
from dataplane.forms import RefreshForm
from dataplane.models import DatasetVersion, Refresh
from dataplane.pages.looks import STATE_LOOKS
from dataplane.prefect_gateway import FlowRun, LogPage, gateway, uuid_of
from dataplane.refreshes import standing
from dataplane.refreshes.request import request_refresh
from dataplane.registered import Registered
from dataplane.selectors import DatasetState

REFRESHES_SHOWN = 8
FLOW_RUNS_SHOWN = 12
ROWS_SHOWN = 40  # of a version
LOGS_SHOWN = 200


@dataclass(frozen=True)
class FlowRunRow:
    """One flow run, and the refresh it was made for."""

    run: FlowRun
    refresh: Refresh | None

    @property
    def without_refresh(self) -> str:
        """Return in words why there is no refresh; only a run of one of our deployments can have had one."""
        known: list[catalogue.Entry] = [*CATALOGUE.values(), *catalogue.others().values()]
        if (self.run.flow, self.run.deployment) not in {(one.flow, one.deployment) for one in known}:
            return "not started from here"
        if (self.run.flow, self.run.deployment) not in {(ours.flow, ours.deployment) for ours in CATALOGUE.values()}:
            return "none: it was started in Prefect itself"
        if not self.run.is_terminal:
            return "none yet: it is made when the run begins its work"
        if self.run.state_type == "COMPLETED":
            return "another run's: that one had the same key and was first"
        return "none: the run ended before it was made"

    @property
    def tone(self) -> str:
        return STATE_LOOKS[self.run.state_type][0]

    @property
    def icon(self) -> str:
        return STATE_LOOKS[self.run.state_type][1]


@require_safe
@needs("see")
def data(request: HttpRequest) -> HttpResponse:
    """Every dataset, and what Prefect does."""
    return _data_page(request)


@is_a_part
@require_safe
@needs("see")
def dataset(request: HttpRequest, dataset: str) -> HttpResponse:
    """One dataset's part of the page, fetched again when something changed."""
    state = selectors.dataset(dataset)
    address = f"{reverse('dataplane:data')}#dataset-{state.name}"
    return part_of_page(request, address, "dataplane/_dataset.html", lambda: _dataset_context(state, request.user))


@is_a_part
@require_safe
@needs("see")
def flow_runs(request: HttpRequest) -> HttpResponse:
    """The list of flow runs: a part of the Data page, or further back a page of its own."""
    context = _flow_runs_context(request.GET.get("cursor", ""))
    return page_or_fragment(request, "dataplane/flow_runs.html", "dataplane/_flow_runs.html", context)


@require_POST
@needs("refresh")
def refresh(request: HttpRequest, dataset: str) -> HttpResponse:
    """Ask for a refresh; show the form again with words when it cannot be."""
    entry = CATALOGUE.get(dataset)
    if entry is None:  # somebody else's has a page of its own, for its parameters are known to Prefect alone
        raise Http404(f"There is no dataset called {dataset}.")
    form, status = RefreshForm(entry, request.POST), 422
    is_dry_run = "dry_run" in request.POST
    if form.is_valid():
        try:
            made, is_new = request_refresh(
                dataset=dataset,
                key=None if is_dry_run else form.cleaned_data["key"],
                parameters=form.typed.value,
                user=person(request),
                is_dry_run=is_dry_run,
            )
        except RefreshKeyTaken as exc:
            form.add_error("key", exc.sentence)
            status = exc.http_status
        except DryRunRefused as exc:
            form.add_error(None, exc.sentence)
            status = exc.http_status
        else:
            if is_dry_run:
                return redirect("dataplane:dry_run", dataset, made.pk)
            messages.success(request, _said(made, is_new))
            return redirect(f"{reverse('dataplane:data')}#dataset-{dataset}")
    return _data_page(request, refused=form, refused_dataset=dataset, status=status)


def _said(refresh: Refresh, is_new: bool) -> str:
    if not is_new:
        return f"The refresh {refresh.key} exists already and is {refresh.status}: nothing was started twice."
    if health.prefect()["ok"]:
        return f"The refresh {refresh.key} is on its way to Prefect."
    return f"The refresh {refresh.key} is recorded. Prefect is away; it is sent when Prefect is back."


@require_safe
@needs("see")
def version(request: HttpRequest, dataset: str, number: int) -> HttpResponse:
    """One version and its rows, some at a time."""
    found = selectors.version(dataset, number)
    state = selectors.dataset(dataset)
    after = _number(request.GET.get("after", ""), least=-1)
    context = {
        **_content(found, after),
        "state": state,
        "version": found,
        "parameters": masking.of_dataset(found.parameters, dataset),
        "is_current": state.current is not None and state.current.pk == found.pk,
        "is_first_page": after < 0,
        "may_change": roles.may(request.user, "refresh"),
        "can_be_searched": found.kind == PASSAGES.name,
    }
    return render(request, "dataplane/version.html", context)


def _content(version: DatasetVersion, after: int) -> dict[str, Any]:
    """Return what the version's kind of content shows; without rows when no dataset here is of this kind."""
    try:
        kind = catalogue.content_kind(version.kind)
    except ContentUnknown as exc:
        return {"noun": "rows", "facts": [("Content", str(exc))], "rows": None, "shown": None}
    shown = selectors.shown(version, after=after, limit=ROWS_SHOWN)
    return {"noun": kind.noun, "facts": kind.facts(version.stored), "rows": kind.template, "shown": shown}


@is_a_part
@require_safe
@needs("see")
def flow_run(request: HttpRequest, flow_run_id: str) -> HttpResponse:
    """One flow run with its logs; what Postgres knows of it while Prefect is away."""
    return flow_run_page(request, flow_run_id)


def flow_run_page(
    request: HttpRequest, flow_run_id: str, *, fault: str = "", reason: str = "", asked: str = "", status: int = 200
) -> HttpResponse:
    """Answer with the page of a flow run; `fault`: why the action `asked` for the typed `reason` was not done."""
    flow_run_id = uuid_of(flow_run_id)  # one spelling: rows and announcements have no other
    cursor, search = request.GET.get("cursor", ""), request.GET.get("search", "")[:200]
    known = selectors.refreshes_by_flow_run([flow_run_id]).get(flow_run_id)
    run: FlowRun | None = None
    logs = LogPage([], None)
    try:
        run = gateway().flow_run(flow_run_id)
        logs = gateway().logs(flow_run_id, limit=LOGS_SHOWN, cursor=cursor, search=search)
    except PrefectAway as exc:
        if known is None:
            return _away(request, str(exc), flow_run_id)
    offered = offers(run) if run and roles.may(request.user, "act_on_flow_run") else []
    has_box = any(one.name == asked and not one.refusal for one in offered)
    context = {
        "parameters": _parameters(run, known, request.user),
        "hidden_because": run.hidden_because if run else "",
        "flow_run_id": flow_run_id,
        "row": FlowRunRow(run, known) if run else None,
        "refresh": known,
        "logs": logs,
        "cursor": cursor,
        "search": search,
        "query": urlencode({name: value for name, value in (("cursor", cursor), ("search", search)) if value}),
        "offers": offered,
        "may_see_work": run is not None and roles.may(request.user, "see_flow_run_work"),
        "is_moving": run is None or not run.is_terminal,
        "fault": fault,
        "asked": asked,
        "reason": reason,
        "unsent": "" if has_box else reason,
    }
    return page_or_fragment(request, "dataplane/flow_run.html", "dataplane/_flow_run.html", context, status=status)


def _parameters(run: FlowRun | None, known: Refresh | None, user: User | AnonymousUser) -> Any:
    """Return the run's parameters as this person may see them; without Prefect, what Postgres knows of them."""
    if run is not None:
        return masking.shown(run.parameters, run.declared(known.parameters if known else None), user)
    return masking.of_dataset(known.parameters, known.dataset_id) if known is not None else {}


def _away(request: HttpRequest, detail: str, flow_run_id: str) -> HttpResponse:
    context = {"detail": detail, "flow_run_id": flow_run_id}
    return page_or_fragment(request, "dataplane/away.html", "dataplane/_away.html", context, status=503)


def _data_page(
    request: HttpRequest,
    *,
    refused: RefreshForm | None = None,
    refused_dataset: str = "",
    status: int = 200,
) -> HttpResponse:
    parts = [
        _dataset_context(state, request.user, refused if state.name == refused_dataset else None)
        for state in selectors.datasets()
    ]
    context = {
        "parts": parts,
        "jobs": [_dataset_context(state, request.user) for state in selectors.jobs()],
        "faults": registered.load().faults if roles.may(request.user, "refresh") else (),
        "may_see_work": roles.may(request.user, "see_flow_run_work"),
        **_flow_runs_context(""),
    }
    return render(request, "dataplane/data.html", context, status=status)


def _dataset_context(
    state: DatasetState, user: User | AnonymousUser, refused: RefreshForm | None = None
) -> dict[str, Any]:
    """Return what `_dataset.html` shows. A refused form keeps what was typed."""
    window = selectors.window_key(state.name)
    suggested = selectors.suggested_key(state.name)
    entry = state.entry
    if isinstance(entry, Registered):
        may_refresh, form = bool(roles.roles_of(user) & entry.may_start), None
    else:
        may_refresh, form = roles.may(user, "refresh"), refused or RefreshForm(entry, initial={"key": suggested})
    rows = selectors.refreshes(dataset=state.name, limit=REFRESHES_SHOWN).items
    return {
        "state": state,
        "may_refresh": may_refresh,
        "may_backfill": roles.may(user, "refresh"),
        "search": selectors.search_in_words(state.current) if state.current else "",
        "form": form,
        "window": window,
        "window_is_used": suggested != window,
        "refreshes": rows,
        "told": [(row, trouble.sentence if (trouble := standing.told(row, shown_now())) else "") for row in rows],
    }


def _flow_runs_context(cursor: str) -> dict[str, Any]:
    """Return what `_flow_runs.html` shows. Runs that are only planned are left out but for the next one."""
    asked: dict[str, Any] = {"rows": [], "next_run": None, "away": "", "cursor": cursor, "next": None}
    if not health.prefect()["ok"]:
        return {**asked, "away": health.prefect()["detail"]}
    soon = shown_now() + timedelta(minutes=1)
    try:
        page = gateway().flow_runs(limit=FLOW_RUNS_SHOWN, cursor=cursor, due_before=soon)
        next_run = gateway().next_flow_run(after=soon)
    except PrefectError as exc:
        return {**asked, "away": str(exc)}
    known = selectors.refreshes_by_flow_run(run.id for run in page.items)
    return {
        **asked,
        "rows": [FlowRunRow(run, known.get(run.id)) for run in page.items],
        "next_run": next_run,
        "next": page.next,
    }


def _number(text: str, *, least: int) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else least
