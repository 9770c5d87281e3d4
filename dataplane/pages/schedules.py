"""When a dataset is refreshed by itself: its schedules, their next times, and the form that changes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from console import roles
from console.clock import database_now
from console.http import needs, not_allowed, person
from console.text.digests import digest_of_drawn
from dataplane import cron, scheduling, selectors
from dataplane.errors import DeploymentNotFound, InvalidParameters, PrefectAway, PrefectRefused, SchedulesChanged


@dataclass
class TypedSchedule:
    """One line of the form, as it was typed."""

    slug: str = ""
    cron: str = ""
    timezone: str = "UTC"
    is_active: bool = True
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def as_sent(self) -> dict[str, Any]:
        return {"slug": self.slug, "cron": self.cron, "timezone": self.timezone, "is_active": self.is_active}


@require_http_methods(["GET", "HEAD", "POST"])
@needs("see")
def schedules(request: HttpRequest, dataset: str) -> HttpResponse:
    """The dataset's schedules. What was typed is previewed, or taken; what cannot be taken is shown again.

    The form carries the digest of what it was drawn from: it replaces nothing that it did not show.
    Where they are left to Prefect, it is asked for them; what it has and nobody typed goes only when somebody says so.
    """
    may_change = roles.may(request.user, "refresh")
    if request.method == "POST" and not may_change:
        return not_allowed(request, "refresh")
    state = selectors.dataset(dataset)
    planned: list[scheduling.Planned] = []
    preview: list[scheduling.Planned] | None = None
    away, going, fault, status = "", "", "", 200
    try:
        planned = scheduling.planned(dataset)
    except (PrefectAway, PrefectRefused, DeploymentNotFound) as exc:
        away, status = exc.sentence, exc.http_status
    now = scheduling.digest_of(one.schedule for one in planned)
    digest = request.POST.get("base", now)
    lines = [_line(one.schedule) for one in planned if not one.note]
    if request.method == "POST":
        lines = _typed(request.POST)
        try:
            wanted = [one.as_sent for one in lines]
            if "preview" in request.POST:
                preview = scheduling.preview(wanted)
            elif not away:
                scheduling.replace_schedules(
                    dataset=dataset,
                    schedules=wanted,
                    user=person(request),
                    take_over="take_over" in request.POST,
                    seen=digest,
                )
                messages.success(request, "The schedules are kept. Prefect is told within a few seconds.")
                return redirect("dataplane:schedules", dataset)
        except InvalidParameters as exc:
            going = next((one["message"] for one in exc.errors if one["path"] == "take_over"), "")
            _show(lines, exc)
            status = exc.http_status
        except SchedulesChanged as exc:
            fault, status, digest = exc.sentence, exc.http_status, now  # what stands now is shown with it
    lines = [*lines, TypedSchedule(slug="" if lines else "main")]  # an empty one, to add
    context = {
        "state": state,
        "planned": planned if preview is None else preview,
        "is_preview": preview is not None,
        "is_left_to_prefect": selectors.is_left_to_prefect(state.entry),
        "away": away,
        "going": going,
        "fault": fault,
        "digest": digest,
        "draft": digest_of_drawn([one.as_sent for one in lines]),
        "lines": lines,
        "zones": cron.zones(),
        "may_change": may_change,
        "now": database_now(),
    }
    return render(request, "dataplane/schedules.html", context, status=status)


def _line(schedule: Any) -> TypedSchedule:  # Any: a Schedule, whose fields a line has
    return TypedSchedule(schedule.slug, schedule.cron, schedule.timezone, schedule.is_active)


def _typed(sent: QueryDict) -> list[TypedSchedule]:
    """Return the lines that were sent, without those marked to be removed and those with no time typed."""
    lines = []
    for number in range(scheduling.MOST + 1):
        if f"cron-{number}" not in sent or f"remove-{number}" in sent:
            continue
        if typed := sent.get(f"cron-{number}", "").strip():
            slug = sent.get(f"slug-{number}", "").strip()
            zone = sent.get(f"timezone-{number}", "UTC")
            lines.append(TypedSchedule(slug or "main", typed, zone, f"active-{number}" in sent))
    return lines


def _show(lines: list[TypedSchedule], refusal: InvalidParameters) -> None:
    for error in refusal.errors:
        steps = error["path"].split(".")
        if len(steps) == 3:
            lines[int(steps[1])].faults[steps[2]] = error["message"]
        elif lines and steps != ["take_over"]:
            lines[-1].faults["slug"] = error["message"]
