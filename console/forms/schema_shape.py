"""What a part of a JSON Schema means: where its references lead, and the flat schema and control that a form draws.

References are followed in the same way for the form and for the check. Nothing is fetched. Each draft has its rules:
what `$id` and anchors mean, and whether words beside a `$ref` count.

Understood is what pydantic, MCP tools and Prefect write: references, "this or null", one `allOf`, lists of types.
What is not understood is of the kind "json": a box for that part only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from jsonschema.validators import Draft202012Validator, validator_for
from jsonschema_specifications import REGISTRY
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

Kind = Literal["text", "integer", "number", "scalar", "choice", "group", "list", "json"]

MOST_CHOICES = 300
_LONGEST_CHAIN = 32  # references and alternatives that lead from one part to what it means
_STRUCTURE = frozenset(
    ("type", "properties", "items", "prefixItems", "additionalProperties", "patternProperties", "enum", "const")
)
_LEADING = frozenset(("$ref", "$dynamicRef", "$recursiveRef", "anyOf", "oneOf", "allOf"))
_WORDS = ("title", "description", "default")


_SIBLINGS_COUNT = frozenset(
    ("https://json-schema.org/draft/2019-09/schema", "https://json-schema.org/draft/2020-12/schema")
)


class Unresolved(LookupError):
    """The reference leads nowhere in this schema."""


@dataclass(frozen=True)
class Scope:
    """A place in a schema: what its references are relative to."""

    resolver: Any  # None for what is no schema
    specification: Any
    counts_siblings: bool  # False up to draft 7: what stands beside a $ref means nothing

    def inside(self, part: Any) -> Scope:
        """Return the scope of a part, which may have an `$id` of its own."""
        if self.resolver is None or not isinstance(part, dict) or not isinstance(part.get("$id", ""), str):
            return self
        try:
            resolver = self.resolver.in_subresource(self.specification.create_resource(part))
        except (ValueError, TypeError, AttributeError):
            return self
        return Scope(resolver, self.specification, self.counts_siblings)

    def lookup(self, reference: Any) -> tuple[Any, Scope]:
        """Return what the reference means, and the scope there. Raises Unresolved."""
        if self.resolver is None or not isinstance(reference, str):
            raise Unresolved
        try:
            found = self.resolver.lookup(reference)
        except (Unresolvable, LookupError, ValueError, TypeError, AttributeError, RecursionError) as exc:
            raise Unresolved from exc
        return found.contents, Scope(found.resolver, self.specification, self.counts_siblings)


def scope_of(schema: Any) -> Scope:
    """Return the scope at the top of a schema."""
    is_schema = isinstance(schema, dict) and isinstance(schema.get("$schema", ""), str)
    base = validator_for(schema if is_schema else {}, default=Draft202012Validator)
    dialect = str(base.META_SCHEMA.get("$schema", "")).rstrip("#")
    specification = specification_with(dialect, default=DRAFT202012)
    counts_siblings = dialect in _SIBLINGS_COUNT
    try:
        resolver = REGISTRY.resolver_with_root(specification.create_resource(schema)) if is_schema else None
    except (ValueError, TypeError, AttributeError):
        resolver = None
    return Scope(resolver, specification, counts_siblings)


@dataclass(frozen=True)
class Shape:
    """One part of a schema, flat."""

    kind: Kind
    schema: dict[str, Any]
    is_nullable: bool = False
    references: frozenset[str] = frozenset()  # followed to get here; meeting one again means recursion
    choices: tuple[tuple[Any, str | None], ...] = ()  # value and, where the schema has one, its title
    is_whole: bool = False  # its numbers are whole ones
    scope: Scope | None = None  # of its own parts


class _NotDrawable(Exception):
    """This part is typed as JSON."""


def shape_of(part: Any, scope: Scope) -> Shape:
    """Return the shape of one part of a schema. Never raises: what cannot be drawn is "json"."""
    words = part if isinstance(part, dict) else {}
    scope = scope.inside(words)
    try:
        return _shape(words, scope)
    except _NotDrawable:
        return Shape("json", _words_of(words, scope), scope=scope)


def properties_of(shape: Shape) -> dict[str, Any]:
    """Return the properties that a group names, the needed ones first and in their order.

    PostgreSQL's jsonb forgets the order of keys; that of the list `required` it keeps.
    """
    named = _dict(shape.schema.get("properties"))
    needed = shape.schema.get("required")
    first = [name for name in needed if isinstance(name, str)] if isinstance(needed, list) else []
    return {name: named[name] for name in dict.fromkeys([*first, *named]) if name in named}


def more_of(shape: Shape) -> dict[str, Any] | None:
    """Return the schema of further keys of a group, None when nothing is said of them."""
    more = shape.schema.get("additionalProperties")
    return more if isinstance(more, dict) and more else None


def _shape(part: dict[str, Any], scope: Scope) -> Shape:
    flat, is_nullable, references = part, False, set()
    for _ in range(_LONGEST_CHAIN):
        if "$ref" in flat:
            references.add(str(flat["$ref"]))
            if not scope.counts_siblings:
                flat = {name: flat[name] for name in ("$ref", *_WORDS) if name in flat}
            target, scope = _target(flat["$ref"], scope)
            flat = _merged(flat, "$ref", target)
        elif isinstance(flat.get("allOf"), list) and len(flat["allOf"]) == 1:
            flat = _merged(flat, "allOf", flat["allOf"][0])
        elif key := next((key for key in ("anyOf", "oneOf") if isinstance(flat.get(key), list)), None):
            others = [one for one in flat[key] if not (isinstance(one, dict) and one.get("type") == "null")]
            is_nullable = is_nullable or len(others) < len(flat[key])
            if len(others) == 1:
                flat = _merged(flat, key, others[0])
            elif others and all(isinstance(one, dict) and "const" in one for one in others):
                titled = tuple((one["const"], _text(one.get("title"))) for one in others)
                return replace(_choice(flat, titled, is_nullable, references), scope=scope)
            elif types := _scalar_types(flat, key, others):
                flat = {**{name: value for name, value in flat.items() if name != key}, "type": types}
            else:
                flat = _without_rules(flat, key, others)
        else:
            break
    if _LEADING & flat.keys() - {"allOf"}:
        raise _NotDrawable
    return replace(_kind_of(flat, is_nullable, frozenset(references)), scope=scope)


def _kind_of(flat: dict[str, Any], is_nullable: bool, references: frozenset[str]) -> Shape:
    if isinstance(flat.get("allOf"), list):
        flat = _without_rules(flat, "allOf", flat["allOf"])
    if "const" in flat:
        return _choice(flat, ((flat["const"], None),), is_nullable, references)
    if isinstance(flat.get("enum"), list):
        names = _list(flat.get("enumNames"))
        titled = tuple((one, _text(names[i]) if i < len(names) else None) for i, one in enumerate(flat["enum"]))
        return _choice(flat, titled, is_nullable, references)
    type_ = flat.get("type")
    if isinstance(type_, list):
        others = [one for one in type_ if one != "null"]
        is_nullable = is_nullable or len(others) < len(type_)
        type_ = others[0] if len(others) == 1 else _one_type(others)
        if type_ == "scalar":
            return Shape("scalar", flat, is_nullable, references, is_whole="number" not in others)
    if type_ is None:
        type_ = "object" if "properties" in flat else "array" if "items" in flat else "json"
    if type_ == "boolean":
        return _choice(flat, ((True, "Yes"), (False, "No")), is_nullable, references)
    if type_ == "null":
        return _choice(flat, ((None, None),), False, references)
    kind = _plain_kind(type_, flat)
    return Shape(kind, flat, is_nullable, references, is_whole=kind == "integer")


def _scalar_types(flat: dict[str, Any], key: str, others: list[Any]) -> list[str]:
    """Return the types of alternatives that are texts and numbers, with whatever rules: one text can hold either.

    The rules are the check's; what else is said beside the alternatives would have to hold for all of them.
    """
    if (_STRUCTURE | _LEADING) & (flat.keys() - {key}) or not others:
        return []
    types = [one.get("type") if isinstance(one, dict) else None for one in others]
    if any((_STRUCTURE | _LEADING) & (one.keys() - {"type"}) for one in others if isinstance(one, dict)):
        return []
    is_plain = all(isinstance(one, str) and one in ("string", "integer", "number") for one in types)
    return list(dict.fromkeys(map(str, types))) if is_plain else []


def _one_type(types: list[Any]) -> str:
    """Return the type that several are for a form: whole or not is one number, texts and numbers are one scalar."""
    if not all(isinstance(one, str) for one in types):
        return "json"
    match sorted(set(types)):
        case ["integer", "number"]:
            return "number"
        case ["string"] | ["integer"] | ["number"] as alone:
            return str(alone[0])
        case ["integer", "string"] | ["number", "string"] | ["integer", "number", "string"]:
            return "scalar"
    return "json"


def _plain_kind(type_: Any, flat: dict[str, Any]) -> Kind:
    match type_:
        case "string":
            return "text"
        case "integer":
            return "integer"
        case "number":
            return "number"
        case "object" if _dict(flat.get("properties")) or _dict(flat.get("additionalProperties")):
            return "group"
        case "array" if isinstance(flat.get("items"), dict) and flat["items"] and "prefixItems" not in flat:
            return "list"
    return "json"


def _choice(
    flat: dict[str, Any], choices: tuple[tuple[Any, str | None], ...], is_nullable: bool, references: Any
) -> Shape:
    if not choices or len(choices) > MOST_CHOICES:
        raise _NotDrawable
    is_nullable = is_nullable and all(value is not None for value, _ in choices)
    return Shape("choice", flat, is_nullable, frozenset(references), choices)


def _merged(flat: dict[str, Any], key: str, inner: Any) -> dict[str, Any]:
    """Put what a key leads to in its place; words beside the key win, as pydantic means them."""
    if not isinstance(inner, dict):
        raise _NotDrawable
    outer = {name: value for name, value in flat.items() if name != key}
    if any(name in _STRUCTURE and outer[name] != inner[name] for name in outer.keys() & inner.keys()):
        raise _NotDrawable
    if _LEADING & outer.keys() & inner.keys():
        raise _NotDrawable
    required = [*_list(inner.get("required")), *_list(outer.get("required"))]
    return {**inner, **outer, **({"required": required} if required else {})}


def _without_rules(flat: dict[str, Any], key: str, alternatives: list[Any]) -> dict[str, Any]:
    """Drop alternatives that only add rules to what is drawn anyway; the check still knows them."""
    if not (_STRUCTURE & flat.keys()):
        raise _NotDrawable
    if any(not isinstance(one, dict) or (_STRUCTURE | _LEADING) & one.keys() for one in alternatives):
        raise _NotDrawable
    return {name: value for name, value in flat.items() if name != key}


def _target(reference: Any, scope: Scope) -> tuple[Any, Scope]:
    try:
        return scope.lookup(reference)
    except Unresolved as exc:
        raise _NotDrawable from exc


def _words_of(part: dict[str, Any], scope: Scope) -> dict[str, Any]:
    """Return title, description and default of a part that is typed as JSON."""
    words: dict[str, Any] = {name: part[name] for name in _WORDS if name in part}
    if "$ref" in part:
        try:
            target, _ = _target(part["$ref"], scope)
        except _NotDrawable:
            return words
        return {name: value for name, value in _dict(target).items() if name in ("title", "description")} | words
    return words


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
