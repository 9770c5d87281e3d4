"""A stand-in for a language model: it follows rules, works offline and says so in everything it writes.

It reads what a model would read (the case, tool results, reviewers' comments) and answers from the messages alone,
so that the same history gives the same answer, also after a crash. It knows the support agent's tools only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCall
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable

NOTE = "(Written by rules; no language model was used.)"
_SHARE = re.compile(r"^Refund share: (\d{1,3}) %$", re.MULTILINE)
_CASE = re.compile(r"```json\n(.*?)\n```", re.DOTALL)
_CENT = Decimal("0.01")


class OfflineModel(BaseChatModel):
    """See the module."""

    @property
    def _llm_type(self) -> str:
        return "offline"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, Any]:
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = _answer(messages)
        answer.usage_metadata = UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)
        answer.response_metadata = {"model_name": "offline"}
        return ChatResult(generations=[ChatGeneration(message=answer)])


class _History:
    """The conversation so far, as the rules need it."""

    def __init__(self, messages: list[BaseMessage]) -> None:
        found = _CASE.search(str(messages[1].text)) if len(messages) > 1 else None
        if found is None:
            raise ValueError("The offline model only knows the support agent's cases. Set SIGNALBOX_MODEL.")
        self.case: dict[str, Any] = json.loads(found.group(1))
        self.turns = sum(isinstance(message, AIMessage) for message in messages)
        names = {
            call["id"]: call["name"]
            for message in messages
            if isinstance(message, AIMessage)
            for call in message.tool_calls
        }
        self.results: list[tuple[str, Any]] = [
            (names.get(message.tool_call_id, ""), json.loads(str(message.text)))
            for message in messages
            if isinstance(message, ToolMessage)
        ]

    def of(self, tool: str) -> list[Any]:
        return [result for name, result in self.results if name == tool]


def _answer(messages: list[BaseMessage]) -> AIMessage:
    history = _History(messages)
    order = history.case["order"]
    refunds = history.of("list_refunds")
    if not refunds:
        return _call(history, "I look up what was paid back before.", "list_refunds", {"order_id": order["id"]})
    ruling = _ruling(history.case["handbook"])
    if ruling is None and not history.of("SearchHandbook"):
        query = f"refund share {order.get('status', '')} {history.case['customer_message']}"[:400]
        return _call(
            history,
            "The passages do not settle the case; I search again.",
            "SearchHandbook",
            {"query": query},
        )
    ruling = ruling or _ruling([passage for found in history.of("SearchHandbook") for passage in _listed(found)])
    amount = _amount_due(order, refunds[0], ruling)
    proposals = history.of("issue_refund")
    if amount > 0 and (not proposals or _may_propose_again(proposals[-1])):
        return _propose_refund(history, order, ruling, _after_comments(amount, order, proposals))
    emails = history.of("send_email")
    if not emails or _may_propose_again(emails[-1]):
        return _propose_email(history, order, ruling, proposals[-1] if proposals else None, len(emails))
    return AIMessage(_closing(order, proposals, emails), id=_id(history))


def _ruling(passages: list[dict[str, Any]]) -> tuple[Decimal, dict[str, Any]] | None:
    """Return the share and the passage of the nearest current passage that rules on refunds."""
    for passage in passages:
        found = _SHARE.search(passage["text"])
        if found and passage["status"] == "current":
            return Decimal(found.group(1)), passage
    return None


def _listed(found: Any) -> list[dict[str, Any]]:
    return found if isinstance(found, list) else []


def _amount_due(order: dict[str, Any], earlier: Any, ruling: tuple[Decimal, Any] | None) -> Decimal:
    if ruling is None:
        return Decimal(0)
    paid = sum((Decimal(refund["amount"]) for refund in earlier.get("items", [])), Decimal(0))
    total = Decimal(order["amount"])
    due = (total * ruling[0] / 100).quantize(_CENT, ROUND_HALF_UP)
    return min(due, total - paid)


def _may_propose_again(result: Any) -> bool:
    """A rejection asks for something else, broken arguments for better ones; everything else is final."""
    return "invalid_arguments" in result or result.get("outcome") == "reject"


def _after_comments(amount: Decimal, order: dict[str, Any], proposals: list[Any]) -> Decimal:
    """Move the amount by what reviewers said: a percentage or an amount they name, else half each time."""
    total = Decimal(order["amount"])
    for result in proposals:
        comment = str(result.get("reviewer_comment", ""))
        percent = re.search(r"(\d{1,3})\s?(?:%|percent)", comment)
        money = re.search(r"\b(\d{1,6}\.\d{2})\b", comment)
        if percent:
            amount = (total * Decimal(percent.group(1)) / 100).quantize(_CENT, ROUND_HALF_UP)
        elif money:
            amount = Decimal(money.group(1))
        elif result.get("outcome") == "reject":
            amount = (amount / 2).quantize(_CENT, ROUND_HALF_UP)
    return max(_CENT, min(amount, total))


def _propose_refund(
    history: _History, order: dict[str, Any], ruling: tuple[Decimal, Any] | None, amount: Decimal
) -> AIMessage:
    assert ruling is not None
    share, passage = ruling
    words = (
        f"The customer writes about order {order['id']} over {order['amount']} {order['currency']}, which is "
        f"{order.get('status', 'of unknown status')}. The page “{passage['title']}”, section “{passage['heading']}” "
        f"(current since {passage['effective']}), grants {share} % in this case. {NOTE}"
    )
    arguments = {
        "order_id": order["id"],
        "amount": f"{amount:.2f}",
        "currency": order["currency"],
        "reason": f"{passage['title']}: {passage['heading']}"[:500],
    }
    return _call(history, words, "issue_refund", arguments)


def _propose_email(
    history: _History, order: dict[str, Any], ruling: tuple[Decimal, Any] | None, refund: Any, attempt: int
) -> AIMessage:
    outcome = refund.get("outcome") if refund else None
    if outcome == "done":
        paid = (refund.get("result") or {}).get("amount")
        told = f"We have paid back {paid} {order['currency']}." if paid else "We have paid you back."
        told += " It reaches your account within five working days, by the way you paid."
    elif outcome in ("expired", "withdrawn", "unknown"):
        told = "A colleague is looking at your case and will write to you again within two working days."
    else:
        told = "We have looked at your case with care. Our terms do not allow a refund here."
    greeting = f"Dear {order['customer']}," if attempt == 0 else f"Hello {order['customer']},"
    thanks = f"thank you for writing to us about order {order['id']}."
    body = f"{greeting}\n\n{thanks} {told}\n\nKind regards\nYour support team"
    arguments = {"to": order["email"], "subject": f"Your order {order['id']}", "body": body}
    return _call(history, f"The customer should know what was decided. {NOTE}", "send_email", arguments)


def _closing(order: dict[str, Any], proposals: list[Any], emails: list[Any]) -> str:
    refund = proposals[-1].get("outcome", "not proposed") if proposals else "not proposed"
    email = emails[-1].get("outcome", "not sent")
    return f"Order {order['id']}: refund {refund}, e-mail {email}. {NOTE}"


def _call(history: _History, words: str, tool: str, arguments: dict[str, Any]) -> AIMessage:
    call = ToolCall(name=tool, args=arguments, id=f"call-{history.turns + 1}", type="tool_call")
    return AIMessage(words, tool_calls=[call], id=_id(history))


def _id(history: _History) -> str:
    return f"offline-{history.turns + 1}"
