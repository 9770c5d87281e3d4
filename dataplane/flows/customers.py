"""From orders and refunds to features of customers over time, in DuckDB. Pure: no network, no database, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import duckdb

from console.text.stored import can_be_kept
from dataplane.contents.features import FeatureRow

LARGEST = Decimal(10) ** 12


@dataclass(frozen=True)
class ShopOrder:
    """One order as the shop has it."""

    id: str
    customer: str  # who it is, as features name it: the e-mail address, in small letters
    amount: Decimal
    currency: str
    placed_at: datetime


@dataclass(frozen=True)
class Refund:
    """One refund as the shop has it."""

    id: str
    order_id: str
    amount: Decimal
    created_at: datetime


@dataclass(frozen=True)
class ShopRecords:
    """What was read, as far as it passed the checks, and what did not: (id, sentence)."""

    orders: Sequence[ShopOrder]
    refunds: Sequence[Refund]
    faults: Sequence[tuple[str, str]]


def read(orders: Sequence[Any], refunds: Sequence[Any]) -> ShopRecords:
    """Read the shop's own JSON. What cannot be right is a fault, with the id of its row and why."""
    faults: list[tuple[str, str]] = []
    known: dict[str, ShopOrder] = {}
    for row in orders:
        name = f"order {_id(row)}"
        try:
            made = ShopOrder(_id(row), _email(row), _money(row), _currency(row), _moment(row, "placed_at"))
        except _Fault as exc:
            faults.append((name, str(exc)))
            continue
        if made.id in known:
            faults.append((name, "stands there twice"))
        known[made.id] = made
    paid: list[Refund] = []
    left = {order.id: order.amount for order in known.values()}
    seen: set[str] = set()
    for row in refunds:
        name = f"refund {_id(row)}"
        try:
            one = Refund(_id(row), str(row.get("order_id")), _money(row), _moment(row, "created_at"))
        except _Fault as exc:
            faults.append((name, str(exc)))
            continue
        if one.id in seen:
            faults.append((name, "stands there twice"))
        elif one.order_id not in known:
            faults.append((name, f"belongs to order {one.order_id}, which is not there"))
        elif left[one.order_id] < one.amount:
            faults.append((name, f"is more than was left of order {one.order_id}"))
        else:
            left[one.order_id] -= one.amount
            paid.append(one)
        seen.add(one.id)
    return ShopRecords(list(known.values()), paid, faults)


class _Fault(Exception):
    """A field of a row that cannot be right."""


def _id(row: Any) -> str:
    found = row.get("id") if isinstance(row, dict) else None
    return str(found) if found not in (None, "") else "without an id"


def _email(row: Any) -> str:
    if not isinstance(row, dict):
        raise _Fault("is no object")
    found = row.get("email")
    if not isinstance(found, str) or "@" not in found or len(found) > 200 or not can_be_kept(found):
        raise _Fault(f"has no e-mail address: {str(found)[:50]!r}")
    return found.strip().lower()


def _money(row: Any) -> Decimal:
    if not isinstance(row, dict) or not isinstance(row.get("amount"), str):
        raise _Fault("has no amount as text")
    try:
        amount = Decimal(row["amount"])
    except InvalidOperation as exc:
        raise _Fault(f"has an amount that is no number: {row['amount'][:50]!r}") from exc
    if not amount.is_finite() or not 0 <= amount < LARGEST or amount != amount.quantize(Decimal("0.01")):
        raise _Fault(f"has an amount that cannot be: {row['amount'][:50]!r}")
    return amount


def _currency(row: Any) -> str:
    found = row.get("currency")
    if not isinstance(found, str) or not (found.isascii() and found.isalpha() and found.isupper() and len(found) == 3):
        raise _Fault(f"has no currency: {str(found)[:50]!r}")
    return found


def _moment(row: Any, name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(row[name])
    except (KeyError, TypeError, ValueError) as exc:
        raise _Fault(f"has no moment in {name}") from exc
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


#: Each event adds something to a feature from its moment on; several at one moment are one value.
_FEATURES = """
WITH event AS (
    SELECT customer, 'orders' AS feature, 1::DECIMAL(30, 8) AS added, placed_at AS moment FROM orders
    UNION ALL SELECT customer, 'spent_' || currency, amount, placed_at FROM orders
    UNION ALL SELECT o.customer, 'refunds', 1, r.created_at FROM refunds r JOIN orders o ON o.id = r.order_id
    UNION ALL SELECT o.customer, 'refunded_' || o.currency, r.amount, r.created_at
        FROM refunds r JOIN orders o ON o.id = r.order_id
)
SELECT DISTINCT customer, feature, sum(added) OVER (PARTITION BY customer, feature ORDER BY moment), moment
FROM event ORDER BY customer, feature, moment
"""


def features_of(shop: ShopRecords) -> list[FeatureRow]:
    """Return orders, refunds, and money spent and paid back by currency, of each customer, from each event on."""
    with duckdb.connect(":memory:", config={"threads": 1}) as database:
        database.execute("SET TimeZone = 'UTC'")
        database.execute(
            "CREATE TABLE orders (id TEXT, customer TEXT, amount DECIMAL(30, 8), currency TEXT, placed_at TIMESTAMPTZ)"
        )
        database.execute("CREATE TABLE refunds (id TEXT, order_id TEXT, amount DECIMAL(30, 8), created_at TIMESTAMPTZ)")
        _insert(database, "orders", [(o.id, o.customer, o.amount, o.currency, o.placed_at) for o in shop.orders])
        _insert(database, "refunds", [(r.id, r.order_id, r.amount, r.created_at) for r in shop.refunds])
        rows = database.execute(_FEATURES).fetchall()
    return [
        FeatureRow(customer, feature, Decimal(total), moment.astimezone(UTC))
        for customer, feature, total, moment in rows
    ]


def _insert(database: duckdb.DuckDBPyConnection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert as columns: DuckDB takes a statement for each row one after the other."""
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        picked = ", ".join(f"unnest(${number})" for number in range(1, len(columns) + 1))
        database.execute(f"INSERT INTO {table} SELECT {picked}", columns)
