"""The parameters of somebody else's deployment: what is asked for, what is refused, what may be kept. Pure.

Prefect takes unknown names and impossible dates and lets the run crash; here they are refused before it hears of them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

from console.forms.schema_check import BrokenSchema, check
from console.text.json_text import BEYOND, beyond_every_reader
from dataplane.errors import InvalidParameters
from dataplane.masking import kept_of
from dataplane.registered import Registered
from dataplane.secret_fields import MASK

LIMIT_BYTES: Final = 524_288  # Prefect's own
_DEEPEST: Final = 60


def asked(entry: Registered, schema: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of what a person or a program may give: closed, with the deployment's own defaults.

    `defaults`: the parameters that stand in the deployment. What the registration fixes or does not show is left out.
    """
    found: dict[str, Any] = _closed(copy.deepcopy(dict(schema)), 0)
    properties: dict[str, Any] = found.get("properties") or {}
    shown = [name for name in properties if name not in entry.fixed and (entry.shown is None or name in entry.shown)]
    found["type"], found["properties"], found["additionalProperties"] = "object", {}, False
    for name in shown:
        part = properties[name] if isinstance(properties[name], dict) else {}
        if name in entry.secret:
            part = {"title": part.get("title", name), "type": "string", "format": "password", "writeOnly": True}
        if is_secret(part):
            part.pop("default", None)  # a secret that stands in the deployment is never shown
        elif name in defaults:
            part = {**part, "default": masked_default(entry, schema, name, defaults[name])}
        elif "default" in part:
            part = {**part, "default": masked_default(entry, schema, name, part["default"])}
        found["properties"][name] = part
    given = {*defaults, *entry.fixed}
    found["required"] = [name for name in found.get("required") or [] if name in shown and name not in given]
    return found


def masked_default(entry: Registered, schema: Mapping[str, Any], name: str, value: Any) -> Any:
    """Return a default as it may be shown."""
    return kept_of({name: value}, schema=schema, secret=entry.secret)[name]


def is_secret(part: Any) -> bool:
    """Return whether the part of a schema is declared secret."""
    return isinstance(part, dict) and (part.get("writeOnly") is True or part.get("format") == "password")


def cleaned(schema: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is to be sent of what was given: without what is the default. Raises InvalidParameters.

    `schema`: as `asked` returns it.
    """
    properties = schema["properties"]
    errors = [
        (f"parameters.{name}", "is not a parameter of this deployment")
        for name in given
        if name not in properties
    ]  # fmt: skip
    known = {name: value for name, value in given.items() if name in properties}
    try:
        size = len(json.dumps(known, ensure_ascii=False).encode())
    except (TypeError, ValueError, UnicodeEncodeError) as exc:
        raise InvalidParameters([("parameters", f"cannot be sent as JSON: {exc}")]) from exc
    if size > LIMIT_BYTES:
        raise InvalidParameters([("parameters", f"take {size:,} bytes; Prefect takes {LIMIT_BYTES:,} at most")])
    try:
        errors += [(f"parameters.{told(fault.path)}".rstrip("."), fault.sentence) for fault in check(schema, known)]
    except BrokenSchema as exc:
        errors.append(("parameters", f"cannot be checked: {exc}"))
    errors += [
        (f"parameters.{name}", f"holds {MASK}, which stands for what is not shown: type the value itself")
        for name, value in known.items()
        if MASK in json.dumps(value, ensure_ascii=False)
    ]
    if path := beyond_every_reader(known):
        errors.append((".".join(["parameters", *path]), BEYOND))
    if errors:
        raise InvalidParameters(errors)
    return {name: value for name, value in known.items() if _differs(value, properties[name])}


def told(path: tuple[str | int, ...]) -> str:
    """Return a path as errors name it."""
    return ".".join(map(str, path))


def _differs(value: Any, part: Mapping[str, Any]) -> bool:
    return "default" not in part or part["default"] != value or type(part["default"]) is not type(value)


def _closed(schema: Any, depth: int) -> Any:
    """Return the schema with every object that names its properties taking no other. What is composed stays open."""
    if depth > _DEEPEST:
        return schema
    if isinstance(schema, list):
        return [_closed(one, depth + 1) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {word: part if word in _DATA else _closed(part, depth + 1) for word, part in schema.items()}
    is_composed = any(word in found for word in ("allOf", "anyOf", "oneOf", "$ref", "if"))
    if isinstance(found.get("properties"), dict) and found.get("type") == "object" and not is_composed:
        found.setdefault("additionalProperties", False)
    return found


_DATA: Final = ("default", "const", "enum", "examples", "example")
__all__ = ["LIMIT_BYTES", "asked", "cleaned", "is_secret", "told"]
