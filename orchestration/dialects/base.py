"""What a dialect is. It knows the form of an interrupt and of its answer, and nothing of runs, rows or engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from approvals.reading.requests import Settled


class Asked(Protocol):
    """An interrupt as LangGraph keeps it."""

    @property
    def id(self) -> str: ...

    @property
    def value(self) -> Any: ...


@dataclass(frozen=True)
class Place:
    """One thing that an interrupt asks people to decide. Its number is where it stands among the others."""

    kind: str  # action or outcome
    canonical: bytes
    digest: str
    summary: str
    agent_words: str  # untrusted
    arguments_schema: dict[str, Any]
    risk: str


class Dialect(Protocol):
    """One form of asking. Every method is pure: it is called again on every retry, on any worker."""

    name: str

    def speaks(self, value: Any) -> bool:
        """Return whether an interrupt's value has this form. Never raises, whatever the value is."""

    def proposals_of(self, interrupt: Asked) -> list[Place]:
        """Return what the interrupt asks, at least one place, in the same order each time."""

    def answer(self, places: Sequence[Settled]) -> Any:
        """Return what the graph is resumed with. `places`: all of the interrupt's, settled, in their order."""
