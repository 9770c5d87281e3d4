"""Where the references of a JSON Schema lead, the same for the form that is drawn and for the check.

Nothing is fetched. Each draft has its rules: what `$id` and anchors mean, and whether words beside a `$ref` count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jsonschema.validators import Draft202012Validator, validator_for
from jsonschema_specifications import REGISTRY
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

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
