"""How agents ask, and how they are answered: one file for each form of interrupt. See `base`.

A new one is its own file and one entry in DIALECTS. What an interrupt asks, and what it gets, is said nowhere else.
"""

from __future__ import annotations

from orchestration.dialects.agent_inbox import AgentInbox
from orchestration.dialects.base import AskedInterrupt, Dialect
from orchestration.dialects.guard import Guard
from orchestration.dialects.langchain_batched import Batched
from orchestration.dialects.langchain_per_call import PerCall
from orchestration.dialects.own import Own
from orchestration.dialects.own_together import OwnTogether
from orchestration.dialects.raw import Raw
from orchestration.dialects.stops import Stops

#: the first that speaks an interrupt's form takes it, and the last one speaks them all
DIALECTS: tuple[Dialect, ...] = (Own(), OwnTogether(), Guard(), Batched(), PerCall(), AgentInbox(), Stops(), Raw())


def dialect_of(interrupt: AskedInterrupt) -> Dialect:
    """Return the dialect in which the interrupt asks."""
    return next(dialect for dialect in DIALECTS if dialect.speaks(interrupt.value))
