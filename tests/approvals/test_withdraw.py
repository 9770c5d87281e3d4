"""Withdrawing: what nobody needs to decide any more is closed, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User

from approvals import services
from approvals.errors import AlreadyClosed
from approvals.models import Approval, AuditEvent
from approvals.reading import for_runs
from approvals.record import audit
from console.models import OutboxEntry
from tests.approvals.conftest import answer

Opener = Callable[..., Approval]


def test_every_pending_approval_of_the_run_is_closed_and_no_other(open_one: Opener, alice: User) -> None:
    first, second, decided = open_one(), open_one(), open_one()
    elsewhere = open_one(run_id="run-2")
    services.decide(approval_id=decided.pk, reviewer=alice, given=answer(decided))
    assert services.withdraw(run_id="run-1", reason="the run failed", actor="worker") == 2
    statuses = dict(Approval.objects.values_list("id", "status"))
    assert statuses == {
        first.pk: "withdrawn",
        second.pk: "withdrawn",
        decided.pk: "decided",
        elsewhere.pk: "pending",
    }
    assert Approval.objects.filter(status="withdrawn", closed_at=None).count() == 0
    events = AuditEvent.objects.filter(kind="approval.withdrawn")
    assert {event.subject for event in events} == {first.pk, second.pk}
    assert {event.body["reason"] for event in events} == {"the run failed"}
    assert audit.verify().ok


def test_a_repetition_closes_none(open_one: Opener) -> None:
    open_one()
    services.withdraw(run_id="run-1", reason="x", actor="worker")
    assert services.withdraw(run_id="run-1", reason="x", actor="worker") == 0
    assert AuditEvent.objects.filter(kind="approval.withdrawn").count() == 1


def test_a_late_click_is_told_that_the_run_ended_first(open_one: Opener, alice: User) -> None:
    approval = open_one()
    services.withdraw(run_id="run-1", reason="x", actor="worker")
    with pytest.raises(AlreadyClosed, match=r"withdrawn .* by worker\. The reason: x") as told:
        services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    assert (told.value.closing.status, told.value.closing.by) == ("withdrawn", None)
    assert not OutboxEntry.objects.exists()


def test_the_agent_would_be_told_withdrawn(open_one: Opener) -> None:
    approval = open_one()
    services.withdraw(run_id="run-1", reason="x", actor="worker")
    (settled,) = for_runs.settled([approval.pk])
    assert settled.ending is not None
    assert settled.ending.verdict == "withdrawn"
