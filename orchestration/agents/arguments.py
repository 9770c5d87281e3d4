"""Arguments are read once and written down once; what a tool gets is read from what was written down.

    read = read_asked(model, "pay", given)    # at the proposal, at an edit: refuses what would not come back
    read.canonical                            # these bytes are shown, approved and kept
    read_back(model, read.arguments)          # in another process, another day: the same value, or an error

A pydantic model may lose a value on the way into JSON and back (`SecretStr` becomes stars), or make another one each
time (a set's order, a clock, a counter). What is shown would then not be what runs. `faults_of` finds what a type
gives away, when the agent registers; `read_asked` holds each value against itself, before anybody is asked.

One name: an argument is called by its alias, in its schema, in what is shown and in what is read.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticUserError

from approvals.proposal.canonical import LIMIT_DEPTH, NotCanonical, canonicalise, is_shallow, read_canonical
from approvals.proposal.fixed import faults_of as fixed_faults
from approvals.proposal.fixed import mark
from console.forms import schema_check
from console.text.json_text import LARGEST
from console.text.stored import UNKEPT, can_be_kept
from orchestration.agents.runtime import Agent, Tool
from orchestration.agents.second_reading import CallsSeen, differs_elsewhere, watched

Path = tuple[str | int, ...]


class Unfit(ValueError):
    """Arguments that a tool cannot take; `errors`: `[{"path": "lines.0.count", "message": a sentence}]`."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__(" ".join(f"{one['path'] or 'arguments'}: {one['message']}" for one in errors))
        self.errors = errors


@dataclass(frozen=True)
class ReadArguments:
    """Arguments as they will run."""

    model: Any  # the tool's own object, read from `canonical`
    arguments: dict[str, Any]  # the JSON that `canonical` holds
    canonical: bytes


def read_asked(model: type[BaseModel], name: str, given: Any) -> ReadArguments:
    """Read what somebody asks for and write it down, so that whoever reads it again has the same.

    `name`: of the tool, which the bytes hold too. Raises Unfit: it does not fit the model, it cannot be written
    exactly, or it would not be the same value once it was written and read again. Takes some seconds where a
    validator makes a set: other processes are asked then.
    """
    read, seen = _read_and_again(model, name, given)
    if seen.makes_sets and (words := differs_elsewhere(model, read.arguments)):
        raise _unfit((), f"{_ANOTHER} {words[0].upper()}{words[1:]}. {_MEND}")
    return read


def _read_and_again(model: type[BaseModel], name: str, given: Any) -> tuple[ReadArguments, CallsSeen]:
    first = _read(model, _text_of(given))
    try:
        arguments = write_down(first)
        canonical = canonicalise(name, arguments)
    except NotCanonical as exc:
        words = str(exc)
        if "send it as text" in words:
            words = "A whole number beyond 2^53 cannot be approved exactly: send it as text, if the tool takes text."
        raise _unfit(exc.path, words) from exc
    except Exception as exc:  # a serializer is the author's code, which may raise anything
        raise _unfit((), f"The tool cannot write this down as JSON ({_named(exc)}). {_MEND}") from exc
    kept = read_canonical(canonical)[1]
    try:
        second, seen = watched(lambda: read_back(model, kept))
        again = canonicalise(name, write_down(second))
    except Unfit as exc:
        raise Unfit([{**one, "message": f"{_UNREADABLE} {one['message']} {_MEND}"} for one in exc.errors]) from exc
    except Exception as exc:
        raise _unfit((), f"{_UNREADABLE} {_named(exc)}. {_MEND}") from exc
    path = _difference(first, second) if again == canonical else _unsteady(kept, read_canonical(again)[1])
    if path is not None:
        raise _unfit(path, f"{_ANOTHER} {_MEND}")
    if seen.unsteady:
        raise _unfit(
            (), f"Reading this calls {seen.unsteady}, so it may be read otherwise when it runs. {_IN_THE_TOOL}"
        )
    if misfits := _misfits(model, kept):
        raise Unfit([{**one, "message": f"{_MISFIT} {one['message']} {_MEND}"} for one in misfits])
    return ReadArguments(second, kept, canonical), seen


def _misfits(model: type[BaseModel], kept: dict[str, Any]) -> list[dict[str, str]]:
    """Return where the form, which goes by the schema, would not take what was written down."""
    try:
        faults = schema_check.check(schema_of(model), kept)
    except (schema_check.BrokenSchema, schema_check.SchemaBusy):  # a change is then refused, with the reason
        return []
    return [{"path": _dotted(fault.path), "message": fault.sentence} for fault in faults]


def read_back(model: type[BaseModel], arguments: dict[str, Any]) -> Any:
    """Return the model's object for arguments that were written down. Raises Unfit when it takes them no more."""
    return _read(model, json.dumps(arguments))


def write_down(read: Any) -> dict[str, Any]:
    """Return the JSON of what was read: by alias, complete, without what is only computed from it."""
    written = read.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False)
    if not isinstance(written, dict):
        raise NotCanonical("The arguments of a tool are an object with keys.")
    return written


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of arguments as they are asked for: the same names as `write_down` gives."""
    return model.model_json_schema(by_alias=True, mode="validation")


def input_schema_of(agent: Agent) -> dict[str, Any]:
    """Return the JSON Schema of what a run of the agent starts with."""
    return schema_of(agent.input) if agent.input_schema is None else dict(agent.input_schema)


def read_input(agent: Agent, given: Any) -> dict[str, Any]:
    """Return a run's input as it is kept. Raises Unfit."""
    if agent.input_schema is None:
        return read_asked(agent.input, "input", given).arguments
    faults = schema_check.check(dict(agent.input_schema), given)
    if faults:
        raise Unfit([{"path": _dotted(fault.path), "message": fault.sentence} for fault in faults])
    return read_asked(agent.input, "input", _with_roles(given)).arguments


def _with_roles(given: Any) -> Any:
    """Return the input with messages that name nobody as the user's, which is what a form leaves out."""
    if not isinstance(given, dict) or not isinstance(given.get("messages"), list):
        return given
    messages = [
        {"role": "user", **one} if isinstance(one, dict) and not one.keys() & {"role", "type"} else one
        for one in given["messages"]
    ]
    return {**given, "messages": messages}


def asked_schema(tool: Tool) -> dict[str, Any]:
    """Return the schema of a tool's arguments as a request keeps it: with what a change may not touch marked."""
    return mark(schema_of(tool.arguments), tool.fixed)


def faults_of_tool(tool: Tool) -> list[str]:
    """Return what makes a tool unfit for proposals, as `faults_of` does for its arguments."""
    return faults_of(tool.arguments) or [sentence for _, sentence in fixed_faults(asked_schema(tool))]


def faults_of(model: type[BaseModel]) -> list[str]:
    """Return what makes the model unfit for arguments that people approve, as sentences with the path at fault.

    What only a value can show is found by `read_asked`, when it is asked for.
    """
    try:
        schema = schema_of(model)
    except PydanticUserError as exc:
        return [f"It has no JSON Schema, so nobody can be shown what it takes: {str(exc).splitlines()[0]}"]
    found = [f"{told(path)}: {sentence}" for path, sentence in dict.fromkeys(_type_faults(model))]
    if not found and _root_type(schema) not in ("object", None):
        found = ["The arguments of a tool are an object with keys: use a model with fields, not a list or a text."]
    return found or _tried_faults(model, schema)


_MEND = "The tool's author has to declare it as a plain text, number, list or object that reads back as it is written."
_IN_THE_TOOL = "The tool's author has to do that in the tool itself, not while its arguments are read."
_UNREADABLE = "What the tool writes down of this, it cannot read again:"
_MISFIT = "What the tool writes down of this does not fit the tool's own schema, so no change of it could be taken:"
_ANOTHER = "This is another value once it was written down and read again, so what is shown would not be what runs."


def _read(model: type[BaseModel], text: str) -> Any:
    """Read JSON, as JSON: bytes, durations and strict models have rules of their own for it. Raises Unfit."""
    try:
        return model.model_validate_json(text, by_alias=True)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        raise Unfit([{"path": _dotted(one["loc"]), "message": one["msg"]} for one in errors]) from exc
    except Exception as exc:  # a validator is the author's code, which may raise anything
        raise _unfit((), f"The tool's own check of its arguments failed: {_named(exc)}.") from exc


def _text_of(given: Any) -> str:
    """Return what was asked for as JSON text. Raises Unfit for what JSON does not know."""
    if not is_shallow(given):
        raise _unfit((), f"The arguments are nested more than {LIMIT_DEPTH} levels deep, which nobody can read.")
    for path, one in _leaves(given):
        if isinstance(one, float) and not math.isfinite(one):
            raise _unfit(path, "Infinity and not-a-number cannot be approved: send a number.")
        if isinstance(one, str) and not can_be_kept(one):
            raise _unfit(path, UNKEPT)
    try:
        return json.dumps(given)
    except (TypeError, ValueError) as exc:
        raise _unfit((), f"The arguments cannot be written as JSON: {exc}.") from exc


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Go through the values and the keys."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield (*path, key), key
            yield from _leaves(one, (*path, key))
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            yield from _leaves(one, (*path, index))
    else:
        yield path, value


def _unfit(path: Path, sentence: str) -> Unfit:
    return Unfit([{"path": _dotted(path), "message": sentence}])


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(str(step) for step in path)


def told(path: Path) -> str:
    """Return a path of types as people read it: `lines[].count`."""
    text = ""
    for step in path:
        text += step if step in ("[]", "{}") else f".{step}" if text else str(step)
    return text or "arguments"


def _named(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"[:200]


# Is it the same value?


def _difference(one: Any, other: Any, path: Path = ()) -> Path | None:
    """Return the path of the first part that differs between two readings, `None` when they are the same.

    JSON does not tell 1 from 1.0, so both are one number here. Private attributes are no arguments.
    """
    if _is_number(one) and _is_number(other):
        return None if one == other else path
    if type(one) is not type(other):
        return path
    parts, others = _parts_of(one), _parts_of(other)
    if parts is None or others is None:
        return None if _is_equal(one, other) else path
    if parts.keys() != others.keys():  # whatever their order: the written form has one of its own
        return path
    found = (_difference(parts[step], others[step], (*path, step)) for step in parts)
    return next((below for below in found if below is not None), None)


def _parts_of(one: Any) -> Mapping[Any, Any] | None:
    if isinstance(one, BaseModel):
        fields = type(one).model_fields
        named = {field.alias or name: getattr(one, name) for name, field in fields.items()}
        return {**named, **(one.__pydantic_extra__ or {})}
    if dataclasses.is_dataclass(one):
        return {field.name: getattr(one, field.name, None) for field in dataclasses.fields(one)}
    if isinstance(one, dict):
        return one
    if isinstance(one, list | tuple):
        return dict(enumerate(one))
    return None


def _is_number(one: Any) -> bool:
    return type(one) in (int, float)


def _is_equal(one: Any, other: Any) -> bool:
    with suppress(Exception):  # a comparison is the author's code, which may raise anything
        return bool(one == other)
    return False


def _unsteady(one: Any, other: Any, path: Path = ()) -> Path:
    """Return the path of the first difference between two JSON values that are not the same."""
    parts, others = _parts_of(one), _parts_of(other)
    if type(one) is not type(other) or parts is None or others is None or parts.keys() != others.keys():
        return path
    step = next((step for step in parts if parts[step] != others[step]), None)
    return path if step is None else _unsteady(parts[step], others[step], (*path, step))


# What a type gives away.

_SENTENCES = {
    "set": "A set has no order, so it is written differently in each process. Declare a list.",
    "frozenset": "A set has no order, so it is written differently in each process. Declare a list.",
    "generator": "What can be gone through only once cannot be shown and then be used. Declare a list.",
    "callable": "A function cannot be written down. Declare a text.",
    "is-instance": "An object of a class of its own cannot be read from JSON. Declare a model.",
    "is-subclass": "A class cannot be read from JSON. Declare a text.",
}
_SECRET = (
    "A secret is written down as stars, so stars would be approved and stars would run. Let the tool take the secret "
    "from its own settings, and declare a name for it here."
)
_CLOCK = "Whether this is in the past or future depends on when it is read. Declare a plain date, and look in the tool."
_EXCLUDED = "It is left out of what is written down, so nobody would see it and the tool would not get it. Include it."
_NAMES = (
    "It is read under one name and written under another. Give it one alias: Field(alias=...), not validation_alias, "
    "serialization_alias, AliasChoices or AliasPath."
)
_ONE_WAY = "It is read and not written down, or written down and not read. Make it an ordinary field."
_TOO_LARGE = "Whole numbers beyond 2^53 cannot be approved exactly. Declare a text."


def _type_faults(model: type[BaseModel]) -> Iterator[tuple[Path, str]]:
    definitions: dict[str, Any] = {}
    seen: set[str] = set()

    def look(node: Any, path: Path) -> Iterator[tuple[Path, str]]:
        if isinstance(node, list | tuple):
            for one in node:
                yield from look(one, path)
            return
        if not isinstance(node, dict):
            return
        kind = node.get("type")
        if kind == "definition-ref":
            if node["schema_ref"] not in seen:
                seen.add(node["schema_ref"])
                yield from look(definitions.get(node["schema_ref"]), path)
            return
        if kind == "definitions":
            definitions.update({one["ref"]: one for one in node["definitions"]})
            yield from look(node["schema"], path)
            return
        if isinstance(node.get("ref"), str):
            seen.add(node["ref"])
        if kind == "json-or-python":  # arguments are read as JSON
            yield from _secret_faults(node, path)
            yield from look(node["json_schema"], path)
            return
        yield from ((path, sentence) for sentence in _node_faults(node))
        if kind in ("model-fields", "typed-dict", "dataclass-args"):
            fields = node["fields"]
            named = fields.items() if isinstance(fields, dict) else ((one["name"], one) for one in fields)
            for name, field in named:
                below = (*path, _alias_of(name, field))
                yield from ((below, sentence) for sentence in _field_faults(name, field))
                yield from look(field["schema"], below)
            yield from look(node.get("extras_schema"), path)
            return
        for key in ("schema", "lax_schema", "choices", "steps", "arguments_schema"):
            yield from look(list(node[key].values()) if _is_tagged(node, key) else node.get(key), path)
        yield from look(node.get("items_schema"), (*path, "[]"))
        yield from look(node.get("keys_schema"), path)
        yield from look(node.get("values_schema"), (*path, "{}"))

    yield from look(model.__pydantic_core_schema__, ())


def _is_tagged(node: dict[str, Any], key: str) -> bool:
    return key == "choices" and isinstance(node.get(key), dict)


def _alias_of(name: str, field: dict[str, Any]) -> str:
    alias = field.get("validation_alias", name)
    return alias if isinstance(alias, str) else name


def _field_faults(name: str, field: dict[str, Any]) -> Iterator[str]:
    read_as, written_as = field.get("validation_alias", name), field.get("serialization_alias", name)
    if field.get("init") is False or field.get("init_only"):
        yield _ONE_WAY
    elif field.get("serialization_exclude") or field.get("serialization_exclude_if") is not None:
        yield _EXCLUDED
    elif read_as != written_as:
        yield _NAMES


def _secret_faults(node: dict[str, Any], path: Path) -> Iterator[tuple[Path, str]]:
    writer = node.get("serialization", {}).get("function")
    if getattr(writer, "__module__", "") == "pydantic.types" and "secret" in getattr(writer, "__name__", ""):
        yield path, _SECRET


def _node_faults(node: dict[str, Any]) -> Iterator[str]:
    kind = node.get("type")
    if kind in _SENTENCES:
        yield _SENTENCES[str(kind)]
    if kind in ("date", "datetime") and "now_op" in node:
        yield _CLOCK
    numbers: list[Any] = []
    if kind == "int":
        least, most = node.get("ge", node.get("gt")), node.get("le", node.get("lt"))
        numbers = [number for number in (least, most) if number is not None]
        is_beyond = (least is not None and least > LARGEST) or (most is not None and most < -LARGEST)
        numbers = numbers if is_beyond else []
    elif kind == "literal":
        numbers = list(node["expected"])
    elif kind == "enum":
        numbers = [member.value for member in node["members"]]
    numbers = [one.value if isinstance(one, Enum) else one for one in numbers]
    if any(type(one) is int and abs(one) > LARGEST for one in numbers):
        yield _TOO_LARGE


def _root_type(schema: dict[str, Any]) -> Any:
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _root_type(schema.get("$defs", {}).get(reference.rsplit("/", 1)[-1], {}))
    return schema.get("type")


def _tried_faults(model: type[BaseModel], schema: dict[str, Any]) -> list[str]:
    """Return what shows when made-up arguments are read: with the defaults, and with everything given.

    Made-up values that the model does not take tell nothing.
    """
    for is_full in (False, True):
        try:
            _read_and_again(model, "tried", _made_up(schema, schema, is_full))
        except Unfit as exc:
            wrong = [one for one in exc.errors if _MEND in one["message"] or _IN_THE_TOOL in one["message"]]
            if wrong:
                return [f"{one['path'] or 'arguments'}: {one['message']}" for one in wrong]
    return []


_TEXTS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T09:30:00Z",
    "time": "09:30:00",
    "duration": "PT45M",
    "email": "ana@example.com",
    "uri": "https://example.com/page",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}


def _made_up(part: Any, root: dict[str, Any], is_full: bool, depth: int = 0) -> Any:
    """Return a value that a part of a schema as pydantic writes it may allow."""
    part = part if isinstance(part, dict) else {}
    if isinstance(part.get("$ref"), str):
        part = root.get("$defs", {}).get(part["$ref"].rsplit("/", 1)[-1], {})
    for key in ("enum", "examples"):
        if part.get(key):
            return part[key][0]
    if "const" in part:
        return part["const"]
    for key in ("anyOf", "oneOf", "allOf"):
        if part.get(key):
            return _made_up(part[key][0], root, is_full, depth + 1) if depth < 8 else None
    match part.get("type"):
        case "object":
            named = part.get("properties", {})
            wanted = named if is_full and depth < 4 else [one for one in part.get("required", []) if one in named]
            return {name: _made_up(named[name], root, is_full, depth + 1) for name in wanted} if depth < 8 else {}
        case "array":
            inner = part.get("prefixItems") or [part.get("items")] * max(part.get("minItems", 0), int(is_full))
            return [_made_up(one, root, is_full, depth + 1) for one in inner] if depth < 8 else []
        case "string":
            return _TEXTS.get(part.get("format", ""), "abc".ljust(part.get("minLength", 0), "x"))
        case "integer" | "number":
            return part.get("minimum", part.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return True
    return None
