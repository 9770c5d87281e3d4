"""What a dialect is. It knows the form of an interrupt and of its answer, and nothing of runs, rows or engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from approvals.reading.for_runs import Settled
from orchestration.agents.runtime import UNSAID


class AskedInterrupt(Protocol):
    """An interrupt as LangGraph keeps it; `response_schema` too, where the graph gave one."""

    @property
    def id(self) -> str: ...

    @property
    def value(self) -> Any: ...


@dataclass(frozen=True)
class Place:
    """One thing that an interrupt asks people to decide. Its number is where it stands among the others."""

    kind: str  # action, outcome, question or go_on
    canonical: bytes
    digest: str
    summary: str
    agent_words: str  # untrusted
    arguments_schema: dict[str, Any]  # of a change; {} takes any object
    risk: str
    verdicts: tuple[str, ...] = ()  # those that the form can carry; empty: whatever the policy allows
    answer_schema: Mapping[str, Any] = field(default_factory=dict)  # of an answer; {} takes anything
    call_id: str = ""  # of the model's tool call, where the form names it
    is_tracked: bool = True  # what it comes to goes through the ledger


class Untellable(Exception):
    """The form has no true word for how it ended; the message says so in a sentence."""


class Dialect(Protocol):
    """One form of asking. Every method is pure: it is called again on every retry, on any worker."""

    name: str

    def speaks(self, value: Any) -> bool:
        """Return whether an interrupt's value has this form. Never raises, whatever the value is."""

    def proposals_of(self, interrupt: AskedInterrupt) -> list[Place]:
        """Return what the interrupt asks, at least one place, in the same order each time.

        Raises UnknownDialect for what has the form and cannot be asked.
        """

    def answer(self, interrupt: AskedInterrupt, places: Sequence[Settled], on_silence: Any = UNSAID) -> Any:
        """Return what the graph is resumed with, checked as the graph itself would check it.

        `places`: all of the interrupt's, settled, in their order. `on_silence`: what the agent's registration says for
        when nobody decided. Raises Untellable.
        """
