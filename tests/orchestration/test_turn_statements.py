"""What a decision costs after the click: statements of the relay and of the turn that it wakes, counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from psycopg import AsyncConnection

from approvals.models import Approval
from approvals.proposal.canonical import canonicalise, digest_of
from approvals.services import Proposal
from console.database import conninfo
from console.models import OutboxEntry
from console.outbox import Kind
from orchestration import services
from orchestration.contracts import Turn
from orchestration.fences import Attempt
from orchestration.models import Run
from orchestration.relay.deliveries import note_signalled
from orchestration.relay.entries import Claimed
from orchestration.relay.loop import Relay
from orchestration.services import TurnEnd, workflow_input
from tests.fakes import FakeTemporal
from tests.orchestration.conftest import REFUND, decide, go, make_run, open_for
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

TRANSACTION = 2  # begin and commit


@pytest.fixture
def waiting(transactional_db: None) -> Run:
    return make_run(status="waiting")


def test_a_turn_begins_in_few_statements(waiting: Run, django_assert_num_queries: Any) -> None:
    approval = decide(open_for(waiting))
    with django_assert_num_queries(1):
        start = services.begin_turn(Turn(waiting.pk, "support", 2, [approval.pk]), Attempt("first", 2, 1))
    assert start.run is not None and start.run.fence == 1 and start.began_at is not None
    waiting.refresh_from_db()
    assert (waiting.status, waiting.turn, waiting.fence) == ("running", 2, 1)


def test_a_turn_that_finds_nothing_decided_asks_once(waiting: Run, django_assert_num_queries: Any) -> None:
    approval = open_for(waiting)
    with django_assert_num_queries(1):
        start = services.begin_turn(Turn(waiting.pk, "support", 2, [approval.pk]), Attempt("first", 2, 1))
    assert start.run is None and start.next_step_at is not None


def test_a_turn_ends_by_asking_in_no_more_statements_than_it_did(waiting: Run, django_assert_num_queries: Any) -> None:
    turn = Turn(waiting.pk, "support", 1)
    services.begin_turn(turn, Attempt("first", 1, 1))
    end = TurnEnd("c1", [_proposal(waiting)])
    with django_assert_num_queries(PAUSED):
        (asked,), _ = services.pause_turn(turn, 1, end)
    assert Approval.objects.get(pk=asked).status == "pending"


PAUSED = 15


def _proposal(run: Run) -> Proposal:
    canonical = canonicalise("issue_refund", REFUND)
    return Proposal(
        external_id=f"{run.pk}:i",
        kind="action",
        canonical=canonical,
        digest=digest_of(canonical),
        summary="A refund",
        agent_words="",
        arguments_schema={},
        risk="high",
        agent=run.agent,
        run_id=run.pk,
        interrupt_id="i",
        checkpoint_id="c1",
        requested_by_id=None,
    )


class CountingHand:
    """The connection by which a relay claims."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self.count = 0

    async def execute(self, *args: Any) -> Any:
        self.count += 1
        return await self._connection.execute(*args)


def test_one_claim_takes_a_decision_and_no_other_carrier_is_woken(waiting: Run) -> None:
    decide(open_for(waiting))
    temporal = FakeTemporal()
    temporal.started[waiting.pk] = workflow_input({"run_id": waiting.pk, "agent": "support", "turn_seconds": 1})
    relay = Relay(temporal, chores=())

    async def deliver() -> int:
        async with await AsyncConnection.connect(conninfo("a test"), autocommit=True) as connection:
            hand: Any = CountingHand(connection)
            relay._wake(str(Kind.DECIDED))
            for one in relay.rounds:
                if one.wake.is_set():
                    over = asyncio.Event()
                    going = asyncio.create_task(one.go(hand, over))
                    await until(lambda: bool(temporal.signals))
                    await one.landed()
                    over.set()
                    one.wake.set()
                    await going
            return int(hand.count)

    assert go(deliver()) == 1
    assert [one.carrier.name for one in relay.rounds if one.takes(Kind.DECIDED)] == ["temporal"]
    assert not OutboxEntry.objects.filter(delivered_at=None).exists()


def test_a_signal_is_stamped_in_few_statements(waiting: Run, django_assert_num_queries: Any) -> None:
    approvals = [decide(open_for(waiting)) for _ in range(3)]
    entries = [
        Claimed(one.pk, one.kind, one.subject, one.payload, 1) for one in OutboxEntry.objects.filter(kind=Kind.DECIDED)
    ]
    assert len(entries) == 3
    stamped = 4  # no wait for the disk; the approvals are held; their receipts, with what pages are told; the entries
    with django_assert_num_queries(TRANSACTION + stamped):
        note_signalled(entries)
    for approval in approvals:
        assert [step.step for step in approval.receipt.order_by("id")] == ["recorded", "signalled"]
    assert not OutboxEntry.objects.filter(delivered_at=None, kind=Kind.DECIDED).exists()
