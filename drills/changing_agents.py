"""Agents whose code another release changes while their runs wait; the drill's stack registers them, nobody else does.

They run inside the stack, so unlike the rest of this package they are made of the product's own parts.
"""

from __future__ import annotations

from pydantic import BaseModel

from console.environment import environment
from orchestration.agents.runtime import Agent
from orchestration.agents.support.tools import ISSUE_REFUND


class ChangingInput(BaseModel):
    order_id: str


def _agent(name: str) -> Agent:
    return Agent(
        name=name,
        title=name,
        input=ChangingInput,
        tools=(ISSUE_REFUND,),
        graph="drills.changing_graph.build",
    )


def is_released() -> bool:
    """Return whether the drill has released the other code; a process asks once, when it builds its graphs."""
    return (environment().home / "released").exists()


GATE_RENAMED = _agent("gate-renamed")
GATE_REMOVED = _agent("gate-removed")
ACT_REMOVED = _agent("act-removed")
ACT_RENAMED = _agent("act-renamed")
NODE_ADDED = _agent("node-added")
KEY_GONE = _agent("key-gone")
