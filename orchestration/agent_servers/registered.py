"""Which LangGraph Agent Servers this installation asks, as its file names them. Pure but for that file.

One TOML file, `SIGNALBOX_AGENT_SERVERS`, or `agent_servers.toml` in the state folder. It is read again when it changes.
An entry that is wrong is left out and told; the others stay. `manage.py check_agent_servers` asks each server as well.

    [acme]
    url = "https://agents.acme.example"
    api_key_file = "/run/secrets/acme-langgraph"   # or api_key_variable = "ACME_LANGGRAPH_KEY"; left out: none is sent
    graphs = ["agent"]                             # left out: the threads of all
    every_seconds = 10
    on_silence = "Nobody was there to answer."     # the answer to a plain question that nobody answers; left out: none
    owners = ["ada"]                               # user names; see the rules' four eyes

The key itself never stands in the file, so that it may be shown and kept with others.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from console.environment import environment
from orchestration import webhook_gateway
from orchestration.agents.runtime import UNSAID
from orchestration.errors import AgentServerAway

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,29}")
_GRAPH: Final = re.compile(r"[^\x00-\x1f\x7f/\ud800-\udfff]{1,69}")  # with the server's name, an agent's name of 100


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: str
    api_key_file: str = ""
    api_key_variable: str = ""
    graphs: list[str] | None = None
    every_seconds: float = Field(10, ge=1, le=3600)
    on_silence: Any = UNSAID
    owners: list[Annotated[str, Field(min_length=1, max_length=150)]] = Field([], max_length=50)

    @field_validator("url")
    @classmethod
    def _can_be_called(cls, url: str) -> str:
        if refusal := webhook_gateway.refusal_of_server(url):
            raise ValueError(refusal)
        return url.rstrip("/")


@dataclass(frozen=True)
class AgentServer:
    """One server. `on_silence`: JSON, or UNSAID."""

    name: str
    url: str
    api_key_file: str = ""
    api_key_variable: str = ""
    graphs: frozenset[str] | None = None  # None: all
    every_seconds: float = 10
    on_silence: Any = field(default=UNSAID, compare=False)
    owners: tuple[str, ...] = ()  # user names

    def api_key(self) -> str | None:
        """Return the key, `None` where none is sent. Raises AgentServerAway when it cannot be read."""
        if self.api_key_variable:
            key = os.environ.get(self.api_key_variable, "")
            if not key:
                raise AgentServerAway(f"The variable {self.api_key_variable} holds no key for {self.name}.")
            return key
        if not self.api_key_file:
            return None
        try:
            key = Path(self.api_key_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            told = f"The file with the key for {self.name} cannot be read: {type(exc).__name__}."
            raise AgentServerAway(told) from exc
        if not key or not key.isascii() or not key.isprintable():
            raise AgentServerAway(f"The file with the key for {self.name} holds no key in one line.")
        return key

    def agent_of(self, graph: str) -> str:
        """Return the name under which rules and pages know the graph. No agent of our own can have it."""
        return f"{self.name}/{graph if _GRAPH.fullmatch(graph) else 'agent'}"

    def takes(self, graph: str) -> bool:
        """Return whether the graph's threads are asked about."""
        return self.graphs is None or graph in self.graphs


@dataclass(frozen=True)
class AgentServers:
    """What the file holds, and what is wrong in it, in sentences."""

    servers: Mapping[str, AgentServer]
    faults: tuple[str, ...] = ()


def path() -> Path:
    """Return where the servers are looked for."""
    return environment().agent_servers or environment().home / "agent_servers.toml"


def load() -> AgentServers:
    """Return the servers as the file has them now; none where there is no file."""
    where = path()
    try:
        stat = where.stat()
    except FileNotFoundError:
        told = f"{where.name}: there is no such file." if environment().agent_servers else ""
        return AgentServers({}, (told,) if told else ())
    except OSError as exc:
        return AgentServers({}, (f"{where.name}: {exc.strerror or exc}",))
    return _read(where, stat.st_mtime_ns, stat.st_size)


def server_named(name: str) -> AgentServer:
    """Return one server. Raises AgentServerAway where the file does not name it now."""
    found = load().servers.get(name)
    if found is None:
        raise AgentServerAway(f"No agent server {name} is registered now: put it back into {path().name}.")
    return found


@lru_cache(maxsize=4)
def _read(where: Path, _changed: int, _size: int) -> AgentServers:
    try:
        return parse(where.read_text(encoding="utf-8"), where.name)
    except (OSError, UnicodeDecodeError) as exc:
        return AgentServers({}, (f"{where.name}: cannot be read: {exc}",))


def parse(text: str, name: str = "agent_servers.toml") -> AgentServers:
    """Return the servers that the text names; what is wrong is left out and told."""
    try:
        whole = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        return AgentServers({}, (f"{name}: {exc}",))
    servers: dict[str, AgentServer] = {}
    faults: list[str] = []
    for one, values in whole.items():
        place = f"{name}: [{one}]"
        if not _NAME.fullmatch(one):
            faults.append(f"{place}: a name is 1 to 30 small letters, digits, - and _")
            continue
        if not isinstance(values, dict):
            faults.append(f"{place}: must be a table, with url = ")
            continue
        try:
            given = _Entry.model_validate(values)
        except ValidationError as exc:
            faults += [f"{place} {'.'.join(map(str, error['loc']))}: {_words(error)}" for error in exc.errors()]
            continue
        if given.api_key_file and given.api_key_variable:
            faults.append(f"{place}: give api_key_file or api_key_variable, not both")
            continue
        servers[one] = AgentServer(
            name=one,
            url=given.url,
            api_key_file=given.api_key_file,
            api_key_variable=given.api_key_variable,
            graphs=None if given.graphs is None else frozenset(given.graphs),
            every_seconds=given.every_seconds,
            on_silence=given.on_silence,
            owners=tuple(given.owners),
        )
    return AgentServers(servers, tuple(faults))


def _words(error: Any) -> str:  # Any: pydantic's own TypedDict
    return "is not known" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
