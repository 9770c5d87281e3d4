"""How a thread stands on its agent server, read from the JSON of its API. Pure.

A thread's state names its tasks, each with the interrupts that it waits for; the task of a graph inside the graph has a
state of its own. So what the model said before it asked is found in the innermost state that has the interrupt. What
the error handler of a node asks stands at none of these tasks, only at the thread itself, by the task that asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage

from orchestration.stops import PREFIX, Stop


@dataclass(frozen=True)
class RemoteInterrupt:
    """One interrupt of a thread, as its dialect reads it."""

    id: str
    value: Any
    response_schema: dict[str, Any] | None = None


@dataclass(frozen=True)
class RemoteThread:
    """One thread as its server has it now."""

    thread_id: str
    status: str  # idle, busy, interrupted or error
    graph: str
    assistant_id: str
    checkpoint_id: str
    asked: tuple[RemoteInterrupt | Stop, ...]  # what it waits for
    messages: Mapping[str, tuple[AIMessage, ...]] = field(default_factory=dict)  # interrupt id -> of who asked
    asked_in: Mapping[str, str] = field(default_factory=dict)  # interrupt id -> the innermost node, "" where untold
    lacks_ids: bool = False  # some interrupt has no id, so it cannot be answered by it
    was_cut_short: bool = False  # its newest run was cancelled or failed, which looks as a stop of its graph does

    @property
    def is_busy(self) -> bool:
        return self.status == "busy"

    def waits_for(self, interrupt_id: str) -> RemoteInterrupt | Stop | None:
        """Return the interrupt, `None` when the thread does not wait for it any more."""
        return next((one for one in self.asked if one.id == interrupt_id), None)


def thread_of(thread_id: str, about: Mapping[str, Any], state: Mapping[str, Any]) -> RemoteThread:
    """Return how the thread stands. `about`: the thread; `state`: its state with those of graphs inside."""
    metadata = {**_dict(state.get("metadata")), **_dict(about.get("metadata"))}
    checkpoint_id = str(_dict(state.get("checkpoint")).get("checkpoint_id") or "")
    found: dict[str, RemoteInterrupt] = {}
    messages: dict[str, tuple[AIMessage, ...]] = {}
    asked_in: dict[str, str] = {}
    lacks_ids = False
    status = str(about.get("status") or "")
    nodes = _list(state.get("next"))
    asking = list(_interrupts(state))
    if not asking and status == "interrupted" and nodes:
        asking = [(interrupt, "", _dict(state.get("values"))) for interrupt in _told_by_itself(about)]
    for interrupt, node, values in asking:
        name = interrupt.get("id")
        if not isinstance(name, str) or not name:
            lacks_ids = True
            continue
        schema = interrupt.get("response_schema")
        found[name] = RemoteInterrupt(name, interrupt.get("value"), schema if isinstance(schema, dict) else None)
        messages[name], asked_in[name] = _ai_messages(values), node  # the innermost is found last
    asked: tuple[RemoteInterrupt | Stop, ...] = tuple(found.values())
    if not asked and not lacks_ids and status == "interrupted" and nodes:
        digest = hashlib.sha256(checkpoint_id.encode()).hexdigest()[:32]
        asked = (Stop(f"{PREFIX}{digest}", tuple(sorted({str(node) for node in nodes}))),)
    return RemoteThread(
        thread_id=thread_id,
        status=status,
        graph=str(metadata.get("graph_id") or ""),
        assistant_id=str(metadata.get("assistant_id") or metadata.get("graph_id") or ""),
        checkpoint_id=checkpoint_id[:100],
        asked=asked,
        messages=messages,
        asked_in=asked_in,
        lacks_ids=lacks_ids,
    )


def _interrupts(state: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str, Mapping[str, Any]]]:
    """Yield each pending interrupt, its node, and the values of the state that has it, outer states before inner ones.

    The node is "" where the server does not tell it.
    """
    values = _dict(state.get("values"))
    tasks = [one for one in _list(state.get("tasks")) if isinstance(one, dict)]
    for task in tasks:
        for interrupt in _list(task.get("interrupts")):
            if isinstance(interrupt, dict):
                yield interrupt, str(task.get("name") or ""), values
    if not tasks:  # servers that tell no tasks
        for interrupt in _list(state.get("interrupts")):
            if isinstance(interrupt, dict):
                yield interrupt, "", values
    for task in tasks:
        if isinstance(task.get("state"), dict):
            yield from _interrupts(task["state"])


def _told_by_itself(about: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the pending interrupts that the thread itself tells, of all its tasks."""
    told = [one for interrupts in _dict(about.get("interrupts")).values() for one in _list(interrupts)]
    return [one for one in told if isinstance(one, dict)]


def _ai_messages(values: Mapping[str, Any]) -> tuple[AIMessage, ...]:
    found = []
    for one in _list(values.get("messages")):
        if not (isinstance(one, dict) and one.get("type") in ("ai", "AIMessageChunk")):
            continue
        calls = [call for call in _list(one.get("tool_calls")) if isinstance(call, dict)]
        content = one.get("content")
        found.append(
            AIMessage(
                content=content if isinstance(content, str) else [part for part in _list(content) if _is_part(part)],
                tool_calls=[
                    {"name": str(call.get("name")), "args": _dict(call.get("args")), "id": str(call.get("id") or "")}
                    for call in calls
                ],
            )
        )
    return tuple(found)


def _is_part(part: Any) -> bool:
    return isinstance(part, str | dict)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
