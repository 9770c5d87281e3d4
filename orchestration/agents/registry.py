"""The agents of this installation: import paths in SIGNALBOX_AGENTS, and the entry points `signalbox.agents`.

What cannot be used is a fault in words, and the others go on working: whoever asks for the agents gets no error.
"""

from __future__ import annotations

import re
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from threading import Lock
from typing import Any, Final

from console.environment import environment
from console.ports import AgentFault
from orchestration.agents.arguments import faults_of, faults_of_tool
from orchestration.agents.loading import AgentEntry, as_agent, as_registered, imported, named_entry, with_input_schema
from orchestration.agents.runtime import Agent

GROUP: Final = "signalbox.agents"
_loading = Lock()


class UnknownAgent(LookupError):
    """No agent of that name is registered. `permanent`: no entry has a fault that may be mended.

    `is_loading`: an import has not ended yet, as on a busy machine, so the name may still come.
    """

    def __init__(self, message: str, permanent: bool, is_loading: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.is_loading = is_loading


def agents() -> dict[str, Agent]:
    """Return the agents that can be used, by name. Never raises: see `faults`."""
    return _registered()[0]


def faults() -> list[AgentFault]:
    """Return the entries that lead to no agent, with what to write instead."""
    return _registered()[1]


def agent_named(name: str) -> Agent:
    """Return one agent. Raises UnknownAgent, whose message names those that exist."""
    is_loading = is_any_loading()  # asked first: what ends meanwhile is among those that are found
    good, bad = _registered()
    try:
        return good[name]
    except KeyError:
        known = ", ".join(sorted(good)) or "none"
        unusable = f" Not usable: {', '.join(fault.entry for fault in bad)}; System says why." if bad else ""
        words = f"There is no agent {name!r}. Registered: {known}.{unusable}"
        raise UnknownAgent(words, not bad, is_loading) from None


def is_any_loading() -> bool:
    """Return whether an import has not ended, though everybody has waited for it as long as it may take."""
    with _loading:
        return any(entry.is_loading for entry in _entries())


def _registered() -> tuple[dict[str, Agent], list[AgentFault]]:
    good: dict[str, Agent] = {}
    bad: list[AgentFault] = []
    with _loading:
        entries = _entries()
    for entry in entries:
        found = entry.agent()
        if isinstance(found, AgentFault):
            bad.append(found)
        elif good.setdefault(found.name, found) is not found:
            reason = f"An entry before this one has given an agent called {found.name!r} already."
            bad.append(AgentFault(entry.path, reason, "Give one of the two another name."))
    return good, bad


@cache
def _entries() -> list[AgentEntry]:
    """Import everything, once in a process, one after the other: two imports at once may wait for each other."""
    paths = [path.strip() for path in environment().agents.split(",") if path.strip()]
    loads = [(path, partial(_load, path)) for path in dict.fromkeys(paths)]
    loads += [(point.value, partial(_load_point, point)) for point in entry_points(group=GROUP)]
    found = []
    for path, load in loads:
        found.append(AgentEntry(path, load))
        found[-1].agent()
    return found


def _load(entry: str) -> Agent:
    name, path = named_entry(entry)
    return _checked(as_registered(imported(path), path, name), path)


def _load_point(point: EntryPoint) -> Agent:
    found: Any = point.load()
    return _checked(as_registered(found, point.value, point.name), point.value)


def _checked(found: Any, path: str) -> Agent:
    """Return it as an agent. Raises ImportError, in words, for whatever is found now rather than in a run."""
    agent = as_agent(found, path)
    check_names(agent)
    check_arguments(agent)
    agent = with_input_schema(agent)
    check_run_title(agent)
    check_owners(agent)
    return agent


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
    faults = [f"its input, {fault}" for fault in faults_of(agent.input)]
    asked_for = [tool for tool in agent.tools if tool.needs_approval]
    faults += [f"the tool {tool.name}, {fault}" for tool in asked_for for fault in faults_of_tool(tool)]
    if faults:
        raise ImportError(f"The agent {agent.name} cannot be registered. {' '.join(faults)}")


def check_run_title(agent: Agent) -> None:
    """Refuse a title for runs that names what no input has. Raises ImportError."""
    named = {path.partition(".")[0] for path in re.findall(r"\{([^{}]*)\}", agent.run_title)}
    known = agent.input.model_fields if agent.input_schema is None else agent.input_schema.get("properties", {})
    if strange := sorted(named - set(known)):
        raise ImportError(
            f"The agent {agent.name} cannot be registered. Its run_title names {', '.join(map(repr, strange))}, and "
            f"its input has only {', '.join(known) or 'nothing'}."
        )


def check_owners(agent: Agent) -> None:
    """Refuse owners that are no user names, such as one text, whose letters would be its owners. Raises ImportError."""
    owners: Any = agent.owners
    if isinstance(owners, str) or not all(isinstance(one, str) and one for one in owners):
        raise ImportError(f"The agent {agent.name} cannot be registered. Its owners are a tuple of user names.")


NAME_LIMIT: Final = 100  # characters
_AGENT_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{NAME_LIMIT - 1}}}")
_TOOL_NAME: Final = re.compile(rf"[^\x00-\x1f\x7f\ud800-\udfff]{{1,{NAME_LIMIT}}}")
