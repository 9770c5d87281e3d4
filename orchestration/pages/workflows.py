"""Workflows of other people in the namespaces that the settings allow: how one is, its history, and writing to it.

The page itself asks no engine: what Temporal says of it, and its history page by page, come as parts of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods, require_safe

from approvals.errors import InvalidChange
from console.environment import environment
from console.forms import schema_form
from console.fragments import page_or_fragment
from console.http import needs, person
from console.live.parts import is_a_part
from console.text.stored import asked_text
from orchestration.errors import ActionRefused, InvalidOptions, TemporalAway, TemporalRefused, WorkflowGone
from orchestration.messages import known, rules, sending
from orchestration.messages.sending import WorkflowLetter
from orchestration.models import Run, WorkflowMessage
from orchestration.signal_rules import is_own
from orchestration.timeline import temporal, temporal_rows

if TYPE_CHECKING:  # the web process loads the SDK when it asks Temporal, not before
    from orchestration.temporal_protocol import Described, HistoryPage, TemporalReads

_T = TypeVar("_T")
EVENTS: Final = 60  # batches of events of one page
_PAYLOAD: Final = 1500  # characters of what one event holds
_WORDS: Final = {"signal": "Send a signal", "query": "Ask it", "update": "Send an update"}
_PREFIX: Final = "options"
_FREE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "title": "Name", "minLength": 1, "maxLength": sending.NAME_LIMIT},
        "arguments": {"type": "array", "title": "Arguments", "description": "A list of JSON values", "items": {}},
    },
    "required": ["name"],
}


@dataclass(frozen=True)
class OtherWorkflow:
    """Which workflow is meant, and where its page is."""

    namespace: str
    workflow_id: str

    @property
    def query(self) -> str:
        return urlencode({"namespace": self.namespace, "id": self.workflow_id})

    @property
    def address(self) -> str:
        return f"{reverse('orchestration:workflow')}?{self.query}"


def _place(request: HttpRequest) -> OtherWorkflow | None:
    """Return the workflow that is asked for, `None` where none is. Raises PermissionDenied for what is not open."""
    given = request.POST if request.method == "POST" else request.GET
    workflow_id = asked_text(given.get("id"), sending.ID_LIMIT)
    namespace = asked_text(given.get("namespace"), sending.NAME_LIMIT)
    if not workflow_id:
        return None
    place = OtherWorkflow(namespace or environment().temporal_namespace, workflow_id)
    if is_own(*_key(place)) or not rules.is_allowed(*_key(place)):
        raise PermissionDenied(rules.refusal_of("query", *_key(place), "__stack_trace"))
    return place


def _key(place: OtherWorkflow) -> tuple[str, str]:
    return place.namespace, place.workflow_id


@is_a_part
@require_safe
@needs("act_on_run")
def workflow(request: HttpRequest) -> HttpResponse:
    """One workflow of somebody else's; without one, where to say which."""
    allowed = [
        f"{place}/{prefix}…" if prefix else place for place, prefix in rules.read_places(environment().workflows)
    ]
    asked = {"namespace": request.GET.get("namespace", "")[:200], "id": request.GET.get("id", "")[:500]}
    context: dict[str, Any] = {"allowed": allowed, "asked": asked, "place": None, "kinds": list(_WORDS.items())}
    if asked["namespace"] in ("", environment().temporal_namespace) and Run.objects.filter(pk=asked["id"]).exists():
        return redirect("orchestration:run", asked["id"])
    try:
        place = _place(request)
    except PermissionDenied as exc:
        return render(request, "orchestration/workflow.html", context | {"fault": str(exc)}, status=403)
    if place is None:
        return render(request, "orchestration/workflow.html", context)
    after = request.GET.get("after", "")[:2000]
    context |= {"place": place, "letters": sending.of_workflow(*_key(place)), "after": after, "query": place.query}
    context["here"] = f"{place.address}&{urlencode({'after': after, 'told': '1'})}"
    if request.GET.get("told") == "1":
        context |= _told(place, after)
    return page_or_fragment(request, "orchestration/workflow.html", "orchestration/_workflow.html", context)


def _told(place: OtherWorkflow, after: str) -> dict[str, Any]:
    """Return what Temporal says of the workflow, and a page of its history, the newest first; or why not."""

    async def ask(door: TemporalReads) -> tuple[Described, HistoryPage]:
        described = await door.describe(place.workflow_id)
        page = await door.history_back(place.workflow_id, described.temporal_run_id, after=after, most=EVENTS)
        return described, page

    found, fault = _asked(place, ask)
    if found is None:
        return {"is_told": True, "fault": fault}
    described, page = found
    events = [_event(event) for event in page.events]
    older = f"{place.address}&{urlencode({'after': page.after, 'told': '1'})}" if page.after and page.events else ""
    return {"is_told": True, "described": described, "events": events, "older": older}


def _event(event: dict[str, Any]) -> dict[str, Any]:
    holds = sending.shown(temporal.payloads_in(temporal_rows.attributes_of(event)))
    return {
        "number": event.get("eventId", ""),
        "name": temporal_rows.kind_of(event).replace("_", " ").capitalize(),
        "at": temporal_rows.moment_of(event),
        "holds": holds[:_PAYLOAD],
        "is_cut": len(holds) > _PAYLOAD,
    }


def _asked(place: OtherWorkflow, ask: Callable[[TemporalReads], Coroutine[Any, Any, _T]]) -> tuple[_T | None, str]:
    """Return the answer, or why there is none. Waits at most `temporal.DEADLINE`."""

    async def work() -> _T:
        from orchestration.temporal_gateway import RealTemporal

        return await ask((await RealTemporal.connect()).within(place.namespace))

    try:
        return asyncio.run(asyncio.wait_for(work(), temporal.DEADLINE)), ""
    except WorkflowGone:
        return None, "Temporal has no workflow of this id in this namespace, or its time of keeping is over."
    except TemporalRefused as exc:
        return None, f"Temporal does not tell: {exc}"
    except (TimeoutError, TemporalAway):
        return None, "Temporal does not answer just now. What was sent stands below; open the page again later."


@require_http_methods(["GET", "HEAD", "POST"])
@needs("act_on_run")
def send(request: HttpRequest) -> HttpResponse:
    """Send a signal, a query or an update: what it takes, what it would do, a reason, and the button."""
    place = _place(request)
    if place is None:
        return redirect("orchestration:workflow")
    given = request.POST if request.method == "POST" else request.GET
    kind = given.get("kind", "signal") if given.get("kind") in known.KINDS else "signal"
    named = given.get("known", "")[: sending.NAME_LIMIT]
    described, fault = _asked(place, lambda door: door.describe(place.workflow_id))
    workflow_type = described.workflow_type if described else given.get("type", "")[:200]
    choices = [one for one in known.known(workflow_type) if one.kind == kind]
    chosen = next((one for one in choices if one.name == named), None)
    schema = chosen.schema if chosen else _FREE
    context: dict[str, Any] = {
        "place": place,
        "kind": kind,
        "title": _WORDS[kind],
        "choices": choices,
        "chosen": chosen,
        "workflow_type": workflow_type,
        "engine": fault,
        "reason": request.POST.get("reason", ""),
        "count": WorkflowMessage.objects.filter(namespace=place.namespace, workflow_id=place.workflow_id).count(),
        "fault": "",
        "would": [],
    }
    status = 200
    if request.method != "POST":
        context["form"] = schema_form.build(schema, {}, prefix=_PREFIX, id_prefix="field")
        return render(request, "orchestration/send.html", context)
    form = context["form"] = schema_form.read(schema, {}, request.POST, prefix=_PREFIX, id_prefix="field")
    if not form.is_valid:
        return render(request, "orchestration/send.html", context, status=422)
    letter = _letter(place, kind, chosen, form.value, workflow_type)
    try:
        context["would"] = sending.warnings_of(letter)
        if "show" not in request.POST:
            sending.send(letter, reason=context["reason"], by=person(request), key=request.POST.get("key", "")[:100])
            messages.success(request, "It is on its way. What came of it stands here.")
            return redirect(place.address)
    except InvalidOptions as exc:
        for error in exc.errors:
            form.add_error(schema_form.steps_of(error["path"]), error["message"])
        status = exc.http_status
    except (InvalidChange, ActionRefused) as exc:
        context["fault"], status = exc.sentence, exc.http_status
    return render(request, "orchestration/send.html", context, status=status)


def _letter(
    place: OtherWorkflow, kind: str, chosen: known.KnownMessage | None, value: Any, workflow_type: str
) -> WorkflowLetter:
    if chosen is None:
        said: dict[str, Any] = value if isinstance(value, dict) else {}
        name, arguments = str(said.get("name", "")), said.get("arguments") or []
    else:
        name, arguments = chosen.name, [value] if chosen.takes else []
    return WorkflowLetter(kind, place.namespace, place.workflow_id, name, list(arguments), workflow_type)
