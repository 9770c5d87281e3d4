"""The agents of this installation: import paths in SIGNALBOX_AGENTS, and the entry points `signalbox.agents`."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Final

from console.environment import environment
from orchestration.agents.arguments import faults_of
from orchestration.agents.runtime import Agent


class UnknownAgent(LookupError):
    """No agent of that name is registered."""


@cache
def agents() -> dict[str, Agent]:
    """Return the registered agents by name. Raises ImportError naming the path that does not lead to one."""
    paths = [path.strip() for path in environment().agents.split(",") if path.strip()]
    found = [_load(path) for path in paths] + [entry.load() for entry in entry_points(group="signalbox.agents")]
    for agent in found:
        check_names(agent)
        check_arguments(agent)
    return {agent.name: agent for agent in found}


def check_names(agent: Agent) -> None:
    """Refuse names that no column or address can hold: the agent's begins the ids of its runs. Raises ImportError."""
    if not _AGENT_NAME.fullmatch(agent.name):
        raise ImportError(
            f"An agent cannot be called {agent.name[:200]!r}: use letters, digits, '_', '.' and '-', at most "
            f"{NAME_LIMIT} of them, a letter or digit first."
        )
    for tool in agent.tools:
        if not _TOOL_NAME.fullmatch(tool.name):
            raise ImportError(
                f"The agent {agent.name} cannot have a tool called {tool.name[:200]!r}: a name takes 1 to {NAME_LIMIT} "
                "characters, none of them a control character."
            )


def check_arguments(agent: Agent) -> None:
    """Refuse arguments that would not run as they were shown, and such an input. Raises ImportError with all of them.

    A tool that needs no approval reads its arguments where they were asked for, and may take what it likes.
    """
    models = [(f"the tool {tool.name}", tool.arguments) for tool in agent.tools if tool.needs_approval]
    faults = [f"{what}, {fault}" for what, model in [("its input", agent.input), *models] for fault in faults_of(model)]
    if faults:
        raise ImportError(f"The agent {agent.name} cannot be registered. {' '.join(faults)}")


NAME_LIMIT: Final = 100  # characters
_AGENT_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{NAME_LIMIT - 1}}}")
_TOOL_NAME: Final = re.compile(rf"[^\x00-\x1f\x7f\ud800-\udfff]{{1,{NAME_LIMIT}}}")


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
