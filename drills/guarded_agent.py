"""An agent as LangChain's documentation writes one, with a tool under the ledger; the drill's stack registers it.

LangChain's middleware asks, and the guarded tool runs under its approval. The order's number is the conversation.
"""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.runtime import get_runtime

from orchestration.agents.guarding import effect_key, guard
from orchestration.agents.runtime import AgentContext


class Clerk(BaseChatModel):
    """Asks for one refund of the order that the conversation names, and is content."""

    @property
    def _llm_type(self) -> str:
        return "clerk"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        if any(isinstance(message, ToolMessage) for message in messages):
            return ChatResult(generations=[ChatGeneration(message=AIMessage("That was all."))])
        arguments = {"order_id": messages[0].text, "amount": "20.00", "currency": "EUR", "reason": "Late"}
        call = {"name": "issue_refund", "args": arguments, "id": f"refund-{messages[0].text}"}
        return ChatResult(generations=[ChatGeneration(message=AIMessage("A share is due.", tool_calls=[call]))])

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


@tool
async def issue_refund(order_id: str, amount: str, currency: str, reason: str) -> str:
    """Pay back money for an order."""
    body = {"order_id": order_id, "amount": amount, "currency": currency, "reason": reason}
    shop = get_runtime(AgentContext).context.world.http("shop")
    answer = await shop.post("/refunds", json=body, headers={"Idempotency-Key": effect_key()})
    answer.raise_for_status()
    return "paid"


gates: Any = {"issue_refund": True}
graph = create_agent(Clerk(), [guard(issue_refund, is_idempotent=True)], middleware=[HumanInTheLoopMiddleware(gates)])
