"""A list of a model's messages as a conversation: who says what, and which tool was called with what. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

NEWEST: Final = 12  # messages of a conversation at first
WORDS: Final = 1_500  # characters of one message
_ROLES: Final = {
    "system": "System",
    "human": "Person",
    "user": "Person",
    "ai": "Model",
    "AIMessageChunk": "Model",
    "assistant": "Model",
    "tool": "Tool",
    "function": "Tool",
    "chat": "Message",
    "remove": "Removed",
}


@dataclass(frozen=True)
class Call:
    """A tool that the model wants called."""

    name: str
    arguments: str  # JSON
    id: str


@dataclass(frozen=True)
class Message:
    number: int  # its place in the list, from 0
    role: str
    name: str  # of the tool that answers, or of who speaks
    text: str
    is_cut: bool
    calls: tuple[Call, ...]
    is_error: bool
    tone: str  # system, person, model or tool


def is_conversation(value: Any) -> bool:
    """Return whether it is a list of messages as LangChain keeps them."""
    return isinstance(value, list) and bool(value) and all(_is_message(one) for one in value)


def _is_message(one: Any) -> bool:
    return isinstance(one, dict) and one.get("type") in _ROLES and "content" in one


def messages_of(value: list[dict[str, Any]], newest: int = NEWEST) -> list[Message]:
    """Return the newest messages, in their order."""
    first = max(0, len(value) - newest)
    return [_message(number, one) for number, one in enumerate(value[first:], start=first)]


def _message(number: int, one: dict[str, Any]) -> Message:
    words = _words(one.get("content"))
    role = _ROLES[one["type"]]
    return Message(
        number=number,
        role=role,
        name=str(one.get("name") or ""),
        text=words[:WORDS],
        is_cut=len(words) > WORDS,
        calls=tuple(_calls(one)),
        is_error=one.get("status") == "error",
        tone=role.lower(),
    )


def _calls(one: dict[str, Any]) -> list[Call]:
    found = [*_listed(one.get("tool_calls")), *_listed(one.get("invalid_tool_calls"))]
    return [
        Call(str(call.get("name") or ""), _json(call.get("args")), str(call.get("id") or ""))
        for call in found
        if isinstance(call, dict)
    ]


def _words(content: Any) -> str:
    """Return the words of a message, whose content may come in parts; a part that is no text is named."""
    if isinstance(content, str):
        return content
    parts = []
    for part in _listed(content):
        if isinstance(part, str):
            parts.append(part)
        elif isinstance(part, dict):
            kind = str(part.get("type", "part"))
            parts.append(str(part["text"]) if isinstance(part.get("text"), str) else f"({kind.replace('_', ' ')})")
    return "\n".join(parts)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _json(value: Any) -> str:
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)
    return said[:WORDS] + (" …" if len(said) > WORDS else "")
