"""What people and the parts of the console did: entries of the record, requests with their answers, deliveries."""

from __future__ import annotations

from typing import Any, Final

from django.db.models import F, Min, Prefetch, QuerySet
from django.urls import reverse

from approvals.models import Approval, AuditEvent, Decision, ReceiptStep
from console.models import OutboxEntry
from console.templatetags.signalbox import STATES
from orchestration.models import Run
from orchestration.timeline.entries import Entry, StoryWish
from orchestration.timeline.places import named, named_by_row, nearest

#: of the record, what is told of a run by its own rows
_RUN: Final[dict[str, str]] = {
    "run.requested": "Asked for",
    "run.finished": "Finished",
    "run.failed": "Failed",
    "run.cancelled": "Cancelled",
    "run.stuck": "Found stuck",
    "run.code_changed": "The agent's code changed",
    "run.cancel_requested": "Cancel asked for",
    "run.end_requested": "End asked for",
}
#: what the row of a request or of its delivery says already
_TOLD_BY_ROWS: Final = ("approval.opened", "approval.decided", "approval.expired", "approval.withdrawn")
_STATES: Final[dict[str, Any]] = {"run.failed": "failed", "run.stuck": "failed"}


def record(run: Run, wish: StoryWish) -> list[Entry]:
    """Return what the record says of the run itself. One query."""
    return _recorded(AuditEvent.objects.filter(subject=run.pk), wish)


def record_of_requests(run: Run, wish: StoryWish) -> list[Entry]:
    """Return what the record says of the run's requests beyond asked and decided: claims, comments. One query."""
    ids = Approval.objects.filter(run_id=run.pk).values("pk")
    rows = AuditEvent.objects.filter(subject__in=ids).exclude(kind__in=_TOLD_BY_ROWS)
    return _recorded(rows, wish)


def _recorded(rows: QuerySet[AuditEvent], wish: StoryWish) -> list[Entry]:
    part = nearest(rows, "at", "console", named_by_row("kind", "record:", "seq"), wish)
    return wish.takes(_of_record(row) for row in part)


def _of_record(row: AuditEvent) -> Entry:
    said = row.body if isinstance(row.body, dict) else {}
    words = str(said.get("reason") or said.get("detail") or said.get("message") or said.get("changed") or "")
    by = "" if row.actor in ("worker", "relay", "ladder") else f" by {row.actor}"
    return Entry(
        at=row.at,
        layer="console",
        kind=row.kind,
        title=f"{_RUN.get(row.kind, _in_words(row.kind))}{by}",
        detail=words[:500],
        reference=f"record:{row.pk}",
        state=_STATES.get(row.kind, "done"),
        url=reverse("approvals:approval", args=[row.subject]) if row.kind.startswith("approval.") else "",
    )


def _in_words(kind: str) -> str:
    """Return "Request set aside" for "approval.set_aside"."""
    about, _, what = kind.partition(".")
    return f"{ {'approval': 'Request', 'run': 'Run'}.get(about, about.capitalize()) } {what.replace('_', ' ')}"


def requests(run: Run, wish: StoryWish) -> list[Entry]:
    """Return the run's requests, each as the time in which it waited for people. Two queries."""
    rows = Approval.objects.filter(run_id=run.pk).only(
        *("id", "summary", "status", "opened_at", "closed_at", "due_at", "audience", "kind", "run_id", "tool")
    )
    part = nearest(rows.prefetch_related(_decisions()), "opened_at", "console", named("request", "id"), wish)
    return wish.takes(_of_request(row) for row in part)


def open_requests(run: Run, most: int) -> list[Entry]:
    """Return requests that still wait, the soonest to expire first. Two queries."""
    pending = Approval.objects.filter(run_id=run.pk, status=Approval.Status.PENDING).order_by("due_at", "id")
    rows = pending.defer("canonical", "arguments_schema", "agent_words", "search_words")
    return [_of_request(row) for row in rows.prefetch_related(_decisions())[:most]]


def _decisions() -> Prefetch[str, QuerySet[Decision], str]:
    return Prefetch("decisions", Decision.objects.select_related("by").order_by("number"))


def _of_request(row: Approval) -> Entry:
    decisions = list(row.decisions.all())
    said = "; ".join(
        f"{STATES.get(one.verdict, ('', '', one.verdict))[2].lower()} by {one.by.username if one.by else 'policy'}"
        + (f": {one.note}" if one.note else "")
        for one in decisions
    )
    is_open = row.is_open
    audience = " or ".join(row.audience)
    return Entry(
        at=row.opened_at,
        layer="console",
        kind="request",
        title=row.summary,
        detail=(f"waits for the role {audience}" + (f"; {said}" if said else "")) if is_open else said or row.status,
        reference=row.pk,
        state="waiting" if is_open else "done",
        began_at=row.opened_at,
        ended_at=row.closed_at,
        url=reverse("approvals:approval", args=[row.pk]),
    )


_STEPS: Final = (ReceiptStep.Step.RECORDED, ReceiptStep.Step.SIGNALLED, ReceiptStep.Step.RESUMED)


def deliveries(run: Run, wish: StoryWish) -> list[Entry]:
    """Return how each decision travelled to the run, from recorded to resumed. Three queries."""
    steps = ReceiptStep.objects.filter(approval__run_id=run.pk, step__in=_STEPS)
    firsts = steps.values("approval_id").annotate(first=Min("at"))
    part = nearest(firsts, "first", "console", named("delivery", "approval_id"), wish)
    ids = [one["approval_id"] for one in part]
    travelled: dict[str, dict[str, ReceiptStep]] = {}
    for step in steps.filter(approval_id__in=ids).annotate(summary=F("approval__summary")):
        travelled.setdefault(step.approval_id, {})[step.step] = step
    under_way = OutboxEntry.objects.filter(subject=run.pk, delivered_at=None).order_by("id") if ids else []
    errors = {str(one.payload.get("approval_id")): one for one in under_way}
    return wish.takes(_of_delivery(run, pk, found, errors.get(pk)) for pk, found in travelled.items())


def _of_delivery(run: Run, pk: str, found: dict[str, ReceiptStep], entry: OutboxEntry | None) -> Entry:
    began = min(step.at for step in found.values())
    resumed = found.get(ReceiptStep.Step.RESUMED)
    signalled = found.get(ReceiptStep.Step.SIGNALLED)
    last = max(found.values(), key=lambda step: step.at)
    state: Any = "done"
    if resumed is None and run.status in Run.OPEN:
        state = "failed" if entry is not None and entry.last_error else "running"
    summary = str(getattr(last, "summary", ""))
    if resumed is not None:
        title = f"The run took the answer: {summary}"
    elif signalled is not None:
        title = f"Signalled, not taken yet: {summary}" if state != "done" else f"Signalled: {summary}"
    else:
        title = f"Answer on its way: {summary}" if state != "done" else f"Answer recorded: {summary}"
    trouble = f"attempt {entry.attempts}: {entry.last_error}" if entry is not None and entry.last_error else ""
    return Entry(
        at=began,
        layer="console",
        kind="delivery",
        title=title,
        detail=trouble,
        reference=pk,
        state=state,
        began_at=began,
        ended_at=None if state != "done" else last.at,
        url=reverse("approvals:approval", args=[pk]),
    )
