"""What a graph is given at run time, and how a tool is described. No Django, no Temporal, no LangGraph here.

A graph reaches the ledger, the datasets and the world only through `AgentContext`, so it also runs alone,
in a notebook, with any objects of these shapes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypedDict

import httpx
from pydantic import BaseModel, ConfigDict

Risk = Literal["low", "medium", "high"]


class _Unsaid:
    """What was not said, where None is something that can be said."""

    def __repr__(self) -> str:
        return "UNSAID"


UNSAID: Final = _Unsaid()
OUTCOME_TOOL: Final = "confirm_outcome"  # what a question whether an effect happened is asked as


class FromGraph(BaseModel):
    """An input whose form is that of the graph's own state; see `Agent.input_schema`."""

    model_config = ConfigDict(extra="allow")


class ToolFailed(Exception):
    """The tool said no, and nothing happened. The message is for the model and for people."""


class Outcome(TypedDict):
    """What became of an effect.

    done: `result` holds the tool's answer. failed: the tool said no. refused: the ledger said no, nobody's
    approval covers it. unknown: it may have happened; only a person can tell.
    """

    status: Literal["done", "failed", "refused", "unknown"]
    result: dict[str, Any] | None
    reason: str


class Effects(Protocol):
    """The effect ledger."""

    async def perform(self, approval_id: str, digest: str) -> Outcome:
        """Perform what was approved, at most once; a repetition returns the first outcome."""

    async def settle(self, approval_id: str, question_id: str) -> Outcome:
        """Take a person's answer (approval `question_id`) about the unknown effect of `approval_id`."""


class Passage(TypedDict):
    """One piece of a document, as the data plane published it."""

    document: str
    title: str
    heading: str
    text: str
    effective: str  # date, ISO 8601
    status: str  # current or superseded


class Passages(TypedDict):
    """What was found, and in which version of the dataset."""

    dataset: str
    version: int
    passages: list[Passage]


class Datasets(Protocol):
    """Published dataset versions, read only."""

    async def search(self, dataset: str, query: str, limit: int) -> Passages:
        """Return the nearest passages of the current version."""


class World(Protocol):
    """The outside, for tools."""

    def http(self, service: str) -> httpx.AsyncClient:
        """Return a client for a named service, e.g. `shop`. Raises ToolFailed when it is not configured."""

    async def send_mail(self, to: str, subject: str, body: str) -> None:
        """Hand one plain-text e-mail to the mail system, which takes no idempotency key."""


@dataclass(frozen=True)
class Tool:
    """One thing an agent can do. `call` gets validated arguments and, for idempotent tools, a key.

    `call` raises ToolFailed when it is certain that nothing happened; anything else it raises means that the
    outcome is not known.
    """

    name: str
    title: str
    description: str  # for the model
    arguments: type[BaseModel]
    render: Callable[[Any], str]  # the action in one sentence, for people
    call: Callable[[Any, World, str], Awaitable[dict[str, Any]]]
    risk: Risk = "high"
    needs_approval: bool = True
    is_idempotent: bool = False
    timeout_seconds: int = 30
    fixed: tuple[str, ...] = ()  # arguments that a reviewer's change may not touch; see `approvals.proposal.fixed`

    def sentence(self, arguments: Any) -> str:
        """Return the action in one sentence; where the tool's own words fail, its title."""
        with suppress(Exception):  # it is the author's code, and arguments may be of any shape
            return str(self.render(arguments))
        return self.title


@dataclass(frozen=True)
class AgentContext:
    """What a turn hands to the graph (LangGraph's runtime context)."""

    run_id: str
    effects: Effects
    datasets: Datasets
    world: World
    model: Any  # a langchain chat model; typed there, so that this module stays light


@dataclass(frozen=True)
class Limit:
    """How often, or for how many seconds, a turn may fail in the same way before the run fails for good."""

    attempts: int | None = None
    seconds: int | None = None

    def is_reached(self, times: int, seconds: float) -> bool:
        """Return whether so many failures, the first of them so long ago, are enough."""
        return (self.attempts is not None and times >= self.attempts) or (
            self.seconds is not None and seconds >= self.seconds
        )


@dataclass(frozen=True)
class ModelCalls:
    """How a model is called: an agent's own way of it."""

    seconds: float = 60  # one call may take
    retries: int = 2  # of a call that was not answered or was told to wait, by the provider's client
    per_minute: float | None = None  # calls of one worker process at most; None: any number


@dataclass(frozen=True)
class Agent:
    """A registered agent.

    `graph` names a graph, compiled or not, or a function that returns one: it may take the agent (`agent`) or a run's
    configuration (`config`), may be async, and may be an async context manager. With an input model and tools of our
    own, the web process lists agents and checks inputs without importing LangGraph; without an input model, the form
    of the input is the graph's. `on_silence` is what the graph is told where nobody decided in time: the answer to a
    plain question, the message of a tool call; nothing said, a question that nobody answers ends the run. `limits`
    goes by the kind of failure: the name of an
    exception's class or of one it is made from, `AttemptLost` for attempts that end without a word, "*" for every
    other; what no limit names is tried again for as long as the run is open. `secrets` are names of state keys, or of
    fields below them ("customer.iban"), whose values no page and no program gets to see. `owners` are user names: a
    rule whose four eyes name the owner lets none of them decide what the agent asks.
    """

    name: str
    title: str
    input: type[BaseModel] = FromGraph
    tools: tuple[Tool, ...] = ()
    graph: str = ""  # import path
    reads: tuple[str, ...] = ()  # datasets
    turn_seconds: int = 600
    steps_per_turn: int = 100  # of the graph, before the run fails as one that does not end
    tokens_per_run: int | None = None  # that its models may use, before the run fails; None: any number
    tokens_per_day: int | None = None  # that the models of all its runs may use from midnight to midnight, UTC
    model: str = ""  # any init_chat_model name, for the context's model; "" is the installation's
    model_calls: ModelCalls = ModelCalls()
    limits: Mapping[str, Limit] = field(default_factory=dict)
    run_title: str = ""  # what a run is about, of its input: "Order {order_id}: {message}"; "" shows the input's values
    secrets: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    on_silence: Any = UNSAID  # JSON
    input_schema: Mapping[str, Any] | None = None  # of the graph's state, where `input` is FromGraph; filled in at load

    def limit_of(self, kinds: Sequence[str]) -> Limit | None:
        """Return the limit for a failure; `kinds`: the names of its class and those it is made from, nearest first."""
        return next((self.limits[kind] for kind in (*kinds, "*") if kind in self.limits), None)

    def tool(self, name: str) -> Tool | None:
        return next((tool for tool in self.tools if tool.name == name), None)
