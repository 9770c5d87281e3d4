"""The relay on real rows: whatever happens to Temporal, to Postgres or to a relay, each entry arrives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from approvals.models import Approval
from approvals.reading import stalled
from approvals.record import audit, heads
from console import outbox
from console.clock import database_now
from console.models import OutboxEntry, PartHeartbeat
from console.outbox import Kind
from orchestration import services
from orchestration.errors import TemporalRefused
from orchestration.models import Run
from orchestration.relay import deliveries as deliveries_module
from orchestration.relay import loop as module
from orchestration.relay.chores import CHORES, Chore
from orchestration.relay.deliveries import TEMPORAL
from orchestration.relay.entries import CLAIM, Claimed, put_back
from orchestration.relay.loop import Relay
from orchestration.temporal_gateway import RealTemporal
from orchestration.threads import in_database
from tests.fakes import FakeTemporal
from tests.orchestration.conftest import decide, go, make_run, open_for, reviewer
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.django_db(transaction=True)


class Nonsense(outbox.OutboxKind):
    """What nobody delivers."""

    NONSENSE = "nonsense"


Scene = Callable[[], Awaitable[None]]


def relaying(scene: Scene, *relays: Relay) -> None:
    """Run the relays until the scene is over, and let them stop in good order."""

    async def inside() -> None:
        stop = asyncio.Event()
        running = [asyncio.create_task(relay.run(stop)) for relay in relays]
        try:
            await scene()
        finally:
            stop.set()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*running)

    go(inside())


def quick(name: str) -> list[Chore]:
    """Return the chore of this name alone, with a short period."""
    (found,) = (chore for chore in CHORES if chore.name == name)
    return [replace(found, every=0.05, again=0.05)]


def patient(temporal: FakeTemporal) -> Relay:
    """Return a relay whose leases outlast however slow this machine is."""
    relay = Relay(temporal, chores=())
    for one in relay.rounds:
        one.carrier = replace(one.carrier, lease=timedelta(hours=1))
    return relay


def everything_delivered() -> bool:
    return not OutboxEntry.objects.filter(delivered_at=None).exists()


def is_beating() -> bool:
    return PartHeartbeat.objects.filter(part="relay").exists()


def ask_to_start(run: Run) -> OutboxEntry:
    payload = {"run_id": run.pk, "agent": run.agent, "turn_seconds": 600}
    return OutboxEntry.objects.get(pk=outbox.enqueue(kind=Kind.START_RUN, subject=run.pk, payload=payload))


def make_due() -> None:
    """Let the time until the next try pass."""
    OutboxEntry.objects.filter(delivered_at=None).update(due_at=database_now() - timedelta(seconds=1))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [outbox.CHANNEL])


@pytest.fixture
def temporal_double(monkeypatch: pytest.MonkeyPatch) -> FakeTemporal:
    monkeypatch.setattr(module, "KNOCK_SECONDS", 0.01)
    return FakeTemporal()


def test_a_run_is_started_once_and_told_so(transactional_db: None, temporal_double: FakeTemporal) -> None:
    run = make_run()
    ask_to_start(run)
    relaying(lambda: until(lambda: everything_delivered() and is_beating()), Relay(temporal_double, chores=()))
    assert not is_beating()
    assert temporal_double.calls == [f"start {run.pk}"]
    assert temporal_double.started[run.pk].turn_seconds == 600
    run.refresh_from_db()
    assert (run.status, run.temporal_run_id) == ("running", f"temporal-{run.pk}")
    assert run.started_at is not None


def test_a_run_that_is_further_on_keeps_its_status(transactional_db: None, temporal_double: FakeTemporal) -> None:
    run = make_run(status="waiting")
    ask_to_start(run)
    relaying(lambda: until(everything_delivered), Relay(temporal_double, chores=()))
    run.refresh_from_db()
    assert (run.status, run.temporal_run_id) == ("waiting", f"temporal-{run.pk}")


def test_a_decision_is_signalled_once_with_ids_only(transactional_db: None, temporal_double: FakeTemporal) -> None:
    run = make_run(status="waiting")
    approval = decide(open_for(run))
    temporal_double.started[run.pk] = services.workflow_input({"run_id": run.pk, "agent": "support", "turn_seconds": 1})
    relaying(lambda: until(everything_delivered), Relay(temporal_double, chores=()))
    assert temporal_double.signals == [(run.pk, approval.pk, approval.decisions.get().pk)]
    assert len(temporal_double.calls) == 1
    assert [step.step for step in approval.receipt.order_by("id")] == ["recorded", "signalled"]


def test_while_temporal_is_away_entries_wait_and_then_arrive(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    runs = [make_run(), make_run()]
    for run in runs:
        ask_to_start(run)
    temporal_double.is_away = True
    relay = Relay(temporal_double, chores=())

    async def scene() -> None:
        await until(lambda: OutboxEntry.objects.exclude(last_error="").count() == 2)
        assert relay._detail() == "waiting for Temporal"
        await until(lambda: temporal_double.calls.count("knock") >= 3)
        entries = await in_database(lambda: list(OutboxEntry.objects.all()))
        assert {(entry.attempts, entry.delivered_at) for entry in entries} == {(1, None)}  # knocking claims nothing
        assert "cannot be reached" in entries[0].last_error
        temporal_double.is_away = False
        await until(everything_delivered)
        assert relay._detail() == "delivering"

    relaying(scene, relay)
    assert set(OutboxEntry.objects.values_list("last_error", flat=True)) == {""}
    assert set(temporal_double.started) == {run.pk for run in runs}


def test_no_more_is_claimed_before_a_failed_delivery_was_given_back(
    transactional_db: None, temporal_double: FakeTemporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, other = make_run(), make_run()
    temporal_double.errors[bad.pk] = TemporalRefused("not this one")
    entry = ask_to_start(bad)
    giving_back, may_go_on = threading.Event(), threading.Event()

    def slowly(*given: Any) -> None:
        giving_back.set()
        assert may_go_on.wait(PATIENCE)
        put_back(*given)

    monkeypatch.setattr(module, "put_back", slowly)
    relay = Relay(temporal_double, chores=())

    async def scene() -> None:
        await asyncio.to_thread(giving_back.wait, PATIENCE)
        await in_database(lambda: ask_to_start(other))
        await until(lambda: any(one._claiming._waiters for one in relay.rounds))
        assert await in_database(lambda: OutboxEntry.objects.get(subject=other.pk).attempts) == 0
        may_go_on.set()
        await until(lambda: OutboxEntry.objects.get(subject=other.pk).delivered_at is not None)

    relaying(scene, relay)
    entry.refresh_from_db()
    assert entry.last_error == "not this one"


def test_what_is_past_its_deadline_closes_though_nobody_waits_for_it_any_more(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    run = make_run(status="waiting")
    approval = open_for(run)
    temporal_double.started[run.pk] = services.workflow_input({"run_id": run.pk, "agent": "support", "turn_seconds": 1})
    past = database_now() - timedelta(hours=100)
    ladder = [rung | {"at": past.isoformat()} for rung in approval.ladder]
    Approval.objects.filter(pk=approval.pk).update(ladder=ladder, due_at=past)
    relaying(
        lambda: until(lambda: OutboxEntry.objects.filter(kind=Kind.DECIDED, delivered_at__isnull=False).exists()),
        Relay(temporal_double, chores=quick("close what is past its deadline")),
    )
    approval.refresh_from_db()
    assert approval.status == "expired"
    assert temporal_double.signals == [
        (run.pk, approval.pk, f"{approval.pk}:expired")
    ]  # a workflow that lives hears it


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 1), (2, 2), (4, 8), (6, 32), (7, 60), (400, 60)])
def test_each_failure_waits_longer_up_to_a_minute(transactional_db: None, attempts: int, seconds: int) -> None:
    entry = ask_to_start(make_run())
    before = database_now()
    put_back(
        Claimed(entry.pk, entry.kind, entry.subject, entry.payload, attempts),
        "no\x00",
        TEMPORAL.backoff.pause(attempts),
    )
    entry.refresh_from_db()
    assert entry.last_error == "no␀", "as it can be kept"
    assert before <= entry.due_at - timedelta(seconds=seconds) <= database_now()


def test_entries_that_nobody_can_deliver_do_not_stop_the_others(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    for number in range(TEMPORAL.at_once):
        outbox.enqueue(kind=Nonsense.NONSENSE, subject=f"n{number}", payload={})
    outbox.enqueue(kind=Kind.START_RUN, subject="broken", payload={"no": "run id"})
    outbox.enqueue(kind=Kind.DECIDED, subject="broken", payload={})
    run = make_run()
    good = ask_to_start(run)
    relaying(
        lambda: until(lambda: OutboxEntry.objects.get(pk=good.pk).delivered_at is not None),
        Relay(temporal_double, chores=()),
    )
    poison = OutboxEntry.objects.exclude(pk=good.pk)
    assert poison.filter(delivered_at=None).count() == TEMPORAL.at_once + 2
    assert not poison.filter(last_error="").exists()
    assert "Nobody knows how to deliver 'nonsense'" in poison.order_by("id")[0].last_error
    assert "KeyError" in poison.filter(subject="broken")[0].last_error


def test_an_unexpected_error_of_one_entry_does_not_stop_the_others(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    bad, good = make_run(), make_run()
    temporal_double.errors[bad.pk] = ZeroDivisionError("a bug")
    ask_to_start(bad)
    entry = ask_to_start(good)
    relaying(
        lambda: until(lambda: OutboxEntry.objects.get(pk=entry.pk).delivered_at is not None),
        Relay(temporal_double, chores=()),
    )
    assert OutboxEntry.objects.get(subject=bad.pk).last_error == "ZeroDivisionError: a bug"


def test_two_relays_share_the_work_and_deliver_nothing_twice(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    runs = [make_run() for _ in range(TEMPORAL.at_once * 2 + 10)]
    for run in runs:
        ask_to_start(run)
    relaying(lambda: until(everything_delivered), patient(temporal_double), patient(temporal_double))
    assert sorted(temporal_double.calls) == sorted(f"start {run.pk}" for run in runs)
    assert set(OutboxEntry.objects.values_list("attempts", flat=True)) == {1}


def test_what_a_killed_relay_had_taken_comes_back_when_its_lease_ends(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    run = make_run()
    taken = ask_to_start(run)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(CLAIM, Relay(temporal_double, chores=()).rounds[0].claim())  # and then it was killed
        assert cursor.rowcount == 1
        taken.refresh_from_db()
        assert taken.due_at - database_now() == timedelta(seconds=30)
    OutboxEntry.objects.update(due_at=database_now() + timedelta(hours=1))  # however slow the machine is
    other = make_run()
    ask_to_start(other)

    async def scene() -> None:
        await until(lambda: OutboxEntry.objects.filter(subject=other.pk, delivered_at__isnull=False).exists())
        assert temporal_double.calls == [f"start {other.pk}"]  # the lease holds
        await in_database(make_due)
        await until(everything_delivered)

    relaying(scene, Relay(temporal_double, chores=()))
    assert temporal_double.calls[-1] == f"start {run.pk}"


def test_a_relay_that_stops_finishes_what_it_has_in_hand(transactional_db: None, temporal_double: FakeTemporal) -> None:
    ask_to_start(make_run())
    temporal_double.gate = asyncio.Event()

    async def inside() -> None:
        assert temporal_double.gate is not None
        stop = asyncio.Event()
        running = asyncio.create_task(Relay(temporal_double, chores=()).run(stop))
        await temporal_double.heard.wait()
        stop.set()
        await until(lambda: True)
        assert not running.done()
        temporal_double.gate.set()
        async with asyncio.timeout(PATIENCE):
            await running

    go(inside())
    assert everything_delivered()


def _signal_to_gone(status: str) -> tuple[Run, Approval]:
    run = make_run(status="waiting")
    approval = decide(open_for(run))
    Run.objects.filter(pk=run.pk).update(status=status)
    return run, approval


def test_a_decision_for_a_run_that_has_ended_is_stamped_with_why(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    _, approval = _signal_to_gone("cancelled")
    relaying(lambda: until(everything_delivered), Relay(temporal_double, chores=()))
    assert approval.receipt.get(step="signalled").detail == "the run had ended"


def test_a_decision_for_a_run_whose_workflow_is_not_there_yet_is_tried_again(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    run, approval = _signal_to_gone("starting")
    OutboxEntry.objects.filter(pk=ask_to_start(run).pk).update(due_at=database_now() + timedelta(hours=1))

    async def scene() -> None:
        await until(lambda: OutboxEntry.objects.exclude(last_error="").exists())
        assert not await in_database(everything_delivered)
        await temporal_double.start_run(
            services.workflow_input({"run_id": run.pk, "agent": "support", "turn_seconds": 1})
        )
        await in_database(make_due)
        await until(everything_delivered)

    relaying(scene, Relay(temporal_double, chores=()))
    assert [signal[1] for signal in temporal_double.signals] == [approval.pk]
    assert approval.receipt.get(step="signalled").detail == ""


def test_a_commit_wakes_the_relay_and_not_the_clock(
    transactional_db: None, temporal_double: FakeTemporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 3600)
    first, second = make_run(), make_run()
    ask_to_start(first)

    def commit() -> None:
        with transaction.atomic():
            ask_to_start(second)
            assert temporal_double.calls == [f"start {first.pk}"]

    async def scene() -> None:
        await until(everything_delivered)
        temporal_double.heard.clear()
        await in_database(commit)
        async with asyncio.timeout(PATIENCE):
            await temporal_double.heard.wait()
        await until(everything_delivered)

    relaying(scene, Relay(temporal_double, chores=()))
    assert temporal_double.calls == [f"start {first.pk}", f"start {second.pk}"]


def test_the_audit_chains_head_is_written_down_beside_the_deliveries(
    transactional_db: None, temporal_double: FakeTemporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_for(make_run())  # makes an entry

    def is_newest_kept() -> bool:
        kept = heads.kept()
        return bool(kept) and kept[-1].digest == audit.verify().head

    async def scene() -> None:
        await until(is_newest_kept)
        await in_database(lambda: open_for(make_run()))
        await until(is_newest_kept)

    relaying(scene, Relay(temporal_double, chores=quick("keep the audit head")))
    assert len(heads.kept()) >= 2


def test_a_decision_that_becomes_late_is_told_to_open_pages(
    transactional_db: None, temporal_double: FakeTemporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(stalled, "announce", lambda *topics: told.append(topics))
    approval = decide(open_for(make_run(status="waiting")))
    temporal_double.is_away = True

    def become_late() -> None:
        Approval.objects.update(expected_by=database_now() - timedelta(seconds=1))

    async def scene() -> None:
        await until(lambda: OutboxEntry.objects.exclude(last_error="").exists())
        assert told == []
        await in_database(become_late)
        await until(lambda: bool(told))
        await until(lambda: PartHeartbeat.objects.filter(detail="waiting for Temporal").exists())
        page = await in_database(stalled.lane_page, reviewer())
        assert "Temporal is away" in page.items[0].standstill.sentence

    relaying(scene, Relay(temporal_double, chores=quick("tell pages what stands still")))
    assert told == [("inbox", f"approval:{approval.pk}")]


def test_an_entry_that_can_never_be_delivered_stands_in_the_lane_while_the_others_arrive(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    run = make_run(status="waiting")
    poison, good = decide(open_for(run)), decide(open_for(run))
    head, _ = OutboxEntry.objects.order_by("id")
    OutboxEntry.objects.filter(pk=head.pk).update(payload={"approval_id": poison.pk})  # names no run
    temporal_double.started[run.pk] = services.workflow_input({"run_id": run.pk, "agent": "support", "turn_seconds": 1})

    def was_given_back(times: int) -> bool:
        entry = OutboxEntry.objects.get(pk=head.pk)
        return entry.attempts == times and entry.due_at < database_now() + timedelta(seconds=25)  # not the lease

    async def scene() -> None:
        for times in range(1, 4):
            await until(lambda wanted=times: was_given_back(wanted))  # type: ignore[misc]
            await in_database(make_due)

    relaying(scene, Relay(temporal_double, chores=()))
    assert [signal[1] for signal in temporal_double.signals] == [good.pk]
    Approval.objects.update(expected_by=database_now() - timedelta(seconds=1))
    PartHeartbeat.objects.create(part="relay", instance="here", detail="delivering")
    found = {item.approval.pk: item.standstill for item in stalled.lane_page(reviewer()).items}
    assert found[poison.pk].cause == "undelivered" and "could not be told" in found[poison.pk].sentence
    assert found[poison.pk].words == "KeyError: 'run_id'"
    assert found[good.pk].cause == "not_taken"


@pytest.mark.parametrize("lost", ["LISTEN %", "%UPDATE console_outboxentry SET attempts%"])
def test_a_lost_database_connection_is_made_again(
    lost: str, transactional_db: None, temporal_double: FakeTemporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.2)
    ask_to_start(make_run())

    def cut() -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE %s",
                [lost],
            )
            count: int = cursor.fetchone()[0]
            return count

    async def scene() -> None:
        await until(everything_delivered)
        assert await in_database(cut) == 1
        await in_database(lambda: ask_to_start(make_run()))
        await until(everything_delivered)

    relaying(scene, Relay(temporal_double, chores=()))
    assert len(temporal_double.calls) == 2


def test_a_database_that_is_away_when_an_answer_comes_leaves_the_entry_to_its_lease(
    transactional_db: None, temporal_double: FakeTemporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    ask_to_start(make_run())
    tried: list[str] = []

    def away(*_: Any) -> None:
        tried.append("stamp" if len(tried) == 0 else "put back")
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(deliveries_module, "note_started", away)
    monkeypatch.setattr(module, "put_back", away)

    async def scene() -> None:
        await until(lambda: len(tried) == 2)

    relaying(scene, Relay(temporal_double, chores=()))  # which would fail with the lost task's error
    entry = OutboxEntry.objects.get()
    assert (entry.delivered_at, entry.attempts) == (None, 1)


def test_a_relay_without_temporal_looks_again_and_says_so(
    transactional_db: None, temporal_double: FakeTemporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration.errors import TemporalAway

    tries: list[int] = []

    async def connect() -> FakeTemporal:
        tries.append(1)
        if len(tries) < 3:
            raise TemporalAway("not yet")
        return temporal_double

    monkeypatch.setattr(RealTemporal, "connect", connect)
    ask_to_start(make_run())
    relay = Relay(chores=())
    assert relay._detail() == "waiting for Temporal"
    relaying(lambda: until(everything_delivered), relay)
    assert (len(tries), relay._detail()) == (3, "delivering")


def test_a_temporal_that_stops_answering_is_noticed_with_nothing_to_deliver(
    transactional_db: None, temporal_double: FakeTemporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(temporal_double, chores=quick("knock at Temporal"))

    async def scene() -> None:
        await until(lambda: relay._state() == (True, "delivering"))
        temporal_double.is_away = True
        await until(lambda: relay._state() == (False, "waiting for Temporal"))
        temporal_double.is_away = False
        await until(lambda: relay._state()[0])

    relaying(scene, relay)
