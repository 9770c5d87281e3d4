"""Features of customers: what held at a moment, as far as it was known then."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection

from dataplane import selectors, versions
from dataplane.catalogue import CUSTOMER_FEATURES
from dataplane.contents.features import FeatureRow, Features, plain, remembered
from dataplane.contracts import RefreshOrder, RefreshOutcome
from dataplane.errors import QuestionInvalid
from dataplane.flows.customers import ShopOrder, ShopRecords, features_of, read
from dataplane.refreshes.claim import claim
from tests.api_caller import Caller

from .conftest import FLOW_RUN

START = datetime(2026, 1, 1, tzinfo=UTC)
ADA = "ada@example.org"


def order(
    number: int, amount: str = "10.00", *, hours: int = 0, customer: str = ADA, currency: str = "EUR"
) -> ShopOrder:
    return ShopOrder(str(number), customer, Decimal(amount), currency, START + timedelta(hours=hours))


def shop(*orders: ShopOrder) -> ShopRecords:
    return ShopRecords(orders, [], [])


def row(number: int, **changes: Any) -> dict[str, Any]:
    whole = {
        "id": str(number),
        "email": "Ada@Example.org ",
        "amount": "10.00",
        "currency": "EUR",
        "placed_at": START.isoformat(),
    }
    return whole | changes


def publish(key: str, content: Features) -> RefreshOutcome:
    with claim(CUSTOMER_FEATURES, RefreshOrder(CUSTOMER_FEATURES.name, key), flow_run_id=FLOW_RUN) as claimed:
        return versions.publish(
            CUSTOMER_FEATURES, content, refresh_id=claimed.refresh_id, parameters={}, flow_run_id=FLOW_RUN
        )


def at(moment: datetime) -> dict[str, Any]:
    found = selectors.read(CUSTOMER_FEATURES.name, {"entity": ADA, "at": moment}).items
    return dict(found[0])


def test_each_event_changes_its_features_from_its_moment_on() -> None:
    refund = {"id": "R1", "order_id": "2", "amount": "0.10", "created_at": (START + timedelta(hours=3)).isoformat()}
    orders = [row(1), row(2, amount="0.20", placed_at=(START + timedelta(hours=1)).isoformat())]
    made = features_of(read(orders, [refund]))
    told = [(r.feature, plain(r.value) if isinstance(r.value, Decimal) else r.value, r.effective_at) for r in made]
    hours = [START + timedelta(hours=number) for number in range(4)]
    assert {entity.entity for entity in made} == {ADA}
    assert told == [
        ("orders", Decimal(1), hours[0]),
        ("orders", Decimal(2), hours[1]),
        ("refunded_EUR", Decimal("0.10"), hours[3]),
        ("refunds", Decimal(1), hours[3]),
        ("spent_EUR", Decimal(10), hours[0]),
        ("spent_EUR", Decimal("10.20"), hours[1]),
    ]


def test_money_is_exact_and_events_at_one_moment_are_one_value() -> None:
    made = features_of(shop(*[order(number, "0.10") for number in range(3)]))
    assert [r.value for r in made if r.feature == "spent_EUR"] == [Decimal("0.30")]
    assert features_of(shop()) == []


@pytest.mark.parametrize(
    ("orders", "refunds", "fault"),
    [
        ([row(1, amount=10)], [], "order 1: has no amount as text"),
        ([row(1, amount="NaN")], [], "order 1: has an amount that cannot be: 'NaN'"),
        ([row(1, amount="-1.00")], [], "order 1: has an amount that cannot be: '-1.00'"),
        ([row(1, amount="1.001")], [], "order 1: has an amount that cannot be: '1.001'"),
        ([row(1, currency="euro")], [], "order 1: has no currency: 'euro'"),
        ([row(1, email="ada")], [], "order 1: has no e-mail address: 'ada'"),
        ([row(1, email="a\x00@b")], [], "order 1: has no e-mail address: 'a\\x00@b'"),
        ([row(1, placed_at="tomorrow")], [], "order 1: has no moment in placed_at"),
        ([row(1), row(1)], [], "order 1: stands there twice"),
        (["x"], [], "order without an id: is no object"),
        (
            [row(1)],
            [{"id": "R1", "order_id": "7", "amount": "1.00", "created_at": START.isoformat()}],
            "refund R1: belongs to order 7, which is not there",
        ),
        (
            [row(1)],
            [{"id": "R1", "order_id": "1", "amount": "10.01", "created_at": START.isoformat()}],
            "refund R1: is more than was left of order 1",
        ),
    ],
)
def test_what_cannot_be_right_is_named_with_its_row(orders: list[Any], refunds: list[Any], fault: str) -> None:
    assert [f"{name}: {why}" for name, why in read(orders, refunds).faults] == [fault]


def test_a_late_order_is_known_from_the_refresh_that_read_it_and_never_before() -> None:
    first, second = START + timedelta(days=1), START + timedelta(days=2)
    before = remembered(features_of(shop(order(1, hours=5))), [], first)
    after = remembered(features_of(shop(order(1, hours=5), order(2, hours=1))), before, second)
    assert set(before) <= set(after), "nothing that was known is dropped or changed"
    assert {r.known_at for r in after if r not in before} == {second}
    assert (
        remembered(features_of(shop(order(1, hours=5), order(2, hours=1))), after, second + timedelta(days=1)) == after
    )


def test_an_order_that_is_gone_is_corrected_from_then_on() -> None:
    first, second = START + timedelta(days=1), START + timedelta(days=2)
    before = remembered(features_of(shop(order(1, hours=5), order(2, hours=6))), [], first)
    after = remembered(features_of(shop(order(1, hours=5))), before, second)
    assert [r.value for r in after if r.feature == "orders" and r.known_at == second] == [Decimal(1)]


def by_hand(found: ShopRecords) -> list[FeatureRow]:
    """What `features_of` computes, without DuckDB."""
    made: dict[tuple[str, datetime], Decimal] = {}
    for feature, added in (("orders", lambda _: Decimal(1)), ("spent_EUR", lambda one: one.amount)):
        total = Decimal(0)
        for one in sorted(found.orders, key=lambda one: one.placed_at):
            total += added(one)
            made[feature, one.placed_at] = total
    return [FeatureRow(ADA, feature, total, moment) for (feature, moment), total in made.items()]


def held(runs: Sequence[tuple[datetime, ShopRecords]], moment: datetime) -> dict[str, Decimal]:
    """What the newest computation before the moment says held at it, the other way round than rows are read."""
    read_by_then = [found for known_at, found in runs if known_at <= moment]
    orders = [one for one in (read_by_then[-1].orders if read_by_then else []) if one.placed_at <= moment]
    return {"orders": Decimal(len(orders)), "spent_EUR": sum((one.amount for one in orders), Decimal(0))}


def from_rows(rows: Sequence[FeatureRow], moment: datetime) -> dict[str, Decimal]:
    """The point-in-time rule, without SQL: see `FeatureKind.read`, which is held to it below."""
    found: dict[str, FeatureRow] = {}
    for value in rows:
        if value.effective_at <= moment and value.known_at is not None and value.known_at <= moment:
            best = found.get(value.feature)
            if best is None or (best.effective_at, best.known_at or START) <= (value.effective_at, value.known_at):
                found[value.feature] = value
    return {name: value.value for name, value in found.items() if isinstance(value.value, Decimal)}


def made_up(chance: random.Random) -> list[tuple[datetime, ShopRecords]]:
    """Some refreshes of a shop in which orders arrive late, change their amount and vanish."""
    orders: dict[int, ShopOrder] = {}
    runs = []
    for step in range(1, chance.randint(2, 5)):
        for _ in range(chance.randint(0, 4)):
            number = chance.randint(1, 5)
            if chance.random() < 0.2:
                orders.pop(number, None)
            else:
                amount = f"{chance.randint(1, 999)}.{chance.randint(0, 99):02}"
                orders[number] = order(number, amount, hours=chance.randint(0, step * 10), currency="EUR")
        runs.append((START + timedelta(hours=step * 10), shop(*orders.values())))
    return runs


@pytest.mark.parametrize("seed", range(10))
def test_made_up_histories_with_late_rows_are_read_as_they_were_known(seed: int) -> None:
    """100 histories a seed. A feature of which nothing is left may be 0 or missing."""
    chance = random.Random(seed)
    for _ in range(100):
        runs = made_up(chance)
        rows: list[FeatureRow] = []
        for known_at, found in runs:
            rows = remembered(by_hand(found), rows, known_at)
        for _ in range(5):
            moment = START + timedelta(hours=chance.randint(0, 60))
            told = {"orders": Decimal(0), "spent_EUR": Decimal(0)} | from_rows(rows, moment)
            assert told == held(runs, moment), (seed, moment)
    assert {r.key: r.value for r in features_of(runs[-1][1])} == {r.key: r.value for r in by_hand(runs[-1][1])}


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize(
    ("view", "asked", "status"),
    [
        ("nothing", {"entity": "a"}, 404),
        ("handbook", {"entity": "a"}, 404),
        ("customer_features", {"entity": "a"}, 404),  # nothing published yet
        ("customer_features", {}, 422),
        ("customer_features", {"entity": ""}, 422),
        ("customer_features", {"entity": "a\x00"}, 422),
        ("customer_features", {"entity": "a", "at": "tomorrow"}, 422),
        ("customer_features", {"entity": "a", "at": "2026-01-01T00:00:00"}, 422),  # no zone
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(
    view: str, asked: dict[str, str], status: int, operator: User
) -> None:
    assert Caller(operator).get(f"features/{view}", **asked).status_code == status


@pytest.fixture
def operator(transactional_db: None) -> User:
    user = User.objects.create_user("olga")
    user.groups.add(Group.objects.get_or_create(name="operator")[0])
    return user


@pytest.mark.usefixtures("database_url")
def test_published_features_are_read_at_a_moment(operator: User) -> None:
    first, second = START + timedelta(days=1), START + timedelta(days=2)
    rows = remembered(features_of(shop(order(1, hours=5))), [], first)
    assert publish("k1", Features(rows)).sentence == "Version 1 is published, with 2 feature values."
    assert publish("k2", Features(rows)).status == "unchanged"
    late = remembered(features_of(shop(order(1, "10.25", hours=5), order(2, "0.10", hours=1))), rows, second)
    publish("k3", Features(late))
    assert at(START + timedelta(hours=6)) == {}, "nobody had read it then"
    assert at(first) == {"orders": Decimal(1), "spent_EUR": Decimal(10)}
    assert at(second) == {"orders": Decimal(2), "spent_EUR": Decimal("10.35")}
    for moment in (first, second, second + timedelta(days=9)):
        assert at(moment) == from_rows(late, moment)
    with pytest.raises(QuestionInvalid):
        selectors.read(CUSTOMER_FEATURES.name, {"entity": ADA, "at": datetime(2026, 1, 1)})  # noqa: DTZ001
    old, new = (selectors.version(CUSTOMER_FEATURES.name, number) for number in (1, 2))
    assert selectors.difference(old, new).changed == [f"{ADA} # orders", f"{ADA} # spent_EUR"]
    assert selectors.shown(new, limit=2).items[0][:3] == [ADA, "orders", "1"]
    told = Caller(operator).get(f"features/{CUSTOMER_FEATURES.name}", entity=ADA, at=second.isoformat())
    assert told.json() == {
        "entity": ADA,
        "at": second.isoformat(),
        "values": {"orders": "2", "spent_EUR": "10.35"},
        "version": 2,
    }
    nobody = Caller(operator).get(f"features/{CUSTOMER_FEATURES.name}", entity="nobody").json()
    assert (nobody["values"], nobody["version"]) == ({}, 2)
    with pytest.raises(Exception, match="Cannot update or delete"), connection.cursor() as cursor:
        cursor.execute("UPDATE dataplane_featurevalue SET number = 0")
