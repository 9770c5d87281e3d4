"""The tasks of the flow that makes customer features. What they compute is in `customers`."""

from __future__ import annotations

from typing import Any

import httpx
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from console.environment import environment
from dataplane.contents.features import FeatureRow, Features, remembered
from dataplane.errors import SourceInvalid
from dataplane.flows.attempts import computes, reads
from dataplane.flows.customers import ShopRecords, features_of, read
from dataplane.plain_sql import connect, one

FAULTS_SHOWN = 100


@reads(timeout_seconds=120, retries=3)
def read_shop() -> ShopRecords:
    """Read all orders and refunds. Raises SourceInvalid without an address, httpx.HTTPError when it is away.

    On retry: everything is read anew, so orders and refunds are of one attempt.
    """
    address = environment().shop_url
    if not address:
        raise SourceInvalid("The shop has no address. Set SIGNALBOX_SHOP_URL.")
    with httpx.Client(base_url=address, timeout=httpx.Timeout(60, connect=3)) as shop:
        orders, refunds = _items(shop, "/orders"), _items(shop, "/refunds")
    get_run_logger().info("Read %d orders and %d refunds from %s", len(orders), len(refunds), address)
    return read(orders, refunds)


def _items(shop: httpx.Client, path: str) -> list[Any]:
    answer = shop.get(path).raise_for_status().json()
    found = answer.get("items") if isinstance(answer, dict) else answer
    if not isinstance(found, list):
        raise SourceInvalid(f"The shop's {path} is no list.")
    return found


@computes(timeout_seconds=60)
def checked(shop: ShopRecords) -> ShopRecords:
    """Return what was read when all of it can be right; else show what cannot, and raise SourceInvalid."""
    if not shop.faults:
        return shop
    create_table_artifact(
        key="rows-that-failed",
        table=[{"row": name, "what is wrong": why} for name, why in shop.faults[:FAULTS_SHOWN]],
        description=f"{len(shop.faults)} rows of the shop fail the checks, so no version was published.",
    )
    name, why = shop.faults[0]
    more = f" and {len(shop.faults) - 1} more" if len(shop.faults) > 1 else ""
    raise SourceInvalid(f"The {name} {why}{more}. Nothing was published; the flow run shows every row.")


@computes(timeout_seconds=120)
def compute(shop: ShopRecords) -> list[FeatureRow]:
    """Compute the features' values."""
    rows = features_of(shop)
    get_run_logger().info("Computed %d values of %d orders", len(rows), len(shop.orders))
    return rows


@reads(timeout_seconds=120)
def remember(dataset: str, computed: list[FeatureRow]) -> Features:
    """Put the values beside those that were known before. `known_at` is the database's time, once per version.

    On retry: writes nothing, so only the moment differs.
    """
    with connect() as connection:
        now = one(connection, "SELECT signalbox_now()", [])[0]
        earlier = connection.execute(
            "SELECT f.entity, f.feature, f.number, f.text, f.effective_at, f.known_at FROM dataplane_dataset d"
            " JOIN dataplane_featurevalue f ON f.version_id = d.current_version_id WHERE d.name = %s",
            [dataset],
        ).fetchall()
    known = [
        FeatureRow(entity, feature, text if number is None else number, effective_at, known_at)
        for entity, feature, number, text, effective_at, known_at in earlier
    ]
    return Features(remembered(computed, known, now))
