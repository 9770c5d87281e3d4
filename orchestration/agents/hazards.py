"""What an author should know of a graph before people decide about it: what would happen twice, or get lost.

Nothing here is an error: such a graph runs. `manage.py check_agents` tells it.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any, get_origin

from pydantic import BaseModel

from orchestration.agents.graphs import compiled, levels_of, tools_of
from orchestration.agents.guarding import is_guarded
from orchestration.agents.models import fault_of
from orchestration.agents.runtime import Agent


def hazards_of(agent: Agent, graph: Any) -> list[str]:
    """Return sentences, the same ones each time. `graph`: made, compiled or not."""
    made = compiled(graph)
    found: list[str] = []
    for path, level in levels_of(made):
        for name, node in level.nodes.items():
            if not name.startswith("__"):
                found += [f"The node “{path}{name}” {sentence}" for sentence in _of_node(node.bound)]
        found += [f"The state key “{path}{name}” {sentence}" for name, sentence in _of_state(level)]
    found += _of_tools(made)
    found += [
        f"The tool {tool.name} takes no key: where an attempt is cut off, people are asked whether it happened."
        for tool in agent.tools
        if tool.needs_approval and not tool.is_idempotent
    ]
    found += [sentence] if (sentence := fault_of(agent)) else []
    return list(dict.fromkeys(found))


def _of_node(bound: Any) -> Iterator[str]:
    function = _function_of(bound)
    calls = _calls_in(function) if function is not None else []
    asks = [number for number, name in enumerate(calls) if name == "interrupt"]
    if asks and asks[0] > 0:
        before = ", ".join(dict.fromkeys(calls[: asks[0]]))
        yield f"calls {before} before interrupt(): that happens again when it is answered. Put it in a node before."
    if len(asks) > 1:
        yield "has several interrupt(): answers go by their order, so each run of it must come to the same ones."


def _function_of(bound: Any) -> Any:
    for name in ("afunc", "func"):
        function = inspect.unwrap(getattr(bound, name, None) or _nothing)
        if function is not _nothing and inspect.isroutine(function):
            module = getattr(function, "__module__", "") or ""
            return None if module.partition(".")[0] in ("langchain", "langgraph", "orchestration") else function
    return None


def _nothing() -> None:
    return None


def _calls_in(function: Any) -> list[str]:
    """Return the names of what a function calls, in the order of its lines; [] where its source is not to be had."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return []
    called = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    inner = {id(one) for call in called if _name_of(call) == "interrupt" for one in ast.walk(call) if one is not call}
    outside = [call for call in called if id(call) not in inner]
    return [
        _name_of(call) for call in sorted(outside, key=lambda call: (call.end_lineno or 0, call.end_col_offset or 0))
    ]


def _name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "something")


def _of_state(level: Any) -> Iterator[tuple[str, str]]:
    for name, channel in level.channels.items():
        kind = getattr(channel, "ValueType", None)
        kind = get_origin(kind) or kind
        if name.startswith("__") or ":" in name or not isinstance(kind, type):
            continue
        if issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind):
            yield name, f"holds a {kind.__name__}: from a checkpoint it comes back as a plain dict. Keep plain JSON."
        elif issubclass(kind, set | frozenset | bytes):
            yield name, f"holds {kind.__name__}, which JSON does not know. Keep a list or a text."


def _of_tools(graph: Any) -> Iterator[str]:
    held = tools_of(graph)
    gates = {name: gate for one in _middlewares(graph) for name, gate in one.items()}
    for name, gate in sorted(gates.items()):
        if isinstance(gate, dict) and callable(gate.get("when")):
            yield (
                f"The gate of {name} has a `when`, which is asked again when the answer comes: if it says no then, a "
                "rejected call runs."
            )
        if name in held and not is_guarded(held[name]):
            yield (
                f"The tool {name} runs outside the ledger: a turn that is cut off may run it twice. "
                "signalbox.guard(tool) puts it inside."
            )


def _middlewares(graph: Any) -> Iterator[dict[str, Any]]:
    for _, level in levels_of(graph):
        for node in level.nodes.values():
            owner = getattr(getattr(node.bound, "func", None), "__self__", None)
            gates = getattr(owner, "interrupt_on", None)
            if isinstance(gates, dict):
                yield gates
