"""How graphs ask that were written for LangChain's Agent Inbox (HumanInterrupt).

[{"action_request": {"action", "args"}, "config": {"allow_accept", "allow_edit", "allow_respond", "allow_ignore"},
  "description"?}]    or one of them without a list, or the JSON text of either
-> [{"type": "accept" | "ignore", "args": null} | {"type": "edit", "args": {"action", "args"}}
    | {"type": "response", "args": "text"}]    always a list, one entry for each that was asked
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from approvals.reading.for_runs import Settled
from orchestration.agents.runtime import UNSAID
from orchestration.dialects.base import AskedInterrupt, Place, Untellable
from orchestration.dialects.calls import ending_of, place_of_call, text_of

_ALLOWED: Final = {
    "approve": "allow_accept",
    "edit": "allow_edit",
    "reject": "allow_ignore",
    "respond": "allow_respond",
}
_LONGEST_TEXT: Final = 1_000_000  # characters that are looked at for JSON


class AgentInbox:
    """One place for each entry. A reason for ignoring has no place in the answer; it stays on the record."""

    name = "agent-inbox"

    def speaks(self, value: Any) -> bool:
        return bool(entries_of(value))

    def proposals_of(self, interrupt: AskedInterrupt) -> list[Place]:
        return [
            place_of_call(
                entry["action_request"].get("action"),
                entry["action_request"].get("args"),
                words=entry.get("description"),
                verdicts=_verdicts(entry),
            )
            for entry in entries_of(interrupt.value)
        ]

    def answer(
        self, interrupt: AskedInterrupt, places: Sequence[Settled], on_silence: Any = UNSAID
    ) -> list[dict[str, Any]]:
        entries = entries_of(interrupt.value)
        return [_response(place, entry) for place, entry in zip(places, entries, strict=True)]


def entries_of(value: Any) -> list[dict[str, Any]]:
    """Return the entries in any of their three forms, [] for anything else."""
    if isinstance(value, str):
        if len(value) > _LONGEST_TEXT or "action_request" not in value:
            return []
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    entries = value if isinstance(value, list) else [value]
    return entries if all(_is_entry(entry) for entry in entries) else []


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("action_request"), dict)
        and "action" in entry["action_request"]
        and isinstance(entry.get("config"), dict)
    )


def _verdicts(entry: dict[str, Any]) -> tuple[str, ...]:
    return tuple(verdict for verdict, key in _ALLOWED.items() if entry["config"].get(key) is True)


def _response(place: Settled, entry: dict[str, Any]) -> dict[str, Any]:
    ending, action = ending_of(place), entry["action_request"]["action"]
    verdict = "reject" if ending.verdict in ("expired", "withdrawn") else ending.verdict
    if verdict not in _verdicts(entry):
        raise Untellable(f"{action} takes only {', '.join(_verdicts(entry))}, and the request was {ending.verdict}.")
    if verdict == "approve":
        return {"type": "accept", "args": None}
    if verdict == "edit":
        return {"type": "edit", "args": {"action": action, "args": ending.arguments or {}}}
    if verdict == "respond":
        return {"type": "response", "args": text_of(ending.answer)}
    return {"type": "ignore", "args": None}
