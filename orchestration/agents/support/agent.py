"""The example agent: reads an order and the handbook, proposes a refund and an e-mail to the customer."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from orchestration.agents.runtime import Agent
from orchestration.agents.support.tools import ISSUE_REFUND, LIST_REFUNDS, SEND_EMAIL


class SupportInput(BaseModel):
    """A customer's message about one order."""

    model_config = ConfigDict(extra="forbid", strict=True)

    order_id: str = Field(min_length=1, max_length=64, title="Order", description="The order's number in the shop.")
    message: str = Field(
        min_length=1, max_length=4000, title="Message", description="What the customer wrote, as it came."
    )


AGENT = Agent(
    name="support",
    title="Customer support",
    input=SupportInput,
    tools=(LIST_REFUNDS, ISSUE_REFUND, SEND_EMAIL),
    graph="orchestration.agents.support.graph.build",
    reads=("handbook",),
    run_title="Order {order_id}: {message}",
)
