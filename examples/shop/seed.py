"""Fill an empty shop with the demo orders: `python -m examples.shop.seed --url http://127.0.0.1:8100`.

Seeding again creates nothing; a seeding that was interrupted is completed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx

from examples.shop.demo_orders import DEMO_RUNS, ORDERS, DemoOrder

__all__ = ["DEMO_RUNS", "ORDERS", "order_body", "seed"]


def order_body(order: DemoOrder, *, now: datetime) -> dict[str, Any]:
    """Write one demo order as the body of POST /orders; `now` is aware, UTC."""
    delivered = order.delivered_days_ago
    return {
        "customer": order.customer,
        "email": order.email,
        "country": order.country,
        "amount": str(sum(Decimal(item.price) * item.quantity for item in order.items)),
        "currency": order.currency,
        "status": order.status,
        "placed_at": (now - timedelta(days=order.placed_days_ago)).isoformat(),
        "delivered_at": None if delivered is None else (now - timedelta(days=delivered)).isoformat(),
        "items": [item._asdict() for item in order.items],
    }


async def seed(client: httpx.AsyncClient) -> int:
    """Create the demo orders that are missing and return their number.

    A shop that holds anything but the first demo orders belongs to somebody: it is left alone.
    Raises httpx.HTTPError when the shop does not answer, or refuses.
    """
    present = (await client.get("/orders")).raise_for_status().json()["items"]
    expected = [(str(8801 + place), order.customer) for place, order in enumerate(ORDERS[: len(present)])]
    if [(order["id"], order["customer"]) for order in present] != expected:
        return 0
    missing = ORDERS[len(present) :]
    for order in missing:
        (await client.post("/orders", json=order_body(order, now=datetime.now(UTC)))).raise_for_status()
    return len(missing)


async def _seed_at(url: str) -> int:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        return await seed(client)


def main() -> None:
    parser = argparse.ArgumentParser(description="Fill an empty shop with the demo orders.")
    parser.add_argument("--url", required=True, help="where the shop listens, such as http://127.0.0.1:8100")
    created = asyncio.run(_seed_at(parser.parse_args().url))
    sys.stdout.write(f"{created} orders created.\n")


if __name__ == "__main__":
    main()
