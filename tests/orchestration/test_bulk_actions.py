"""One action about many runs: counted first, each run once, partial results, stopped, and nothing twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.db.models import F
from django.test import Client

from approvals.models import AuditEvent
from console.clock import database_now
from console.models import OutboxEntry
from orchestration.actions import acting, ask_again, bulk
from orchestration.actions.points import Point
from orchestration.models import BulkAction, BulkItem, Run, RunAction
from tests.api_caller import Caller, problem
from tests.at_once import at_once
from tests.orchestration.conftest import decide, make_run, open_for

pytestmark = pytest.mark.django_db


def runs(count: int, **changes: Any) -> list[str]:
    return [make_run(**{"status": "waiting"} | changes).pk for _ in range(count)]


def carried_out() -> None:
    while bulk.step():
        pass


def test_the_number_comes_first_then_each_run_is_done_once_and_others_say_why_not(olga: User) -> None:
    waiting, closed = runs(12), runs(1, status="finished")
    decide(open_for(Run.objects.get(pk=waiting[0])))
    open_for(Run.objects.get(pk=waiting[1]))
    body = {"ids": [*waiting, *closed], "action": "end", "reason": "The shop has closed"}
    seen = Caller(olga).post("runs/actions", body | {"dry_run": True}).json()["items"]
    assert [one["status"] for one in seen] == ["would_be_done"] * 12 + ["refused"]
    assert (sum(one["approvals_withdrawn"] for one in seen), sum(one["decisions_voided"] for one in seen)) == (1, 1)
    assert not BulkAction.objects.exists()
    begun = Caller(olga).post("runs/actions", body).json()
    assert {one["status"] for one in begun["items"]} == {"waiting"}
    assert Caller(olga).post("runs/actions", body).json()["id"] == begun["id"], "the same click is the same answer"
    assert bulk.step()
    partly = Caller(olga).get(f"runs/actions/{begun['id']}").json()
    assert (partly["counts"]["done"], partly["closed_at"]) == (bulk.AT_ONCE, None)
    carried_out()
    done = Caller(olga).get(f"runs/actions/{begun['id']}").json()
    assert done["counts"] == {"waiting": 0, "done": 12, "refused": 1, "stopped": 0} and done["closed_at"]
    assert done["items"][-1]["detail"].startswith("The run is closed already: finished.")
    assert Run.objects.filter(pk__in=waiting, status="cancelled").count() == 12
    assert OutboxEntry.objects.filter(kind="terminate_run").count() == RunAction.objects.count() == 12
    asked = AuditEvent.objects.get(kind="runs.action_requested", actor="olga")
    assert (asked.subject, asked.body["total"]) == (begun["id"], 13)


def test_a_filter_is_fixed_when_it_is_asked_for(olga: User) -> None:
    waiting = runs(3)
    runs(1, status="running")
    body = {"filter": {"status": "waiting"}, "action": "pause", "reason": "x"}
    begun = Caller(olga).post("runs/actions", body).json()
    later = runs(1)
    carried_out()
    assert {one["id"] for one in begun["items"]} == set(waiting)
    assert Run.objects.get(pk=later[0]).paused is None


def test_a_stop_leaves_what_is_done_and_begins_no_more(olga: User, ada: User) -> None:
    begun = Caller(olga).post("runs/actions", {"ids": runs(15), "action": "pause", "reason": "x"}).json()
    bulk.step()
    stopped = Caller(ada).post(f"runs/actions/{begun['id']}/stop", {}).json()
    assert (stopped["counts"]["done"], stopped["counts"]["stopped"], stopped["stopped_by"]) == (10, 5, "ada")
    assert not bulk.step()
    assert Run.objects.filter(paused__isnull=False).count() == 10
    again = Caller(olga).post(f"runs/actions/{begun['id']}/stop", {}).json()
    assert again["stopped_by"] == "ada"


def test_whoever_loses_the_role_in_between_does_no_more(olga: User) -> None:
    ids = runs(12)
    begun = Caller(olga).post("runs/actions", {"ids": ids, "action": "pause", "reason": "x"}).json()
    bulk.step()
    olga.groups.clear()
    carried_out()
    found = BulkAction.objects.get(pk=begun["id"])
    assert bulk.counts_of(found) == {"waiting": 0, "done": 10, "refused": 0, "stopped": 2}
    assert found.stopped_by == "signalbox"


@pytest.mark.django_db(transaction=True)
def test_relays_that_carry_it_out_at_once_do_nothing_twice() -> None:
    from tests.orchestration.test_actions import somebody

    ids = runs(30)
    bulk.begin(run_ids=ids, action="end", reason="x", by=somebody("operator", "olga"), options={})
    at_once(*[carried_out] * 4)
    assert RunAction.objects.count() == 30
    assert OutboxEntry.objects.filter(kind="terminate_run").count() == 30
    assert BulkAction.objects.get().closed_at is not None


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"action": "pause", "reason": "x"}, 422, "only by one"),
        ({"action": "pause", "reason": "x", "ids": ["none"]}, 404, "run"),
        ({"action": "pause", "reason": "x", "filter": {"colour": "red"}}, 422, "no such filter"),
        ({"action": "pause", "reason": "x", "filter": {"stuck": "0"}}, 422, "stuck"),
        ({"action": "pause", "reason": "x", "filter": {"status": "failed"}}, 422, "No run fits"),
        ({"action": "fork", "reason": "x", "ids": []}, 422, "No such action for many runs"),
        ({"action": "pause", "reason": " ", "filter": {}}, 422, "Say why"),
        ({"action": "pause", "reason": "x", "filter": {}, "turn": 3}, 422, "takes no such field"),
    ],
)
def test_what_cannot_be_taken_is_a_sentence_and_nothing_is_recorded(
    body: dict[str, Any], status: int, words: str, olga: User
) -> None:
    runs(1)
    assert words in problem(Caller(olga).post("runs/actions", body), status)["detail"]
    assert not BulkAction.objects.exists()


def test_the_pages_show_number_preview_progress_and_stop_without_script(olga: User) -> None:
    waiting = runs(3)
    client = Client()
    client.force_login(olga)
    first = client.get("/runs/actions/?status=waiting").content.decode()
    assert "3 runs" in first and 'id="many-show"' in first
    shown = client.get("/runs/actions/?status=waiting&action=pause")
    assert "It is done to 3 of 3 runs" in shown.content.decode()
    other = client.get("/runs/actions/?status=waiting&action=cancel")
    assert f'data-draft="{shown.context["draft"]}"' in shown.content.decode()
    assert shown.context["draft"] != other.context["draft"], "why one is done is not why the other is"
    late = runs(1)
    sent = {"action": "pause", "ids": shown.context["run_ids"]}
    empty = client.post("/runs/actions/", sent | {"reason": " "})
    assert empty.status_code == 422 and "Say why" in empty.content.decode()
    done = client.post("/runs/actions/", sent | {"reason": "Wait"})
    assert done.status_code == 302
    assert 'id="bulk-stop"' in client.get(done["Location"]).content.decode()
    carried_out()
    after = client.get(done["Location"]).content.decode()
    assert "3 of 3" in after and 'id="bulk-stop"' not in after
    assert Run.objects.filter(pk__in=waiting, status="paused").count() == 3
    assert Run.objects.get(pk=late[0]).status == "waiting"
    assert client.get("/runs/actions/bulk-none/").status_code == 404


def test_the_list_leads_from_its_filter_and_from_ticked_rows_to_the_preview(olga: User, alice: User) -> None:
    failing = {"status": "running", "cause": "turn_failing", "cause_rank": 1}
    some = runs(2, **failing, cause_group="turn_failing:Away", cause_sentence="Away.")
    runs(3, **failing, cause_group="turn_failing:Full", cause_sentence="Full.")
    runs(4)
    client = Client()
    client.force_login(olga)
    page = client.get("/runs/?stuck=1&cause=turn_failing:Away").content.decode()
    assert page.count('form="pick-form"') == 2 and "Act on all 2 that fit" in page
    assert 'href="/runs/actions/?stuck=1&amp;cause=turn_failing%3AAway"' in page
    first = client.get("/runs/actions/?stuck=1&cause=turn_failing%3AAway")
    assert first.context["total"] == 2 and "A turn fails and is tried again (Away)" in first.content.decode()
    assert "Act on all 9" in client.get("/runs/").content.decode()
    ticked = client.get("/runs/actions/", {"ids": some}).content.decode()
    assert "2 runs" in ticked and "the ones that you have chosen" in ticked
    stuck = client.get("/runs/stuck/").content.decode()
    for address in ("stuck=1&amp;cause=turn_failing%3AAway&amp;action=retry_now", "cause=turn_failing%3AFull"):
        assert address in stuck
    seen = client.get("/runs/actions/?stuck=1&cause=turn_failing:Full&action=cancel")
    assert "It is done to 3 of 3 runs" in seen.content.decode()
    client.force_login(alice)
    page = client.get("/runs/").content.decode()
    assert 'form="pick-form"' not in page and "act-on-all" not in page, "who may not act is offered nothing"
    assert "do it for all" not in client.get("/runs/stuck/").content.decode()


def test_a_filter_of_the_api_takes_a_cause(olga: User) -> None:
    failing = {"status": "running", "cause": "turn_failing", "cause_group": "turn_failing:Away"}
    ids = runs(2, **failing)
    runs(2)
    body = {"filter": {"cause": "turn_failing:Away"}, "action": "cancel", "reason": "x"}
    assert {one["id"] for one in Caller(olga).post("runs/actions", body).json()["items"]} == set(ids)


def failing_run(attempt: int = 7) -> Run:
    at = database_now().isoformat()
    failure = {"turn": 2, "attempt": attempt, "at": at, "since": at, "times": attempt, "kind": "OSError"}
    return make_run(status="running", turn=2, failure=failure | {"message": "no route", "next_try_at": at})


def time_passes() -> None:
    before = F("at") - timedelta(hours=1)
    RunAction.objects.update(at=before)
    BulkAction.objects.filter(closed_at__isnull=False).update(closed_at=F("closed_at") - timedelta(hours=1))
    OutboxEntry.objects.filter(kind="retry_turn").update(delivered_at=database_now())


@pytest.mark.parametrize("key", ["", "another"])
def test_what_was_tried_again_an_hour_ago_is_tried_again(key: str, olga: User) -> None:
    run = failing_run()
    body = {"ids": [run.pk], "action": "retry_now", "reason": "The model is back"}
    first = Caller(olga).post("runs/actions", body).json()["id"]
    carried_out()
    assert Caller(olga).post("runs/actions", body).json()["id"] == first, "a second click"
    time_passes()
    second = Caller(olga).post("runs/actions", body | {"key": key}).json()["id"]
    carried_out()
    assert second != first
    assert OutboxEntry.objects.filter(kind="retry_turn").count() == RunAction.objects.count() == 2


def test_what_was_asked_again_an_hour_ago_is_asked_again(olga: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_again, "_point", lambda run: Point("c1", database_now(), [], [], [], []))
    run = make_run(status="waiting", turn=1)
    for _ in range(2):
        Caller(olga).post("runs/actions", {"ids": [run.pk], "action": "ask_again", "reason": "It was put wrongly"})
        carried_out()
        time_passes()
        OutboxEntry.objects.all().delete()
        Run.objects.filter(pk=run.pk).update(status="waiting", restart=None)
    assert set(BulkItem.objects.values_list("state", "detail")) == {("done", "")}
    assert RunAction.objects.count() == BulkItem.objects.count() == 2


def test_one_run_is_tried_again_too_when_its_first_try_is_over(olga: User) -> None:
    run = failing_run()
    for _ in range(2):
        for _ in range(2):
            acting.act(run_id=run.pk, action="retry_now", reason="again", by=olga)
        time_passes()
    assert OutboxEntry.objects.filter(kind="retry_turn").count() == 2


def test_under_one_key_a_filter_means_the_runs_that_it_meant_at_first(olga: User) -> None:
    waiting = runs(2)
    body = {"filter": {"status": "waiting"}, "action": "cancel", "reason": "Closed", "key": "job-1"}
    first = Caller(olga).post("runs/actions", body).json()
    later = runs(1)
    assert Caller(olga).post("runs/actions", body).json()["id"] == first["id"]
    carried_out()
    assert Caller(olga).post("runs/actions", body).json()["id"] == first["id"]
    assert {one["id"] for one in first["items"]} == set(waiting)
    assert Run.objects.get(pk=later[0]).ending is None
    problem(Caller(olga).post("runs/actions", body | {"action": "pause"}), 409)


def test_a_key_is_for_the_runs_that_were_asked_for_and_no_others(olga: User) -> None:
    first, second = runs(2)
    body = {"action": "pause", "reason": "Wait", "key": "job-2"}
    begun = Caller(olga).post("runs/actions", body | {"ids": [first, second]}).json()["id"]
    assert Caller(olga).post("runs/actions", body | {"ids": [second, first]}).json()["id"] == begun
    for other in ({"ids": [first]}, {"filter": {"status": "waiting"}}):
        problem(Caller(olga).post("runs/actions", body | other), 409)
    with_filter = body | {"key": "job-3", "filter": {"status": "waiting"}}
    begun = Caller(olga).post("runs/actions", with_filter).json()["id"]
    same = with_filter | {"filter": {"status": "waiting", "agent": ""}}
    assert Caller(olga).post("runs/actions", same).json()["id"] == begun
    problem(Caller(olga).post("runs/actions", with_filter | {"filter": {"agent": "support"}}), 409)
    assert BulkAction.objects.count() == 2


NUMBERS = [1.5, 10**20, -0.25]


def test_a_bulk_action_with_any_number_in_its_options_is_carried_out(olga: User) -> None:
    body = {"ids": runs(2), "action": "signal", "reason": "x", "name": "rate", "arguments": NUMBERS}
    begun = Caller(olga).post("runs/actions", body).json()["id"]
    carried_out()
    assert bulk.counts_of(BulkAction.objects.get(pk=begun))["done"] == 2


def test_a_fault_about_one_run_is_its_own_and_keeps_no_other_action_waiting(
    olga: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = runs(2)
    usual = acting.act

    def broken(**asked: Any) -> acting.Done:
        if asked["run_id"] == first:
            raise TypeError("a fault of ours")
        return usual(**asked)

    monkeypatch.setattr(acting, "act", broken)
    begun = Caller(olga).post("runs/actions", {"ids": [first, second], "action": "pause", "reason": "x"}).json()["id"]
    carried_out()
    found = BulkAction.objects.get(pk=begun)
    assert dict(found.items.values_list("run_id", "state")) == {first: "refused", second: "done"}
    assert "fault inside Signalbox" in found.items.get(run_id=first).detail and found.closed_at is not None


def test_while_the_database_is_away_nothing_is_settled(olga: User, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = Caller(olga).post("runs/actions", {"ids": runs(1), "action": "pause", "reason": "x"}).json()["id"]

    def away(**asked: Any) -> acting.Done:
        raise OperationalError("the connection is lost")

    with monkeypatch.context() as patched, pytest.raises(OperationalError):
        patched.setattr(acting, "act", away)
        bulk.step()
    carried_out()
    assert bulk.counts_of(BulkAction.objects.get(pk=begun))["done"] == 1


def test_each_page_that_is_drawn_is_a_click_of_its_own(olga: User) -> None:
    run = failing_run()
    client = Client()
    client.force_login(olga)
    shown = [client.get(f"/runs/actions/?ids={run.pk}&action=retry_now") for _ in range(2)]
    keys = {one.context["key"] for one in shown}
    assert len(keys) == 2 and all(
        f'name="key" value="{key}"' in shown[0].content.decode() + shown[1].content.decode() for key in keys
    )
