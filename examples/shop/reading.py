"""Reads what callers send. Everything refused here is a 422 whose sentence names the field.

Money travels as a decimal string with two places ("42.50") and is kept as whole cents, so no
float ever touches it: JSON numbers are read as Decimal, from the very digits that were sent.
"""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypedDict

from examples.shop.errors import Refusal

# A parsed JSON object: the values are whatever the caller sent, checked field by field below.
Fields = dict[str, Any]

STATUSES = ("placed", "in transit", "delivered", "returned", "lost", "cancelled")


class NewOrder(TypedDict):
    customer: str
    email: str
    amount_cents: int
    currency: str  # ISO 4217, e.g. "EUR"
    country: str | None  # ISO 3166, e.g. "DE"
    status: str  # one of STATUSES
    placed_at: str  # ISO 8601, UTC
    delivered_at: str | None  # ISO 8601, UTC
    items: list[Fields]


class NewRefund(TypedDict):
    order_id: str
    amount_cents: int
    currency: str
    reason: str
    idempotency_key: str


class Switches(TypedDict):
    delay_before_seconds: float
    delay_after_seconds: float
    lose_answer: int  # requests
    fail: int  # requests


def json_object(body: bytes) -> Fields:
    try:
        value = json.loads(body, parse_float=Decimal)
        # Half of a surrogate pair is fine for JSON, but nothing that SQLite could keep.
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except (ValueError, RecursionError) as exc:
        raise Refusal(400, "The body is not JSON.") from exc
    if not isinstance(value, dict):
        raise Refusal(422, "The body must be a JSON object.")
    return value


def order_id_if_any(body: bytes) -> str | None:
    """The order a refund request names, as far as that can be read; for the count of attempts."""
    try:
        order_id = json_object(body).get("order_id")
    except Refusal:
        return None
    return order_id if isinstance(order_id, str) else None


def order(fields: Fields) -> NewOrder:
    customer = _text(fields, "customer", limit=200)
    status = fields.get("status", "placed")
    if status not in STATUSES:
        raise Refusal(422, f"status must be one of: {', '.join(STATUSES)}.")
    items = fields.get("items") or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Refusal(422, "items must be a list of objects.")
    return {
        "customer": customer,
        "email": _text(fields, "email", limit=200) if fields.get("email") else address_for(customer),
        "amount_cents": _cents(fields, "amount"),
        "currency": _code(fields, "currency", length=3),
        "country": _code(fields, "country", length=2) if fields.get("country") else None,
        "status": status,
        "placed_at": _instant(fields, "placed_at") or now(),
        "delivered_at": _instant(fields, "delivered_at"),
        "items": items,
    }


def refund(fields: Fields, idempotency_key: str) -> NewRefund:
    cents = _cents(fields, "amount")
    if cents == 0:
        raise Refusal(422, "amount must be more than 0.00.")
    return {
        "order_id": _text(fields, "order_id", limit=40),
        "amount_cents": cents,
        "currency": _code(fields, "currency", length=3),
        "reason": _text(fields, "reason", limit=2000),
        "idempotency_key": idempotency_key,
    }


def switches(fields: Fields) -> Switches:
    unknown = sorted(fields.keys() - Switches.__annotations__.keys())
    if unknown:
        raise Refusal(422, f"{unknown[0]} is not a switch; there are {', '.join(Switches.__annotations__)}.")
    return {
        "delay_before_seconds": _number(fields, "delay_before_seconds", limit=600),
        "delay_after_seconds": _number(fields, "delay_after_seconds", limit=600),
        "lose_answer": int(_number(fields, "lose_answer", limit=1_000_000)),
        "fail": int(_number(fields, "fail", limit=1_000_000)),
    }


def money(cents: int) -> str:
    """Write 4250 as "42.50"."""
    return f"{cents // 100}.{cents % 100:02d}"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def address_for(customer: str) -> str:
    """Invent an address for a customer who gave none: an agent always has someone to write to."""
    plain = unicodedata.normalize("NFKD", customer).encode("ascii", "ignore").decode().lower()
    return (re.sub(r"[^a-z0-9]+", ".", plain).strip(".") or "customer") + "@example.com"


def _text(fields: Fields, name: str, *, limit: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise Refusal(422, f"{name} is required, as text.")
    if len(value) > limit:
        raise Refusal(422, f"{name} may have at most {limit} characters.")
    return value.strip()


def _code(fields: Fields, name: str, *, length: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not re.fullmatch(rf"[A-Z]{{{length}}}", value):
        raise Refusal(422, f"{name} must be {length} capital letters.")
    return value


def _cents(fields: Fields, name: str) -> int:
    value = fields.get(name)
    digits = str(value) if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,2})?", digits):
        raise Refusal(422, f'{name} must be a decimal of 0 or more with at most two places, such as "42.50".')
    return int(Decimal(digits) * 100)


def _instant(fields: Fields, name: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    try:
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError) as exc:
        raise Refusal(422, f"{name} must be a time in ISO 8601, such as 2026-03-01T09:30:00+00:00.") from exc
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="milliseconds")


def _number(fields: Fields, name: str, *, limit: int) -> float:
    value = fields.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value <= limit:
        raise Refusal(422, f"{name} must be a number from 0 to {limit}.")
    return float(value)
