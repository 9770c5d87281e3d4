"""The stuck situations on the real engines: each is made as it comes about, and what the run's page says is read.

SITUATIONS names the test of each. Two causes at once, over the facts, stand in `test_diagnosis.py`.
"""

from __future__ import annotations

import importlib
import signal
from datetime import timedelta
from typing import Final

import pytest
from django.contrib.auth.models import User
from django.db import connection

from console import health
from console.clock import database_now
from console.models import OutboxEntry
from dataplane.models import Dataset
from orchestration.actions import acting
from orchestration.agents.offline_model import OfflineModel
from orchestration.diagnosis import diagnosing, standing
from orchestration.diagnosis.causes import engines
from orchestration.diagnosis.diagnosing import Diagnosis
from orchestration.diagnosis.parts import note_parts
from orchestration.models import Effect, Lookout, Run
from orchestration.threads import in_database
from orchestration.turns import activity as module
from orchestration.turns import drive
from stack.temporal import Temporal
from tests.fakes import FakeWorld
from tests.orchestration.conftest import decide, go, reviewer
from tests.orchestration.ward import OtherCode, later, moody_graph, ward
from tests.waiting import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

HERE: Final = "tests.orchestration.test_situations_for_real"
UNDER_ONE_WORKER: Final = f"{HERE}::test_what_becomes_of_runs_under_one_worker"
WITHOUT: Final = f"{HERE}::test_what_becomes_of_runs_whose_worker_relay_or_server_goes"
CRASHED: Final = "tests.dataplane.test_flows_for_real"
FLOWS: Final = (
    "tests.dataplane.test_other_peoples_flows"
    "::test_a_late_run_and_a_dead_ones_slot_are_told_on_a_runs_page_and_the_slot_is_given_back"
)
BIG: Final = "tests.orchestration.test_big_run"
#: the eighteen that operators meet most, and more of our own: what it is -> the test that makes it
SITUATIONS: Final = {
    "no worker": WITHOUT,
    "an activity fails and is tried again": UNDER_ONE_WORKER,
    "the workflow's task fails": WITHOUT,
    "it waits, and nobody could decide": UNDER_ONE_WORKER,
    "decided, and Temporal hangs": WITHOUT,
    "nobody knows whether an effect happened": UNDER_ONE_WORKER,
    "the graph raised": UNDER_ONE_WORKER,
    "cancelled outside": UNDER_ONE_WORKER,
    "terminated outside": UNDER_ONE_WORKER,
    "reset outside": UNDER_ONE_WORKER,
    "checkpoints gone": UNDER_ONE_WORKER,
    "a turn of 90 s": f"{HERE}::test_what_takes_long_and_is_healthy_is_never_called_stuck",
    "the refresh of its data is late": FLOWS,
    "the refresh of its data crashed": f"{CRASHED}::test_a_flow_run_killed_at_its_worst_moment_publishes_once",
    "a dead flow run holds the slot": FLOWS,
    "2,700 checkpoints": f"{BIG}::test_a_page_of_a_big_run_is_small_and_costs_what_a_small_runs_does",
    "a dataset is stale": UNDER_ONE_WORKER,
    "the code changed under it": UNDER_ONE_WORKER,
    # our own
    "it waits for people": UNDER_ONE_WORKER,
    "the steps of a turn are used up": UNDER_ONE_WORKER,
    "an operator has paused it": UNDER_ONE_WORKER,
    "its workflow was deleted": UNDER_ONE_WORKER,
    "all places of the workers are taken": f"{HERE}::test_a_turn_that_waits_for_a_free_place_says_so",
    "the worker listens elsewhere": f"{HERE}::test_a_worker_that_listens_elsewhere_is_not_taken_for_one_that_works",
    "the worker does not know its activity": WITHOUT,
    "decided, and no relay": WITHOUT,
    "recorded, and Temporal hangs": WITHOUT,
    "its end was asked for, and no worker": WITHOUT,
}


@pytest.fixture(autouse=True)
def people(transactional_db: None, olga: User, monkeypatch: pytest.MonkeyPatch) -> None:
    reviewer("alice")
    reviewer("bob")
    monkeypatch.setattr(drive, "graph_of", lambda agent: moody_graph())
    monkeypatch.setattr(module, "chat_model", OfflineModel)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_each_situation_has_its_test(situation: str) -> None:
    where, _, name = SITUATIONS[situation].partition("::")
    assert callable(getattr(importlib.import_module(where), name))


def test_what_becomes_of_runs_under_one_worker(temporal: Temporal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing, a raising and a circling graph, people, nobody, an unknown effect, ends from outside, a reset."""
    world = FakeWorld()

    async def play() -> None:
        async with ward(temporal, world) as at, at.relay(), at.worker():
            failing, raised, circles = await at.run("fail"), await at.run("raise"), await at.run("circle")
            waiting, mail, ended, killed, deleted, reset, lost, changed, paused = [
                await at.run(mood) for mood in ("ask", "mail", *["ask"] * 7)
            ]

            # an activity fails and is tried again: which attempt, of what, since when, when next
            found = await at.caused(
                failing,
                "turn_failing",
                "Turn 1 fails, attempt",
                "ConnectionError in the node “plan”: the model is away",
                who=["olga"],
                offers=["retry_now", "fail_activity", "cancel", "end"],
                state="waiting",  # it is tried again by itself for a while
            )
            assert found.since is not None and f"since {found.since:%-d %b %Y %H:%M} UTC" in found.sentence

            # the graph raised: at which node, of what
            found = await at.caused(
                raised,
                "graph_raised",
                "at the node “plan” in turn 1",
                "KeyError in the node “plan”: 'customer_tier'",
                state="failed",
                offers=["fork", "reset"],
            )
            assert found.links and found.since is not None
            await at.caused(circles, "budget_used", "It used up what it may use", "more steps", state="failed")

            # waiting for whom, by name, and until when
            asked = await at.asks(waiting)
            found = await at.caused(
                waiting,
                "waiting_for_people",
                "alice or bob",
                f"until {asked.due_at:%-d %b %Y %H:%M} UTC, then it expires",
                state="waiting",
                who=["alice", "bob"],
                offers=["hand_over", "cancel"],
            )
            assert not found.needs_somebody and found.since == asked.opened_at

            # its data is stale
            def stale() -> None:
                since = database_now() - timedelta(days=3)
                Dataset.objects.create(name="prices", title="Prices", fresh_for=timedelta(hours=1), confirmed_at=since)
                Run.objects.filter(pk=waiting.pk).update(dataset_versions=[{"dataset": "prices", "version": 4}])

            await in_database(stale)
            await at.caused(
                waiting, "waiting_for_people", "prices version 4 may be out of date", "An admin can refresh"
            )

            # an effect of which nobody saw the end: a mail that had left
            asked = await at.asks(mail)
            world.mail_error = TimeoutError("the line was cut")
            await in_database(decide, asked)
            await until(Effect.objects.filter(pk=asked.pk, status="unknown").exists)
            found = await at.caused(
                mail, "effect_unknown", "Nobody saw whether send_email happened", "alice or bob has to say so until"
            )
            assert found.who == ["alice", "bob"] and found.since is not None and found.needs_somebody
            assert [words for words, _ in found.links] == ["Say whether it happened"]

            # cancelled, terminated and deleted outside
            await at.asks(ended)
            await at.client.get_workflow_handle(ended.pk).cancel()
            await until(Run.objects.filter(pk=ended.pk, status="cancelled").exists)
            await at.caused(ended, "cancelled", "it came from outside of Signalbox", state="finished")
            await at.asks(killed)
            await at.client.get_workflow_handle(killed.pk).terminate(reason="cleanup by ops")
            found = await at.caused(
                killed,
                "ended_outside",
                "was terminated outside of Signalbox",
                "“cleanup by ops”",
                state="stuck",
                who=["olga"],
                offers=["end"],
            )
            assert found.since is not None
            await at.asks(deleted)
            await at.deleted(deleted)
            await at.caused(
                deleted, "ended_outside", "is not known to Temporal any more", state="stuck", offers=["end"]
            )

            # reset from outside: it goes on in another Temporal run, with the same request
            first = await at.asks(reset)
            await at.reset(reset)
            await until(lambda: len(Run.objects.get(pk=reset.pk).temporal_run_ids) == 2)
            assert (await at.asks(reset)).pk == first.pk
            await at.caused(reset, "waiting_for_people", "alice or bob", state="waiting")

            # an operator has paused it, and resumes it
            await at.asks(paused)
            await in_database(_act, paused, "pause")
            await at.caused(paused, "paused", "Paused by olga: A test", state="waiting", offers=["resume", "end"])
            await in_database(_act, paused, "resume")
            await at.caused(paused, "waiting_for_people", state="waiting")

            # checkpoints gone
            await at.asks(lost)

            def lose() -> None:
                with connection.cursor() as cursor:
                    cursor.execute("DELETE FROM agent.checkpoints WHERE thread_id = %s", [lost.pk])

            await in_database(lose)
            await at.caused(
                lost,
                "checkpoints_gone",
                "is not in the database",
                "cannot go on, whatever is decided",
                state="stuck",
                who=["olga"],
                offers=["end", "cancel"],
            )

            # the agent's code changed: its gate is called otherwise
            asked = await at.asks(changed)
            monkeypatch.setattr(drive, "graph_of", lambda agent: moody_graph(gate="desk"))
            await in_database(decide, asked)
            await at.caused(changed, "code_changed", "code changed", "“gate”", state="failed", offers=["fork", "reset"])
            assert not await in_database(Effect.objects.filter(run=changed).exists)

            # nobody who could decide
            await in_database(_leave)
            found = await at.caused(
                waiting,
                "nobody_can_decide",
                "not active any more: alice, bob",
                state="stuck",
                who=["olga"],
                offers=["hand_over", "ask_again", "cancel"],
            )
            assert found.since is not None
            # and the watcher has put each that needs somebody into the stuck list, and no other
            wanted = {waiting.pk: "nobody_can_decide", reset.pk: "nobody_can_decide", paused.pk: "nobody_can_decide"}
            wanted |= {mail.pk: "nobody_can_decide", lost.pk: "checkpoints_gone"}
            await until(lambda: _listed(wanted))

    go(play())


def _leave() -> None:
    User.objects.filter(username__in=("alice", "bob")).update(is_active=False)


def _act(run: Run, action: str) -> None:
    acting.act(run_id=run.pk, action=action, reason="A test.", by=User.objects.get(username="olga"))


def _listed(wanted: dict[str, str]) -> bool:
    found = dict(Run.objects.filter(pk__in=wanted).exclude(cause="").values_list("pk", "cause"))
    return found == wanted


def test_what_becomes_of_runs_whose_worker_relay_or_server_goes(temporal: Temporal) -> None:
    """No worker, one with other code, one that knows no turns, no relay, and a Temporal that hangs."""
    world = FakeWorld()

    async def play() -> None:
        async with ward(temporal, world) as at:
            async with at.relay():
                async with at.worker():
                    clash, decided, third = [await at.run() for _ in range(3)]
                    asked, later_asked, third_asked = [await at.asks(run) for run in (clash, decided, third)]

                # no worker: our own heartbeat says so, though its polls are still listed
                alone = await at.run()
                words = ("No worker is alive since", "goes on by itself")
                found = await at.caused(alone, "no_worker", *words, state="waiting")  # it may come back soon
                assert found.since is not None
                await in_database(_long_gone)
                await at.caused(alone, "no_worker", "Turn 1 stands still", state="stuck", who=["olga"], offers=["end"])
                await in_database(_act, alone, "cancel")
                await at.caused(alone, "no_worker", "Its end waits for one", state="stuck")
                async with at.worker():
                    await until(Run.objects.filter(pk=alone.pk, status="cancelled").exists)
                await in_database(decide, asked)
                await at.caused(clash, "no_worker", "The decision waits to be taken up")

                # a worker with other workflow code, and none that knows its activity
                async with at.worker(OtherCode):
                    found = await at.caused(
                        clash,
                        "workflow_task_failing",
                        "attempt",
                        "another one than that which made its history",
                        "@",  # which worker
                        state="stuck",
                        who=["olga"],
                        offers=["reset", "end"],
                    )
                    assert found.since is not None
                async with at.worker(knows_turns=False):
                    strange = await at.run()
                    await at.caused(
                        strange, "turn_failing", "Turn 1 fails, attempt", "is not registered", offers=["end"]
                    )
                async with at.worker():  # the code that it began with is back
                    await until(Run.objects.filter(pk=clash.pk, status="finished").exists)
                    await at.asks(strange)

            # no relay
            await in_database(decide, third_asked)
            await at.caused(third, "undelivered", "Decided by alice", "not delivered: no relay is alive since")
            async with at.relay(), at.worker():
                await until(Run.objects.filter(pk=third.pk, status="finished").exists)

            # Temporal takes the question and never answers: what was decided is kept, and said
            assert temporal.process is not None
            async with at.relay():
                temporal.process.send(signal.SIGSTOP)
                try:
                    await in_database(decide, later_asked)
                    began = await at.run()
                    words = ("Decided by alice", "not delivered: Temporal does not answer since")
                    await at.caused(decided, "undelivered", *words, offers=["resend"], now=_by_rows)
                    await at.caused(began, "not_started", "not begun: Temporal does not answer since", now=_by_rows)
                finally:
                    temporal.process.send(signal.SIGCONT)
                async with at.worker():
                    await until(Run.objects.filter(pk=decided.pk, status="finished").exists)
                    await at.asks(began)
            assert len(world.shop.refunds) == 3, "each of the three was paid once"

    go(play())


async def _by_rows(run: Run) -> Diagnosis:
    """Say what a page says that had no answer of Temporal's."""

    def say() -> Diagnosis:
        (found,) = diagnosing.diagnose_many([Run.objects.get(pk=run.pk)])
        return found

    return await in_database(say)


def _long_gone() -> None:
    """Let no worker have been there for ten minutes."""
    note_parts(None)
    Lookout.objects.filter(pk=1).update(no_worker_since=database_now() - timedelta(minutes=10))


def test_a_turn_that_waits_for_a_free_place_says_so(temporal: Temporal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "SLOT_WITHIN", timedelta())  # said from the first moment on

    async def play() -> None:
        async with ward(temporal, FakeWorld()) as at, at.relay(), at.worker(turns_at_once=1):
            first = await at.run("slow")
            await at.caused(first, "working", "Works on turn 1", "the node “plan” since", state="healthy")
            second = await at.run()
            found = await at.caused(second, "no_free_place", "Turn 1 waits for a free place in a worker since")
            assert found.who == ["olga"] and found.since is not None
            at.release()
            await at.asks(second)
            await at.caused(first, "finished", state="finished")

    go(play())


def test_a_worker_that_listens_elsewhere_is_not_taken_for_one_that_works(
    temporal: Temporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "RESTARTS_WITHIN", timedelta())

    async def play() -> None:
        async with ward(temporal, FakeWorld()) as at, at.relay():
            async with at.worker(queue="another queue"):
                run = await at.run()
                words = ("waits for a worker since", "though one is alive", "listen to another task queue")
                found = await at.caused(run, "task_not_answered", *words, state="stuck", offers=["end"])
                assert found.who == ["olga"] and found.since is not None
            async with at.worker():
                await at.asks(run)

    go(play())


def test_what_takes_long_and_is_healthy_is_never_called_stuck(temporal: Temporal) -> None:
    """A turn of 90 s, a wait of 72 h and a worker that restarts for two minutes, by the database's clock.

    The same clock a little further on makes the last one stuck, so that the watcher looks at all.
    """

    async def play() -> None:
        async with ward(temporal, FakeWorld()) as at:
            async with at.worker():
                async with at.relay():
                    slow, waiting = await at.run("slow"), await at.run()
                    asked = await at.asks(waiting)
                    await at.caused(slow, "working", "the node “plan” since")
                # from here on a relay's watcher is played by hand, at the moment that the clock shows

                def after_90_seconds() -> Diagnosis:
                    with later(seconds=90):
                        _watch("worker")
                        return _diagnosed(slow, seen)

                seen = (await at.now(slow)).look
                found = await in_database(after_90_seconds)
                assert (found.cause.name, found.needs_somebody) == ("working", False), found.whole
                assert "It has until" in found.whole and " since 9" in found.whole, found.whole

                def before_its_end() -> Diagnosis:
                    left = asked.due_at - database_now()
                    with later(seconds=left.total_seconds() - 60):
                        _watch("worker")
                        return _diagnosed(waiting, None)

                assert asked.due_at - asked.opened_at >= timedelta(hours=71)
                found = await in_database(before_its_end)
                assert (found.cause.name, found.needs_somebody) == ("waiting_for_people", False), found.whole

                await in_database(decide, asked)
            await in_database(OutboxEntry.objects.update, delivered_at=await in_database(database_now))
            await in_database(_watch)  # the worker has just gone

            def restarts(**time: float) -> Diagnosis:
                with later(**time):
                    _watch()
                    return _diagnosed(waiting, None)

            found = await in_database(restarts, minutes=2)
            assert (found.cause.name, found.state) == ("no_worker", "waiting"), found.whole
            assert await in_database(_stuck) == []
            found = await in_database(restarts, minutes=4)
            assert (found.cause.name, found.state) == ("no_worker", "stuck"), found.whole
            assert set(await in_database(_stuck)) == {slow.pk, waiting.pk}
            at.release()

    go(play())


def _watch(*alive: str) -> None:
    """Examine all runs as a relay's watcher does, with these parts alive besides the relay."""
    for part in ("relay", *alive):
        health.beat(part, "works", ok=True)
    Run.objects.update(looked_at=None, look_due_at=database_now())
    standing.step(None)
    if "worker" in alive:
        assert _stuck() == []


def _stuck() -> list[str]:
    return list(Run.objects.exclude(cause="").values_list("pk", flat=True))


def _diagnosed(run: Run, seen: object) -> Diagnosis:
    (found,) = diagnosing.diagnose_many([Run.objects.get(pk=run.pk)], looks={run.pk: seen} if seen else None)  # type: ignore[dict-item]
    return found
