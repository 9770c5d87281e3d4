"""An agent that gives another answer each time it is asked; the drill's stack registers it, nobody else does.

It runs inside the stack, so unlike the rest of this package it is made of the product's own parts.
"""

from __future__ import annotations

from pydantic import BaseModel

from orchestration.agents.runtime import Agent
from orchestration.agents.support.tools import ISSUE_REFUND


class FickleInput(BaseModel):
    order_id: str


AGENT = Agent(
    name="fickle",
    title="Fickle",
    input=FickleInput,
    tools=(ISSUE_REFUND,),
    graph="drills.fickle_graph.build",
)
