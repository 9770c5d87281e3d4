"""Turns that fail again and again: shown, told, limited; and runs that a workflow takes up in another Temporal run."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import Group
from django.core import mail
from django.db.models import F
from django.test import Client
from langgraph.errors import EmptyInputError, GraphRecursionError, InvalidUpdateError
from psycopg.errors import InvalidTextRepresentation, ProgramLimitExceeded
from temporalio.exceptions import ApplicationError

from approvals.models import AuditEvent
from console.models import OutboxEntry, PartHeartbeat
from orchestration import failing, services
from orchestration.agents.runtime import Limit
from orchestration.agents.support.agent import AGENT
from orchestration.contracts import Turn
from orchestration.errors import Fenced, GaveUp, NoSuchRun
from orchestration.failing import Failed, failure_of
from orchestration.fences import Attempt
from orchestration.models import Run
from orchestration.services import TurnEnd
from orchestration.turns import failure
from tests.orchestration.conftest import make_run, reviewer
from tests.orchestration.mailing import send_next

pytestmark = pytest.mark.django_db

AWAY = Failed(("ConnectError", "OSError"), "ConnectError: the model is away")
BUSY = Failed(("RateLimited",), "RateLimited: too many requests")


def begun(number: int = 1, turn: int = 1, temporal_run: str = "first", run: Run | None = None) -> Run:
    """Begin an attempt of a run."""
    run = run or make_run()
    start = services.begin_turn(Turn(run.pk, "support", turn), Attempt(temporal_run, turn, number))
    assert start.run is not None
    return start.run


def fail(run: Run, number: int, failed: Failed = AWAY) -> Run:
    """Let one attempt begin and fail; return the row."""
    held = begun(number, run=run)
    failing.note(Turn(run.pk, "support", 1), held.fence, number, failed)
    return Run.objects.get(pk=run.pk)


def let_pass(run: Run, minutes: int) -> None:
    """Move the run's failure into the past, as if it had lasted so long."""
    kept = Run.objects.get(pk=run.pk).failure
    assert kept is not None
    since = datetime.fromisoformat(kept["since"]) - timedelta(minutes=minutes)
    earlier = F("failing_since") - timedelta(minutes=minutes)
    Run.objects.filter(pk=run.pk).update(failure=kept | {"since": since.isoformat()}, failing_since=earlier)


def operator(name: str = "olga") -> None:
    user = reviewer(name)
    user.groups.set([Group.objects.get_or_create(name="operator")[0]])
    user.email = f"{name}@people.example"
    user.save()


def test_the_same_failure_keeps_its_beginning_and_another_one_begins_anew() -> None:
    run = make_run()
    first = failure_of(fail(run, 1))
    second = failure_of(fail(run, 2))
    assert first is not None and second is not None
    assert (second.attempt, second.error, second.since) == (2, "ConnectError: the model is away", first.since)
    assert second.next_try_at is not None and second.next_try_at > second.since
    let_pass(run, 5)
    third = failure_of(fail(run, 3, BUSY))
    assert third is not None and third.since == first.since  # a test's clock stands: that is now, not five minutes ago
    assert third.kind == "RateLimited"


def test_a_failure_that_goes_away_is_forgotten() -> None:
    run = fail(make_run(), 1)
    let_pass(run, 40)
    run = fail(run, 2)
    assert run.stuck_at is not None
    held = begun(3, run=run)
    services._move(Turn(run.pk, "support", 1), held.fence, TurnEnd("c"), status="waiting")
    kept = Run.objects.values_list("failure", "failing_since", "stuck_at").get(pk=run.pk)
    assert kept == (None, None, None)


@pytest.mark.django_db(transaction=True)
def test_after_half_an_hour_the_run_is_stuck_and_the_operators_are_told_once() -> None:
    operator()
    run = fail(make_run(), 1)
    let_pass(run, 29)
    assert fail(run, 2).stuck_at is None
    let_pass(run, 1)
    stuck = fail(run, 3)
    assert stuck.stuck_at is not None
    assert fail(run, 4).stuck_at == stuck.stuck_at
    entry = AuditEvent.objects.get(kind="run.stuck", subject=run.pk)
    assert entry.body["told"] == ["olga"]
    assert [send_next(), send_next()] == [True, False]
    assert mail.outbox[0].to == ["olga@people.example"]
    assert run.pk in mail.outbox[0].subject and "ConnectError: the model is away" in mail.outbox[0].body


def test_failures_of_changing_kinds_make_a_run_stuck_all_the_same() -> None:
    run = fail(make_run(), 1)
    let_pass(run, 31)
    assert fail(run, 2, BUSY).stuck_at is not None


@pytest.mark.django_db(transaction=True)
def test_a_mail_about_a_run_that_goes_on_meanwhile_is_not_sent() -> None:
    operator()
    run = fail(make_run(), 1)
    let_pass(run, 31)
    fail(run, 2)
    Run.objects.update(**failing.OVER)
    assert send_next() and mail.outbox == []
    assert not OutboxEntry.objects.filter(delivered_at=None).exists()


def test_an_attempt_that_ended_without_a_word_is_a_failure_too() -> None:
    run = make_run()
    begun(1, run=run)
    begun(2, run=run)
    found = failure_of(Run.objects.get(pk=run.pk))
    assert found is not None and (found.attempt, found.kind) == (1, "AttemptLost")
    assert "its worker died" in found.error


def test_an_attempt_that_was_let_go_by_a_stopping_worker_is_none() -> None:
    run = make_run()
    services.let_go(Turn(run.pk, "support", 1), begun(1, run=run).fence)
    begun(2, run=run)
    assert failure_of(Run.objects.get(pk=run.pk)) is None


@pytest.mark.parametrize("name", ["ConnectError", "OSError", "*"])
def test_an_agents_limit_ends_what_fails_too_often(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = replace(AGENT, limits={name: Limit(attempts=3)})
    monkeypatch.setattr(failing, "agent_named", lambda _: agent)
    run = make_run()
    fail(run, 1)
    fail(run, 2)
    with pytest.raises(GaveUp, match="failed 3 times in the same way: ConnectError: the model is away") as told:
        fail(run, 3)
    assert told.value.kind == "ConnectError"


def test_an_agents_limit_ends_what_fails_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = replace(AGENT, limits={"ConnectError": Limit(seconds=600)})
    monkeypatch.setattr(failing, "agent_named", lambda _: agent)
    run = fail(make_run(), 1)
    let_pass(run, 9)
    fail(run, 2)
    let_pass(run, 2)
    with pytest.raises(GaveUp):
        fail(run, 3)


def test_an_agents_limit_ends_attempts_that_end_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = replace(AGENT, limits={"AttemptLost": Limit(attempts=2)})
    monkeypatch.setattr(failing, "agent_named", lambda _: agent)
    run, turn = make_run(), Turn("", "support", 1)
    failing.check_lost(begun(1, run=run), turn)
    failing.check_lost(begun(2, run=run), turn)
    with pytest.raises(GaveUp):
        failing.check_lost(begun(3, run=run), turn)


def test_a_run_that_was_reset_goes_on_in_another_temporal_run() -> None:
    run = make_run()
    for turn in range(1, 8):
        begun(turn=turn, run=run)
    again = begun(turn=5, temporal_run="second", run=run)
    assert (again.fence, again.turn, again.temporal_run_id) == (8, 5, "second")
    assert again.temporal_run_ids == ["first", "second"]
    late = begun(turn=7, number=2, temporal_run="first", run=run)  # a late attempt of the run that was reset
    with pytest.raises(Fenced):
        services.finish_turn(Turn(run.pk, "support", 5), again.fence, TurnEnd("c"))
    healed = begun(turn=5, number=2, temporal_run="second", run=run)
    assert healed.fence > late.fence and healed.temporal_run_id == "second"
    with pytest.raises(Fenced):
        begun(turn=7, number=2, temporal_run="first", run=run)


def test_a_run_that_this_database_does_not_know_is_a_permanent_failure() -> None:
    with pytest.raises(NoSuchRun) as told:
        services.begin_turn(Turn("support-gone", "support", 1), Attempt("first", 1, 1))
    assert told.value.permanent and "older than the engines" in str(told.value)


def test_where_the_agents_code_failed_is_kept_with_the_error() -> None:
    run = begun()
    failed = Failed(("AgentError", "KeyError"), "The agent's code raised KeyError", True, "plan", "File x, line 1")
    failing.note(Turn(run.pk, "support", 1), run.fence, 1, failed)
    services.close_run(run_id=run.pk, status="failed", kind="AgentError", message="The agent's code raised KeyError")
    run.refresh_from_db()
    assert run.error == {
        "kind": "AgentError",
        "message": "The agent's code raised KeyError",
        "node": "plan",
        "trace": "File x, line 1",
    }
    assert run.failure is None


def test_the_pages_and_the_api_say_what_fails_since_when_and_when_it_is_tried_next(client: Client) -> None:
    run = fail(make_run(), 1)
    let_pass(run, 45)
    run = fail(run, 51, replace(AWAY, message="ConnectError: <b>the model</b> is away"))
    PartHeartbeat.objects.create(part="worker", instance="here", ok=True)
    client.force_login(reviewer())
    page = client.get(f"/runs/{run.pk}/").content.decode()
    assert 'data-state="stuck"' in page and "Turn 1 fails, attempt 51" in page and "next try" in page
    assert "&lt;b&gt;the model&lt;/b&gt; is away" in page and "<b>the model</b>" not in page
    assert "working on turn" not in page
    listed = client.get("/runs/?stuck=1").content.decode()
    assert run.pk in listed and "attempt 51" in listed
    assert "1 run stuck" in client.get("/system/").content.decode()
    found = client.get(f"/api/v1/runs/{run.pk}").json()
    assert set(found["failure"]) >= {"attempt", "error", "since", "next_try_at"}
    assert (found["failure"]["attempt"], found["temporal_run_ids"]) == (51, ["first"])
    assert [item["id"] for item in client.get("/api/v1/runs?stuck=1").json()["items"]] == [run.pk]
    Run.objects.update(**failing.OVER)
    assert client.get("/api/v1/runs?stuck=1").json()["items"] == []
    assert client.get(f"/api/v1/runs/{run.pk}").json()["failure"] is None


def test_an_error_without_words_ends_with_no_colon() -> None:
    error = TimeoutError()
    error.add_note("During task with name 'plan' and id '9be93fe7'")
    assert failure.failed_of(error).message == "TimeoutError in the node “plan”"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (KeyError("tier"), "AgentError", "The agent's code raised KeyError in the node “plan”: 'tier'"),
        (UnboundLocalError("x"), "AgentError", "The agent's code raised UnboundLocalError in the node “plan”: x"),
        (ZeroDivisionError("by zero"), "AgentError", "The agent's code raised ZeroDivisionError in the node “plan”"),
        (InvalidUpdateError("no key"), "AgentError", "The agent's code raised InvalidUpdateError"),
        (GraphRecursionError("limit"), "TooManySteps", "The agent took more steps in one turn than it may"),
        (EmptyInputError("none"), "AgentError", "The agent's code raised EmptyInputError"),
        (InvalidTextRepresentation("NaN"), "AgentError", "PostgreSQL does not keep a value that the agent gave it."),
        (ProgramLimitExceeded("too long"), "AgentError", "PostgreSQL does not keep a value that the agent gave it."),
    ],
)
def test_what_cannot_help_to_be_tried_again_is_said_in_a_sentence(error: Exception, kind: str, words: str) -> None:
    error.add_note("During task with name 'plan' and id '9be93fe7'")
    failed = failure.failed_of(error)
    assert (failed.kind, failed.is_permanent, failed.node) == (kind, True, "plan")
    assert failed.message.startswith(words)


def test_the_workflow_tells_the_sentence_without_the_kind_before_it() -> None:
    from temporalio.exceptions import ActivityError

    from orchestration.workflows.agent_run import _kind_of, _message_of

    error = ActivityError(
        "Activity task failed", scheduled_event_id=1, started_event_id=2, identity="", activity_type="run_turn",
        activity_id="1", retry_state=None,
    )  # fmt: skip
    error.__cause__ = ApplicationError("The agent's code raised KeyError.", type="AgentError")
    assert (_kind_of(error), _message_of(error)) == ("AgentError", "The agent's code raised KeyError.")
