"""What the apps ask of each other where no import may lead, each question with its types.

Approvals know no engine, the data plane knows no agent and the frame knows no app. What they have to ask all the same
stands here as a Protocol; the app that knows the answers plugs them in when Django is ready (`AppConfig.ready`, from
its `port.py`), and whoever asks does so through the port: `ports.agent_plane().effects_of(...)`. Nothing else is looked
up by name while the program runs, apart from what settings name to Django and the agents that the operator names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypedDict, TypeVar

if TYPE_CHECKING:  # this is loaded before Django's models are, and by agents, which have none
    from django.contrib.auth.models import User

    from console.contracts import Contracts

P = TypeVar("P")


class NobodyAnswers(RuntimeError):
    """A port was asked before an app plugged anything in, or none of the installed apps does."""


class RefreshNotStarted(Exception):
    """A dataset's refresh cannot be started for a run; the message is a sentence."""


class PluggedInTwice(RuntimeError):
    """Two answer the same port."""


class Port(Generic[P]):
    """A question that exactly one app answers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answers: P | None = None

    def plug_in(self, answers: P) -> None:
        """Let these answer from now on; the same ones again change nothing. Raises PluggedInTwice."""
        if self.answers is not None and self.answers is not answers:
            raise PluggedInTwice(f"The port {self.name} has {self.answers} already, so {answers} cannot answer too.")
        self.answers = answers

    def __call__(self) -> P:
        """Return who answers. Raises NobodyAnswers."""
        if self.answers is None:
            raise NobodyAnswers(
                f"Nothing is plugged into the port {self.name}. The app that answers does it in AppConfig.ready(): "
                "is it in INSTALLED_APPS, and has django.setup() run?"
            )
        return self.answers


class SharedPort(Generic[P]):
    """A question that any number of apps answer, each under a name of its own; asked in the order of the apps."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answers: dict[str, P] = {}

    def plug_in(self, by: str, answers: P) -> None:
        """Let these answer as well; the same ones again change nothing. Raises PluggedInTwice."""
        if self.answers.setdefault(by, answers) is not answers:
            raise PluggedInTwice(f"The port {self.name} has another answer under the name {by!r} already.")

    def __call__(self) -> dict[str, P]:
        """Return who answers, by name. Raises NobodyAnswers."""
        if not self.answers:
            raise NobodyAnswers(f"Nothing is plugged into the port {self.name}: has django.setup() run?")
        return self.answers


# What goes through the ports


class Executed(TypedDict):
    """What was done under one approval, as the ledger keeps it, or as the program says that asked."""

    status: str
    tool: str
    digest: str  # of the bytes that were executed
    arguments: dict[str, Any] | None  # as the tool got them; None in rows from before they were kept
    result: Any  # the tool's JSON, untrusted
    error: str  # untrusted
    attempts: int
    started_at: datetime | None  # None: nobody here saw it begin
    finished_at: datetime | None
    reported_by: str | None  # the program whose word this is; None: the ledger has seen it


@dataclass(frozen=True)
class ShownServer:
    """An agent server whose threads wait for people here, as a relay found it last."""

    name: str
    address: str
    fault: str  # in a sentence, "" while it answers
    asked_at: datetime | None  # `None`: not asked yet
    since: datetime | None  # the fault
    threads: int  # that waited there
    troubles: tuple[str, ...] = ()  # why some of them are not asked about, or not told: the first ones, in sentences
    troubled: int = 0  # how many there are


@dataclass(frozen=True)
class Standstill:
    """Why a decision has not taken effect. `sentence` is ours, `words` are somebody else's and untrusted."""

    #: undelivered, not_taken, run_ended, code_changed, checkpoints_gone, turn_fails, passed_over, slow, failed,
    #: refused, unknown, not_fetched, not_reported, not_known
    cause: str
    sentence: str
    since: datetime
    words: str = ""  # an engine's, a tool's or the ledger's
    may_deliver: bool = False  # delivering it once more can help and cannot hurt
    may_settle: bool = False  # a person can say here whether the effect happened
    question_id: str = ""  # the open approval that asks whether the effect happened
    is_final: bool = False  # nothing more will come by itself


@dataclass(frozen=True)
class CheckedArguments:
    """What the tool's own model says of arguments: them as it reads them, the action in a sentence, or errors."""

    arguments: dict[str, Any]
    summary: str
    errors: list[dict[str, str]]  # [{"path", "message"}]


@dataclass(frozen=True)
class ToolFacts:
    """What the agent plane knows of a tool: how it reads and tells these arguments."""

    risk: str
    arguments: dict[str, Any]
    arguments_schema: dict[str, Any]
    summary: str
    owners: tuple[str, ...] = ()  # of the agent, by user name


class Read(TypedDict):
    """One dataset version that was read, and what is known of it now."""

    dataset: str
    version: int
    is_current: bool
    is_fresh: bool  # current, and confirmed in time
    note: str  # a sentence without its full stop; holds a refresh's own words, which are untrusted


@dataclass(frozen=True)
class Stranded:
    """A pending request that too few people can decide now."""

    approval_id: str
    summary: str
    able: int  # different people who could still decide it
    missing: int  # how many more are needed
    sentence: str  # what is wrong and what to do


@dataclass(frozen=True)
class AgentFault:
    """An entry of SIGNALBOX_AGENTS that leads to no agent."""

    entry: str  # as it was written
    reason: str  # what is wrong, a sentence
    advice: str  # what to write or do instead, a sentence


class ShownFinding(TypedDict):
    """What people should know of the whole installation."""

    sentence: str
    since: str  # RFC 3339


class Found(TypedDict):
    """One line of the command palette."""

    title: str
    hint: str
    icon: str
    url: str


class PartHealth(TypedDict):
    """How one part of the installation is."""

    ok: bool
    detail: str
    address: str | None
    last_seen_at: str | None  # RFC 3339


# The questions, each named by who answers it


class AgentPlane(Protocol):
    """What approvals ask about agents' runs, tools and effects, and have done there."""

    def effects_of(self, approval_ids: Sequence[str]) -> dict[str, Executed]:
        """Return what was executed under each approval; those without an effect are left out."""

    def done_before(self, run_id: str, tool: str) -> dict[str, Executed]:
        """Return what a run had done with a tool before it was set back, by approval, oldest first.

        Without what failed, and without what a request of since then counts for. One query.
        """

    def runs_there(self, run_ids: Sequence[str]) -> set[str]:
        """Return which of the ids are runs, so that only those are linked to."""

    def thinking_again(self, run_id: str) -> str:
        """Return in a sentence who wants the run to think again on newer data, or what came of it; "" for nobody."""

    def why_ended(self, run_id: str) -> str:
        """Return in a sentence why a run ended without a result, "" while it is open."""

    def check_arguments(self, agent: str, tool: str, arguments: dict[str, Any]) -> CheckedArguments:
        """Check arguments as the registered tool's own model and renderer see them."""

    def tool_facts(self, agent: str, tool: str, arguments: dict[str, Any]) -> tuple[ToolFacts | None, str]:
        """Return what a registered tool makes of arguments, or what is wrong with them; None for an unknown tool."""

    def standstill_of(self, approval_ids: Sequence[str]) -> dict[str, Standstill]:
        """Return why each of these late decisions stands still; those of which nothing is known are left out."""

    def redeliver(self, *, approval_id: str, by: User) -> None:
        """Have the answer sent again. Raises NoSuchApproval, NotTheirs, NothingToRedrive."""

    def settle_unknown(
        self, *, approval_id: str, by: User, happened: bool, reason: str, signed_in_at: datetime | None
    ) -> None:
        """Return whether an effect happened. Raises NoSuchApproval, NotTheirs, InvalidChange, NothingToRedrive."""

    def webhook_refusal(self, url: str) -> str:
        """Return why a webhook's address cannot be used, "" when its form is right; nothing is looked up."""

    def signal_refusal(self, account: str, temporal: Mapping[str, str]) -> str:
        """Return why the account may not have this workflow signalled, "" when it may."""

    def note_first_use(self, account: str, temporal: Mapping[str, str], approval_id: str) -> None:
        """Keep what a program has signalled for the first time, for an admin to confirm. Part of a transaction."""


class RunHistories(Protocol):
    """What evidence asks the engines themselves about one run, as JSON. Raises whatever keeps one from answering."""

    def history_of_row(self, run_id: str) -> dict[str, Any]:
        """Return the run's row."""

    def history_in_temporal(self, run_id: str) -> list[dict[str, Any]]:
        """Return Temporal's histories of the run, oldest first."""

    def history_in_checkpoints(self, run_id: str) -> list[dict[str, Any]]:
        """Return every checkpoint of the run with its values, newest first."""


@dataclass(frozen=True)
class RefreshStand:
    """How a refresh is now. `fault` is a sentence in somebody else's words, "" unless it failed or was cancelled."""

    id: str
    dataset: str
    is_open: bool
    fault: str


@dataclass(frozen=True)
class DataTrouble:
    """Why the newest refresh of a dataset does not go on. `sentence` may quote others and is untrusted."""

    kind: str  # flow_late, flow_crashed, flow_unheard or slot_held
    sentence: str
    since: datetime
    flow_run_id: str  # of the run where something can be done; "" for none


class DataPlane(Protocol):
    """What the other planes ask about the data that an agent has read."""

    def told(self, reads: Sequence[Mapping[str, Any]]) -> list[Read]:
        """Return what is known now of `[{"dataset", "version"}]`."""

    def told_of_all(self, lists: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[Read]]:
        """Do the same for several lists at once."""

    def troubles_of(self, datasets: Sequence[str]) -> dict[str, DataTrouble]:
        """Return what keeps the newest refresh of each of these from going on; no engine is asked. Two queries."""

    def refresh_for_run(self, dataset: str, by: User) -> str:
        """Ask for a refresh of what a run has read, or join the open one; return its id.

        Raises RefreshNotStarted, with a sentence, where the person may not, or it cannot be started.
        """

    def refreshes_told(self, refresh_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return these refreshes in their public shape, oldest first; those that are not known are left out."""

    def refresh_stands(self, refresh_ids: Sequence[str]) -> list[RefreshStand]:
        """Return how these refreshes are, oldest first; those that are not known are left out."""


class UsedRequest(TypedDict):
    """One request that a run which read a version has opened."""

    id: str
    title: str
    status: str
    url: str


class Use(TypedDict):
    """One run that read a version, and its requests."""

    run_id: str
    agent: str
    status: str
    is_open: bool
    url: str
    requests: list[UsedRequest]


class DatasetReaders(Protocol):
    """What the data plane, which knows no agent, asks about who reads a dataset."""

    def agents_reading(self, dataset: str) -> list[str]:
        """Return the names of the registered agents that read the dataset."""

    def uses_of(self, dataset: str, version: int, limit: int) -> list[Use]:
        """Return the newest runs that read this version of the dataset, at most `limit`. Two queries."""


class RecordPort(Protocol):
    """The record, in which the frame notes sign-ins."""

    def record(self, *, actor: str, kind: str, subject: str, body: dict[str, Any]) -> None:
        """Append one entry. Call it last in a transaction."""


class Requests(Protocol):
    """What the frame shows of requests on every page, and on the System page."""

    def pending_count(self, user: User) -> int:
        """Return how many requests wait for the user, at most COUNT_CAP."""

    def stopped_count(self, user: User) -> int:
        """Return how many of the user's own decisions did not take effect, at most COUNT_CAP."""

    def stranded_now(self) -> list[Stranded]:
        """Return every pending request that too few people can decide."""


class Runs(Protocol):
    """What the frame shows of runs and agents, on every page and on the System page."""

    def stuck_count(self) -> int:
        """Return how many runs are stuck, at most COUNT_CAP."""

    def waiting_signals(self) -> int:
        """Return how many pairs of account and signal wait for an admin."""

    def agent_faults(self) -> list[AgentFault]:
        """Return what stands in SIGNALBOX_AGENTS and cannot be used."""

    def agent_servers(self) -> list[ShownServer]:
        """Return the agent servers that are asked which of their threads wait, and how each is."""

    def findings(self) -> list[ShownFinding]:
        """Return what people should know of the whole installation, oldest first."""


class Finder(Protocol):
    """What one app offers in the command palette."""

    def found(self, user: User, words: str) -> list[Found]:
        """Return what fits the words, of what the user may see."""


#: how one part is; whatever it raises is told as its fault
HealthCheck = Callable[[], PartHealth]


class Contractor(Protocol):
    """What one app puts on the System page about its boundaries."""

    def contracts(self) -> Contracts:
        """Return the boundaries that the app keeps and the steps of its layers."""


agent_plane: Final = Port[AgentPlane]("agent_plane")
run_histories: Final = Port[RunHistories]("run_histories")
data_plane: Final = Port[DataPlane]("data_plane")
dataset_readers: Final = Port[DatasetReaders]("dataset_readers")
record: Final = Port[RecordPort]("record")
requests: Final = Port[Requests]("requests")
runs: Final = Port[Runs]("runs")
palette: Final = SharedPort[Finder]("palette")
health_checks: Final = SharedPort[HealthCheck]("health_checks")
contracts: Final = SharedPort[Contractor]("contracts")
