"""What an agent's author has marked as secret stays hidden, wherever the state of a run is shown.

Marked are: a value of pydantic's `SecretStr` (see `values`); a field of the agent's input that its schema calls a
password or write only; and the names in the agent's `secrets`. A name hides what stands under it at any depth, "a.b"
only b inside of a; positions in lists do not count. While the agent cannot be loaded the marks hold that it had when
a worker last loaded it; where there are none, everything is hidden: nobody can say what may be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel

from orchestration.agents.arguments import schema_of
from orchestration.agents.registry import agents
from orchestration.agents.runtime import Agent
from orchestration.state import kept_marks
from orchestration.state.values import MASK

UNKNOWN: Final = (
    "The agent of this run cannot be loaded here, and no worker has kept what its author hides: all values of its "
    "input, state and result are hidden."
)
_DEEPEST: Final = 120
_DEEPEST_SCHEMA: Final = 12
_DEFINITIONS: Final = "#/$defs/"


class Hidden:
    """The names whose values are hidden, of one agent; with `everything` all values, whatever their name."""

    def __init__(self, names: tuple[str, ...], *, everything: bool = False) -> None:
        self.names = frozenset(tuple(name.split(".")) for name in names if name)
        self.everything = everything
        self._lasts = frozenset(name[-1] for name in self.names)

    @property
    def why(self) -> str:
        """Why everything is hidden, in a sentence; "" where it is not."""
        return UNKNOWN if self.everything else ""

    def without(self, value: Any, path: tuple[str, ...] = ()) -> Any:
        """Return the value with what is secret replaced by MASK; `path`: the keys under which it stands."""
        if not self.names and not self.everything:
            return value
        if len(path) > _DEEPEST:
            return MASK
        if path and path[-1] in self._lasts and any(path[-len(name) :] == name for name in self.names):
            return MASK if value is not None else None
        if isinstance(value, dict):
            return {key: self.without(item, (*path, str(key))) for key, item in value.items()}
        if isinstance(value, list):
            return [self.without(item, path) for item in value]
        return MASK if self.everything and value is not None else value

    def without_in(self, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the tasks of a checkpoint with what is secret in what they wrote replaced; they stay to be told."""
        return [{**task, "writes": self.without(task["writes"])} for task in tasks]


def hidden_of(agent_name: str) -> Hidden:
    """Return what the agent's author has marked; of one that cannot be loaded here, what is known of it."""
    agent = agents().get(agent_name)
    if agent is not None:
        return Hidden(marks_of(agent))
    kept = kept_marks.kept().get(agent_name)
    return Hidden(kept or (), everything=kept is None)


def marks_of(agent: Agent) -> tuple[str, ...]:
    """Return the names that the agent's author has marked: in `secrets`, and in the schema of its input."""
    if agent.input_schema is None:
        return (*agent.secrets, *_marked_in(agent.input))
    return (*agent.secrets, *_marked_in_schema(agent.input_schema))


@lru_cache(maxsize=256)
def _marked_in(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the marked names of a model. Kept, for a list asks for each of its rows."""
    schema = schema_of(model)
    return tuple(_marked(schema, schema))


#: by the identity of a graph's schema, which cannot be hashed: the schema, so that it lives on, and its marked names
_of_schemas: dict[int, tuple[Mapping[str, Any], tuple[str, ...]]] = {}


def _marked_in_schema(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the marked names of a graph's own input. Kept as those of a model: agents are loaded once."""
    if id(schema) not in _of_schemas:
        _of_schemas[id(schema)] = schema, tuple(_marked(schema, schema))
    return _of_schemas[id(schema)][1]


def _marked(schema: Any, whole: Mapping[str, Any]) -> list[str]:
    """Return the names of the properties, at any depth of the schema, that are called secret."""
    found: list[str] = []
    if isinstance(schema, Mapping):
        properties = schema.get("properties")
        if isinstance(properties, Mapping):
            found += [name for name, one in properties.items() if _is_secret(one, whole)]
        for part in schema.values():
            found += _marked(part, whole)
    elif isinstance(schema, list):
        for part in schema:
            found += _marked(part, whole)
    return found


def _is_secret(one: Any, whole: Mapping[str, Any], depth: int = 0) -> bool:
    """Return whether a value of this schema, one of its choices or one of its items, is called secret."""
    if not isinstance(one, Mapping) or depth > _DEEPEST_SCHEMA:
        return False
    if one.get("writeOnly") is True or one.get("format") == "password":
        return True
    inner: list[Any] = [one.get("items"), one.get("additionalProperties")]
    for word in ("anyOf", "allOf", "oneOf", "prefixItems"):
        inner += one[word] if isinstance(one.get(word), list) else []
    if isinstance(reference := one.get("$ref"), str) and isinstance(definitions := whole.get("$defs"), Mapping):
        inner.append(definitions.get(reference.removeprefix(_DEFINITIONS)))
    return any(_is_secret(part, whole, depth + 1) for part in inner)
