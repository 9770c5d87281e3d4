"""What one flow run did and left: its tasks, artifacts and log, and what an admin does to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_POST, require_safe

from console.fragments import page_or_fragment
from console.http import needs, person
from console.live.parts import is_a_part
from console.text.markdown import to_inert_html
from dataplane import flow_run_actions
from dataplane.deployments import FAILED, Artifact, TaskRun, deployments, table_of
from dataplane.errors import FlowRunActionRefused, InvalidParameters, PrefectAway, PrefectError
from dataplane.pages.looks import STATE_LOOKS
from dataplane.prefect_gateway import FlowRun, gateway, uuid_of
from dataplane.views import flow_run_page

LOG_LINES = 20_000  # in one download


@dataclass(frozen=True)
class ShownArtifact:
    """One artifact as the page draws it; of somebody else's words nothing acts."""

    artifact: Artifact
    table: tuple[list[str], list[list[str]]] | None = None
    html: SafeString | None = None
    percent: float | None = None
    address: str = ""  # of a picture or link, http or https
    text: str = ""  # what could not be drawn, as it is


@dataclass(frozen=True)
class TaskBar:
    """One task on the timeline; places are columns of a hundred."""

    task: TaskRun
    begin: int
    length: int

    @property
    def tone(self) -> str:
        return STATE_LOOKS[self.task.state_type][0]

    @property
    def icon(self) -> str:
        return STATE_LOOKS[self.task.state_type][1]


@is_a_part
@require_safe
@needs("see_flow_run_work")
def work(request: HttpRequest, flow_run_id: str) -> HttpResponse:
    """Tasks and artifacts of a run, a page of each, fetched again while it goes on.

    Of a run with more tasks than one page those that failed are shown besides: nobody looks for them page by page.
    """
    flow_run_id = uuid_of(flow_run_id)
    asked = {name: cursor for name in ("tasks", "artifacts") if (cursor := request.GET.get(name, ""))}
    context: dict[str, Any] = {"flow_run_id": flow_run_id, "away": "", "bars": [], "artifacts": []}
    context |= {"query": urlencode(asked), "later_tasks": "", "older_artifacts": "", "failed": [], "more_failed": False}
    try:
        run, others = gateway().flow_run(flow_run_id), deployments()
        tasks = others.task_runs(flow_run_id, cursor=asked.get("tasks", ""))
        left = others.artifacts(flow_run_id, cursor=asked.get("artifacts", ""))
        context |= {
            "bars": _bars(run, tasks.items),
            "artifacts": [shown(one) for one in reversed(left.items)],  # as they were written
            "is_moving": not run.is_terminal,
            "later_tasks": urlencode(asked | {"tasks": tasks.next}) if tasks.next else "",
            "older_artifacts": urlencode(asked | {"artifacts": left.next}) if left.next else "",
        }
        if tasks.next or "tasks" in asked:
            failed = others.task_runs(flow_run_id, states=FAILED)
            context |= {"failed": _bars(run, failed.items), "more_failed": failed.next is not None}
    except PrefectAway as exc:
        context["away"] = str(exc)
    return page_or_fragment(request, "dataplane/flow_run_work.html", "dataplane/_flow_run_work.html", context)


def shown(artifact: Artifact) -> ShownArtifact:
    """Return the artifact as it may stand on a page."""
    data = artifact.data
    if artifact.kind == "table" and (table := table_of(data)) is not None:
        return ShownArtifact(artifact, table=table)
    if artifact.kind == "markdown" and isinstance(data, str):
        return ShownArtifact(artifact, html=mark_safe(to_inert_html(data)))
    if artifact.kind == "progress" and isinstance(data, int | float):
        return ShownArtifact(artifact, percent=float(max(0, min(100, data))))  # compared first: it may be 10 ** 400
    text = data if isinstance(data, str) else "" if data is None else str(data)
    is_address = urlsplit_or_none(text) in ("http", "https")
    return ShownArtifact(artifact, address=text if is_address else "", text="" if is_address else text[:20_000])


def urlsplit_or_none(text: str) -> str | None:
    """Return the scheme of an address; None when the text is none."""
    try:
        parts = urlsplit(text.strip())
    except ValueError:
        return None
    return parts.scheme if parts.netloc and " " not in text.strip() else None


def _bars(run: FlowRun, tasks: list[TaskRun]) -> list[TaskBar]:
    starts = [task.started_at for task in tasks if task.started_at]
    if not starts:
        return [TaskBar(task, 1, 1) for task in tasks]
    first = min(starts)
    ends = [task.ended_at for task in tasks if task.ended_at] + ([run.ended_at] if run.ended_at else [])
    last = max([*ends, *starts])
    whole = max((last - first).total_seconds(), 0.001)

    def column(moment: datetime) -> int:
        return max(0, min(99, int((moment - first).total_seconds() / whole * 100)))

    bars = []
    for task in tasks:
        begin = column(task.started_at) if task.started_at else 99
        stop = column(task.ended_at) if task.ended_at else 99 if task.started_at else begin
        bars.append(TaskBar(task, begin + 1, max(1, stop - begin)))
    return bars


@require_safe
@needs("see")
def log(request: HttpRequest, flow_run_id: str) -> HttpResponse:
    """The whole log as a file of lines, without what is secret."""
    first = gateway().logs(flow_run_id)  # so that what is wrong is said before the answer has begun

    def lines() -> Iterator[str]:
        page, told = first, 0
        while True:
            for line in page.items:
                message = line.message.replace("\r", "")
                yield f"{line.at:%Y-%m-%dT%H:%M:%S.%fZ} {line.level:8} {message}\n"
            told += len(page.items)
            if page.next is None or told >= LOG_LINES:
                return
            try:
                page = gateway().logs(flow_run_id, cursor=page.next)
            except PrefectError as exc:
                yield f"The rest could not be read: {exc}\n"
                return

    response: Any = StreamingHttpResponse(lines(), content_type="text/plain; charset=utf-8")  # Any: no HttpResponse
    response["Content-Disposition"] = f'attachment; filename="flow-run-{flow_run_id[:36]}.log"'
    answer: HttpResponse = response
    return answer


@require_POST
@needs("act_on_flow_run")
def act(request: HttpRequest, flow_run_id: str) -> HttpResponse:
    """Do one action; the run's page says what became of it, with the reason where it was not done."""
    action, reason = request.POST.get("action", ""), request.POST.get("reason", "")
    try:
        flow_run_actions.act(flow_run_id=flow_run_id, action=action, reason=reason, user=person(request))
    except InvalidParameters as exc:
        fault, status = f"Nothing was done: {exc.errors[0]['message']}.", exc.http_status
    except FlowRunActionRefused as exc:
        fault, status = f"Nothing was done. {exc.sentence}", exc.http_status
    else:
        messages.success(request, _SAID[action])
        return redirect("dataplane:flow_run", flow_run_id)
    return flow_run_page(request, flow_run_id, fault=fault, reason=reason, asked=action, status=status)


_SAID = {
    "cancel": "It was asked to stop.",
    "retry": "It begins again in about five seconds.",
    "release_slot": "Its slot is given back.",
}
