"""A graph as its author gives it: one, compiled or not, or a function that makes one; and what can be read from it.

A function may be async or an async context manager, and may take a run's configuration: then it is called for each
turn, as LangGraph's own server does it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, NotRequired, Required, get_args, get_origin, get_type_hints

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from orchestration.agents.runtime import Agent

_MESSAGES: Final[dict[str, Any]] = {
    "type": "array",
    "minItems": 1,
    "title": "Messages",
    "items": {
        "type": "object",
        "title": "Message",
        "properties": {
            "role": {"type": "string", "enum": ["user", "assistant", "system"], "default": "user", "title": "Role"},
            "content": {"type": "string", "title": "Text", "minLength": 1},
        },
        "required": ["content"],
    },
}


@dataclass(frozen=True)
class Factory:
    """A function that is called for each turn; `makes` takes the turn's configuration or nothing."""

    path: str
    makes: Callable[..., Any]
    takes_config: bool

    @asynccontextmanager
    async def made(self, config: dict[str, Any]) -> AsyncIterator[Any]:
        """Yield the graph. Raises TypeError when it is none."""
        made = self.makes(config) if self.takes_config else self.makes()
        if inspect.isawaitable(made):
            made = await made
        if hasattr(made, "__aenter__"):
            async with made as graph:
                yield checked(graph, self.path)
        else:
            yield checked(made, self.path)


def graph_from(agent: Agent, named: Any) -> Any:
    """Return what `agent.graph` leads to: a graph, or a Factory. Raises TypeError for anything else."""
    if isinstance(named, StateGraph | Pregel):
        return named
    if not callable(named):
        raise TypeError(f"{agent.graph} is a {type(named).__name__} and no graph of LangGraph's.")
    takes = _takes(named)
    if takes == "config":
        return Factory(agent.graph, named, True)
    made = named(agent) if takes == "agent" else named()
    if inspect.iscoroutine(made):
        made.close()
        return Factory(agent.graph, _with_agent(named, agent) if takes == "agent" else named, False)
    if hasattr(made, "__aenter__"):
        return Factory(agent.graph, _with_agent(named, agent) if takes == "agent" else named, False)
    return checked(made, agent.graph)


def _with_agent(named: Callable[..., Any], agent: Agent) -> Callable[..., Any]:
    return lambda: named(agent)


def _takes(named: Callable[..., Any]) -> str:
    """Return what the function wants: "config", "agent" or "" for nothing. Raises TypeError for more."""
    needed = [
        one
        for one in inspect.signature(named).parameters.values()
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    wanted = [one for one in needed if one.default is one.empty]
    if len(wanted) > 1:
        raise TypeError(f"takes {len(wanted)} arguments; a function that makes a graph takes `config`, or none.")
    for one in needed[:1]:
        if one.name == "config" or "RunnableConfig" in str(one.annotation):
            return "config"
    return "agent" if wanted else ""


def checked(made: Any, path: str) -> Any:
    if not isinstance(made, StateGraph | Pregel):
        raise TypeError(f"{path} gives a {type(made).__name__} and no graph of LangGraph's.")
    return made


def compiled(graph: Any) -> Any:
    return graph.compile() if isinstance(graph, StateGraph) else graph


def made_once(graph: Any) -> Any:
    """Return the graph of a Factory, outside a turn, to be looked at. Call it where no event loop runs."""
    if not isinstance(graph, Factory):
        return graph

    async def make() -> Any:
        async with graph.made({"configurable": {}}) as made:
            return made

    return asyncio.run(make())


def input_schema_of(graph: Any) -> dict[str, Any]:
    """Return the JSON Schema of what a graph starts with; messages as people write them.

    One that names what it takes takes nothing else, unless it says so itself: LangGraph drops that without a word.
    """
    made = compiled(graph)
    try:
        schema = dict(made.get_input_jsonschema())
    except PydanticUserError:  # Python's own TypedDict, which pydantic reads from Python 3.12 on
        schema = _schema_of_hints(made)
    schema.pop("description", None)  # a state's docstring, or TypedDict's own
    if schema.get("type") != "object" or not isinstance(schema.get("properties"), dict):
        return {"type": "object", "title": "Input", "additionalProperties": True}
    schema["properties"] = {
        name: {**_MESSAGES} if _is_messages(one) else one for name, one in schema["properties"].items()
    }
    if not any("$ref" in str(one) for one in schema["properties"].values()):
        schema.pop("$defs", None)
    if schema["properties"]:
        schema.setdefault("additionalProperties", False)
    return schema


def _schema_of_hints(graph: Any) -> dict[str, Any]:
    state = graph.builder.input_schema if getattr(graph, "builder", None) is not None else None
    if not isinstance(state, type):
        return {}
    properties = {}
    for name, hint in get_type_hints(state, include_extras=True).items():
        hint = _without_presence(hint)
        try:
            properties[name] = {"title": name.replace("_", " ").capitalize(), **TypeAdapter(hint).json_schema()}
        except (PydanticUserError, PydanticSchemaGenerationError):
            properties[name] = {}
    required = sorted(getattr(state, "__required_keys__", ()))
    return {"type": "object", "title": state.__name__, "properties": properties, "required": required}


def _without_presence(hint: Any) -> Any:
    """Return a TypedDict's hint without whether its key must be there, which pydantic takes inside of one only."""
    if get_origin(hint) is Annotated:
        inner, *more = get_args(hint)
        return Annotated[(_without_presence(inner), *more)]
    return _without_presence(get_args(hint)[0]) if get_origin(hint) in (Required, NotRequired) else hint


def _is_messages(one: Any) -> bool:
    return "HumanMessage" in str(one) and "AIMessage" in str(one)


def levels_of(graph: Any) -> list[tuple[str, Any]]:
    """Return the graph and the graphs inside it, each with its path: "" or "outer/inner/"."""
    inner = [(f"{name.replace('|', '/')}/", one) for name, one in graph.get_subgraphs(recurse=True)]
    return [("", graph), *inner]


def tools_of(graph: Any) -> dict[str, Any]:
    """Return LangChain's tools that the graph's tool nodes hold, by name, those of graphs inside it too."""
    found: dict[str, Any] = {}
    for _, level in levels_of(graph):
        for node in level.nodes.values():
            held = getattr(node.bound, "tools_by_name", None)
            if isinstance(held, dict):
                found = {**held, **found}
    return found


def tool_schema_of(tool: Any) -> dict[str, Any]:
    """Return the JSON Schema of the arguments that a model may give the tool; {} where it cannot be made.

    One that is made of a model of pydantic's names all that it takes: LangChain drops anything else without a word, so
    what people were shown would not be what runs.
    """
    try:
        schema = tool.tool_call_schema
        return dict(schema) if isinstance(schema, dict) else _closed(schema.model_json_schema())
    except Exception:  # noqa: BLE001  a schema is made by the author's code
        return {}


_BELOW: Final = {"properties": dict, "$defs": dict, "items": None, "additionalProperties": None, "anyOf": list}


def _closed(schema: Any) -> Any:
    """Return the schema so that no object of fields takes another one, where it does not say that it does."""
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    for word, holds in _BELOW.items():
        below = found.get(word)
        if holds is dict and isinstance(below, dict):
            found[word] = {name: _closed(one) for name, one in below.items()}
        elif holds is list and isinstance(below, list):
            found[word] = [_closed(one) for one in below]
        elif holds is None and below is not None:
            found[word] = _closed(below)
    if "properties" in found:
        found.setdefault("additionalProperties", False)
    return found
