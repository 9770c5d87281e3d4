"""Runs and watches that were ended past this console: closed with what Temporal says, and told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from approvals.errors import AlreadyClosed
from approvals.models import Approval, AuditEvent
from approvals.policies import asking
from approvals.proposal.terms import Terms
from approvals.reading import stalled
from approvals.record import audit
from approvals.services import note_effect, reminders
from console import health, outbox
from console.clock import database_now
from console.models import OutboxEntry
from console.outbox import Kind
from orchestration import findings, reconciling, services
from orchestration.errors import NamespaceGone, TemporalAway
from orchestration.models import AnswerDelivery, Effect, Finding, Lookout, Run, Watched
from orchestration.redrive import deliver_again
from orchestration.relay.loop import Relay
from orchestration.temporal_protocol import WorkflowSeen
from orchestration.threads import in_database
from tests.fakes import FakeTemporal
from tests.orchestration.conftest import decide, go, make_run, open_for, reviewer
from tests.orchestration.test_relay import everything_delivered, quick, relaying
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def temporal_double() -> FakeTemporal:
    return FakeTemporal()


def due_run(**changes: Any) -> Run:
    """Return a run that is due to be looked at."""
    return make_run(look_due_at=database_now(), **changes)


def known(temporal: FakeTemporal, run: Run, ended: WorkflowSeen | None = None) -> Run:
    """Let Temporal know the run's workflow, and let the run be due to be looked at."""
    temporal.started[run.pk] = services.workflow_input({"run_id": run.pk, "agent": "support", "turn_seconds": 1})
    if ended is not None:
        temporal.ended.add(run.pk)
        temporal.ends[run.pk] = ended
    return run


def look(temporal: FakeTemporal) -> bool:
    """Look around once, as a relay does each second."""
    second_ago = database_now() - timedelta(seconds=2)
    Lookout.objects.update(looked_at=second_ago)
    return go(reconciling.look_around(temporal))


def voted_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> Approval:
    """Return a request that two people have to agree to, and one has."""
    with monkeypatch.context() as patch:
        patch.setattr(asking, "terms_for", lambda facts: Terms(rule="t", policy_version="t/1", needed=2))
        return decide(open_for(run))


@pytest.mark.parametrize(
    ("ended", "status", "message"),
    [
        (WorkflowSeen("terminated", "cleanup by ops"), "cancelled", "Ended outside: terminated, “cleanup by ops”."),
        (WorkflowSeen("terminated"), "cancelled", "Ended outside: terminated."),
        (WorkflowSeen("canceled"), "cancelled", "Ended outside: cancelled."),
        (WorkflowSeen("timed_out"), "failed", "Ended outside: its workflow ran out of the time it had been given."),
        (WorkflowSeen("failed", "boom"), "failed", "Ended outside: its workflow failed, “boom”."),
        (
            WorkflowSeen("completed"),
            "failed",
            "Ended outside: its workflow has ended, and what it came to is not known here.",
        ),
        (None, "failed", "Ended outside: Temporal does not know its workflow any more."),
    ],
)
def test_what_is_gone_is_closed_with_what_temporal_says(
    ended: WorkflowSeen | None, status: str, message: str, transactional_db: None, temporal_double: FakeTemporal
) -> None:
    run = due_run(status="waiting")
    if ended is not None:
        known(temporal_double, run, ended)
    approval = open_for(run)
    look(temporal_double)
    run.refresh_from_db()
    approval.refresh_from_db()
    assert (run.status, run.error) == (status, {"kind": "ended_outside", "message": message})
    assert run.closed_at is not None
    assert approval.status == "withdrawn"
    events = list(AuditEvent.objects.filter(actor="relay").order_by("seq").values_list("kind", "body"))
    assert events == [
        ("approval.withdrawn", {"reason": message}),
        (f"run.{status}", {"kind": "ended_outside", "message": message}),
    ]
    assert not look(temporal_double)
    assert audit.verify().ok
    with pytest.raises(AlreadyClosed, match="The reason: Ended outside"):
        decide(approval)


def test_a_run_that_temporal_has_is_left_alone(transactional_db: None, temporal_double: FakeTemporal) -> None:
    run = known(temporal_double, due_run(status="waiting"))
    assert look(temporal_double)
    run.refresh_from_db()
    assert run.status == "waiting"
    assert not look(temporal_double)  # not again within a minute


def test_what_moved_just_now_is_not_asked_whoever_moved_it(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    run = due_run(status="running")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE orchestration_run SET status = 'waiting' WHERE id = %s", [run.pk])
    assert not look(temporal_double)
    Run.objects.filter(pk=run.pk).update(look_due_at=database_now() - timedelta(seconds=1))
    assert look(temporal_double)


def test_a_run_that_the_relay_has_not_started_is_not_gone(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    run = due_run()
    entry = outbox.enqueue(kind=Kind.START_RUN, subject=run.pk, payload={"run_id": run.pk})
    assert not look(temporal_double)
    OutboxEntry.objects.filter(pk=entry).update(delivered_at=database_now())
    assert look(temporal_double)
    run.refresh_from_db()
    assert run.status == "failed"


@pytest.mark.parametrize("away", [TemporalAway("refused"), NamespaceGone("Temporal has no such namespace: x")])
def test_a_temporal_that_does_not_answer_closes_nothing(
    away: Exception, transactional_db: None, temporal_double: FakeTemporal
) -> None:
    run = due_run(status="waiting")
    temporal_double.errors[run.pk] = away
    with pytest.raises(TemporalAway):
        look(temporal_double)
    run.refresh_from_db()
    assert run.status == "waiting"


def test_a_handful_a_second_over_all_relays_the_longest_waiting_first(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    runs = [known(temporal_double, due_run(status="waiting")) for _ in range(12)]
    for age, run in enumerate(runs):
        Run.objects.filter(pk=run.pk).update(look_due_at=database_now() - timedelta(minutes=20 - age))
    go(reconciling.look_around(temporal_double))
    asked = [call.removeprefix("look ") for call in temporal_double.calls if call.startswith("look ")]
    assert sorted(asked) == sorted(run.pk for run in runs[:5])
    Lookout.objects.update(looked_at=database_now() + timedelta(minutes=5))  # however long the looks took here
    assert not go(reconciling.look_around(temporal_double))  # another relay in the same second
    assert look(temporal_double)
    asked = [call.removeprefix("look ") for call in temporal_double.calls if call.startswith("look ")]
    assert sorted(asked) == sorted(run.pk for run in runs[:10])


def test_those_who_had_decided_are_told_and_what_they_decided_stands_in_the_lane_at_once(
    transactional_db: None, temporal_double: FakeTemporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = known(temporal_double, due_run(status="waiting"), WorkflowSeen("terminated", "cleanup by ops"))
    alice = reviewer()
    alice.email = "alice@people.example"
    alice.save()
    decided, voted, unseen = decide(open_for(run)), voted_for(run, monkeypatch), open_for(run)
    look(temporal_double)
    assert {row.pk: row.status for row in Approval.objects.all()} == {
        decided.pk: "decided",
        voted.pk: "withdrawn",
        unseen.pk: "withdrawn",
    }
    mails = [reminders.mail_for(**entry.payload) for entry in OutboxEntry.objects.filter(kind=Kind.REMIND)]
    assert len(mails) == 2
    for mail in mails:
        assert mail is not None and mail.to == "alice@people.example"
        assert mail.subject.startswith("Did not take effect: ")
        assert "Ended outside: terminated, “cleanup by ops”." in mail.text
    body = AuditEvent.objects.get(kind="run.cancelled").body
    assert (body["voided"], body["told"]) == ([decided.pk], ["alice"])
    (item,) = stalled.lane_page(alice).items
    assert item.approval.pk == decided.pk
    found = item.standstill
    assert (found.cause, found.may_deliver, found.is_final) == ("run_ended", False, True)
    assert "was cancelled before the decision reached it" in found.sentence
    assert found.words == "Ended outside: terminated, “cleanup by ops”."
    with pytest.raises(Exception, match="was cancelled before"):
        deliver_again(approval_id=decided.pk, by=alice)


def test_an_effect_that_is_under_way_is_not_called_undone(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    run = known(temporal_double, due_run(status="running"), WorkflowSeen("terminated"))
    approval = decide(open_for(run))
    fields: dict[str, Any] = {"tool": approval.tool, "digest": approval.digest, "decision_id": "dec_1", "fence": 1}
    Effect.objects.create(approval_id=approval.pk, run_id=run.pk, is_idempotent=True, status="executing", **fields)
    note_effect(approval_id=approval.pk, event="started", within=timedelta(seconds=30))
    look(temporal_double)
    approval.refresh_from_db()
    assert approval.expected_by is not None and approval.expected_by > database_now()
    assert not OutboxEntry.objects.filter(kind=Kind.REMIND).exists()
    assert "voided" not in AuditEvent.objects.get(kind="run.cancelled").body


def test_a_workflow_that_closed_its_row_in_the_meantime_was_first(
    transactional_db: None, temporal_double: FakeTemporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = known(temporal_double, due_run(status="running"), WorkflowSeen("completed"))
    seen = temporal_double.look

    async def late_look(workflow_id: str) -> WorkflowSeen:
        changes: dict[str, Any] = {"status": "finished"}
        await in_database(lambda: Run.objects.filter(pk=workflow_id).update(**changes))
        return await seen(workflow_id)

    monkeypatch.setattr(temporal_double, "look", late_look)
    look(temporal_double)
    run.refresh_from_db()
    assert (run.status, run.error) == ("finished", None)


def test_a_decision_for_a_run_that_is_gone_is_told_once_and_ends_as_a_fact(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    run = known(temporal_double, due_run(status="waiting"), WorkflowSeen("terminated"))
    approval = decide(open_for(run))
    Run.objects.update(look_due_at=database_now() + timedelta(hours=1))  # nobody would look by himself

    def is_over() -> bool:
        OutboxEntry.objects.filter(kind=Kind.DECIDED, delivered_at=None).update(due_at=database_now())
        return everything_delivered()

    relaying(lambda: until(is_over), Relay(temporal_double, chores=quick("compare runs with Temporal")))
    run.refresh_from_db()
    assert run.status == "cancelled"
    assert approval.receipt.get(step="signalled").detail == "the run had ended"
    assert [item.approval.pk for item in stalled.lane_page(reviewer()).items] == [approval.pk]  # and stays there


# Watches of programs' requests.


def watched(temporal: FakeTemporal, **changes: Any) -> Approval:
    """Return a program's request whose watch was started, and has gone."""
    approval = open_for(
        due_run(status="finished"), source="program", deliver_to={"webhook": {"url": "https://p.example/"}}
    )
    Approval.objects.filter(pk=approval.pk).update(run_id=f"watch-{approval.pk}", **changes)
    Watched.objects.create(approval_id=approval.pk, workflow_id=f"watch-{approval.pk}")
    approval.refresh_from_db()
    return approval


@pytest.mark.parametrize("status", ["pending", "decided"])
def test_a_watch_that_is_gone_is_started_again_whether_the_request_is_open_or_its_answer_owed(
    status: str, transactional_db: None, temporal_double: FakeTemporal
) -> None:
    approval = watched(temporal_double, status=status)
    AnswerDelivery.objects.create(pk=approval.pk, state="trying", attempts=3)
    look(temporal_double)
    assert AuditEvent.objects.get(kind="approval.watched_again").body == {"found": "not_found"}
    relaying(lambda: until(everything_delivered), Relay(temporal_double, chores=quick("compare runs with Temporal")))
    assert temporal_double.watches[approval.run_id].approval_id == approval.pk
    approval.refresh_from_db()
    assert approval.status == status


def test_a_watch_whose_answer_is_delivered_or_given_up_is_looked_at_no_more(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    for state in ("delivered", "undelivered"):
        AnswerDelivery.objects.create(pk=watched(temporal_double, status="decided").pk, state=state)
    look(temporal_double)
    assert not Watched.objects.exists()
    assert not OutboxEntry.objects.filter(kind=Kind.START_WATCH).exists()


def test_a_watch_is_looked_at_from_its_start_on_and_not_before(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    approval = watched(temporal_double)
    Watched.objects.all().delete()
    payload = {"approval_id": approval.pk, "workflow_id": approval.run_id, "again": False}
    outbox.enqueue(kind=Kind.START_WATCH, subject=approval.run_id, payload=payload)
    relaying(lambda: until(everything_delivered), Relay(temporal_double, chores=quick("compare runs with Temporal")))
    (one,) = Watched.objects.all()
    assert one.workflow_id == approval.run_id and one.look_due_at > database_now() + timedelta(seconds=30)


# Another Temporal.


def test_another_temporal_closes_nothing_before_that_was_said_for_an_hour(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    runs = [due_run(status="waiting") for _ in range(3)]
    Run.objects.update(look_due_at=database_now() + timedelta(hours=1))
    look(temporal_double)  # at home, and nothing to do
    temporal_double.namespace_id = "namespace-2"
    Run.objects.update(look_due_at=database_now() - timedelta(hours=1))
    look(temporal_double)
    assert set(Run.objects.values_list("status", flat=True)) == {"waiting"}
    (finding,) = Finding.objects.all()
    assert "Another Temporal answers" in finding.sentence and "3 open runs" in finding.sentence
    health._noticed = (float("-inf"), [])
    assert finding.sentence in health.notices()
    assert health.report()[1]["findings"][0]["sentence"] == finding.sentence

    Lookout.objects.update(stranger_since=database_now() - timedelta(minutes=61))
    Run.objects.update(look_due_at=database_now() - timedelta(hours=1))
    look(temporal_double)
    assert set(Run.objects.filter(pk__in=[run.pk for run in runs]).values_list("status", flat=True)) == {"failed"}
    assert findings.told() == []


def test_the_own_temporal_that_comes_back_ends_the_warning(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    run = known(temporal_double, due_run(status="waiting"))
    look(temporal_double)
    temporal_double.namespace_id = "namespace-2"
    look(temporal_double)
    assert findings.told()
    temporal_double.namespace_id = "namespace-1"
    look(temporal_double)
    assert findings.told() == []
    run.refresh_from_db()
    assert run.status == "waiting"


def test_requests_that_an_older_release_left_open_are_withdrawn_when_a_relay_starts(
    transactional_db: None, temporal_double: FakeTemporal
) -> None:
    run = due_run(status="waiting")
    approval, other = open_for(run), open_for(known(temporal_double, due_run(status="waiting")))
    Run.objects.filter(pk=run.pk).update(status="failed", closed_at=database_now())
    relaying(
        lambda: until(lambda: Approval.objects.get(pk=approval.pk).status == "withdrawn"),
        Relay(temporal_double, chores=quick("compare runs with Temporal")),
    )
    other.refresh_from_db()
    assert other.status == "pending"
