"""The events of a Temporal history as rows: what was scheduled, started and completed is one. Pure.

An event names the one that began it (`scheduledEventId` and its kin); the tasks of the workflow itself are left out
unless they failed, for they say nothing but that the workflow went on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from console.templatetags.signalbox import span
from orchestration.timeline.entries import State

Event = dict[str, Any]  # Temporal's own JSON
_PREFIX: Final = "EVENT_TYPE_"
_QUIET: Final = frozenset({"WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_COMPLETED"})
_BEGUN_BY: Final = ("scheduledEventId", "initiatedEventId", "acceptedEventId")
_BAD: Final = ("_FAILED", "_TIMED_OUT", "_REJECTED")
_ENDS: Final = (*_BAD, "_COMPLETED", "_CANCELED", "_FIRED", "_TERMINATED", "_SIGNALED", "_REQUESTED_CANCEL")
_RESET: Final = "WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW"


@dataclass
class TemporalRow:
    """One thing that a workflow did or met; instants are aware, UTC."""

    first: int  # the id of the event that began it
    kind: str  # activity, timer, child, signal, update, workflow, task, …
    title: str
    at: datetime | None = None  # of the first event; `None` while that is on a page not read yet
    ended_at: datetime | None = None
    state: State = "running"
    detail: str = ""
    events: list[int] = field(default_factory=list)
    attempt: int = 1

    @property
    def is_whole(self) -> bool:
        return self.at is not None


def kind_of(event: Event) -> str:
    return str(event.get("eventType", "")).removeprefix(_PREFIX)


def attributes_of(event: Event) -> dict[str, Any]:
    found: Any = next((value for name, value in event.items() if name.endswith("EventAttributes")), {})
    return found if isinstance(found, dict) else {}


def moment_of(event: Event) -> datetime | None:
    """Return when it happened, to the microsecond; `None` for an event without a time."""
    said = str(event.get("eventTime", ""))
    whole, dot, rest = said.rstrip("Z").partition(".")
    try:
        return datetime.fromisoformat(f"{whole}{dot}{(rest + '000000')[:6] if dot else ''}").replace(tzinfo=UTC)
    except ValueError:
        return None


def reset_of(event: Event) -> str:
    """Return the Temporal run that was set back to make this one, "" for an event that is no reset."""
    said = attributes_of(event)
    return str(said.get("baseRunId", "")) if said.get("cause") == _RESET else ""


def continued_from(event: Event) -> str:
    return str(attributes_of(event).get("continuedExecutionRunId", ""))


def continued_by(event: Event) -> str:
    is_end = kind_of(event) == "WORKFLOW_EXECUTION_CONTINUED_AS_NEW"
    return str(attributes_of(event).get("newExecutionRunId", "")) if is_end else ""


def rows_of(events: Iterable[Event]) -> list[TemporalRow]:
    """Return the rows of some events of one history, in any order of theirs, by the event that began each."""
    rows: dict[int, TemporalRow] = {}
    for event in sorted(events, key=_id):
        name, said = kind_of(event), attributes_of(event)
        if name in _QUIET:
            continue
        begun_by = _begun_by(name, said)
        if begun_by is None:
            rows[_id(event)] = _opened(event, name, said)
            continue
        row = rows.get(begun_by)
        if row is None:  # its beginning is on another page
            row = rows[begun_by] = TemporalRow(begun_by, _sort(name), _words(name))
        _close(row, event, name, said)
    return [rows[first] for first in sorted(rows)]


def _id(event: Event) -> int:
    return int(event.get("eventId", 0))


def _begun_by(name: str, said: dict[str, Any]) -> int | None:
    if name.startswith("WORKFLOW_TASK"):
        return None
    if name in ("TIMER_FIRED", "TIMER_CANCELED"):
        return int(said.get("startedEventId", 0))
    if name.startswith("WORKFLOW_EXECUTION") and name != "WORKFLOW_EXECUTION_UPDATE_COMPLETED":
        return None
    found = next((said[key] for key in _BEGUN_BY if key in said), None)
    return int(found) if found is not None else None


_SORTS: Final = (
    ("ACTIVITY", "activity"),
    ("TIMER", "timer"),
    ("START_CHILD", "child"),
    ("CHILD", "child"),
    ("WORKFLOW_EXECUTION_SIGNALED", "signal"),
    ("SIGNAL_EXTERNAL", "signal"),
    ("WORKFLOW_EXECUTION_UPDATE", "update"),
    ("WORKFLOW_TASK", "task"),
    ("WORKFLOW_EXECUTION", "workflow"),
    ("MARKER", "marker"),
    ("NEXUS", "nexus"),
)


def _sort(name: str) -> str:
    return next((kind for start, kind in _SORTS if name.startswith(start)), "event")


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _opened(event: Event, name: str, said: dict[str, Any]) -> TemporalRow:
    at = moment_of(event)
    row = TemporalRow(_id(event), _sort(name), _title(name, said), at, events=[_id(event)])
    row.detail = _detail(name, said)
    goes_on = name.endswith(("_SCHEDULED", "_INITIATED", "_ACCEPTED")) or name == "TIMER_STARTED"
    if goes_on:
        return row
    row.ended_at = at
    row.state = "done"
    if name.endswith(_BAD) and not reset_of(event):
        row.state = "failed"
    return row


def _title(name: str, said: dict[str, Any]) -> str:
    named = said.get("signalName") or _name(said.get("activityType")) or _name(said.get("workflowType"))
    if name == "ACTIVITY_TASK_SCHEDULED":
        return named or "activity"
    if name == "TIMER_STARTED":
        return f"Timer of {_span(str(said.get('startToFireTimeout', '')))}"
    if name == "WORKFLOW_EXECUTION_SIGNALED":
        return f"Signal {named} received"
    if name == "START_CHILD_WORKFLOW_EXECUTION_INITIATED":
        return f"Child workflow {named}"
    if name == "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED":
        return f"Signal {named} sent"
    if name == "WORKFLOW_EXECUTION_UPDATE_ACCEPTED":
        asked = said.get("acceptedRequest", {}).get("input", {})
        return f"Update {asked.get('name', '')}".strip()
    if name == "MARKER_RECORDED":
        return f"Marker {said.get('markerName', '')}".strip()
    if name.startswith("WORKFLOW_TASK"):
        return "Workflow set back" if said.get("cause") == _RESET else _words(name)
    if name.startswith("WORKFLOW_EXECUTION"):
        return _words(name).replace("Workflow execution", "Workflow") + (f": {named}" if named else "")
    return _words(name) + (f": {named}" if named else "")


def _name(found: Any) -> str:
    return str(found.get("name", "")) if isinstance(found, dict) else ""


def _detail(name: str, said: dict[str, Any]) -> str:
    cause = str(said.get("cause", ""))
    cause = cause.removeprefix("WORKFLOW_TASK_FAILED_CAUSE_").replace("_", " ").lower()
    words = [cause if cause and "reset" not in cause else "", _failure(said), str(said.get("reason", ""))]
    if name == "WORKFLOW_EXECUTION_STARTED" and said.get("continuedExecutionRunId"):
        words.append(f"continues {said['continuedExecutionRunId']}")
    if name == "WORKFLOW_EXECUTION_CONTINUED_AS_NEW":
        words.append(f"continued by {said.get('newExecutionRunId', '')}")
    return " · ".join(word for word in words if word)[:600]


def _failure(said: dict[str, Any]) -> str:
    """Return the words of a failure, those of its innermost cause besides where they differ."""
    found = said.get("failure") or said.get("lastFailure")
    if not isinstance(found, dict):
        return ""
    outer = inner = str(found.get("message", ""))
    for _ in range(20):
        cause = found.get("cause")
        if not isinstance(cause, dict):
            break
        found, inner = cause, str(cause.get("message", inner))
    return outer if inner == outer else f"{outer}: {inner}"


def _close(row: TemporalRow, event: Event, name: str, said: dict[str, Any]) -> None:
    row.events.append(_id(event))
    row.attempt = max(row.attempt, int(said.get("attempt", 1) or 1))
    failure = _failure(said)
    if failure:
        row.detail = failure[:600]
    if name.endswith(_ENDS):
        row.ended_at = moment_of(event)
        row.state = "failed" if name.endswith(_BAD) else "done"
        if name.endswith("_CANCELED"):
            row.detail = row.detail or "cancelled"


def _span(said: str) -> str:
    """Return "3 d" for "259200s", and "1 d" for "86399.9s": a timer set to a moment loses the time until it is set."""
    try:
        seconds = float(said.rstrip("s"))
    except ValueError:
        return said or "no length"
    return span(timedelta(seconds=round(seconds))) if seconds >= 1 else f"{seconds:g} s"
