"""The example shop over HTTP, on a SQLite file of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.shop import app as shop
from examples.shop import seed

Scenario = Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]
Play = Callable[[Scenario], None]

ORDER = {"customer": "Ada Lovelace", "amount": "42.50", "currency": "EUR"}
REFUND = {"order_id": "8801", "amount": "10.00", "currency": "EUR", "reason": "Crushed on the way."}


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Play a scenario against a shop just started; playing another one restarts the shop on its file."""

    def _play(scenario: Scenario) -> None:
        async def run() -> None:
            transport = httpx.ASGITransport(shop.create_app(tmp_path / "shop.sqlite3"))
            async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
                await scenario(client)

        asyncio.run(run())

    return _play


async def post_refund(client: httpx.AsyncClient, key: str = "k1", **changes: Any) -> httpx.Response:
    return await client.post("/refunds", json={**REFUND, **changes}, headers={"Idempotency-Key": key})


async def refunds(client: httpx.AsyncClient, order_id: str = "8801") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await client.get("/refunds", params={"order_id": order_id})).json()["items"]
    return items


async def attempt_statuses(client: httpx.AsyncClient) -> list[int | None]:
    items = (await client.get("/attempts", params={"order_id": "8801"})).json()["items"]
    return [item["status"] for item in items]


def test_health_is_ok(play: Play) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.get("/health")).json() == {"status": "ok"}

    play(scenario)


def test_an_order_is_created_and_found_again(play: Play) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        created = await client.post("/orders", json=ORDER)
        assert created.status_code == 201
        order = created.json()
        assert order.pop("placed_at").endswith("+00:00")
        assert order == {
            "id": "8801", "customer": "Ada Lovelace", "email": "ada.lovelace@example.com", "amount": "42.50",
            "currency": "EUR", "country": None, "status": "placed", "delivered_at": None, "items": [],
        }  # fmt: skip
        assert (await client.post("/orders", json=ORDER)).json()["id"] == "8802"
        assert (await client.get("/orders/8801")).json() == created.json()
        assert [order["id"] for order in (await client.get("/orders")).json()["items"]] == ["8801", "8802"]

    play(scenario)


def test_an_unknown_order_is_told_in_words(play: Play) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.get("/orders/9999")
        assert (answer.status_code, answer.json()) == (404, {"error": "There is no order 9999."})

    play(scenario)


@pytest.mark.parametrize(
    ("amount", "normalised"), [("42.5", "42.50"), (42.5, "42.50"), (7, "7.00"), (0.1, "0.10"), ("0", "0.00")]
)
def test_amounts_are_normalised_to_two_places(play: Play, amount: object, normalised: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.post("/orders", json={**ORDER, "amount": amount})).json()["amount"] == normalised

    play(scenario)


@pytest.mark.parametrize(
    "amount", ['"-1.00"', "-1", "NaN", '"NaN"', "Infinity", '"1.005"', "1.005", "1e3", "true", "null"]
)
def test_amounts_that_are_not_money_are_refused_by_name(play: Play, amount: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        body = f'{{"customer": "Ada", "currency": "EUR", "amount": {amount}}}'
        answer = await client.post("/orders", content=body)
        assert answer.status_code == 422
        assert answer.json()["error"].startswith("amount ")

    play(scenario)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"customer": " "}, "customer"),
        ({"currency": "euro"}, "currency"),
        ({"country": "Germany"}, "country"),
        ({"status": "eaten"}, "status"),
        ({"items": "bowls"}, "items"),
        ({"delivered_at": "yesterday"}, "delivered_at"),
    ],
)
def test_other_wrong_fields_are_refused_by_name(play: Play, changes: dict[str, Any], field: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post("/orders", json={**ORDER, **changes})
        assert answer.status_code == 422
        assert answer.json()["error"].startswith(f"{field} ")

    play(scenario)


@pytest.mark.parametrize("body", ["", "{", '{"customer": "\\ud800", "amount": "1", "currency": "EUR"}'])
def test_a_body_that_cannot_be_read_is_refused(play: Play, body: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post("/orders", content=body)
        assert (answer.status_code, answer.json()) == (400, {"error": "The body is not JSON."})

    play(scenario)


def test_the_same_key_gives_the_same_refund(play: Play) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await client.post("/orders", json=ORDER)
        first, again = await post_refund(client), await post_refund(client, amount=10)
        assert (first.status_code, again.status_code) == (201, 200)
        assert again.json() == first.json() == (await refunds(client))[0]
        assert first.json().keys() == {
            "id", "order_id", "amount", "currency", "reason", "idempotency_key", "created_at"
        }  # fmt: skip
        assert len(await refunds(client)) == 1
        assert await attempt_statuses(client) == [201, 200]

    play(scenario)


@pytest.mark.parametrize("changes", [{"amount": "10.01"}, {"reason": "Other"}, {"order_id": "8802"}])
def test_the_same_key_for_another_refund_is_a_conflict(play: Play, changes: dict[str, str]) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await client.post("/orders", json=ORDER)
        await client.post("/orders", json=ORDER)
        await post_refund(client)
        assert (await post_refund(client, **changes)).status_code == 409
        assert len((await client.get("/refunds")).json()["items"]) == 1

    play(scenario)


def test_many_calls_at_once_with_one_key_refund_once(play: Play) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await client.post("/orders", json=ORDER)
        answers = await asyncio.gather(*(post_refund(client) for _ in range(20)))
        assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
        assert len(await refunds(client)) == 1
        assert len(await attempt_statuses(client)) == 20

    play(scenario)


def test_many_refunds_at_once_never_exceed_the_order(play: Play) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await client.post("/orders", json=ORDER)
        answers = await asyncio.gather(*(post_refund(client, key=f"k{n}") for n in range(10)))
        assert sorted(answer.status_code for answer in answers) == [201] * 4 + [422] * 6
        assert len(await refunds(client)) == 4

    play(scenario)


def test_a_refund_that_cannot_be_is_refused(play: Play) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await client.post("/orders", json=ORDER)
        assert (await client.post("/refunds", json=REFUND)).status_code == 400
        assert (await post_refund(client, order_id="9999")).status_code == 404
        assert (await post_refund(client, currency="GBP")).status_code == 422
        assert (await post_refund(client, amount="0.00")).status_code == 422
        too_much = await post_refund(client, amount="42.51")
        assert too_much.status_code == 422
        assert too_much.json()["error"] == "amount is more than the 42.50 EUR left on the order."
        assert await refunds(client) == []
        assert await attempt_statuses(client) == [400, 422, 422, 422]

    play(scenario)


def test_a_lost_answer_leaves_the_refund_recorded(play: Play) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await client.post("/orders", json=ORDER)
        await client.put("/switches", json={"lose_answer": 1})
        lost = await post_refund(client)
        assert (lost.status_code, lost.content) == (502, b"")
        assert len(await refunds(client)) == 1
        assert (await post_refund(client)).status_code == 200
        assert await attempt_statuses(client) == [502, 200]

    play(scenario)


def test_a_failing_shop_records_nothing(play: Play) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await client.post("/orders", json=ORDER)
        await client.put("/switches", json={"fail": 2})
        assert [(await post_refund(client)).status_code for _ in range(2)] == [503, 503]
        assert await refunds(client) == []
        assert (await post_refund(client)).status_code == 201

    play(scenario)


def test_delays_act_before_and_after_the_refund_is_recorded(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        seen: list[tuple[float, int]] = []

        async def note(seconds: float) -> None:
            seen.append((seconds, len(await refunds(client))))

        monkeypatch.setattr(shop, "sleep", note)
        await client.post("/orders", json=ORDER)
        await client.put("/switches", json={"delay_before_seconds": 1.5, "delay_after_seconds": 2})
        await post_refund(client)
        assert seen == [(1.5, 0), (2.0, 1)]

    play(scenario)


def test_a_restarted_shop_keeps_its_switches_and_refunds(play: Play) -> None:
    async def before(client: httpx.AsyncClient) -> None:
        await client.post("/orders", json=ORDER)
        await post_refund(client)
        await client.put("/switches", json={"fail": 3, "delay_after_seconds": 0.5})

    async def after(client: httpx.AsyncClient) -> None:
        assert (await client.get("/switches")).json() == {
            "delay_before_seconds": 0.0, "delay_after_seconds": 0.5, "lose_answer": 0, "fail": 3
        }  # fmt: skip
        assert len(await refunds(client)) == 1

    play(before)
    play(after)


def test_an_unknown_switch_is_refused(play: Play) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.put("/switches", json={"explode": 1})).status_code == 422
        assert (await client.put("/switches", json={"fail": -1})).status_code == 422

    play(scenario)


def test_seeding_twice_creates_nothing_twice(play: Play) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        assert await seed.seed(client) == len(seed.ORDERS) == 36
        assert await seed.seed(client) == 0
        orders = {order["id"]: order for order in (await client.get("/orders")).json()["items"]}
        assert len(orders) == 36
        assert {order["currency"] for order in orders.values()} == {"EUR", "GBP", "USD", "CHF"}
        assert [run["order_id"] for run in seed.DEMO_RUNS] == ["8801", "8802", "8803", "8804", "8805", "8806"]
        assert orders["8801"]["customer"] == "Marlene Hofstätter"
        assert orders["8801"]["amount"] == "89.40"

    play(scenario)


def test_an_interrupted_seeding_is_completed(play: Play) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        for order in seed.ORDERS[:5]:
            await client.post("/orders", json={**ORDER, "customer": order.customer})
        assert await seed.seed(client) == 31

    play(scenario)


def test_a_shop_in_use_is_not_seeded(play: Play) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await client.post("/orders", json=ORDER)
        assert await seed.seed(client) == 0

    play(scenario)
