"""The form that starts a run: one field for each property of the agent's input schema.

The agent's own model checks the values; this file only draws fields and reads what was typed, so that nothing
typed is lost and a message stands at the field it is about. What is no scalar is typed as JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict

_LONG = 200  # characters allowed from which a text gets more than one line


@dataclass
class InputField:
    """One property of the input as the page draws it."""

    name: str
    label: str
    hint: str
    kind: str  # text, long, number, flag, choice or json
    is_required: bool
    schema: dict[str, Any]
    text: str = ""  # as typed
    faults: list[str] = field(default_factory=list)

    @property
    def html_name(self) -> str:
        return f"input.{self.name}"

    @property
    def choices(self) -> list[str]:
        return [choice if isinstance(choice, str) else json.dumps(choice) for choice in self.schema.get("enum", [])]

    @property
    def is_whole(self) -> bool:
        return self.schema.get("type") == "integer"

    def value(self) -> Any:
        """Return what was typed in the field's type; what does not fit stays text, for the agent's model to refuse."""
        if self.kind == "flag":
            return self.text == "on"
        if self.kind == "choice":
            return next((c for c in self.schema["enum"] if self.text in (c, json.dumps(c))), self.text)
        if self.kind in ("number", "json"):
            try:
                return json.loads(self.text)
            except ValueError:
                return self.text
        return self.text.replace("\r\n", "\n")


def fields_of(schema: dict[str, Any], typed: QueryDict | None = None) -> list[InputField]:
    """Return the fields of a JSON schema of an object, filled with what was typed, else with the defaults."""
    required = set(schema.get("required", ()))
    definitions = schema.get("$defs", {})
    return [
        _field(name, _plain(node, definitions), name in required, typed)
        for name, node in schema.get("properties", {}).items()
    ]


def given(fields: list[InputField]) -> dict[str, Any]:
    """Return the input to check: an optional field that was left empty is left out."""
    return {one.name: one.value() for one in fields if one.is_required or one.kind == "flag" or one.text.strip() != ""}


def place_faults(fields: list[InputField], errors: list[dict[str, str]]) -> list[str]:
    """Put each message at its field; return those that belong to none."""
    by_name = {one.name: one for one in fields}
    elsewhere = []
    for error in errors:
        parts = error["path"].split(".")
        found = by_name.get(parts[1]) if len(parts) > 1 and parts[0] == "input" else None
        if found is None:
            elsewhere.append(f"{error['path']}: {error['message']}")
        else:
            is_blank = found.is_required and not found.text.strip()
            found.faults.append("This is needed." if is_blank else error["message"])
    return elsewhere


def _field(name: str, node: dict[str, Any], is_required: bool, typed: QueryDict | None) -> InputField:
    one = InputField(
        name=name,
        label=node.get("title") or name.replace("_", " ").capitalize(),
        hint=node.get("description", ""),
        kind=_kind(node),
        is_required=is_required,
        schema=node,
    )
    if typed is not None:
        one.text = typed.get(one.html_name, "")
    elif "default" in node and node["default"] is not None:
        default = node["default"]
        one.text = "on" if default is True else default if isinstance(default, str) else json.dumps(default)
    return one


def _kind(node: dict[str, Any]) -> str:
    if "enum" in node:
        return "choice"
    kinds = {"integer": "number", "number": "number", "boolean": "flag"}
    if (kind := node.get("type")) in kinds:
        return kinds[kind]
    if kind != "string":
        return "json"
    return "long" if node.get("maxLength", 0) > _LONG else "text"


def _plain(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference and unwrap "this or null"; other alternatives are typed as JSON."""
    if "$ref" in node:
        return {
            **definitions.get(node["$ref"].rsplit("/", 1)[-1], {}),
            **{k: v for k, v in node.items() if k != "$ref"},
        }
    alternatives = [one for one in node.get("anyOf", ()) if one.get("type") != "null"]
    if len(alternatives) == 1:
        return {**node, **_plain(alternatives[0], definitions)}
    return node
