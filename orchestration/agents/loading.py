"""Import what SIGNALBOX_AGENTS names, and say in words what is wrong with it and what to write instead.

What stands there is somebody's own code: it may raise anything at its import, end the process, print into what a
command prints, or never come to an end. None of that may take the other agents down, or a page.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from pydantic import BaseModel

from console.ports import AgentFault
from orchestration.agents.runtime import Agent, FromGraph, Tool

PATIENCE_SECONDS: Final = 60.0  # for one import; one that takes longer is not used until it has ended
_FORM: Final = "Write it as package.module:NAME"
_ENTRY: Final = re.compile(r"([^=:/]{1,200})=(.*)", re.DOTALL)
_PLAIN_NAMES: Final = frozenset(
    {"agent", "graph", "app", "build", "make_graph", "get_graph", "create_graph", "workflow"}
)
_PATH: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*)?")


class NoAgent(ImportError):
    """The entry leads to no agent that can be used; `advice` says what to do."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason} {advice}")
        self.reason, self.advice = reason, advice


class AgentEntry:
    """One entry, loaded in a thread of its own, so that nobody waits for it for ever."""

    def __init__(self, path: str, load: Callable[[], Agent]) -> None:
        self.path = path
        self._load = load
        self._agent: Agent | None = None
        self._error: BaseException | None = None
        self._deadline = time.monotonic() + PATIENCE_SECONDS
        self._thread = threading.Thread(target=self._run, name=f"import {path}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            # A command's output is read by programs: what an import prints is none of it.
            with contextlib.redirect_stdout(sys.stderr):
                self._agent = self._load()
        except BaseException as exc:  # noqa: BLE001  SystemExit among them: a script that was written to be run
            self._error = exc

    @property
    def is_loading(self) -> bool:
        return self._thread.is_alive()

    def agent(self) -> Agent | AgentFault:
        """Return the agent, or why there is none. Waits until a minute after the start at most."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if self._thread.is_alive():
            return AgentFault(
                self.path,
                f"Its import has not ended after {PATIENCE_SECONDS:.0f} s.",
                "Let nothing wait or work while the module is imported.",
            )
        if self._agent is not None:
            return self._agent
        return AgentFault(self.path, *why(self._error or ImportError("nothing came of it"), self.path))


def named_entry(entry: str) -> tuple[str, str]:
    """Return the name that an entry gives its agent, "" for none, and the path: `name=package.module:NAME`."""
    found = _ENTRY.fullmatch(entry)
    return (found[1].strip(), found[2].strip()) if found else ("", entry)


def imported(path: str) -> Any:
    """Return what `package.module:NAME` leads to; the name is AGENT when none is given. Raises NoAgent."""
    if not _PATH.fullmatch(path):
        file, _, named = path.partition(":")
        likely = f"{file.removesuffix('.py').strip('./').replace('/', '.')}:{named or 'AGENT'}"
        maybe = f", maybe {likely}" if _PATH.fullmatch(likely) else ""
        raise NoAgent("This is not the path of a Python module.", f"{_FORM}{maybe}.")
    name, _, attribute = path.partition(":")
    module = _module(name)
    attribute = attribute or ("AGENT" if hasattr(module, "AGENT") or not hasattr(module, "graph") else "graph")
    if not hasattr(module, attribute):
        raise NoAgent(f"The module {name} has nothing called {attribute}.", _agents_in(module))
    return getattr(module, attribute)


def _module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name and (name == exc.name or name.startswith(f"{exc.name}.")):
            raise NoAgent(
                f"There is no module {exc.name}.",
                "Check the spelling, and that its folder is on PYTHONPATH or its package installed in .venv.",
            ) from exc
        raise


def why(exc: BaseException, path: str) -> tuple[str, str]:
    """Return reason and advice for what an import raised."""
    if isinstance(exc, NoAgent):
        return exc.reason, exc.advice
    if type(exc) is ImportError and exc.name is None:  # of `registry`: a whole sentence
        return str(exc), "Change that in its code."
    if isinstance(exc, SyntaxError):
        place = f"{exc.filename}, line {exc.lineno}"
        return f"It cannot be read: {exc.msg} ({place}).", "Mend that line, and start again."
    if isinstance(exc, SystemExit):
        return "Its import ends the process.", 'Put what is to be run behind: if __name__ == "__main__".'
    said = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    module = path.partition(":")[0]
    if isinstance(exc, ModuleNotFoundError):
        return f"Its import fails: {said}{_place(exc, module)}.", f"Install what {module} needs into .venv."
    return f"Its import fails: {said[:300].rstrip('.')}{_place(exc, module)}.", f"Mend it: python -c 'import {module}'."


def _place(exc: BaseException, module: str) -> str:
    """Return the last line of the agent's own code before the error, " (file, line 3)", or ""."""
    package = module.partition(".")[0]
    own = [
        frame
        for frame in traceback.extract_tb(exc.__traceback__)
        if f"/{package}/" in frame.filename or frame.filename.endswith(f"/{package}.py")
    ]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _agents_in(module: ModuleType) -> str:
    names = sorted(name for name, value in vars(module).items() if isinstance(value, Agent))
    if names:
        return f"Write {' or '.join(f'{module.__name__}:{name}' for name in names)}."
    return (
        f"{_FORM}, where NAME is an orchestration.agents.runtime.Agent, a graph, or a function that makes one; there "
        f"is no Agent in {module.__name__}."
    )


def as_registered(found: Any, path: str, name: str = "") -> Any:
    """Return an agent as it is, under the name that its entry gives it; for a graph, or a function of one, its agent.

    The name is the entry's, else the compiled graph's, else that of the variable or the module.
    """
    if isinstance(found, Agent):
        return replace(found, name=name) if name else found
    is_maker = inspect.isroutine(found)
    if not is_maker and not _is_graph(found):
        return found
    module, _, attribute = path.partition(":")
    attribute = attribute or "graph"
    given = getattr(found, "name", "")
    own = given if isinstance(given, str) and given not in ("", "LangGraph") and not is_maker else ""
    last = module.rpartition(".")[2]
    plain = last if attribute.casefold() in _PLAIN_NAMES else attribute
    name = name or re.sub(r"[^A-Za-z0-9_.-]+", "-", own or plain).strip("-_.") or last
    return Agent(name=name, title=name.replace("_", " ").replace("-", " ").capitalize(), graph=f"{module}.{attribute}")


def _is_graph(found: Any) -> bool:
    """Return whether it is a graph, compiled or not; told by what it can do, so that nothing is imported for it."""
    if isinstance(found, type):
        return False
    return (hasattr(found, "add_node") and hasattr(found, "compile")) or (
        hasattr(found, "ainvoke") and hasattr(found, "get_subgraphs")
    )


def named_graph(agent: Agent) -> Any:
    """Import what the registration names as the agent's graph. Raises ImportError, and whatever its import raises."""
    module, _, attribute = agent.graph.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except AttributeError as exc:
        raise ImportError(f"The module {module} has nothing called {attribute}.") from exc


def with_input_schema(agent: Agent) -> Agent:
    """Return the agent with the form of its input, where that is the graph's own. Raises NoAgent."""
    if agent.input is not FromGraph:
        return agent
    from orchestration.agents import graphs  # LangGraph: only for agents that leave their input to it

    try:
        graph = graphs.made_once(graphs.graph_from(agent, named_graph(agent)))
        return replace(agent, input_schema=graphs.input_schema_of(graph))
    except Exception as exc:  # it is somebody's own code
        reason, advice = why(exc, agent.graph.rpartition(".")[0])
        raise NoAgent(f"Its graph {agent.graph} cannot be made. {reason}", advice) from exc


def as_agent(found: Any, path: str) -> Agent:
    """Return it if it is an agent whose parts are what they should be. Raises NoAgent."""
    if not isinstance(found, Agent):
        raise NoAgent(f"This is {_called(found)}, not an Agent.", _instead(found, path))
    if not (isinstance(found.input, type) and issubclass(found.input, BaseModel)):
        raise NoAgent(f"The input of {found.name!r} is {_called(found.input)}.", "Give a pydantic model's class.")
    if not isinstance(found.tools, tuple | list):
        raise NoAgent(f"The tools of {found.name!r} are {_called(found.tools)}.", "Give a tuple of Tools.")
    for tool in found.tools:
        if not isinstance(tool, Tool):
            raise NoAgent(
                f"A tool of {found.name!r} is {_called(tool)}.", "Give an orchestration.agents.runtime.Tool instead."
            )
        if not (isinstance(tool.arguments, type) and issubclass(tool.arguments, BaseModel)):
            raise NoAgent(
                f"The arguments of the tool {tool.name!r} are {_called(tool.arguments)}.",
                "Give a pydantic model's class.",
            )
    models = [("The input", found.input), *((f"The tool {tool.name!r}", tool.arguments) for tool in found.tools)]
    for what, model in models:
        _make_schema(what, model)
    if not isinstance(found.graph, str) or "." not in found.graph:
        raise NoAgent(
            f"The graph of {found.name!r} is {_called(found.graph)}.",
            'Give the path of the graph or of the function that returns it, such as graph="acme.graph.build".',
        )
    return found


def _make_schema(what: str, model: type[BaseModel]) -> None:
    try:
        model.model_json_schema()
    except Exception as exc:  # a schema may run the author's own code
        said = (str(exc).splitlines() or [""])[0].strip().rstrip(".")
        raise NoAgent(
            f"{what} has no JSON schema: {type(exc).__name__}: {said[:300]}.",
            f"Let every field of {model.__name__} have a type that JSON can hold.",
        ) from exc


def _called(value: Any) -> str:
    kind = value.__name__ if isinstance(value, type) else type(value).__name__
    if isinstance(value, type):
        return f"the class {kind}"
    if kind == "function":
        return f"the function {value.__name__}"
    return f"{'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}"


def _instead(found: Any, path: str) -> str:
    module = path.partition(":")[0]
    if isinstance(found, type) and issubclass(found, Agent):
        return "Name an Agent, not its class."
    return _agents_in(sys.modules[module]) if module in sys.modules else f"{_FORM}."
