"""A double for each port of `console.ports`, so that an app is tested without those it asks; mypy holds them to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, TypeVar

from django.contrib.auth.models import User

from console import ports
from console.contracts import Contracts
from console.ports import (
    AgentFault,
    AgentPlane,
    CheckedArguments,
    Contractor,
    DataPlane,
    DatasetReaders,
    DataTrouble,
    Executed,
    Finder,
    Found,
    HealthCheck,
    PartHealth,
    Port,
    Read,
    RecordPort,
    RefreshStand,
    Requests,
    RunHistories,
    Runs,
    SharedPort,
    ShownFinding,
    ShownServer,
    Standstill,
    Stranded,
    ToolFacts,
    Use,
)

P = TypeVar("P")


@contextmanager
def answering(port: Port[P], double: P) -> Iterator[None]:
    """Let a double answer instead of what is plugged in, for one test."""
    before, port.answers = port.answers, double
    try:
        yield
    finally:
        port.answers = before


@contextmanager
def all_answering(port: SharedPort[P], doubles: dict[str, P]) -> Iterator[None]:
    """Let these doubles answer instead of all that is plugged in, for one test."""
    before, port.answers = port.answers, doubles
    try:
        yield
    finally:
        port.answers = before


@dataclass
class FakeAgentPlane:
    """Runs, tools and effects as a test sets them; `asked` keeps what was to be done."""

    effects: dict[str, Executed] = field(default_factory=dict)
    before: dict[str, Executed] = field(default_factory=dict)  # done before the run was set back
    runs: set[str] = field(default_factory=set)
    ends: dict[str, str] = field(default_factory=dict)  # by run id
    tools: dict[tuple[str, str], ToolFacts] = field(default_factory=dict)  # by agent and tool
    standstills: dict[str, Standstill] = field(default_factory=dict)
    refused: str = ""  # what is wrong with any destination
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def effects_of(self, approval_ids: Sequence[str]) -> dict[str, Executed]:
        return {pk: self.effects[pk] for pk in approval_ids if pk in self.effects}

    def runs_there(self, run_ids: Sequence[str]) -> set[str]:
        return self.runs & set(run_ids)

    def why_ended(self, run_id: str) -> str:
        return self.ends.get(run_id, "")

    def check_arguments(self, agent: str, tool: str, arguments: dict[str, Any]) -> CheckedArguments:
        if (agent, tool) not in self.tools:
            return CheckedArguments(arguments, "", [{"path": "", "message": f"The tool {tool} is not registered now."}])
        return CheckedArguments(arguments, self.tools[agent, tool].summary, [])

    def tool_facts(self, agent: str, tool: str, arguments: dict[str, Any]) -> tuple[ToolFacts | None, str]:
        return self.tools.get((agent, tool)), ""

    def standstill_of(self, approval_ids: Sequence[str]) -> dict[str, Standstill]:
        return {pk: self.standstills[pk] for pk in approval_ids if pk in self.standstills}

    def redeliver(self, *, approval_id: str, by: User) -> None:
        self.asked.append(("redeliver", approval_id, by.username))

    def settle_unknown(
        self, *, approval_id: str, by: User, happened: bool, reason: str, signed_in_at: datetime | None
    ) -> None:
        self.asked.append(("settle_unknown", approval_id, by.username, happened, reason))

    def done_before(self, run_id: str, tool: str) -> dict[str, Executed]:
        return self.before

    def thinking_again(self, run_id: str) -> str:
        return ""

    def webhook_refusal(self, url: str) -> str:
        return self.refused

    def signal_refusal(self, account: str, temporal: Mapping[str, str]) -> str:
        return self.refused

    def note_first_use(self, account: str, temporal: Mapping[str, str], approval_id: str) -> None:
        self.asked.append(("note_first_use", account, dict(temporal), approval_id))


@dataclass
class FakeRunHistories:
    """The same history for every run; `fault` is raised instead where it is set."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    fault: Exception | None = None

    def history_of_row(self, run_id: str) -> dict[str, Any]:
        return {"id": run_id}

    def history_in_temporal(self, run_id: str) -> list[dict[str, Any]]:
        return self._rows()

    def history_in_checkpoints(self, run_id: str) -> list[dict[str, Any]]:
        return self._rows()

    def _rows(self) -> list[dict[str, Any]]:
        if self.fault is not None:
            raise self.fault
        return self.rows


@dataclass
class FakeDataPlane:
    """Datasets of which the named versions are current and confirmed."""

    current: dict[str, int] = field(default_factory=dict)
    troubles: dict[str, DataTrouble] = field(default_factory=dict)

    def told(self, reads: Sequence[Mapping[str, Any]]) -> list[Read]:
        return [self._read(read["dataset"], read["version"]) for read in reads]

    def told_of_all(self, lists: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[Read]]:
        return [self.told(reads) for reads in lists]

    def troubles_of(self, datasets: Sequence[str]) -> dict[str, DataTrouble]:
        return {name: one for name, one in self.troubles.items() if name in datasets}

    def refresh_for_run(self, dataset: str, by: User) -> str:
        return f"rfr_{dataset}"

    def refreshes_told(self, refresh_ids: Sequence[str]) -> list[dict[str, Any]]:
        return [{"id": one, "status": "scheduled"} for one in refresh_ids]

    def refresh_stands(self, refresh_ids: Sequence[str]) -> list[RefreshStand]:
        return []

    def _read(self, dataset: str, version: int) -> Read:
        is_current = self.current.get(dataset) == version
        note = "still current" if is_current else "no version of it is current"
        return {"dataset": dataset, "version": version, "is_current": is_current, "is_fresh": is_current, "note": note}


@dataclass
class FakeDatasetReaders:
    """Agents by the dataset that they read."""

    readers: dict[str, list[str]] = field(default_factory=dict)

    def agents_reading(self, dataset: str) -> list[str]:
        return self.readers.get(dataset, [])

    def uses_of(self, dataset: str, version: int, limit: int) -> list[Use]:
        return []


@dataclass
class FakeRecord:
    """A record in memory."""

    entries: list[dict[str, Any]] = field(default_factory=list)

    def record(self, *, actor: str, kind: str, subject: str, body: dict[str, Any]) -> None:
        self.entries.append({"actor": actor, "kind": kind, "subject": subject, "body": body})


@dataclass
class FakeRequests:
    """The same counts for everybody."""

    pending: int = 0
    stopped: int = 0
    stranded: list[Stranded] = field(default_factory=list)

    def pending_count(self, user: User) -> int:
        return self.pending

    def stopped_count(self, user: User) -> int:
        return self.stopped

    def stranded_now(self) -> list[Stranded]:
        return self.stranded


@dataclass
class FakeRuns:
    """An installation as a test sets it."""

    stuck: int = 0
    waiting: int = 0
    faults: list[AgentFault] = field(default_factory=list)
    said: list[ShownFinding] = field(default_factory=list)
    servers: list[ShownServer] = field(default_factory=list)

    def stuck_count(self) -> int:
        return self.stuck

    def waiting_signals(self) -> int:
        return self.waiting

    def agent_faults(self) -> list[AgentFault]:
        return self.faults

    def agent_servers(self) -> list[ShownServer]:
        return self.servers

    def findings(self) -> list[ShownFinding]:
        return self.said


@dataclass
class FakeFinder:
    """Finds the same for everybody; `asked` keeps for what."""

    items: list[Found] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def found(self, user: User, words: str) -> list[Found]:
        self.asked.append((user.username, words))
        return self.items


@dataclass(frozen=True)
class FakeHealthCheck:
    """A part that is as a test sets it."""

    ok: bool = True
    detail: str = "fine"

    def __call__(self) -> PartHealth:
        return {"ok": self.ok, "detail": self.detail, "address": "here", "last_seen_at": None}


@dataclass
class FakeContractor:
    """An app that keeps these boundaries."""

    kept: Contracts = field(default_factory=lambda: Contracts((), ()))

    def contracts(self) -> Contracts:
        return self.kept


@dataclass
class Doubles:
    """A double for each port, under the port's name; the types say that each fits."""

    agent_plane: AgentPlane = field(default_factory=FakeAgentPlane)
    run_histories: RunHistories = field(default_factory=FakeRunHistories)
    data_plane: DataPlane = field(default_factory=FakeDataPlane)
    dataset_readers: DatasetReaders = field(default_factory=FakeDatasetReaders)
    record: RecordPort = field(default_factory=FakeRecord)
    requests: Requests = field(default_factory=FakeRequests)
    runs: Runs = field(default_factory=FakeRuns)
    palette: Finder = field(default_factory=FakeFinder)
    health_checks: HealthCheck = field(default_factory=FakeHealthCheck)
    contracts: Contractor = field(default_factory=FakeContractor)


@contextmanager
def nobody_but(doubles: Doubles) -> Iterator[None]:
    """Let the doubles answer at every port, and no app."""
    with ExitStack() as stack:
        for name in (one.name for one in fields(doubles)):
            port, double = getattr(ports, name), getattr(doubles, name)
            shared = isinstance(port, SharedPort)
            stack.enter_context(all_answering(port, {"double": double}) if shared else answering(port, double))
        yield
