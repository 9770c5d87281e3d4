"""A new kind of delivery, a new carrier and a new chore are each one function and one line, and touch nothing else."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from approvals import services as approvals
from console import outbox
from console.backoff import Backoff
from console.models import OutboxEntry
from console.outbox import Kind, OutboxKind
from orchestration.errors import TemporalRefused
from orchestration.relay.chores import CHORES, Chore, Step
from orchestration.relay.deliveries import DELIVERIES, Carrier, Delivery, to_temporal
from orchestration.relay.entries import Claimed, stamp
from orchestration.relay.loop import Relay
from orchestration.relay.reach import Reach
from orchestration.temporal_protocol import TemporalGateway
from orchestration.threads import in_database
from tests.fakes import FakeTemporal
from tests.orchestration.conftest import go, make_run
from tests.orchestration.test_relay import ask_to_start, everything_delivered, relaying
from tests.waiting import until


class MadeUp(OutboxKind):
    POSTCARD = "postcard"


def test_kinds_written_are_kinds_delivered() -> None:
    assert set(DELIVERIES) == set(Kind)  # that each is written, and no other, holds tests/boundaries


def test_chores_have_names_of_their_own_and_a_period() -> None:
    names = [chore.name for chore in CHORES]
    assert len(names) == len(set(names))
    assert all(chore.every > 0 and chore.again >= 0 for chore in CHORES)


@pytest.mark.django_db(transaction=True)
def test_a_new_kind_is_delivered() -> None:
    temporal = FakeTemporal()

    async def send_postcard(gateway: TemporalGateway, entry: Claimed) -> None:
        assert gateway is temporal
        temporal.calls.append(f"postcard to {entry.payload['to']}")
        await in_database(stamp, [entry])

    outbox.enqueue(kind=MadeUp.POSTCARD, subject="holiday", payload={"to": "alice"})
    deliveries = {**DELIVERIES, MadeUp.POSTCARD: to_temporal(send_postcard)}
    relaying(lambda: until(everything_delivered), Relay(temporal, deliveries=deliveries, chores=()))
    assert temporal.calls == ["postcard to alice"]


@pytest.mark.django_db(transaction=True)
def test_a_new_carrier_that_hangs_delays_no_other_and_its_entry_is_tried_again() -> None:
    temporal = FakeTemporal()
    pigeon = Carrier("pigeon", at_once=1, lease=timedelta(minutes=1), backoff=Backoff(0.01, 0.01))
    began, may_go_on = asyncio.Event(), asyncio.Event()

    async def fly(_: Reach, entry: Claimed) -> None:
        if entry.attempts == 1:
            raise TemporalRefused("the hawk was faster")
        began.set()
        await may_go_on.wait()
        await in_database(stamp, [entry], note="by air")

    entry_id = outbox.enqueue(kind=MadeUp.POSTCARD, subject="holiday", payload={})
    run = make_run()

    async def scene() -> None:
        await began.wait()
        await in_database(ask_to_start, run)
        await until(lambda: run.pk in temporal.started)
        await until(lambda: OutboxEntry.objects.filter(delivered_at=None).count() == 1)
        may_go_on.set()
        await until(everything_delivered)

    deliveries = {**DELIVERIES, MadeUp.POSTCARD: Delivery(pigeon, fly)}
    relaying(scene, Relay(temporal, deliveries=deliveries, chores=()))
    entry = OutboxEntry.objects.get(pk=entry_id)
    assert (entry.attempts, entry.last_error) == (2, "by air")


@pytest.mark.django_db(transaction=True)
def test_a_new_chore_is_done_again_and_again_also_after_it_failed() -> None:
    done: list[int] = []

    def begin() -> Step:
        step_number = 0

        async def step(reach: Reach) -> bool:
            nonlocal step_number
            step_number += 1
            done.append(step_number)
            if step_number == 2:
                raise ZeroDivisionError("a bug")
            if step_number == 3:
                raise TemporalRefused("not now")
            return reach.temporal is not None

        return step

    chores = (Chore("count", every=0.01, begin=begin),)
    relaying(lambda: until(lambda: len(done) > 4), Relay(FakeTemporal(), chores=chores))
    assert done[:5] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("number", range(len(CHORES)))
@pytest.mark.django_db(transaction=True)
def test_every_chore_can_be_done_alone(number: int, caplog: pytest.LogCaptureFixture) -> None:
    ended: list[bool] = []

    def begin() -> Step:
        step = CHORES[number].begin()

        async def watched(reach: Reach) -> bool:
            await step(reach)
            ended.append(True)
            return False

        return watched

    relaying(lambda: until(lambda: len(ended) > 1), Relay(FakeTemporal(), chores=[Chore("alone", 0.01, begin)]))
    assert "done later" not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_open_requests_are_looked_through_until_all_stand_under_the_policy_and_again_under_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (chore,) = (one for one in CHORES if one.name == "put open requests under a new policy")
    policies, answers = iter(["1", "1", "1", "1", "1", "2"]), iter([True, False, True, False, False, False])
    looked: list[bool] = []

    def look(failed: set[str]) -> bool:
        looked.append(next(answers))
        return looked[-1]

    monkeypatch.setattr(approvals, "policy_in_force", lambda: next(policies))
    monkeypatch.setattr(approvals, "renew_under_active_policy", look)
    step, reach = chore.begin(), Relay(FakeTemporal(), chores=())

    async def steps(many: int) -> None:
        for _ in range(many):
            await step(reach)

    go(steps(5))
    assert looked == [True, False, True, False, False]
    go(steps(1))
    assert len(looked) == 6
