"""The pages of batches: the list, one with its items, the form that starts one, and its results as a file."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from ulid import ULID

from approvals.errors import InvalidChange
from console import roles
from console.fragments import page_or_fragment
from console.http import needs, person
from console.lists.longer_lists import STEP, address_of, more_of, rows_wanted
from console.live.parts import is_a_part
from console.text.cells import BOM, cell, line
from console.text.stored import asked_text
from orchestration.agents.arguments import input_schema_of
from orchestration.agents.registry import agents, faults
from orchestration.agents.runtime import Agent
from orchestration.batches import acting, reading, starting
from orchestration.batches.acting import Action, TriedAgain, Waiting
from orchestration.batches.reading import BatchPage, ItemRow
from orchestration.batches.starting import CheckedTable, RowFault
from orchestration.batches.tables import LARGEST_TEXT, NoTable, columns_of, decoded, read_table
from orchestration.errors import ActionRefused, BatchKeyReused, InvalidInput
from orchestration.models import Batch, BatchItem
from orchestration.state.secrets import hidden_of

FAULTS_SHOWN: Final = 50
ROWS_SHOWN: Final = 5
SHOWN_AGAIN: Final = 2_000_000  # characters of a table that a form can carry back
STATES: Final = {"": "All"} | {state.value: str(state.label).capitalize() for state in BatchItem.State}
DONE: Final[dict[str, str]] = {
    "pause": "The batch is paused. What has begun goes on.",
    "resume": "The batch goes on.",
    "cancel": "The batch is cancelled. The reason is in the record.",
}


@dataclass(frozen=True)
class ListedBatches:
    """What the address asks the list of batches to show, and the rows."""

    cursor: str
    limit: int
    page: BatchPage

    def address(self, **changes: Any) -> str:
        return address_of("orchestration:batches", {"cursor": self.cursor, "limit": self.limit, **changes})

    @property
    def more(self) -> str:
        return more_of(self, self.page.next_cursor)


@is_a_part
@require_safe
@needs("see")
def batches(request: HttpRequest) -> HttpResponse:
    """All batches, newest first."""
    cursor, limit = asked_text(request.GET.get("cursor"), 200), rows_wanted(request.GET.get("limit", ""))
    page = reading.batches_page(request.user, cursor=cursor, limit=limit)
    context = {"listed": ListedBatches(cursor, limit, page), "may_start": roles.may(request.user, "start_run")}
    return page_or_fragment(request, "orchestration/batches.html", "orchestration/_batches_rows.html", context)


@is_a_part
@require_safe
@needs("see")
def batch(request: HttpRequest, batch_id: str) -> HttpResponse:
    """One batch: how far it is, what holds it, what can be done, and its items."""
    return _batch_page(request, reading.batch_for(request.user, batch_id))


def _batch_page(request: HttpRequest, found: Batch, status: int = 200, **typed: str) -> HttpResponse:
    state, cursor = request.GET.get("status", ""), request.GET.get("cursor", "")[:10]
    state = state if state in STATES else ""
    may_act = roles.may(request.user, "act_on_run")
    story = reading.story_of(found)
    context = {
        "story": story,
        "items": reading.items_page(found, state=state, cursor=cursor, limit=STEP),
        "state": state,
        "cursor": cursor,
        "tabs": [(one, words, story.row.counts.get(one, found.total)) for one, words in STATES.items()],
        "may_act": may_act,
        "fault": typed.get("fault", ""),
        "reason": typed.get("reason", ""),
        "waiting": typed.get("waiting", "leave"),
    }
    if status != 200:
        return render(request, "orchestration/batch.html", context, status=status)
    return page_or_fragment(request, "orchestration/batch.html", "orchestration/_batch.html", context)


@require_POST
@needs("act_on_run")
def act(request: HttpRequest, batch_id: str) -> HttpResponse:
    """Pause, resume, cancel, or try what failed again."""
    found = reading.batch_for(request.user, batch_id)
    sent, reason = request.POST.get("action", ""), request.POST.get("reason", "")
    action: Action | None = next((one for one in acting.ACTIONS if one == sent), None)
    waiting: Waiting = "cancel" if request.POST.get("waiting") == "cancel" else "leave"
    if action is None:
        raise Http404
    try:
        times = _number(request.POST.get("times", ""))
        acting.act(batch_id=found.pk, action=action, by=person(request), reason=reason, waiting=waiting, times=times)
    except (InvalidChange, ActionRefused) as exc:
        typed = {"fault": exc.sentence, "reason": reason, "waiting": waiting}
        return _batch_page(request, found, exc.http_status, **typed)
    messages.success(request, DONE.get(action) or _words_of(acting.tried_again(found.pk)))
    return redirect("orchestration:batch", found.pk)


def _number(typed: str) -> int | None:
    return int(typed) if typed.isascii() and typed.isdigit() and len(typed) < 8 else None


def _words_of(tried: TriedAgain) -> str:
    words = "1 failed row is tried again." if tried.items == 1 else f"{tried.items:,} failed rows are tried again."
    if not tried.left:
        return words
    left = "1 is left as it is, for its run has" if tried.left == 1 else f"{tried.left:,} are left, for their runs have"
    return f"{words} {left} done something, or may have: set such a run back instead."


@dataclass
class Typed:
    """The form that starts a batch, as it was sent or as it begins. Numbers stay as they were typed."""

    table: str = ""
    key: str = ""
    active: str = str(starting.ACTIVE)
    open_approvals: str = str(starting.OPEN_APPROVALS)
    faults: dict[str, str] = field(default_factory=dict)  # by field; "" is the whole form

    @property
    def shown_table(self) -> str:
        return self.table if len(self.table) <= SHOWN_AGAIN else ""

    def number(self, name: str) -> int:
        """Return a typed number, 0 for what is none: which is refused in words."""
        return _number(getattr(self, name).strip()) or 0


@dataclass(frozen=True)
class TablePreview:
    """What the table is, before anything starts: how many rows, which are wrong, and the first as they were read."""

    checked: CheckedTable

    @property
    def faults(self) -> list[RowFault]:
        return self.checked.faults[:FAULTS_SHOWN]

    @property
    def more_faults(self) -> int:
        return max(0, len(self.checked.faults) - FAULTS_SHOWN)

    @property
    def first(self) -> list[dict[str, Any]]:
        hidden = hidden_of(self.checked.agent)
        return [hidden.without(given) for given in self.checked.inputs[:ROWS_SHOWN]]

    @property
    def same(self) -> list[tuple[int, int]]:
        return self.checked.same[:ROWS_SHOWN]


@require_http_methods(["GET", "HEAD", "POST"])
@needs("start_run")
def start(request: HttpRequest) -> HttpResponse:
    """Start a batch of an agent: paste or choose a table, see what it is, start it."""
    agent = _chosen_agent(request)
    context: dict[str, Any] = {"agents": list(agents().values()), "agent": agent, "unusable": faults()}
    if agent is None:
        return render(request, "orchestration/batch_start.html", context)
    typed, preview = Typed(key=f"{agent.name}-{str(ULID()).lower()}"), None
    if request.method == "POST":
        typed = _typed(request)
        preview = _preview(agent, typed)
        is_right = preview is not None and not preview.checked.faults
        if is_right and request.POST.get("do") == "start" and (found := _start(request, agent, typed)) is not None:
            return redirect("orchestration:batch", found.pk)
    status = 422 if typed.faults or (preview and preview.checked.faults) else 200
    context |= {"typed": typed, "preview": preview, "columns": _columns(agent)}
    return render(request, "orchestration/batch_start.html", context, status=status)


def _typed(request: HttpRequest) -> Typed:
    typed = Typed(
        request.POST.get("table", ""),
        request.POST.get("key", "").strip(),
        request.POST.get("active", ""),
        request.POST.get("open_approvals", ""),
    )
    file = request.FILES.get("file")
    if isinstance(file, UploadedFile) and file.size:
        try:
            typed.table = decoded(file.read(LARGEST_TEXT + 1))  # more is refused, and need not be here for that
        except NoTable as exc:
            typed.faults["table"] = str(exc)
    return typed


def _preview(agent: Agent, typed: Typed) -> TablePreview | None:
    if typed.faults:
        return None
    try:
        return TablePreview(starting.check(agent.name, read_table(typed.table, input_schema_of(agent))))
    except NoTable as exc:
        typed.faults["table"] = str(exc)
    return None


def _start(request: HttpRequest, agent: Agent, typed: Typed) -> Batch | None:
    try:
        return starting.start_batch(
            agent=agent.name,
            rows=read_table(typed.table, input_schema_of(agent)),
            key=typed.key,
            requested_by=person(request),
            active=typed.number("active"),
            open_approvals=typed.number("open_approvals"),
        )[0]
    except InvalidInput as exc:
        typed.faults |= {one["path"]: one["message"] for one in reversed(exc.errors)}
    except BatchKeyReused:
        typed.faults["key"] = "This name was used for a batch of other rows. Use another one."
    return None


def _columns(agent: Agent) -> list[tuple[str, bool, bool]]:
    """Return what a table may have: name, whether every row needs it, and whether a cell of CSV holds JSON."""
    schema = input_schema_of(agent)
    needed = set(schema.get("required", ()))
    return [(column.name, column.name in needed, column.is_json) for column in columns_of(schema)]


def _chosen_agent(request: HttpRequest) -> Agent | None:
    known = agents()
    name = request.POST.get("agent") or request.GET.get("agent") or ""
    if not name and len(known) == 1:
        return next(iter(known.values()))
    return known.get(name)


COLUMNS: Final = ("number", "status", "attempt", "run", "input", "result", "error", "ended")


def _csv_line(row: ItemRow) -> str:
    item = row.item
    told = [json.dumps(value, ensure_ascii=False) if value is not None else "" for value in (row.given, row.result)]
    error = (row.error or {}).get("message", "")
    return line(
        cell(value) for value in (item.number, item.state, item.attempt + 1, item.run_id, *told, error, item.ended_at)
    )


def _json_line(row: ItemRow) -> str:
    item = row.item
    told = {
        "number": item.number,
        "status": item.state,
        "attempt": item.attempt + 1,
        "run_id": item.run_id,
        "input": row.given,
        "result": row.result,
        "error": row.error,
        "ended_at": item.ended_at.isoformat() if item.ended_at else None,
    }
    return json.dumps(told, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Results:
    """A file of a batch's items while it is written: a few rows are read at a time."""

    batch: Batch
    form: str  # csv or jsonl

    def __iter__(self) -> Iterator[str]:
        write = _csv_line if self.form == "csv" else _json_line
        if self.form == "csv":
            yield BOM + line(COLUMNS)
        pages = reading.pages_of_items(self.batch)
        for rows in pages:
            yield "".join(map(write, rows))

    async def __aiter__(self) -> AsyncIterator[str]:
        pieces = iter(self)
        while piece := await sync_to_async(lambda: next(pieces, ""))():
            yield piece


@require_safe
@needs("see")
def results(request: HttpRequest, batch_id: str, form: str) -> Any:  # a stream is no HttpResponse
    """All items of a batch with what became of them, as CSV or as JSON lines."""
    if form not in ("csv", "jsonl"):
        raise Http404
    written = Results(reading.batch_for(request.user, batch_id), form)
    content = aiter(written) if isinstance(request, ASGIRequest) else iter(written)
    kind = "text/csv; charset=utf-8" if form == "csv" else "application/x-ndjson; charset=utf-8"
    response = StreamingHttpResponse(content, content_type=kind)
    response["Content-Disposition"] = f'attachment; filename="{written.batch.pk}.{form}"'
    return response
