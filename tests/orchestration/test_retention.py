"""What is let go of runs that are over: pages, forks and resets stay as they were, and nothing needed is deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from approvals.models import Approval, AuditEvent
from console.clock import database_now
from console.environment import environment
from orchestration import checkpoint_gateway
from orchestration.actions import acting
from orchestration.contracts import Turn
from orchestration.models import Effect, Rethinking, Run
from orchestration.retention import costs, sweeping
from tests.api_caller import Caller
from tests.fakes import FakeWorld
from tests.orchestration import test_run_turn as turns
from tests.orchestration.conftest import decide, make_run, open_for

pytestmark = pytest.mark.django_db(transaction=True)
published = turns.published  # the handbook, as the turn's tests have it


def finished_run(world: FakeWorld) -> Run:
    """Return a run that has asked twice, acted twice and finished, long ago."""
    run = make_run()
    result = turns.take(turns.start(run), world)
    number = 1
    while result.waiting_for:
        for approval_id in result.waiting_for:
            decide(approval_id)
        number += 1
        result = turns.take(turns.after(run, number, *result.waiting_for), world)
    run.refresh_from_db()
    assert run.status == "finished" and number > 2
    return aged(run)


def aged(run: Run, days: int = 30) -> Run:
    Run.objects.filter(pk=run.pk).update(closed_at=database_now() - timedelta(days=days))
    run.refresh_from_db()
    return run


def rows_of(table: str, run: Run) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM agent.{table} WHERE thread_id = %s", [run.pk])
        (count,) = cursor.fetchone() or (0,)
    return int(count)


def lines(run: Run, **which: Any) -> list[Any]:
    return checkpoint_gateway.checkpoints_of(run.pk, limit=200, **which)


def looks(run: Run, user: User) -> list[str]:
    """Return the run's pages of its steps, as far as they tell of the steps."""
    client = Client()
    client.force_login(user)
    pages = [client.get(reverse(f"orchestration:{name}", args=[run.pk])) for name in ("run", "state", "timeline")]
    assert {page.status_code for page in pages} == {200}
    return [line.node for line in lines(run)]


def test_a_sweep_frees_half_and_pages_say_the_same(world: FakeWorld, olga: User) -> None:
    run = finished_run(world)
    before, nodes, made_by = lines(run), looks(run, olga), lines(run, node="plan")
    rows = rows_of("checkpoint_writes", run)
    would = costs.costs()
    assert (would.sweep_runs, would.is_counted) == (1, True) and 0 < would.sweep_rows < rows
    assert [one.agent for one in would.agents if one.agent] == ["support"]
    assert sweeping.sweep(run.pk) and not sweeping.sweep(run.pk)
    assert rows_of("checkpoint_writes", run) == rows - would.sweep_rows
    assert costs.costs().sweep_rows == 0
    assert lines(run) == before and looks(run, olga) == nodes and lines(run, node="plan") == made_by
    client = Client()
    client.force_login(olga)
    for line in before:
        assert client.get(reverse("orchestration:checkpoint", args=[run.pk, line.checkpoint_id])).status_code == 200
    page = client.get(reverse("orchestration:checkpoint", args=[run.pk, before[-2].checkpoint_id])).content.decode()
    assert "What its nodes wrote is not kept any more" in page


def test_a_fork_of_a_swept_run_goes_on_from_every_checkpoint(world: FakeWorld, olga: User) -> None:
    run = finished_run(world)
    assert sweeping.sweep(run.pk)
    for line in lines(run)[1:]:
        where = {"checkpoint_id": line.checkpoint_id}
        fork = acting.act(run_id=run.pk, action="fork", reason=line.node, by=olga, options=where).new_run
        assert fork is not None
        result = turns.take(Turn(fork.pk, "support", 1), world)
        assert result.outcome in ("needs_approval", "finished"), (line, result)


def test_what_is_open_or_has_just_closed_is_not_swept(world: FakeWorld) -> None:
    run = make_run()
    turns.take(turns.start(run), world)
    rows = rows_of("checkpoint_writes", run)
    assert not sweeping.sweep(run.pk) and run.pk not in sweeping.due_for_sweep()
    Run.objects.filter(pk=run.pk).update(status="failed", closed_at=database_now())
    assert run.pk not in sweeping.due_for_sweep()
    assert rows_of("checkpoint_writes", run) == rows
    aged(run, environment().keep_steps_days + 1)
    assert list(sweeping.due_for_sweep()) == [run.pk]


def test_a_thread_whose_state_is_made_of_writes_keeps_them(world: FakeWorld) -> None:
    run = finished_run(world)
    rows = rows_of("checkpoint_writes", run)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE agent.checkpoints SET metadata = metadata || '{\"delta_writes_versioned\": true}'"
            " WHERE (thread_id, checkpoint_id) = (%s, %s)",
            [run.pk, run.checkpoint_id],
        )
    assert sweeping.sweep(run.pk) and rows_of("checkpoint_writes", run) == rows


def test_a_round_is_bounded_and_goes_on(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished_run(world)
    monkeypatch.setattr(sweeping, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(sweeping, "AT_ONCE", 1)
    rounds = 0
    while sweeping.step():
        rounds += 1
    run.refresh_from_db()
    assert rounds > 3 and run.swept_at is not None
    assert costs.costs().sweep_rows == 0


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "keep_threads_days", 10)
    monkeypatch.setattr(environment(), "audit_days", 20)


def test_whole_threads_stay_unless_the_policy_says_otherwise(world: FakeWorld) -> None:
    run = aged(finished_run(world), 5000)
    assert not list(sweeping.due_for_deletion()) and not sweeping.delete_thread(run.pk)
    assert rows_of("checkpoints", run)


def test_a_thread_goes_by_the_policy_and_the_run_and_its_record_stay(
    world: FakeWorld, olga: User, policy: None
) -> None:
    run = finished_run(world)
    assert costs.costs().threads_due == 1
    sweeping.step()
    assert [rows_of(table, run) for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes")] == [0, 0, 0]
    assert not sweeping.delete_thread(run.pk)
    kept = AuditEvent.objects.get(kind="run.thread_deleted")
    assert kept.subject == run.pk and kept.body["rows"]["checkpoints"] > 5
    looks(run, olga)
    client = Client()
    client.force_login(olga)
    page = client.get(reverse("orchestration:run", args=[run.pk])).content.decode()
    assert "as the policy says" in page and 'data-cause="finished"' in page
    answer = Caller(olga).post(f"runs/{run.pk}/actions", {"action": "fork", "turn": 1, "reason": "x"})
    assert answer.status_code in (404, 409, 422), answer.content


@pytest.mark.parametrize("why", ["audit", "open request", "unknown effect", "thinks again", "open again"])
def test_no_thread_goes_that_somebody_may_need(world: FakeWorld, olga: User, policy: None, why: str) -> None:
    run = finished_run(world)
    if why == "audit":
        aged(run, 15)  # longer than the policy keeps it, and within the audit period
    elif why == "open request":
        Approval.objects.filter(pk=open_for(run).pk).update(status="pending")
    elif why == "unknown effect":
        Effect.objects.filter(run=run).update(status="unknown")
    elif why == "thinks again":
        Rethinking.objects.create(run=run, by=olga, reason="x")
    else:
        Run.objects.filter(pk=run.pk).update(status="waiting")
    assert not list(sweeping.due_for_deletion()) and not sweeping.delete_thread(run.pk)
    assert rows_of("checkpoints", run)


def test_the_page_and_the_api_say_what_checkpoints_cost(world: FakeWorld, olga: User, alice: User) -> None:
    finished_run(world)
    told = Caller(olga).get("storage").json()
    assert told["bytes"] > 0 and told["sweep"]["runs"] == 1 and told["policy"]["keep_threads_days"] is None
    client = Client()
    client.force_login(olga)
    page = client.get(reverse("orchestration:storage")).content.decode()
    assert "checkpoint_writes" in page and "1 closed run " in page
    assert reverse("orchestration:storage") in client.get(reverse("console:system")).content.decode()
    client.force_login(alice)
    assert client.get(reverse("orchestration:storage")).status_code == 403
