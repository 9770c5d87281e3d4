"""The stuck list: which runs need somebody, kept by the relay's chore, grouped by cause, told once for each cause."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from approvals.models import AuditEvent
from console.clock import database_now
from console.models import PartHeartbeat
from orchestration import reconciling, services, troubles
from orchestration.diagnosis import standing, stuck
from orchestration.models import LOOKED_AT_AFTER, Lookout, Run, Trouble
from orchestration.relay import chores
from orchestration.relay.chores import CHORES
from tests.api_caller import Caller
from tests.fakes import FakeTemporal
from tests.orchestration.conftest import go, make_run, open_for, reviewer
from tests.orchestration.mailing import send_next
from tests.orchestration.test_diagnosis import NON_DETERMINISM, Scene
from tests.page_client import text

pytestmark = pytest.mark.django_db


def failing(scene: Scene, kind: str = "ConnectError", **more: Any) -> Run:
    run = make_run(status="running", turn=1, **more)
    failure = {
        "turn": 1,
        "attempt": 51,
        "at": scene.now.isoformat(),
        "kind": kind,
        "times": 51,
        "message": f"{kind}: x",
    }
    failure |= {"since": scene.ago(minutes=24).isoformat(), "next_try_at": None}
    Run.objects.filter(pk=run.pk).update(failure=failure, failing_since=scene.ago(minutes=24))
    return run


def causes() -> dict[str, str]:
    return dict(Run.objects.exclude(cause="").values_list("pk", "cause"))


def again() -> bool:
    """Examine once more, as if some time had passed."""
    Run.objects.update(looked_at=None)
    return standing.step(None)


def test_what_the_rows_say_is_found_in_one_step_and_what_goes_on_leaves() -> None:
    scene = Scene()
    healthy, waits = scene.run, make_run(status="waiting")
    open_for(waits)
    fails = failing(scene)
    lost = make_run(status="waiting", checkpoint_id="1f0aaaaa-0000-0000-8000-000000000000")
    open_for(lost)
    assert standing.step(None) is False
    assert causes() == {fails.pk: "turn_failing", lost.pk: "checkpoints_gone"}
    Run.objects.filter(pk=fails.pk).update(failure=None, failing_since=None)
    again()
    assert causes() == {lost.pk: "checkpoints_gone"}
    assert healthy.pk not in causes()


def test_nobody_who_could_decide_is_found_at_once_for_all_that_ask_the_same_people() -> None:
    scene = Scene()
    runs = [make_run(status="waiting") for _ in range(12)]
    for run in runs:
        open_for(run)
    standing.step(None)
    assert causes() == {}
    scene.nobody()
    with CaptureQueriesContext(connection) as caught:
        again()
    assert causes() == {run.pk: "nobody_can_decide" for run in runs}
    assert len(caught) <= 70


def test_no_worker_makes_those_that_need_one_stuck_after_three_minutes_and_no_other() -> None:
    scene = Scene()
    waits = make_run(status="waiting")
    open_for(waits)
    Run.objects.update(look_due_at=scene.ago(seconds=1))
    scene.silent("worker", minutes=2)
    standing.step(None)
    assert causes() == {}
    PartHeartbeat.objects.filter(part="worker").delete()
    Lookout.objects.update(no_worker_since=scene.ago(minutes=4))
    again()
    assert causes() == {scene.run.pk: "no_worker"}
    PartHeartbeat.objects.create(part="worker", instance="new", ok=True)
    again()
    assert causes() == {} and Lookout.objects.get().no_worker_since is None


@pytest.mark.django_db(transaction=True)  # the step works in a thread of its own
def test_a_relay_that_has_only_begun_to_look_leaves_since_when_temporal_is_away() -> None:
    since = Scene().ago(minutes=50)
    Lookout.objects.update_or_create(pk=1, defaults={"temporal_away_since": since, "temporal_fault": "refused"})
    step: Any = next(chore for chore in CHORES if chore.begin is chores._keep_causes).begin()
    nowhere: Any = SimpleNamespace(temporal=None)
    for _ in range(2):
        go(step(nowhere))
        found = Lookout.objects.get()
        assert (found.temporal_away_since, found.temporal_fault) == (since, "refused")
    there: Any = SimpleNamespace(temporal=object())
    go(step(there))
    assert Lookout.objects.get().temporal_away_since is None


def test_a_run_that_moved_while_it_was_examined_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    run = failing(scene)
    examined = list(Run.objects.filter(pk=run.pk))
    Run.objects.filter(pk=run.pk).update(status="waiting")
    standing.examine(examined)
    assert causes() == {}


@pytest.mark.django_db(transaction=True)
def test_operators_are_told_once_for_each_cause_and_not_for_each_run(transactional_db: None) -> None:
    scene = Scene()
    olga = User.objects.get(username="olga")
    olga.email = "olga@people.example"
    olga.save()
    for _ in range(3):
        run = make_run(status="waiting", checkpoint_id="1f0aaaaa-0000-0000-8000-000000000000")
        open_for(run)
    fails = failing(scene)
    standing.step(None)
    assert len(causes()) == 4
    assert [send_next(), send_next()] == [True, False]  # what is tried again by itself is told later
    assert "3 runs are stuck" in mail.outbox[0].subject and "/runs/stuck/" in mail.outbox[0].body
    another = make_run(status="waiting", checkpoint_id="1f0aaaaa-0000-0000-8000-000000000000")
    open_for(another)
    again()
    assert send_next() is False
    assert AuditEvent.objects.filter(kind="run.stuck").count() == 1
    Run.objects.filter(pk=fails.pk).update(stuck_at=scene.now)
    again()
    assert send_next() is True and len(mail.outbox) == 2
    Run.objects.update(status="finished")
    Trouble.objects.update(last_seen_at=scene.ago(hours=2))
    troubles.forget_those_that_are_over()
    assert not Trouble.objects.exists()


def test_what_only_temporal_knows_is_kept_with_the_run_until_it_moves() -> None:
    scene = Scene()
    temporal, run = FakeTemporal(), scene.run
    temporal.started[run.pk] = services.workflow_input({"run_id": run.pk, "agent": "support", "turn_seconds": 1})
    temporal.task_faults[run.pk] = NON_DETERMINISM
    from orchestration.diagnosis import look

    found = go(look.ask(temporal, run.pk, database_now()))
    standing.seen(run.pk, found)
    assert causes() == {run.pk: "workflow_task_failing"}
    again()
    assert causes() == {run.pk: "workflow_task_failing"}
    Run.objects.filter(pk=run.pk).update(fence=9)
    again()
    assert causes() == {}


@pytest.mark.django_db(transaction=True)
def test_those_that_wait_for_no_person_are_asked_first_and_all_have_their_turn(transactional_db: None) -> None:
    long_ago = database_now() - timedelta(hours=1)
    waiting = [make_run(status="waiting", look_due_at=long_ago - timedelta(minutes=n)) for n in range(20)]
    running = [make_run(status="running", look_due_at=long_ago + timedelta(minutes=n)) for n in range(6)]
    first = [one.workflow_id for one in reconciling.claim()]
    assert len(first) == 5
    assert first[:4] and set(first) & {run.pk for run in waiting} == {waiting[-1].pk}
    assert len(set(first) & {run.pk for run in running}) == 4


def test_the_list_groups_by_cause_worst_first_and_the_api_tells_the_same(client: Client) -> None:
    scene = Scene()
    for _ in range(7):
        failing(scene)
    failing(scene, "RateLimited")
    lost = make_run(status="waiting", checkpoint_id="1f0aaaaa-0000-0000-8000-000000000000")
    open_for(lost)
    standing.step(None)
    olga = User.objects.get(username="olga")
    items = Caller(olga).get("stuck").json()["items"]
    assert [(one["cause"], one["count"]) for one in items] == [
        ("checkpoints_gone", 1),
        ("turn_failing", 7),
        ("turn_failing", 1),
    ]
    assert set(items[0]) >= {"cause", "sentence", "count", "oldest_since", "runs", "actions"}
    assert len(items[1]["runs"]) == stuck.SHOWN and "retry_now" in items[1]["actions"]
    assert len(Caller(olga).get("runs?stuck=1").json()["items"]) == 9
    assert len(Caller(olga).get(f"runs?stuck=1&cause={items[1]['group']}").json()["items"]) == 7
    client.force_login(olga)
    page = client.get("/runs/stuck/").content.decode()
    assert "9 runs need somebody" in page and "RateLimited: x" in page
    assert "do it for all 7" in page and "action=retry_now" in page
    assert page.index("checkpoints are gone") < page.index("ConnectError")
    assert 'id="stuck-count"' in page and "9<span" in page
    assert "9 runs stuck" in client.get("/system/").content.decode()


def test_the_list_is_read_page_by_page_and_its_page_says_that_there_is_more(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene()
    kinds = [f"Fault{number}" for number in range(5)]
    for kind in (*kinds, kinds[0]):
        failing(scene, kind)
    standing.step(None)
    Run.objects.filter(cause_group__contains="Fault3").update(cause_since=None)  # nobody knows since when: the last one
    olga = User.objects.get(username="olga")
    whole = Caller(olga).get("stuck").json()
    assert len(whole["items"]) == 5 and whole["next"] is None
    assert "Fault3" in whole["items"][-1]["group"] and whole["items"][-1]["oldest_since"] is None
    for limit in (1, 2, 4):
        assert [one for page in Caller(olga).all("stuck", limit=limit) for one in page] == whole["items"]
    monkeypatch.setattr(stuck, "groups_for", partial(stuck.groups_for, limit=3))
    client.force_login(olga)
    first = client.get("/runs/stuck/")
    assert "6 runs need somebody" in text(first) and "More groups" in text(first)
    rest = text(client.get(f"/runs/stuck/?cursor={first.context['next']}"))
    assert "6 runs need somebody" in rest and "Fault3" in rest and "More groups" not in rest


def test_the_list_costs_the_same_for_two_runs_and_for_forty() -> None:
    scene = Scene()
    alice = reviewer()
    for _ in range(2):
        failing(scene)
    standing.step(None)
    stuck.count_for(alice)  # who she is, is asked once
    with CaptureQueriesContext(connection) as few:
        stuck.groups_for(alice)
    for _ in range(38):
        failing(scene, "RateLimited")
    standing.step(None)
    with CaptureQueriesContext(connection) as many:
        stuck.groups_for(alice)
    assert len(few) == len(many) <= 3


def test_the_chore_is_within_its_budget() -> None:
    (chore,) = (one for one in CHORES if one.name == "keep why runs need somebody")
    assert chore.every + standing.AGAIN_AFTER <= LOOKED_AT_AFTER.total_seconds()
    assert reconciling.LOOKS_AT_ONCE == 5


def test_an_empty_list_says_so(alice: User, client: Client) -> None:
    client.force_login(alice)
    page = client.get("/runs/stuck/").content.decode()
    assert "No run needs anybody" in page and Group.objects.exists()


def test_what_ends_a_run_is_not_the_button_that_a_tired_eye_falls_on(client: Client) -> None:
    def buttons(address: str, words: str) -> list[str]:
        page = client.get(address).content.decode()
        return [one for one in re.findall(r"<a class=\"btn\"[^>]*>.*?</a>", page, re.DOTALL) if words in one]

    scene = Scene()
    failing(scene)
    failing(scene)
    standing.step(None)
    client.force_login(User.objects.get(username="olga"))
    (again_for_all,) = buttons("/runs/stuck/", "action=retry_now")
    assert "data-variant" not in again_for_all
    PartHeartbeat.objects.filter(part="worker").delete()
    Lookout.objects.update(no_worker_since=scene.ago(minutes=4))
    again()
    assert set(causes().values()) == {"no_worker"}
    for address, words in (("/runs/stuck/", "action=end"), (f"/runs/{scene.run.pk}/", "End it now")):
        (end,) = buttons(address, words)
        assert 'data-variant="outline"' in end
