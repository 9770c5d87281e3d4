"""What an agent's author has marked as secret stays hidden, wherever the state of a run is shown.

Marked are: a value of pydantic's `SecretStr` (see `values`); a field of the agent's input that its schema calls a
password or write only; and the names in the agent's `secrets`. A name hides what stands under it at any depth, "a.b"
only b inside of a; positions in lists do not count.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel

from orchestration.agents.arguments import schema_of
from orchestration.agents.registry import agents
from orchestration.state.values import MASK

_DEEPEST: Final = 120


class Hidden:
    """The names whose values are hidden, of one agent."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = frozenset(tuple(name.split(".")) for name in names if name)
        self._lasts = frozenset(name[-1] for name in self.names)

    def without(self, value: Any, path: tuple[str, ...] = ()) -> Any:
        """Return the value with what is secret replaced by MASK; `path`: the keys under which it stands."""
        if not self.names or len(path) > _DEEPEST:
            return value
        if path and path[-1] in self._lasts and any(path[-len(name) :] == name for name in self.names):
            return MASK if value is not None else None
        if isinstance(value, dict):
            return {key: self.without(item, (*path, str(key))) for key, item in value.items()}
        if isinstance(value, list):
            return [self.without(item, path) for item in value]
        return value


def hidden_of(agent_name: str) -> Hidden:
    """Return what the agent's author has marked. An agent that is not registered any more marks nothing."""
    agent = agents().get(agent_name)
    if agent is None:
        return Hidden(())
    return Hidden((*agent.secrets, *_marked_in(agent.input)))


@lru_cache(maxsize=256)
def _marked_in(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the marked names of a model. Kept, for a list asks for each of its rows."""
    return tuple(_marked(schema_of(model)))


def _marked(schema: Any) -> list[str]:
    """Return the names of the properties, at any depth of the schema, that are called secret."""
    found: list[str] = []
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            found += [name for name, one in properties.items() if _is_secret(one)]
        for part in schema.values():
            found += _marked(part)
    elif isinstance(schema, list):
        for part in schema:
            found += _marked(part)
    return found


def _is_secret(one: Any) -> bool:
    if not isinstance(one, dict):
        return False
    choices = [one, *(one.get("anyOf") or []), *(one.get("allOf") or []), *(one.get("oneOf") or [])]
    return any(isinstance(c, dict) and (c.get("writeOnly") is True or c.get("format") == "password") for c in choices)
