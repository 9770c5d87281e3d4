"""How agents ask, and how they are answered: one file for each form of interrupt. See `base`.

A new one is its own file and one entry in DIALECTS. What an interrupt asks, and what it gets, is said nowhere else.
"""

from __future__ import annotations

from orchestration.dialects.base import Asked, Dialect
from orchestration.dialects.own import Own
from orchestration.errors import UnknownDialect

DIALECTS: tuple[Dialect, ...] = (Own(),)  # the first that speaks an interrupt's form takes it


def dialect_of(interrupt: Asked) -> Dialect:
    """Return the dialect in which the interrupt asks. Raises UnknownDialect."""
    for dialect in DIALECTS:
        if dialect.speaks(interrupt.value):
            return dialect
    raise UnknownDialect(
        f"The agent asked in a form that Signalbox does not know ({_form_of(interrupt.value)}), so nobody could be "
        "asked. An agent asks through `ProposalNodes`, see orchestration.agents.proposals."
    )


def _form_of(value: object) -> str:
    if isinstance(value, dict):
        keys = ", ".join(sorted(repr(key) for key in value)[:10])
        return f"an object with {keys[:200]}" if keys else "an empty object"
    return f"a value of type {type(value).__name__}"
