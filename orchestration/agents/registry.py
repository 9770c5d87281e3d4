"""The agents of this installation: import paths in SIGNALBOX_AGENTS, and the entry points `signalbox.agents`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from console.environment import environment
from orchestration.agents.runtime import Agent


class UnknownAgent(LookupError):
    """No agent of that name is registered."""


@cache
def agents() -> dict[str, Agent]:
    """Return the registered agents by name. Raises ImportError naming the path that does not lead to one."""
    paths = [path.strip() for path in environment().agents.split(",") if path.strip()]
    found = [_load(path) for path in paths] + [entry.load() for entry in entry_points(group="signalbox.agents")]
    return {agent.name: agent for agent in found}


def agent_named(name: str) -> Agent:
    """Return one agent. Raises UnknownAgent, whose message names those that exist."""
    try:
        return agents()[name]
    except KeyError:
        known = ", ".join(sorted(agents())) or "none"
        raise UnknownAgent(f"There is no agent {name!r}. Registered: {known}.") from None


def _load(path: str) -> Agent:
    module, _, attribute = path.partition(":")
    found = getattr(import_module(module), attribute or "AGENT", None)
    if not isinstance(found, Agent):
        raise ImportError(f"SIGNALBOX_AGENTS: {path!r} is not an Agent. Write it as package.module:NAME.")
    return found
