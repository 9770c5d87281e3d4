"""Starting and closing runs: one row, one outbox entry, one audit entry, however often it is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from approvals.models import Approval, AuditEvent
from approvals.record import audit
from console.models import OutboxEntry
from console.outbox import Kind
from orchestration import services
from orchestration.errors import InvalidInput, RunKeyReused
from orchestration.models import Run
from tests.at_once import at_once
from tests.orchestration.conftest import INPUT, decide, make_run, open_for, reviewer


def start(olga: User, key: str = "", **changes: Any) -> tuple[Run, bool]:
    fields: dict[str, Any] = {"agent": "support", "given": dict(INPUT), "requested_by": olga, "idempotency_key": key}
    return services.start_run(**fields | changes)


def test_a_run_is_recorded_with_everything_that_must_follow(olga: User) -> None:
    run, is_new = start(olga)
    assert (is_new, run.status, run.requested_by, run.input) == (True, "starting", olga, INPUT)
    entry = OutboxEntry.objects.get()
    assert (entry.kind, entry.subject) == (Kind.START_RUN, run.pk)
    given = services.workflow_input(entry.payload)
    assert (given.run_id, given.agent, given.carried) == (run.pk, "support", None)
    event = AuditEvent.objects.get()
    assert (event.actor, event.kind, event.subject) == ("olga", "run.requested", run.pk)
    assert "message" not in str(event.body)
    assert audit.verify().ok


def test_without_a_key_each_start_is_another_run(olga: User) -> None:
    assert start(olga)[0] != start(olga)[0]
    assert Run.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_twenty_clients_at_once_with_one_key_start_one_run(olga: User) -> None:
    asked = at_once(*(lambda: start(olga, "the-key") for _ in range(20)))
    outcomes = [(run.pk, is_new) for run, is_new in asked]
    assert len(outcomes) == 20
    assert {run_id for run_id, _ in outcomes} == {"support-the-key"}
    assert sum(is_new for _, is_new in outcomes) == 1
    assert (Run.objects.count(), OutboxEntry.objects.count(), AuditEvent.objects.count()) == (1, 1, 1)


def test_the_same_key_with_another_input_is_refused(olga: User) -> None:
    start(olga, "k")
    with pytest.raises(RunKeyReused):
        start(olga, "k", given={**INPUT, "message": "another"})
    assert (Run.objects.count(), OutboxEntry.objects.count()) == (1, 1)


def test_the_order_of_the_inputs_fields_does_not_matter(olga: User) -> None:
    first, _ = start(olga, "k")
    again, is_new = start(olga, "k", given=dict(reversed(INPUT.items())))
    assert (again, is_new) == (first, False)


@pytest.mark.parametrize("key", ["with space", "a/b", "ü", "x" * 150, "../../etc", "%00", "-begins", "a:b"])
def test_a_key_that_fits_no_address_still_finds_its_run(key: str, olga: User) -> None:
    run, _ = start(olga, key)
    assert run.pk.startswith("support-")
    assert run.pk.removeprefix("support-").replace(".", "").replace("_", "").replace("-", "").isalnum()
    assert run.pk.isascii() and len(run.pk) < 120
    assert start(olga, key) == (run, False)
    assert start(olga, key + "2")[0] != run


def test_a_key_that_looks_like_anothers_digest_does_not_find_its_run(olga: User) -> None:
    odd, _ = start(olga, "a b")
    with pytest.raises(RunKeyReused):
        start(olga, odd.pk.removeprefix("support-"), given={**INPUT, "message": "another"})


@pytest.mark.parametrize("given", [None, [], "text", 7, {}, {"order_id": "1", "message": None}])
def test_an_input_that_does_not_fit_is_refused_and_nothing_is_kept(given: Any, olga: User) -> None:
    with pytest.raises(InvalidInput) as told:
        start(olga, "k", given=given)
    assert all(error["path"].startswith("input") and error["message"] for error in told.value.errors)
    assert not Run.objects.exists()
    assert not OutboxEntry.objects.exists()


def test_an_unknown_agent_is_refused_with_the_known_ones(olga: User) -> None:
    with pytest.raises(InvalidInput, match="support") as told:
        start(olga, agent="nobody")
    assert told.value.errors[0]["path"] == "agent"


def test_a_run_that_has_started_keeps_its_first_temporal_run(olga: User) -> None:
    run, _ = start(olga)
    services.workflow_started(run_id=run.pk, temporal_run_id="t-1")
    services.workflow_started(run_id=run.pk, temporal_run_id="t-2")
    run.refresh_from_db()
    assert (run.status, run.temporal_run_id) == ("running", "t-1")


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_closing_a_run_withdraws_what_waits_and_keeps_what_was_decided(status: str, db: None) -> None:
    run = make_run(status="waiting")
    waiting, decided = open_for(run), decide(open_for(run), by=reviewer())
    services.close_run(run_id=run.pk, status=status, kind="AgentError", message="m" * 5000)
    run.refresh_from_db()
    assert (run.status, run.closed_at is not None) == (status, True)
    assert run.error == {"kind": "AgentError", "message": "m" * 2000}
    statuses = dict(Approval.objects.values_list("pk", "status"))
    assert statuses == {waiting.pk: "withdrawn", decided.pk: "decided"}
    events = AuditEvent.objects.filter(kind=f"run.{status}")
    services.close_run(run_id=run.pk, status="failed", kind="late", message="late")
    run.refresh_from_db()
    assert (run.status, events.count()) == (status, 1)
