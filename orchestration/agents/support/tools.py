"""What the support agent can do: look up refunds, issue one, write to the customer."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, Field

from orchestration.agents.runtime import Tool, ToolFailed, World

Money = Annotated[str, Field(pattern=r"^\d{1,7}\.\d{2}$", description="A decimal with two places, as text.")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code.")]
OrderId = Annotated[str, Field(min_length=1, max_length=64, description="The order's number.")]


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ListRefunds(Arguments):
    order_id: OrderId


class IssueRefund(Arguments):
    order_id: OrderId
    amount: Money
    currency: Currency
    reason: str = Field(min_length=3, max_length=500, description="Why, for the books.")


class SendEmail(Arguments):
    to: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=200, description="The customer's address.")
    subject: str = Field(min_length=1, max_length=200, pattern=r"^[^\r\n]+$")
    body: str = Field(min_length=1, max_length=5000, description="Plain text.")


async def read_order(world: World, order_id: str) -> dict[str, Any]:
    """Return the order as the shop knows it. Raises ToolFailed when the shop has no such order."""
    return await _answer(world.http("shop").get(f"/orders/{quote(order_id, safe='')}"))


async def _list_refunds(arguments: ListRefunds, world: World, key: str) -> dict[str, Any]:
    return await _answer(world.http("shop").get("/refunds", params={"order_id": arguments.order_id}))


async def _issue_refund(arguments: IssueRefund, world: World, key: str) -> dict[str, Any]:
    return await _answer(
        world.http("shop").post("/refunds", json=arguments.model_dump(), headers={"Idempotency-Key": key})
    )


async def _send_email(arguments: SendEmail, world: World, key: str) -> dict[str, Any]:
    await world.send_mail(arguments.to, arguments.subject, arguments.body)
    return {"handed_to_mail_system": True}


async def _answer(request: Any) -> dict[str, Any]:
    """Return the shop's JSON. A refusal (4xx) is certain; a lost answer or a 5xx is not, and is raised as it came."""
    response: httpx.Response = await request
    if response.is_client_error:
        raise ToolFailed(f"The shop refused ({response.status_code}): {_sentence(response)}")
    response.raise_for_status()
    body: dict[str, Any] = response.json()
    return body


def _sentence(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return response.text[:300]
    return str(body.get("error") or body.get("detail") or body)[:300]


LIST_REFUNDS = Tool(
    name="list_refunds",
    title="List refunds",
    description="List the refunds that an order already had.",
    arguments=ListRefunds,
    render=lambda arguments: f"List the refunds of order {arguments.order_id}",
    call=_list_refunds,
    risk="low",
    needs_approval=False,
    is_idempotent=True,
)
ISSUE_REFUND = Tool(
    name="issue_refund",
    title="Issue a refund",
    description="Pay back money for an order. A person decides first; say in your message why it is right.",
    arguments=IssueRefund,
    render=lambda arguments: f"Refund {arguments.amount} {arguments.currency} to order {arguments.order_id}",
    call=_issue_refund,
    risk="high",
    is_idempotent=True,
    fixed=("order_id", "currency"),
)
SEND_EMAIL = Tool(
    name="send_email",
    title="Send an e-mail",
    description="Write to the customer. A person decides first.",
    arguments=SendEmail,
    render=lambda arguments: f"E-mail {arguments.to}: {arguments.subject}",
    call=_send_email,
    risk="medium",
    fixed=("to",),
)
