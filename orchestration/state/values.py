"""What LangGraph's serialiser has kept, as plain JSON. Builds no object and imports no type that the bytes name.

The serialiser itself would: it imports what a value names, and hands out a secret that it may not build in clear.

Facts this relies on (langgraph-checkpoint 4.3.2, covered by tests): a value is kept as msgpack; what msgpack does not
know is an extension of one of the codes below, whose bytes are msgpack again: module, name, what it was made of.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final
from uuid import UUID

import ormsgpack

MASK: Final = "•••"
DEEPEST: Final = 100  # levels; what lies deeper is named, not shown
_SINGLE, _POSITIONAL, _KEYWORDS, _METHOD, _PYDANTIC_1, _PYDANTIC_2, _ARRAY, _DELTA = range(8)
_SECRETS: Final = frozenset({"SecretStr", "SecretBytes", "Secret"})
_MESSAGES: Final = "langchain_core.messages"


def read_value(kind: str, blob: bytes | memoryview | None) -> Any:
    """Return one kept value as JSON. What cannot be read is told in its place, and never raised."""
    if blob is None or kind in ("null", "empty"):
        return None
    raw = bytes(blob)
    try:
        if kind == "json":
            return plain(json.loads(raw))
        if kind == "msgpack":
            return plain(_unpacked(raw))
    except (ValueError, TypeError, RecursionError) as exc:
        return f"(cannot be read: {type(exc).__name__})"
    if kind in ("bytes", "bytearray"):
        return f"({len(raw)} bytes)"
    return f"(kept as {kind}: its {len(raw)} bytes are not opened here)"


def _unpacked(raw: bytes) -> Any:
    return ormsgpack.unpackb(raw, ext_hook=_extension, option=ormsgpack.OPT_NON_STR_KEYS)


def _extension(code: int, raw: bytes) -> Any:
    if code == _DELTA:
        return _unpacked(raw)
    parts = _unpacked(raw)
    if code == _ARRAY:
        return f"(array of {parts[0]}, {' by '.join(str(size) for size in parts[1])})"
    module, name, made_of = parts[0], parts[1], _third(parts)
    if name in _SECRETS:
        return MASK if made_of not in ("", b"") else ""
    if code in (_PYDANTIC_1, _PYDANTIC_2) and isinstance(made_of, dict) and str(module).startswith(_MESSAGES):
        return {key: value for key, value in made_of.items() if value is not None}
    if code == _SINGLE and name == "UUID":
        return str(UUID(hex=made_of))
    if code == _POSITIONAL and name == "Send":
        return dict(zip(("node", "arg"), made_of, strict=False))
    if code == _POSITIONAL and str(name).endswith("Path"):
        return "/".join(str(part) for part in made_of)
    if code == _POSITIONAL and name == "timedelta":
        return f"{made_of[0] * 86_400 + made_of[1] + made_of[2] / 1_000_000:g} s"
    if code == _POSITIONAL and name == "date":
        return "-".join(f"{part:02}" for part in made_of)
    return made_of


def _third(parts: Any) -> Any:
    return parts[2] if len(parts) > 2 else None


def plain(value: Any, depth: int = 0) -> Any:
    """Return the value with what JSON does not know as text, keys as texts, and nothing below DEEPEST levels."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair is no text
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth > DEEPEST:
        return "(lies too deep to be shown)"
    if isinstance(value, dict):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"({len(value)} bytes)"
    return str(value)
