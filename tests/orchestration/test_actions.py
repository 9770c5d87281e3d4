"""An operator cancels or ends a run: what it says before, what it does, and what it leaves."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import Client

from approvals.errors import AlreadyClosed, InvalidChange, NotTheirs
from approvals.models import Approval, AuditEvent
from approvals.reading import stalled
from approvals.record import audit
from approvals.services import note_effect
from console import outbox
from console.clock import database_now
from console.models import OutboxEntry, PartHeartbeat
from console.outbox import Kind
from orchestration import ending, restored, services
from orchestration.actions import acting, reset
from orchestration.actions.points import Point
from orchestration.contracts import Turn
from orchestration.diagnosis.look import Look, TurnActivity
from orchestration.effects import EffectLedger
from orchestration.errors import ActionRefused, FailedByOperator, Fenced
from orchestration.fences import Attempt
from orchestration.models import Effect, Run, RunAction
from orchestration.redrive import standstill_of
from orchestration.relay.loop import Relay
from tests.api_caller import Caller, problem
from tests.fakes import FakeTemporal
from tests.orchestration.conftest import decide, make_run, open_for, reviewer
from tests.orchestration.test_relay import everything_delivered, quick, relaying
from tests.waiting import until

pytestmark = pytest.mark.django_db


def somebody(role: str, name: str = "") -> User:
    user, _ = User.objects.get_or_create(username=name or f"some-{role}")
    user.groups.add(Group.objects.get_or_create(name=role)[0])
    return user


@pytest.fixture
def olga(db: None) -> User:
    return somebody("operator", "olga")


def executing(run: Run) -> Approval:
    """Return an approval whose effect is being carried out."""
    approval = decide(open_for(run))
    fields: dict[str, Any] = {"tool": approval.tool, "digest": approval.digest, "decision_id": "dec_1", "fence": 1}
    Effect.objects.create(approval_id=approval.pk, run_id=run.pk, is_idempotent=True, status="executing", **fields)
    note_effect(approval_id=approval.pk, event="started", within=timedelta(seconds=30))
    return approval


def kinds() -> list[str]:
    return [entry.kind for entry in OutboxEntry.objects.order_by("id") if entry.kind.endswith("_run")]


def test_a_dry_run_tells_what_it_would_do_and_does_nothing(olga: User) -> None:
    run = make_run(status="waiting")
    decided, open_one, busy = decide(open_for(run)), open_for(run), executing(run)
    for action in ("cancel", "end"):
        answer = Caller(olga).post(f"runs/{run.pk}/actions", {"action": action, "dry_run": True})
        assert answer.status_code == 200
        body = answer.json()
        assert body["effects_repeated"] == body["checkpoints_dropped"] == []
        assert body["approvals_withdrawn"] == [open_one.pk]
        assert body["decisions_voided"] == [decided.decisions.get().pk]
        assert any("issue_refund is being carried out right now" in warning for warning in body["warnings"])
    run.refresh_from_db()
    open_one.refresh_from_db()
    assert (run.status, run.ending, open_one.status) == ("waiting", None, "pending")
    assert kinds() == []
    assert busy.pk not in body["approvals_withdrawn"]


def test_end_closes_the_row_at_once_and_says_who_and_why(olga: User) -> None:
    run = make_run(status="waiting")
    decided, open_one = decide(open_for(run)), open_for(run)
    answer = Caller(olga).post(f"runs/{run.pk}/actions", {"action": "end", "reason": "It hangs"})
    assert answer.status_code == 202
    body = answer.json()
    assert body["action"] == "end"
    assert (body["run"]["id"], body["run"]["status"], body["run"]["waiting_for"]) == (run.pk, "cancelled", [])
    assert body["run"]["error"] == {"kind": "ended", "message": "Ended by olga: It hangs"}
    open_one.refresh_from_db()
    assert open_one.status == "withdrawn"
    with pytest.raises(AlreadyClosed, match="Ended by olga: It hangs"):
        decide(open_one)
    (item,) = stalled.lane_page(reviewer()).items
    assert (item.approval.pk, item.standstill.cause, item.standstill.may_deliver) == (decided.pk, "run_ended", False)
    assert item.standstill.words == "Ended by olga: It hangs"
    assert kinds() == [Kind.TERMINATE_RUN]
    events = AuditEvent.objects.filter(actor="olga", subject=run.pk).order_by("seq")
    assert [(event.kind, event.body.get("reason")) for event in events] == [
        ("run.cancelled", None),
        ("run.end_requested", "It hangs"),
    ]
    assert audit.verify().ok

    again = Caller(olga).post(f"runs/{run.pk}/actions", {"action": "end", "reason": "It hangs"})
    assert (again.status_code, again.json()) == (202, body)
    assert kinds() == [Kind.TERMINATE_RUN]


def test_cancel_is_kept_for_temporal_and_the_run_stays_open_until_its_workflow_closes_it(olga: User) -> None:
    run = make_run(status="waiting")
    approval = open_for(run)
    body = Caller(olga).post(f"runs/{run.pk}/actions", {"action": "cancel", "reason": "Wrong order"}).json()
    assert (body["run"]["status"], body["run"]["ending"]["by"]) == ("waiting", "olga")
    assert Caller(olga).post(f"runs/{run.pk}/actions", {"action": "cancel", "reason": "x"}).status_code == 202
    assert kinds() == [Kind.CANCEL_RUN]
    services.close_run(run_id=run.pk, status="cancelled", kind="cancelled", message="The run was cancelled.")
    run.refresh_from_db()
    approval.refresh_from_db()
    assert run.error == {"kind": "cancelled", "message": "Cancelled by olga: Wrong order"}
    assert approval.status == "withdrawn"


def test_somebody_elses_cancel_is_under_way_and_an_end_overtakes_it(olga: User) -> None:
    run = make_run(status="waiting")
    other = somebody("admin", "ada")
    acting.act(run_id=run.pk, action="cancel", reason="first", by=olga)
    answer = Caller(other).post(f"runs/{run.pk}/actions", {"action": "cancel", "reason": "second"})
    assert problem(answer, 409)["detail"] == "olga has asked to cancel it already: first"
    seen = Caller(other).post(f"runs/{run.pk}/actions", {"action": "end", "dry_run": True}).json()
    assert seen["warnings"] == ["olga has asked to cancel it: first. That is under way, and this overtakes it."]
    assert Caller(other).post(f"runs/{run.pk}/actions", {"action": "end", "reason": "hangs"}).status_code == 202
    run.refresh_from_db()
    assert run.error is not None and run.error["message"] == "Ended by ada: hangs"


@pytest.mark.parametrize("action", ["cancel", "end"])
def test_what_is_closed_already_is_refused_with_how_it_ended(action: str, olga: User) -> None:
    error = {"kind": "ended_outside", "message": "Ended outside: terminated."}
    run = make_run(status="cancelled", closed_at=database_now(), error=error)
    for extra in ({}, {"dry_run": True}):
        answer = Caller(olga).post(f"runs/{run.pk}/actions", {"action": action, "reason": "x", **extra})
        assert problem(answer, 409)["detail"] == "The run is closed already: cancelled. Ended outside: terminated."


@pytest.mark.parametrize("reason", ["", "   ", "x" * 401])
def test_without_a_reason_nothing_is_done(reason: str, olga: User) -> None:
    run = make_run(status="waiting")
    answer = Caller(olga).post(f"runs/{run.pk}/actions", {"action": "end", "reason": reason})
    assert problem(answer, 422)["errors"][0]["path"] == "reason"
    run.refresh_from_db()
    assert run.status == "waiting"


def test_an_unknown_action_and_a_preview_that_has_grown_old_are_refused(olga: User) -> None:
    run = make_run(status="waiting")
    assert Caller(olga).post(f"runs/{run.pk}/actions", {"action": "explode", "reason": "x"}).status_code == 422
    state = Caller(olga).post(f"runs/{run.pk}/actions", {"action": "end", "dry_run": True}).json()["state"]
    open_for(run)
    answer = Caller(olga).post(f"runs/{run.pk}/actions", {"action": "end", "reason": "x", "state": state})
    assert "has moved on since" in problem(answer, 409)["detail"]


@pytest.mark.parametrize("action", ["end", "cancel", "fail_activity"])
def test_the_ledger_begins_no_effect_of_a_run_whose_end_was_asked_for(action: str, olga: User) -> None:
    run = make_run(status="running", fence=7)
    approval = decide(open_for(run))
    seen = acting.preview(run, action)
    assert seen.decisions_voided == [approval.decisions.get().pk]
    acting.act(run_id=run.pk, action=action, reason="stop", by=olga)
    unused: Any = None
    with pytest.raises(Fenced):
        EffectLedger(run.pk, 7, unused, unused)._begin(approval.pk, approval.digest)
    assert not Effect.objects.exists()


def test_a_decision_that_dies_with_a_cancel_is_not_taken_up_before_temporal_knows(olga: User) -> None:
    run = make_run(status="waiting", fence=7)
    approval = decide(open_for(run))
    acting.act(run_id=run.pk, action="cancel", reason="stop", by=olga)
    start = services.begin_turn(Turn(run.pk, "support", 2, [approval.pk]), Attempt("t", 2, 1))
    assert start.is_paused and start.run is None
    run.refresh_from_db()
    approval.refresh_from_db()
    assert (run.status, run.fence, approval.took_effect_at) == ("waiting", 7, None)


def test_an_effect_under_way_is_not_called_undone_and_its_end_is_still_written(olga: User) -> None:
    run = make_run(status="running", fence=7)
    approval = executing(run)
    acting.act(run_id=run.pk, action="end", reason="stop", by=olga)
    assert stalled.lane_page(reviewer()).items == []
    unused: Any = None
    EffectLedger(run.pk, 7, unused, unused)._end(approval.pk, "done", {"refund": "re-1"}, "")
    approval.refresh_from_db()
    assert approval.took_effect_at is not None


def test_a_cancel_without_a_worker_or_without_temporal_says_so_before(olga: User) -> None:
    run = make_run(status="waiting")
    PartHeartbeat.objects.create(part="relay", instance="here", detail="waiting for Temporal")
    warnings = acting.preview(run, "cancel").warnings
    assert any(warning.startswith("No worker is alive") for warning in warnings)
    assert any(warning.startswith("Temporal cannot be told now") for warning in warnings)
    assert acting.preview(run, "end").warnings == []


# The relay.


@pytest.mark.django_db(transaction=True)
def test_what_was_asked_waits_for_temporal_and_arrives_with_who_and_why(olga: User) -> None:
    run, other, gone = make_run(status="waiting"), make_run(status="waiting"), make_run(status="waiting")
    temporal = FakeTemporal()
    for one in (run, other):
        temporal.started[one.pk] = services.workflow_input({"run_id": one.pk, "agent": "a", "turn_seconds": 1})
    temporal.is_away = True

    async def scene() -> None:
        await until(lambda: OutboxEntry.objects.exclude(last_error="").exists())
        temporal.is_away = False
        await until(everything_delivered)

    acting.act(run_id=run.pk, action="cancel", reason="Wrong order", by=olga)
    acting.act(run_id=other.pk, action="end", reason="It hangs", by=olga)
    acting.act(run_id=gone.pk, action="end", reason="Its workflow is lost", by=olga)
    assert not acting.is_told(run)
    relaying(scene, Relay(temporal, chores=()))
    assert acting.is_told(run)
    assert f"cancel {run.pk} Signalbox: olga: Wrong order" in temporal.calls
    assert f"terminate {other.pk} Signalbox: olga: It hangs" in temporal.calls


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("action", ["end", "cancel", "fail_activity"])
def test_what_was_asked_before_a_run_was_set_back_does_not_end_what_goes_on_since(action: str, olga: User) -> None:
    run = failing_run()
    acting.act(run_id=run.pk, action=action, reason="It hangs", by=olga)
    temporal = FakeTemporal()
    temporal.started[run.pk] = services.workflow_input(
        {"run_id": run.pk, "agent": "a", "turn_seconds": 1, "era": run.era + 1}
    )
    Run.objects.filter(pk=run.pk).update(status="waiting", era=run.era + 1)
    relaying(lambda: until(everything_delivered), Relay(temporal, chores=()))
    assert run.pk not in temporal.ended
    assert action == "end" or temporal.calls == []


@pytest.mark.django_db(transaction=True)
def test_a_cancel_of_a_run_whose_workflow_is_gone_closes_the_row(olga: User, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(status="waiting")
    acting.act(run_id=run.pk, action="cancel", reason="x", by=olga)

    def is_over() -> bool:
        OutboxEntry.objects.filter(delivered_at=None).update(due_at=database_now())
        return everything_delivered() and not Run.objects.filter(status="waiting").exists()

    relaying(lambda: until(is_over), Relay(FakeTemporal(), chores=quick("compare runs with Temporal")))
    run.refresh_from_db()
    assert (run.status, (run.error or {})["kind"]) == ("failed", "ended_outside")


@pytest.mark.django_db(transaction=True)
def test_a_run_that_was_ended_before_temporal_took_it_is_never_started(olga: User) -> None:
    run = make_run()
    payload = {"run_id": run.pk, "agent": "support", "turn_seconds": 1}
    with transaction.atomic():
        outbox.enqueue(kind=Kind.START_RUN, subject=run.pk, payload=payload)
    acting.act(run_id=run.pk, action="end", reason="x", by=olga)
    temporal = FakeTemporal()
    relaying(lambda: until(everything_delivered), Relay(temporal, chores=()))
    assert temporal.started == {}


# The page.


def page_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_the_page_shows_what_will_happen_and_takes_a_reason_without_script(olga: User) -> None:
    run = make_run(status="waiting")
    open_for(run)
    client = page_of(olga)
    shown = client.get(f"/runs/{run.pk}/").content.decode()
    assert f"/runs/{run.pk}/actions/cancel/" in shown and f"/runs/{run.pk}/actions/end/" in shown
    form = client.get(f"/runs/{run.pk}/actions/end/")
    assert "It withdraws" in form.content.decode() and "A refund" in form.content.decode()
    state = form.context["preview"].state
    empty = client.post(f"/runs/{run.pk}/actions/end/", {"reason": " ", "state": state})
    assert empty.status_code == 422
    open_for(run)
    old = client.post(f"/runs/{run.pk}/actions/end/", {"reason": "It hangs", "state": state})
    assert old.status_code == 409
    assert "has moved on since" in old.content.decode() and "It hangs</textarea>" in old.content.decode()
    done = client.post(f"/runs/{run.pk}/actions/end/", {"reason": "It hangs", "state": old.context["preview"].state})
    assert (done.status_code, done["Location"]) == (302, f"/runs/{run.pk}/")
    after = client.get(f"/runs/{run.pk}/").content.decode()
    assert "Ended by olga: It hangs" in after and "/actions/end/" not in after
    late = client.get(f"/runs/{run.pk}/actions/cancel/").content.decode()
    assert "The run is closed already" in late and "<textarea" not in late
    kept = client.post(f"/runs/{run.pk}/actions/cancel/", {"reason": "It <hangs> still", "state": state})
    assert kept.status_code == 409 and "It &lt;hangs&gt; still" in kept.content.decode(), (
        "nothing that was typed is lost"
    )


def test_the_page_says_what_is_under_way_and_reviewers_see_no_button(olga: User) -> None:
    run = make_run(status="waiting")
    acting.act(run_id=run.pk, action="cancel", reason="Wrong <b>order</b>", by=olga)
    shown = page_of(reviewer()).get(f"/runs/{run.pk}/").content.decode()
    assert "olga has asked to cancel it: Wrong &lt;b&gt;order&lt;/b&gt;" in shown
    assert "Temporal has not taken that yet" in shown
    assert "/actions/" not in shown
    OutboxEntry.objects.update(delivered_at=database_now())
    assert "Its workflow has been told" in page_of(olga).get(f"/runs/{run.pk}/").content.decode()


def test_two_operators_at_once_are_one_action(olga: User) -> None:
    run = make_run(status="waiting")
    with pytest.raises(InvalidChange):
        acting.act(run_id=run.pk, action="end", reason="", by=olga)
    acting.act(run_id=run.pk, action="end", reason="x", by=olga)
    with pytest.raises(ActionRefused, match="closed already"):
        acting.act(run_id=run.pk, action="end", reason="y", by=somebody("admin", "ada"))
    assert kinds() == [Kind.TERMINATE_RUN]


# Pause and resume.


def test_a_pause_shows_at_once_keeps_requests_open_and_a_resume_gives_the_run_back(olga: User) -> None:
    run = make_run(status="waiting")
    approval = open_for(run)
    seen = Caller(olga).post(f"runs/{run.pk}/actions", {"action": "pause", "dry_run": True}).json()
    assert seen["approvals_withdrawn"] == seen["decisions_voided"] == []
    assert seen["warnings"] == [
        "1 request stays open and can be decided, and deadlines go on. Nothing is taken up before it resumes."
    ]
    paused = Caller(olga).post(f"runs/{run.pk}/actions", {"action": "pause", "reason": "The shop is down"})
    assert paused.status_code == 202
    assert (paused.json()["run"]["status"], paused.json()["run"]["paused"]["by"]) == ("paused", "olga")
    again = Caller(olga).post(f"runs/{run.pk}/actions", {"action": "pause", "reason": "The shop is down"})
    assert (again.status_code, again.json()) == (202, paused.json())
    other = Caller(somebody("admin", "ada")).post(f"runs/{run.pk}/actions", {"action": "pause", "reason": "x"})
    assert problem(other, 409)["detail"] == "olga has paused it already: The shop is down"
    decide(approval)
    turn = Turn(run.pk, "support", 2, [approval.pk])
    start = services.begin_turn(turn, Attempt("first", 2, 1))
    assert start.is_paused and start.run is None
    run.refresh_from_db()
    assert (run.status, run.fence) == ("paused", 0)
    assert not approval.receipt.filter(step="resumed").exists()
    resumed = Caller(olga).post(f"runs/{run.pk}/actions", {"action": "resume", "reason": "It is back"}).json()
    assert (resumed["run"]["status"], resumed["run"]["paused"]) == ("starting", None)
    assert services.begin_turn(turn, Attempt("first", 3, 1)).run is not None
    assert [event.kind for event in AuditEvent.objects.filter(subject=run.pk, actor="olga").order_by("seq")] == [
        "run.paused",
        "run.resumed",
    ]


def test_a_turn_under_way_ends_before_the_pause_and_the_run_is_paused_then(olga: User) -> None:
    run = make_run()
    begun = services.begin_turn(Turn(run.pk, "support", 1), Attempt("first", 1, 1)).run
    assert begun is not None
    acting.act(run_id=run.pk, action="pause", reason="x", by=olga)
    run.refresh_from_db()
    assert run.status == "running"
    services._move(Turn(run.pk, "support", 1), begun.fence, services.TurnEnd("c"), status=services.after_asking())
    run.refresh_from_db()
    assert run.status == "paused"


def test_a_failing_turn_that_is_paused_is_not_tried_and_an_end_still_ends_it(olga: User) -> None:
    run = make_run(status="running", turn=1, fence=3)
    acting.act(run_id=run.pk, action="pause", reason="x", by=olga)
    assert services.begin_turn(Turn(run.pk, "support", 1), Attempt("first", 1, 2)).is_paused
    run.refresh_from_db()
    assert run.status == "paused"
    acting.act(run_id=run.pk, action="end", reason="y", by=olga)
    run.refresh_from_db()
    assert run.status == "cancelled"
    with pytest.raises(ActionRefused, match="closed already"):
        acting.act(run_id=run.pk, action="resume", reason="y", by=olga)


def failing_run(**changes: Any) -> Run:
    at = database_now().isoformat()
    failure = {"turn": 2, "attempt": 7, "at": at, "since": at, "times": 7, "kind": "OSError", "message": "no route"}
    failure["next_try_at"] = (database_now() + timedelta(hours=1)).isoformat()
    return make_run(**{"status": "running", "turn": 2, "failure": failure} | changes)


def test_what_fails_is_tried_now_and_a_run_that_does_not_fail_says_so(olga: User) -> None:
    run, healthy = failing_run(), make_run(status="running", turn=2)
    seen = Caller(olga).post(f"runs/{run.pk}/actions", {"action": "retry_now", "dry_run": True}).json()
    assert seen["warnings"][0].startswith("Turn 2 has failed 7 times.")
    body = {"action": "retry_now", "reason": "The route is back"}
    for _ in range(2):
        assert Caller(olga).post(f"runs/{run.pk}/actions", body).status_code == 202
    assert OutboxEntry.objects.filter(kind=Kind.RETRY_TURN).count() == 1
    other = Caller(somebody("admin", "ada")).post(f"runs/{run.pk}/actions", body)
    assert "olga asked for “Try again now”" in problem(other, 409)["detail"]
    refused = Caller(olga).post(f"runs/{healthy.pk}/actions", body)
    assert problem(refused, 409)["detail"].startswith("Its turn does not fail")


def test_a_turn_that_somebody_paused_in_temporal_goes_on_by_the_same_button(olga: User) -> None:
    at = database_now().isoformat()
    seen = Look(at, "running", turn=TurnActivity("paused", 1, at)).as_json()
    run = make_run(status="running", turn=2, seen=seen)
    assert "retry_now" in [one.name for one in acting.offered(run)]
    shown = Caller(olga).post(f"runs/{run.pk}/actions", {"action": "retry_now", "dry_run": True}).json()
    assert shown["warnings"][0] == "Somebody has paused turn 2 in Temporal itself. It goes on."
    acting.act(run_id=run.pk, action="retry_now", reason="It may go on", by=olga)
    assert OutboxEntry.objects.filter(kind=Kind.RETRY_TURN).count() == 1


def test_a_turn_that_was_failed_by_an_operator_is_failed_at_its_next_attempt(olga: User) -> None:
    run = failing_run()
    acting.act(run_id=run.pk, action="fail_activity", reason="It never ends", by=olga)
    with pytest.raises(FailedByOperator, match="Failed by olga: It never ends"):
        services.begin_turn(Turn(run.pk, "support", 2), Attempt("first", 2, 8))
    services.close_run(run_id=run.pk, status="failed", kind="FailedByOperator", message="Failed by olga: It never ends")
    run.refresh_from_db()
    assert (run.status, run.error) == (
        "failed",
        {"kind": "FailedByOperator", "message": "Failed by olga: It never ends"},
    )


def test_a_turn_that_is_failed_while_it_ends_does_not_leave_a_run_that_waits(olga: User) -> None:
    run = failing_run()
    turn, end = Turn(run.pk, "support", 1), services.TurnEnd("c1")
    acting.act(run_id=run.pk, action="fail_activity", reason="It never ends", by=olga)
    with pytest.raises(FailedByOperator, match="Failed by olga: It never ends"):
        services.pause_turn(turn, run.fence, end)
    with pytest.raises(Fenced):
        services.pause_turn(turn, run.fence + 1, end)


@pytest.mark.django_db(transaction=True)
def test_what_is_asked_of_a_workflow_reaches_it_through_the_relay(olga: User) -> None:
    retried, failed, paused = failing_run(), failing_run(), make_run(status="waiting")
    temporal = FakeTemporal()
    for one in (retried, failed, paused):
        temporal.started[one.pk] = services.workflow_input({"run_id": one.pk, "agent": "a", "turn_seconds": 1})
    acting.act(run_id=retried.pk, action="retry_now", reason="x", by=olga)
    acting.act(run_id=failed.pk, action="fail_activity", reason="It never ends", by=olga)
    acting.act(run_id=paused.pk, action="pause", reason="x", by=olga)
    acting.act(run_id=paused.pk, action="resume", reason="y", by=olga)
    relaying(lambda: until(everything_delivered), Relay(temporal, chores=()))
    assert f"hurry {retried.pk} run_turn" in temporal.calls
    assert f"fail {failed.pk} run_turn FailedByOperator Failed by olga: It never ends" in temporal.calls
    assert f"resume {paused.pk}" in temporal.calls


def test_a_role_that_was_lost_since_the_page_was_drawn_does_nothing(olga: User) -> None:
    run = make_run(status="waiting")
    assert olga.groups.exists()
    User.objects.get(pk=olga.pk).groups.clear()
    with pytest.raises(NotTheirs):
        acting.act(run_id=run.pk, action="pause", reason="x", by=olga)
    run.refresh_from_db()
    assert run.paused is None


def test_a_field_that_an_action_does_not_take_is_named(olga: User) -> None:
    run = make_run(status="waiting")
    answer = Caller(olga).post(f"runs/{run.pk}/actions", {"action": "pause", "reason": "x", "turn": 3})
    assert problem(answer, 422)["errors"] == [{"path": "turn", "message": "This action takes no such field."}]
    unknown = Caller(olga).post(f"runs/{run.pk}/actions", {"action": "explode", "reason": "x"})
    assert problem(unknown, 422)["errors"][0]["path"] == "action"


def test_the_pages_pause_a_run_and_offer_to_resume_it(olga: User) -> None:
    run = make_run(status="waiting")
    client = page_of(olga)
    form = client.get(f"/runs/{run.pk}/actions/pause/")
    done = client.post(f"/runs/{run.pk}/actions/pause/", {"reason": "Wait", "state": form.context["preview"].state})
    assert done.status_code == 302
    shown = client.get(f"/runs/{run.pk}/").content.decode()
    assert "Wait" in shown
    assert f"/runs/{run.pk}/actions/resume/" in shown and f"/runs/{run.pk}/actions/pause/" not in shown
    late = client.get(f"/runs/{run.pk}/actions/pause/").content.decode()
    assert "olga has paused it already: Wait" in late
    assert client.get(f"/runs/{run.pk}/actions/explode/").status_code == 404


def test_a_decision_that_a_paused_run_has_not_taken_up_says_who_paused_it(olga: User) -> None:
    run = make_run(status="waiting")
    approval = open_for(run)
    acting.act(run_id=run.pk, action="pause", reason="The shop is down", by=olga)
    decide(approval)
    found = standstill_of([approval.pk])[approval.pk]
    assert found.sentence == "olga has paused the run. It takes the decision up once somebody resumes it."
    assert (found.words, found.may_deliver) == ("The shop is down", False)


# Hand over, send again, raise limits.


def test_a_request_goes_to_a_person_who_may_decide_it_and_to_nobody_else(olga: User) -> None:
    run = make_run(status="waiting", requested_by=olga)
    approval = open_for(run)
    alice = reviewer()
    somebody("reviewer", "gone").groups.clear()
    path = f"runs/{run.pk}/actions"
    for body, words in (
        ({"to": "gone"}, "gone may not decide it."),
        ({"to": "nobody-here"}, "There is no active account nobody-here."),
    ):
        answer = Caller(olga).post(path, {"action": "hand_over", "reason": "x", **body})
        assert words in problem(answer, 409)["detail"]
    for given in ({}, {"to": "alice", "escalate": True}):
        answer = Caller(olga).post(path, {"action": "hand_over", "reason": "x", **given})
        assert "only one of them" in problem(answer, 422)["errors"][0]["message"]
    done = Caller(olga).post(path, {"action": "hand_over", "reason": "She knows the case", "to": "alice"})
    assert done.status_code == 202
    approval.refresh_from_db()
    assert approval.claimed_by == alice
    assert AuditEvent.objects.filter(kind="run.handed_over", subject=run.pk).exists()


def test_a_reset_that_was_done_long_ago_is_not_taken_for_a_second_click(
    olga: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reset, "point_of", lambda run, where: Point("c1", database_now(), [], [], [], []))
    run = make_run(status="failed", turn=2)
    path, body = f"runs/{run.pk}/actions", {"action": "reset", "reason": "Once more", "turn": 1}
    for _ in range(2):
        assert Caller(olga).post(path, body).status_code == 202
    assert RunAction.objects.count() == 1
    OutboxEntry.objects.all().delete()
    Run.objects.update(status="failed")
    RunAction.objects.update(at=database_now() - timedelta(days=1))
    assert "was done then" in problem(Caller(olga).post(path, body), 409)["detail"]
    state = Caller(olga).post(path, body | {"dry_run": True}).json()["state"]
    for _ in range(2):
        assert Caller(olga).post(path, body | {"state": state}).status_code == 202
    assert RunAction.objects.count() == 2


def test_a_reset_of_a_run_that_went_on_after_the_backup_says_that_it_may_act_twice_and_goes_on_saying_so(
    olga: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reset, "point_of", lambda run, where: Point("c1", database_now(), [], [], [], []))
    run = make_run(status="waiting", turn=2)
    for kind in (ending.OLDER_DATABASE, "error"):
        ending.close_run(run_id=run.pk, status="failed", kind=kind, message="x", actor="relay")
        run.refresh_from_db()
        seen = acting.preview(run, "reset", {"turn": 1})
        assert restored.UNSURE in seen.warnings
        asked: dict[str, Any] = {"action": "reset", "reason": kind, "by": olga, "options": {"turn": 1}}
        acting.act(run_id=run.pk, state=seen.state, **asked)
        OutboxEntry.objects.update(delivered_at=database_now())
        run.refresh_from_db()
        Run.objects.filter(pk=run.pk).update(restart=(run.restart or {}) | {"placed": "c1"})
    plain = make_run(status="failed", turn=2)
    assert restored.UNSURE not in acting.preview(plain, "reset", {"turn": 1}).warnings


def test_what_was_handed_over_and_let_go_again_is_handed_over_anew(olga: User) -> None:
    run = make_run(status="waiting", requested_by=olga)
    approval, alice, path = open_for(run), reviewer(), f"runs/{run.pk}/actions"
    body = {"action": "hand_over", "reason": "She is on call", "to": "alice"}
    state = Caller(olga).post(path, body | {"dry_run": True}).json()["state"]
    for _ in range(2):  # a second click
        assert Caller(olga).post(path, body | {"state": state}).status_code == 202
    assert AuditEvent.objects.filter(kind="run.handed_over").count() == 1
    Approval.objects.filter(pk=approval.pk).update(claimed_by=None, claimed_at=None)
    RunAction.objects.update(at=database_now() - timedelta(days=1))
    state = Caller(olga).post(path, body | {"dry_run": True}).json()["state"]
    assert Caller(olga).post(path, body | {"state": state}).status_code == 202
    approval.refresh_from_db()
    assert approval.claimed_by == alice
    assert AuditEvent.objects.filter(kind="run.handed_over").count() == 2


def test_an_escalation_asks_early_whom_the_policy_names_and_once(olga: User) -> None:
    run = make_run(status="waiting")
    approval = open_for(run)
    further = set(approval.terms["escalate_to"]) - set(approval.audience)
    body = {"action": "hand_over", "reason": "Nobody is there", "escalate": True}
    answer = Caller(olga).post(f"runs/{run.pk}/actions", body)
    if not further:
        assert "names nobody further" in problem(answer, 409)["detail"]
        return
    assert answer.status_code == 202
    approval.refresh_from_db()
    assert further <= set(approval.audience)
    again = Caller(olga).post(f"runs/{run.pk}/actions", body | {"reason": "once more"})
    assert "names nobody further" in problem(again, 409)["detail"]


def test_what_was_decided_and_has_not_arrived_is_sent_again(olga: User) -> None:
    run = make_run(status="waiting")
    approval = open_for(run)
    path, body = f"runs/{run.pk}/actions", {"action": "resend", "reason": "It stands still"}
    assert "nothing to send again" in problem(Caller(olga).post(path, body), 409)["detail"]
    decide(approval)
    OutboxEntry.objects.filter(subject=run.pk).update(delivered_at=database_now())
    seen = Caller(olga).post(path, {"action": "resend", "dry_run": True}).json()
    assert seen["warnings"][0].startswith("1 decision that the run was told of")
    assert Caller(olga).post(path, body).status_code == 202
    entry = OutboxEntry.objects.get(subject=run.pk, delivered_at=None)
    assert (entry.kind, entry.payload["decision_id"]) == ("decided", approval.decisions.get().pk)
    OutboxEntry.objects.filter(pk=entry.pk).update(due_at=database_now() + timedelta(hours=1), last_error="no route")
    seen = Caller(olga).post(path, {"action": "resend", "dry_run": True}).json()
    assert seen["warnings"][0] == "1 message waits to be delivered, and is tried now. no route"
    assert Caller(olga).post(path, body | {"reason": "now"}).status_code == 202
    assert OutboxEntry.objects.filter(subject=run.pk, delivered_at=None, due_at__lte=database_now()).count() == 1


def test_limits_are_raised_for_this_run_and_only_raised(olga: User) -> None:
    run = make_run(status="failed", turn=1, closed_at=database_now(), error={"kind": "TooManySteps", "message": "m"})
    path = f"runs/{run.pk}/actions"
    answer = Caller(olga).post(path, {"action": "raise_limits", "reason": "x", "steps_per_turn": 100})
    assert problem(answer, 409)["detail"] == "A turn may take 100 steps already. Name a larger number."
    for bad in (0, "many", 10**9):
        answer = Caller(olga).post(path, {"action": "raise_limits", "reason": "x", "steps_per_turn": bad})
        assert problem(answer, 422)["errors"][0]["path"] == "steps_per_turn"
    answer = Caller(olga).post(path, {"action": "raise_limits", "reason": "A long case", "steps_per_turn": 250})
    assert answer.status_code == 202
    run.refresh_from_db()
    assert run.limits == {"steps_per_turn": 250}
    client = page_of(olga)
    assert f"/runs/{run.pk}/actions/raise_limits/" in client.get(f"/runs/{run.pk}/").content.decode()
    form = client.get(f"/runs/{run.pk}/actions/raise_limits/")
    assert form.context["preview"] is not None and "500 steps" in form.content.decode()
    sent = {"options.steps_per_turn": "900", "show": "1"}
    shown = client.post(f"/runs/{run.pk}/actions/raise_limits/", sent)
    assert "900 steps" in shown.content.decode()
    old = {"options.steps_per_turn": "950", "reason": "Longer", "state": form.context["preview"].state}
    done = client.post(f"/runs/{run.pk}/actions/raise_limits/", old)
    assert done.status_code == 302
    run.refresh_from_db()
    assert run.limits == {"steps_per_turn": 950}


def test_pages_of_actions_at_a_point_let_choose_it_and_say_what_is_not_there(olga: User) -> None:
    run = make_run(status="waiting", turn=1)
    client = page_of(olga)
    assert "The run has no checkpoint yet." in client.get(f"/runs/{run.pk}/actions/reset/").content.decode()
    for action in ("reset", "fork"):
        shown = client.get(f"/runs/{run.pk}/actions/{action}/?checkpoint_id=none").content.decode()
        assert "This run has no checkpoint none" in shown


def test_a_state_that_was_typed_at_one_checkpoint_is_not_another_ones(
    olga: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = SimpleNamespace(checkpoint_of=lambda run_id, checkpoint_id: SimpleNamespace(values={"note": "x"}))
    monkeypatch.setattr("orchestration.pages.acting.checkpoint_gateway", there)
    client, path = page_of(olga), f"/runs/{make_run(status='waiting', turn=1).pk}/actions/fork/"
    for checkpoint_id in ("c1", "c2"):
        shown = client.get(path, {"checkpoint_id": checkpoint_id}).content.decode()
        assert 'name="options.note"' in shown and f'data-draft="{checkpoint_id}"' in shown


def test_forks_that_go_in_a_circle_are_refused_in_words(olga: User) -> None:
    first = make_run(status="waiting", turn=1)
    second = make_run(status="waiting", turn=1, parent=first)
    Run.objects.filter(pk=first.pk).update(parent=second)
    answer = Caller(olga).post(f"runs/{second.pk}/actions", {"action": "fork", "reason": "x", "turn": 1})
    assert "go in a circle" in problem(answer, 409)["detail"]


def test_a_close_by_the_workflow_of_an_older_era_closes_nothing(olga: User) -> None:
    run = make_run(status="running", era=2, temporal_runs=[{"id": "old", "era": 1, "turn": 4, "attempt": 1}])
    for temporal_run_id, era in (("old", 0), ("unknown", 1)):
        services.close_run(
            run_id=run.pk, status="failed", kind="x", message="m", era=era, temporal_run_id=temporal_run_id
        )
        run.refresh_from_db()
        assert run.status == "running"
    services.close_run(run_id=run.pk, status="failed", kind="x", message="m", era=2, temporal_run_id="new")
    run.refresh_from_db()
    assert run.status == "failed"
