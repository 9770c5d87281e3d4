"""Why a run stands where it stands: each cause by itself, two at once, and what is healthy and never called stuck."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from approvals import services as approvals
from approvals.models import Approval
from console import outbox
from console.clock import database_now
from console.models import OutboxEntry, PartHeartbeat
from console.outbox import Kind
from dataplane.models import Dataset
from orchestration import services
from orchestration.diagnosis import diagnosing, look
from orchestration.diagnosis.look import LatestLook, Look, TurnActivity
from orchestration.diagnosis.table import BESIDES, CAUSES
from orchestration.models import Effect, Lookout, Run
from orchestration.temporal_protocol import WorkflowTaskFault
from tests.api_caller import Caller
from tests.orchestration.conftest import decide, go, make_run, open_for, reviewer

pytestmark = pytest.mark.django_db

#: the actions that the public interface names
PUBLIC = {"cancel", "end", "retry_now", "fail_activity", "pause", "resume", "reset", "fork", "ask_again", "hand_over"}
PUBLIC |= {"resend", "raise_limits", "signal", "query", "update"}
NON_DETERMINISM = WorkflowTaskFault(
    "NON_DETERMINISTIC_ERROR",
    "[TMPRL1100] Nondeterminism error: Timer machine does not handle this event: ActivityTaskScheduled",
    "4711@worker-7",
    datetime.fromisoformat("2026-11-28T15:00:00+00:00"),
)


class Scene:
    """One run, and what is the matter with it; each method adds something, and returns the scene."""

    def __init__(self) -> None:
        reviewer("alice")
        reviewer("bob")
        olga, _ = User.objects.get_or_create(username="olga")
        olga.groups.add(Group.objects.get_or_create(name="operator")[0])
        self.now = database_now()
        self.run = make_run(status="running", turn=1, started_at=self.now)
        self.look: dict[str, Any] = {"at": self.now.isoformat(), "status": "running"}
        for part in ("worker", "relay"):
            PartHeartbeat.objects.create(part=part, instance="here", detail="works", ok=True)

    def ago(self, **time: float) -> datetime:
        return self.now - timedelta(**time)

    def row(self, **changes: Any) -> Scene:
        Run.objects.filter(pk=self.run.pk).update(**changes)
        return self

    def temporal(self, **said: Any) -> Scene:
        self.look |= said
        return self

    def working(self, seconds: float = 10, **changes: Any) -> Scene:
        since = self.ago(seconds=seconds).isoformat()
        said: dict[str, Any] = {"state": "started", "attempt": 1, "since": since, "node": "plan", "node_since": since}
        return self.temporal(turn=TurnActivity(**said | changes))

    def silent(self, part: str, **time: float) -> Scene:
        PartHeartbeat.objects.filter(part=part).update(last_seen_at=self.ago(**time))
        return self

    def temporal_away(self, **time: float) -> Scene:
        away = {"temporal_away_since": self.ago(**time), "temporal_fault": "connection refused"}
        Lookout.objects.update_or_create(pk=1, defaults=away)
        return self

    def asks(self, **changes: Any) -> Scene:
        self.row(status="waiting")
        self.approval = open_for(self.run, **changes)
        return self

    def decided(self, delivered: bool = False, **time: float) -> Scene:
        decide(self.approval)
        OutboxEntry.objects.update(created_at=self.ago(**(time or {"seconds": 40})))
        if delivered:
            OutboxEntry.objects.update(delivered_at=self.now)
        return self

    def restarting(self, **time: float) -> Scene:
        outbox.enqueue(kind=Kind.RESTART_RUN, subject=self.run.pk, payload={"run_id": self.run.pk})
        OutboxEntry.objects.update(created_at=self.ago(**time))
        return self

    def refused(self) -> Scene:
        approvals.note_not_taken(approval_id=self.approval.pk, detail="It held another call.")
        return self

    def late(self) -> Scene:
        Approval.objects.update(expected_by=self.ago(seconds=1))
        return self

    def nobody(self) -> Scene:
        User.objects.filter(username__in=("alice", "bob")).update(is_active=False)
        return self

    def fails(self, attempt: int = 51, minutes: float = 24, message: str = "ConnectError: the model is away") -> Scene:
        since = self.ago(minutes=minutes)
        failure = {"turn": 1, "attempt": attempt, "at": self.now.isoformat(), "kind": "ConnectError", "times": attempt}
        failure |= {"message": message, "since": since.isoformat(), "node": "plan"}
        failure["next_try_at"] = (self.now + timedelta(seconds=20)).isoformat()
        return self.row(failure=failure, failing_since=since)

    def task_fails(self) -> Scene:
        fault = {"cause": NON_DETERMINISM.cause, "words": NON_DETERMINISM.words, "worker": NON_DETERMINISM.worker}
        return self.temporal(task_attempt=5, fault=fault | {"at": NON_DETERMINISM.at.isoformat()})

    def effect(self, status: str, minutes: float = 10) -> Scene:
        approval = decide(open_for(self.run))
        OutboxEntry.objects.update(delivered_at=self.now)
        approval.receipt.create(step="resumed", at=self.now)
        self.done = Effect.objects.create(
            approval_id=approval.pk,
            run=self.run,
            tool="send_email",
            digest=approval.digest,
            decision_id="dec_1",
            is_idempotent=False,
            status=status,
            fence=1,
            started_at=self.ago(minutes=minutes),
        )
        return self

    def closed(self, status: str, kind: str, message: str, **more: str) -> Scene:
        self.row(turn=2)
        services.close_run(run_id=self.run.pk, status=status, kind=kind, message=message)
        return self.row(error={"kind": kind, "message": message, **more})

    def stale(self) -> Scene:
        Dataset.objects.create(
            name="prices", title="Prices", fresh_for=timedelta(hours=1), confirmed_at=self.ago(days=3)
        )
        return self.row(dataset_versions=[{"dataset": "prices", "version": 4}])

    def starting(self, **time: float) -> Scene:
        self.row(status="starting")
        entry = outbox.enqueue(kind=Kind.START_RUN, subject=self.run.pk, payload={"run_id": self.run.pk})
        OutboxEntry.objects.filter(pk=entry).update(created_at=self.ago(**time))
        return self

    def ending(self, delivered: bool, **time: float) -> Scene:
        at = self.ago(**time)
        self.row(ending={"action": "cancel", "by": "olga", "reason": "Wrong order", "at": at.isoformat()})
        entry = outbox.enqueue(kind=Kind.CANCEL_RUN, subject=self.run.pk, payload={"run_id": self.run.pk})
        delivered_at = self.now if delivered else None
        OutboxEntry.objects.filter(pk=entry).update(created_at=at, delivered_at=delivered_at)
        return self

    def checkpoints_gone(self) -> Scene:
        return self.row(checkpoint_id="1f0aaaaa-0000-0000-8000-000000000000")

    def diagnosis(self) -> diagnosing.Diagnosis:
        run = Run.objects.get(pk=self.run.pk)
        (found,) = diagnosing.diagnose_many([run], looks={run.pk: Look(**self.look)})
        return found


Made = Callable[[Scene], Scene]
#: name -> how it is made, cause, state, words that its sentence has
SINGLE: dict[str, tuple[Made, str, str, list[str]]] = {
    "no worker": (
        lambda s: s.silent("worker", minutes=9),
        "no_worker",
        "stuck",
        ["No worker is alive since", "Turn 1 stands still"],
    ),
    "a worker that cannot work": (
        lambda s: s.row() if PartHeartbeat.objects.filter(part="worker").update(ok=False, detail="no polls") else s,
        "no_worker",
        "waiting",
        ["No worker can work since", "no polls"],
    ),
    "an activity fails": (
        lambda s: s.fails(),
        "turn_failing",
        "stuck",
        ["attempt 51", "ConnectError: the model is away", "next try is at", "the node “plan”"],
    ),
    "an activity failed once": (lambda s: s.fails(1, 0), "turn_failing", "waiting", ["attempt 1"]),
    "an activity that the worker does not know": (
        lambda s: s.temporal(
            turn=TurnActivity(
                "scheduled", 9, s.now.isoformat(), "Activity run_turn is not registered", s.now.isoformat()
            )
        ),
        "turn_failing",
        "stuck",
        ["attempt 8", "is not registered"],
    ),
    "a workflow task fails": (
        lambda s: s.task_fails(),
        "workflow_task_failing",
        "stuck",
        ["attempt 5", "another one than that which made its history", "ActivityTaskScheduled", "4711@worker-7"],
    ),
    "set back, Temporal away": (
        lambda s: s.row(status="starting", batch="bat_1").restarting(minutes=5).temporal_away(minutes=6),
        "not_started",
        "stuck",
        ["Set back", "not begun again: Temporal does not answer since"],
    ),
    "decided, and not given to the agent": (
        lambda s: s.asks().decided(delivered=True).late().refused().asks(),
        "waiting_for_people",
        "waiting",
        ["alice or bob"],
    ),
    "people": (
        lambda s: s.asks(),
        "waiting_for_people",
        "waiting",
        ["alice or bob", "“A refund”", "until", "then it expires"],
    ),
    "nobody could decide": (
        lambda s: s.asks().nobody(),
        "nobody_can_decide",
        "stuck",
        ["Nobody can decide this", "not active any more: alice, bob"],
    ),
    "decided, Temporal away": (
        lambda s: s.asks().decided(minutes=5).temporal_away(minutes=6),
        "undelivered",
        "stuck",
        ["Decided by alice", "not delivered: Temporal does not answer since"],
    ),
    "decided, no relay": (
        lambda s: s.asks().decided(minutes=5).silent("relay", minutes=6),
        "undelivered",
        "stuck",
        ["no relay is alive since"],
    ),
    "decided a moment ago": (lambda s: s.asks().decided(seconds=1), "undelivered", "healthy", ["about to do it"]),
    "told and not taken up": (
        lambda s: s.asks().decided(delivered=True).late(),
        "not_taken_up",
        "stuck",
        ["has not taken it up, though a worker is alive"],
    ),
    "an effect that nobody saw end": (
        lambda s: s.effect("unknown").asks(kind="outcome"),
        "effect_unknown",
        "stuck",
        ["Nobody saw whether send_email happened", "alice or bob has to say so until"],
    ),
    "an effect that takes long": (
        lambda s: s.effect("executing"),
        "effect_slow",
        "stuck",
        ["send_email is under way since", "1 attempt"],
    ),
    "the graph raised": (
        lambda s: s.closed("failed", "AgentError", "KeyError: 'customer_tier'", node="plan", trace="line 1"),
        "graph_raised",
        "failed",
        ["raised at the node “plan” in turn 2", "KeyError: 'customer_tier'"],
    ),
    "cancelled outside": (
        lambda s: s.closed("cancelled", "cancelled", "The run was cancelled."),
        "cancelled",
        "finished",
        ["outside of Signalbox"],
    ),
    "terminated outside, the row is open": (
        lambda s: s.asks().temporal(status="terminated", reason="cleanup by ops", closed_at=s.now.isoformat()),
        "ended_outside",
        "stuck",
        ["was terminated outside of Signalbox", "“cleanup by ops”"],
    ),
    "terminated outside, the row is closed": (
        lambda s: s.closed("cancelled", "ended_outside", "Ended outside: terminated, “cleanup by ops”."),
        "ended_outside",
        "failed",
        ["terminated, “cleanup by ops”"],
    ),
    "no workflow": (
        lambda s: s.temporal(status="not_found"),
        "ended_outside",
        "stuck",
        ["is not known to Temporal any more"],
    ),
    "checkpoints gone, while it waits": (
        lambda s: s.asks().checkpoints_gone(),
        "checkpoints_gone",
        "stuck",
        ["Its checkpoints are gone", "cannot go on, whatever is decided"],
    ),
    "checkpoints gone, found by a turn": (
        lambda s: s.closed("failed", "CheckpointsGone", "There is no checkpoint 1f0 of it any more."),
        "checkpoints_gone",
        "failed",
        ["Its checkpoints are gone"],
    ),
    "the code changed": (
        lambda s: s.closed("failed", "AgentCodeChanged", "It has no node “gate” any more."),
        "code_changed",
        "failed",
        ["code changed", "no node “gate”"],
    ),
    "steps used up": (
        lambda s: s.closed("failed", "TooManySteps", "The agent took more steps in one turn than it may."),
        "budget_used",
        "failed",
        ["used up", "more steps"],
    ),
    "not carried out": (
        lambda s: s.closed("failed", "NotCarriedOut", "Its end came without issue_refund."),
        "not_carried_out",
        "failed",
        ["without doing what was approved"],
    ),
    "an effect was left open": (
        lambda s: s.effect("executing").closed("failed", "EffectLeftOpen", "Nobody knows whether it was done."),
        "effect_unknown",
        "failed",
        ["nobody saw whether", "A person has to look"],
    ),
    "failed in another way": (
        lambda s: s.closed("failed", "Odd", "it broke"),
        "failed",
        "failed",
        ["The run failed (Odd): it broke"],
    ),
    "a turn of 90 s": (
        lambda s: s.working(90),
        "working",
        "healthy",
        ["the node “plan” since 90 s", "It has until"],
    ),
    "between two turns": (lambda s: s, "working", "healthy", ["about to begin"]),
    "a long history": (lambda s: s.working().temporal(events=45_000), "working", "healthy", ["45,000 events"]),
    "data that is stale": (
        lambda s: s.asks().stale(),
        "waiting_for_people",
        "waiting",
        ["prices version 4 may be out of date"],
    ),
    "held back by its batch": (
        lambda s: s.row(status="starting", batch="bat_1"),
        "batch_held_back",
        "waiting",
        ["Held back: its batch bat_1"],
    ),
    "not begun": (
        lambda s: s.starting(minutes=5).temporal_away(minutes=5),
        "not_started",
        "stuck",
        ["not begun: Temporal does not answer since"],
    ),
    "no free place in a worker": (
        lambda s: s.temporal(turn=TurnActivity("scheduled", 1, s.ago(minutes=4).isoformat())),
        "no_free_place",
        "stuck",
        ["waits for a free place"],
    ),
    "its workflow is paused in Temporal": (
        lambda s: s.asks().decided().temporal(status="paused"),
        "held_in_temporal",
        "stuck",
        ["paused in Temporal itself", "temporal workflow unpause --workflow-id support-"],
    ),
    "its turn is paused in Temporal, and has failed before": (
        lambda s: s.fails(attempt=2, minutes=1).working(state="paused", attempt=3, last_failure="no route"),
        "held_in_temporal",
        "stuck",
        ["Turn 1 is paused in Temporal itself", "Its last attempt failed: no route.", "Trying it again now"],
    ),
    "its turn is to be paused in Temporal after this attempt": (
        lambda s: s.working(state="pause_requested"),
        "held_in_temporal",
        "stuck",
        ["once the attempt under way has ended"],
    ),
    "a frozen worker beside a live one": (
        lambda s: s.temporal(task_attempt=3, task_since=s.ago(minutes=4).isoformat()),
        "task_not_answered",
        "stuck",
        ["attempt 3", "though one is alive"],
    ),
    "it is being cancelled": (
        lambda s: s.working().ending(True, seconds=3),
        "end_not_taken",
        "healthy",
        ["olga has asked to cancel it: Wrong order"],
    ),
    "past its deadline without a relay": (
        lambda s: (
            s.row()
            if Approval.objects.filter(pk=s.asks().approval.pk).update(due_at=s.ago(minutes=1))
            and s.silent("relay", minutes=4)
            else s
        ),
        "past_deadline",
        "stuck",
        ["is past its deadline"],
    ),
    "paused": (
        lambda s: s.row(status="paused", paused={"by": "olga", "reason": "We look at it", "at": s.now.isoformat()}),
        "paused",
        "waiting",
        ["Paused by olga: We look at it"],
    ),
    "finished": (lambda s: s.row(status="finished", closed_at=s.now), "finished", "finished", ["Finished on"]),
}


@pytest.mark.parametrize("name", SINGLE)
def test_one_cause_is_told_in_one_sentence(name: str) -> None:
    made, cause, state, words = SINGLE[name]
    found = made(Scene()).diagnosis()
    assert (found.cause.name, found.state) == (cause, state), found.whole
    for part in words:
        assert part in found.whole
    assert found.whole.endswith((".", "”"))


#: what is made at once -> the one that blocks
BOTH: dict[str, tuple[Made, str]] = {
    "people and no worker": (lambda s: s.asks().silent("worker", minutes=9), "waiting_for_people"),
    "people and no relay": (lambda s: s.asks().silent("relay", minutes=9), "waiting_for_people"),
    "people and Temporal away": (lambda s: s.asks().temporal_away(minutes=9), "waiting_for_people"),
    "nobody and no worker": (lambda s: s.asks().nobody().silent("worker", minutes=9), "nobody_can_decide"),
    "nobody and Temporal away": (lambda s: s.asks().nobody().temporal_away(minutes=9), "nobody_can_decide"),
    "nobody and stale data": (lambda s: s.asks().nobody().stale(), "nobody_can_decide"),
    "nobody and terminated": (lambda s: s.asks().nobody().temporal(status="terminated"), "ended_outside"),
    "nobody and checkpoints gone": (lambda s: s.asks().nobody().checkpoints_gone(), "checkpoints_gone"),
    "nobody and the workflow's task fails": (lambda s: s.asks().nobody().task_fails(), "workflow_task_failing"),
    "decided, no relay and no worker": (
        lambda s: s.asks().decided().silent("relay", minutes=9).silent("worker", minutes=9),
        "undelivered",
    ),
    "decided, Temporal away and no worker": (
        lambda s: s.asks().decided().temporal_away(minutes=9).silent("worker", minutes=9),
        "undelivered",
    ),
    "decided, delivered and no worker": (
        lambda s: s.asks().decided(delivered=True).late().silent("worker", minutes=9),
        "no_worker",
    ),
    "decided, delivered and the task fails": (
        lambda s: s.asks().decided(delivered=True).late().task_fails(),
        "workflow_task_failing",
    ),
    "decided and terminated": (lambda s: s.asks().decided().temporal(status="terminated"), "ended_outside"),
    "decided and checkpoints gone": (lambda s: s.asks().decided().checkpoints_gone(), "checkpoints_gone"),
    "one decided and one open of the same question": (
        lambda s: s.asks(interrupt_id="i", interrupt_place=0).decided().asks(interrupt_id="i", interrupt_place=1),
        "waiting_for_people",
    ),
    "one decided and one open of two questions": (lambda s: s.asks().decided().asks(), "undelivered"),
    "failing and no worker": (lambda s: s.fails().silent("worker", minutes=9), "no_worker"),
    "failing and Temporal away": (lambda s: s.fails().temporal_away(minutes=9), "temporal_away"),
    "failing and terminated": (lambda s: s.fails().temporal(status="terminated"), "ended_outside"),
    "failing and to be cancelled": (lambda s: s.fails().ending(True, seconds=5), "turn_failing"),
    "failing and to be cancelled, Temporal away": (
        lambda s: s.fails().ending(False, minutes=5).temporal_away(minutes=5),
        "end_undelivered",
    ),
    "failing and stale data": (lambda s: s.fails().stale(), "turn_failing"),
    "failing and a long history": (lambda s: s.fails().temporal(events=50_000), "turn_failing"),
    "no worker and Temporal away": (
        lambda s: s.silent("worker", minutes=9).temporal_away(minutes=9),
        "temporal_away",
    ),
    "no worker and the task failed before": (lambda s: s.task_fails().silent("worker", minutes=9), "no_worker"),
    "no worker and a node from before": (lambda s: s.working(600).silent("worker", minutes=9), "no_worker"),
    "unknown effect and no worker": (
        lambda s: s.effect("unknown").asks(kind="outcome").silent("worker", minutes=9),
        "effect_unknown",
    ),
    "unknown effect and nobody to say": (
        lambda s: s.effect("unknown").asks(kind="outcome").nobody(),
        "nobody_can_decide",
    ),
    "unknown effect, answered, no worker": (
        lambda s: s.effect("unknown").asks(kind="outcome").decided(delivered=True).silent("worker", minutes=9),
        "no_worker",
    ),
    "slow effect and no worker": (lambda s: s.effect("executing").silent("worker", minutes=9), "no_worker"),
    "slow effect and failing": (lambda s: s.effect("executing").fails(), "turn_failing"),
    "the graph raised and an unknown effect": (
        lambda s: s.effect("unknown").closed("failed", "AgentError", "KeyError", node="plan"),
        "effect_unknown",
    ),
    "not begun, no relay and no worker": (
        lambda s: s.starting(minutes=5).silent("relay", minutes=6).silent("worker", minutes=6),
        "not_started",
    ),
    "paused and no worker": (lambda s: s.row(status="paused").silent("worker", minutes=9), "paused"),
    "working and stale data": (lambda s: s.working().stale(), "working"),
}


@pytest.mark.parametrize("name", BOTH)
def test_of_two_causes_at_once_the_one_that_blocks_is_told(name: str) -> None:
    made, cause = BOTH[name]
    assert made(Scene()).diagnosis().cause.name == cause


#: what is healthy, however it looks from outside
HEALTHY: dict[str, Made] = {
    "a turn of 90 s": lambda s: s.working(90),
    "a turn of eight minutes": lambda s: s.working(480),
    "a wait of 72 h": lambda s: (
        s.row() if Approval.objects.filter(pk=s.asks().approval.pk).update(opened_at=s.ago(hours=71)) else s
    ),
    "a worker that restarts for two minutes": lambda s: s.silent("worker", minutes=2),
    "a worker that restarts while a decision waits": lambda s: (
        s.asks().decided(delivered=True).silent("worker", minutes=2)
    ),
    "a relay that restarts": lambda s: s.asks().decided(minutes=2).silent("relay", minutes=2),
    "Temporal, away for two minutes": lambda s: s.temporal_away(minutes=2),
    "a workflow task that a dead worker took along": lambda s: s.temporal(
        task_attempt=3, task_since=s.ago(seconds=100).isoformat()
    ),
    "an attempt after the first one failed": lambda s: s.working(attempt=2, last_failure="worker is stopping"),
    "a look from before the wait": lambda s: s.asks().temporal(events=7),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_is_never_called_stuck(name: str) -> None:
    found = HEALTHY[name](Scene()).diagnosis()
    assert found.state in ("healthy", "waiting"), found.whole
    assert not found.needs_somebody


def test_many_runs_cost_as_many_queries_as_one() -> None:
    scenes = [Scene().asks()]
    runs = [scenes[0].run]
    with CaptureQueriesContext(
        connection,
    ) as one:
        diagnosing.diagnose_many(list(Run.objects.filter(pk__in=[run.pk for run in runs])))
    for number in range(12):
        run = make_run(status="waiting" if number % 2 else "running")
        open_for(run)
        runs.append(run)
    with CaptureQueriesContext(connection) as many:
        found = diagnosing.diagnose_many(list(Run.objects.filter(pk__in=[run.pk for run in runs])))
    assert len(found) == 13
    assert len(many) <= len(one) <= 20


def test_every_cause_has_its_own_heading_and_knows_its_actions() -> None:
    by_name: dict[str, set[str]] = {}
    for cause in (*CAUSES, *BESIDES):
        by_name.setdefault(cause.name, set()).add(cause.heading)
        assert set(cause.actions) <= PUBLIC
    assert all(len(headings) == 1 for headings in by_name.values())
    told = {cause for _, cause, _, _ in SINGLE.values()} | {cause for _, cause in BOTH.values()}
    assert {cause.name for cause in CAUSES} == told


def test_the_api_answers_as_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene().fails()
    monkeypatch.setattr(look, "_asked", lambda run_id: LatestLook(Look(**scene.look)))
    told = Caller(User.objects.get(username="olga")).get(f"runs/{scene.run.pk}/diagnosis").json()
    assert set(told) >= {"state", "sentence", "cause", "since", "who", "actions"}
    assert (told["state"], told["cause"], told["who"]) == ("stuck", "turn_failing", ["olga"])
    assert {"name": "cancel", "title": "Cancel the run", "permitted": True} in told["actions"]
    told = Caller(User.objects.get(username="alice")).get(f"runs/{scene.run.pk}/diagnosis").json()
    assert [one["permitted"] for one in told["actions"]] == [False] * len(told["actions"])


def test_a_temporal_that_does_not_answer_is_said_and_the_rest_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    kept = scene.working().look | {"turn": vars(scene.look["turn"])}
    scene.row(seen=kept)
    monkeypatch.setattr(look, "_asked", lambda run_id: LatestLook(None, "Temporal at x cannot be reached"))
    told = Caller(User.objects.get(username="alice")).get(f"runs/{scene.run.pk}/diagnosis").json()
    assert told["cause"] == "working" and "the node “plan”" in told["sentence"]
    assert "cannot be reached" in told["not_known"]


def test_what_temporal_says_is_kept_and_read_as_it_was() -> None:
    from tests.fakes import FakeTemporal

    temporal, run = FakeTemporal(), make_run()
    temporal.started[run.pk] = services.workflow_input({"run_id": run.pk, "agent": "support", "turn_seconds": 1})
    temporal.task_faults[run.pk] = NON_DETERMINISM
    found = go(look.ask(temporal, run.pk, database_now()))
    assert (found.status, found.task_attempt, found.fault["worker"]) == ("running", 3, "4711@worker-7")
    assert look.read(found.as_json()) == found
    assert go(look.ask(temporal, "nobody", database_now())).status == "not_found"


def test_a_run_that_moves_forgets_what_was_seen_and_one_that_goes_on_its_cause() -> None:
    run = make_run(status="running", seen={"at": "x", "status": "running"}, cause="turn_failing", cause_rank=60)
    Run.objects.filter(pk=run.pk).update(fence=7)
    run.refresh_from_db()
    assert (run.seen, run.cause) == (None, "turn_failing")
    Run.objects.filter(pk=run.pk).update(status="waiting")
    run.refresh_from_db()
    assert (run.cause, run.cause_rank) == ("", 0)
