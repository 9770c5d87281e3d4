"""Which values a JSON Schema declares to be secret, and a value with these masked. Pure.

Pydantic writes `SecretStr` as `"format": "password", "writeOnly": true`; Prefect lists a block's `secret_fields` beside
its properties. A value is described where the schema has something to say of its very place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from console.forms.schema_shape import Scope, Unresolved, scope_of

MASK: Final = "•••"
DEEPEST: Final = 60  # levels of a value; what lies deeper is masked
MOST_LOOKS: Final = 50_000  # at parts of a schema for one value: no page waits for what somebody else wrote
_REFERENCES: Final = frozenset(("$ref", "$dynamicRef", "$recursiveRef"))
_SECRET: Final = {"writeOnly": True}
_CHOICES: Final = ("allOf", "anyOf", "oneOf")
_BRANCHES: Final = ("if", "then", "else")
_OF_NAMES: Final = ("additionalProperties", "unevaluatedProperties")
_OF_ITEMS: Final = ("items", "additionalItems", "unevaluatedItems", "contains")


@dataclass(frozen=True)
class _Part:
    """One schema that may hold at a place, and what its references are relative to."""

    schema: dict[str, Any]
    scope: Scope

    @property
    def is_secret(self) -> bool:
        own_and_names = (self.schema, _dict(self.schema.get("propertyNames")))
        return any(one.get("writeOnly") is True or one.get("format") == "password" for one in own_and_names)

    @property
    def listed(self) -> set[str]:
        """The names that Prefect lists as secret; of `a.b` and `a.*` the outer one, which hides the inner."""
        names = self.schema.get("secret_fields")
        return {str(name).split(".")[0] for name in names} if isinstance(names, list) else set()


class _TooMuch(Exception):
    """The schema is larger than what may be looked at."""


@dataclass
class Masking:
    """How one value is masked."""

    schema: Any  # `{}` when nothing is known
    hides_undescribed: bool  # what the schema does not describe is masked too
    is_secret_name: Callable[[str], bool]
    shown_text: Callable[[str], str]  # what becomes of a text that is shown
    _looks: int = 0

    def masked(self, value: Any) -> Any:
        """Return the value with every secret masked; the names in it stay."""
        self._looks = 0
        try:
            masked = self._masked(value, self._at([(self.schema, scope_of(self.schema))]), 0)
        except _TooMuch:
            masked = MASK
        return dict.fromkeys(value, MASK) if masked is MASK and isinstance(value, dict) else masked

    def _masked(self, value: Any, parts: list[_Part], depth: int) -> Any:
        if value is None:
            return None
        if depth > DEEPEST or any(part.is_secret for part in parts):
            return MASK
        if isinstance(value, dict):
            return self._masked_object(value, parts, depth)
        if isinstance(value, list):
            return [self._masked(item, self._item(parts, index), depth + 1) for index, item in enumerate(value)]
        if self.hides_undescribed and not parts:
            return MASK
        return self.shown_text(value) if isinstance(value, str) else value

    def _masked_object(self, value: dict[str, Any], parts: list[_Part], depth: int) -> dict[str, Any]:
        secret = self._secret_names(parts)
        masked = {}
        for name, item in value.items():
            below = self._named(parts, name)
            # Beside a secret, what the schema does not describe may be that very one under its earlier name.
            hides = name in secret or self.is_secret_name(name) or (secret and not below)
            masked[name] = MASK if hides and item is not None else self._masked(item, below, depth + 1)
        return masked

    def _secret_names(self, parts: list[_Part]) -> set[str]:
        names = {name for part in parts for name in _dict(part.schema.get("properties"))}
        declared = {name for name in names if any(one.is_secret for one in self._named(parts, name))}
        return declared.union(*(part.listed for part in parts))

    def _named(self, parts: list[_Part], name: str) -> list[_Part]:
        """Return what may hold for a property. Patterns are not matched: each may mean this name."""
        found: list[tuple[Any, Scope]] = []
        for part in parts:
            properties = _dict(part.schema.get("properties"))
            words = () if name in properties else _OF_NAMES
            found += [(properties[name], part.scope)] if name in properties else []
            found += [(part.schema[word], part.scope) for word in words if word in part.schema]
            found += [(one, part.scope) for one in _dict(part.schema.get("patternProperties")).values()]
        return self._at(found)

    def _item(self, parts: list[_Part], index: int) -> list[_Part]:
        """Return what may hold for an item of a list."""
        found: list[tuple[Any, Scope]] = []
        for part in parts:
            for listed in (part.schema.get("prefixItems"), part.schema.get("items")):
                found += [(listed[index], part.scope)] if isinstance(listed, list) and index < len(listed) else []
            found += [(part.schema[word], part.scope) for word in _OF_ITEMS if word in part.schema]
        return self._at(found)

    def _at(self, found: list[tuple[Any, Scope]]) -> list[_Part]:
        """Return these schemas with all that they refer to and choose between: each of them may hold.

        What says nothing (`{}`, `true`) describes nothing and is left out.
        """
        parts: list[_Part] = []
        seen: set[int] = set()
        while found:
            schema, scope = found.pop()
            if not isinstance(schema, dict) or not schema or id(schema) in seen:
                continue
            seen.add(id(schema))
            self._looks += 1
            if self._looks > MOST_LOOKS:
                raise _TooMuch
            scope = scope.inside(schema)
            for word in _REFERENCES & schema.keys():
                try:
                    found.append(scope.lookup(schema[word]))
                except Unresolved:
                    parts.append(_Part(_SECRET, scope))  # nobody knows what it means
            parts += [_Part(schema, scope)] if schema.keys() - _REFERENCES else []
            for word in _CHOICES:
                found += [(one, scope) for one in schema[word]] if isinstance(schema.get(word), list) else []
            found += [(schema[word], scope) for word in _BRANCHES if word in schema]
            found += [(one, scope) for one in _dict(schema.get("dependentSchemas")).values()]
        return parts


def declares_secret(schema: Any) -> bool:
    """Return whether any part of the schema is declared to be secret."""
    return any(_Part(part, scope_of({})).is_secret or "secret_fields" in part for part in _dicts_in(schema))


def _dicts_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _dicts_in(item)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
