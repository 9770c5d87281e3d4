"""What of a graph's state can be changed in a typed form: plain JSON, in the shape that it has at a checkpoint."""

from __future__ import annotations

from typing import Any

from orchestration.state.values import MASK


def is_plain(value: Any) -> bool:
    """Return whether a value of the state is plain JSON as a checkpoint shows it: no message, no hidden secret."""
    if isinstance(value, dict):
        is_message = {"type", "content"} <= value.keys() and "additional_kwargs" in value
        return not is_message and all(is_plain(one) for one in value.values())
    if isinstance(value, list):
        return all(is_plain(one) for one in value)
    return value is None or (isinstance(value, str | int | float | bool) and value != MASK)


def schema_of_value(name: str, value: Any) -> dict[str, Any]:
    """Return a JSON Schema that the value fits, so that a form asks for the same shape."""
    if isinstance(value, bool):
        return {"type": "boolean", "title": name}
    if isinstance(value, int):
        return {"type": "integer", "title": name}
    if isinstance(value, float):
        return {"type": "number", "title": name}
    if isinstance(value, dict):
        parts = {key: schema_of_value(key, one) for key, one in value.items()}
        return {"type": "object", "title": name, "properties": parts}
    if isinstance(value, list):
        kinds = {type(one) for one in value}
        if len(kinds) == 1 and kinds != {dict}:
            return {"type": "array", "title": name, "items": schema_of_value("", value[0])}
        return {"type": "array", "title": name}
    if isinstance(value, str):
        return {"type": "string", "title": name}
    return {"title": name}
