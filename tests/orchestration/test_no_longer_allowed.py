"""What was approved and may not be done any more is given out by no door, and says why.

The ledger asks before an effect of our own tools (test_effects.py). Here is what runs where it does not see it:
programs, foreign graphs' own tools and stops, threads on agent servers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from approvals import services as approvals
from approvals.models import Approval, AuditEvent, StandingApproval
from approvals.policies import asking
from approvals.reading import receipt
from approvals.record import audit
from console.clock import DatabaseNow, database_now
from console.environment import environment
from orchestration import deliveries, signal_pairs
from orchestration.errors import SignalHeld
from orchestration.models import AnswerDelivery, ReportedOutcome, Run, SignalPair
from tests.api_caller import Caller
from tests.fakes import FakeTemporal, FakeWorld
from tests.orchestration import foreign_graphs as foreign
from tests.orchestration.agent_server import AgentServerDouble, ServedThread
from tests.orchestration.conftest import decide, reviewer
from tests.orchestration.test_agent_servers import (
    DELETE,
    SEND,
    answered,
    batched,
    configured,
    decided,
    look,
    one_call,
    opened,
    said,
    serve,
)
from tests.orchestration.test_deliveries import SIGNAL, asked, deliver, robot, theirs
from tests.orchestration.test_foreign_graphs import Use, go_on, refusal, use, waiting
from tests.orchestration.test_run_turn import start, take
from tests.orchestration.test_signal_pairs import HERE, admin

__all__ = ["configured", "theirs", "use"]  # fixtures

pytestmark = pytest.mark.django_db(transaction=True)
WEBHOOK = {"webhook": {"url": "https://program.example/answers"}}

Happens = Callable[[pytest.MonkeyPatch], None]


def _disabled(_: pytest.MonkeyPatch) -> None:
    User.objects.filter(username="alice").update(is_active=False)


def _without_role(_: pytest.MonkeyPatch) -> None:
    User.objects.get(username="alice").groups.clear()


def _denied(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = asking.terms_for
    monkeypatch.setattr(asking, "terms_for", lambda facts: replace(usual(facts), outcome="deny", rule="never"))


def _more_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = asking.terms_for
    monkeypatch.setattr(asking, "terms_for", lambda facts: replace(usual(facts), needed=2, groups=("reviewer",)))


WHYS = {
    "disabled": (_disabled, "disabled"),
    "without role": (_without_role, "can be decided by"),
    "denied": (_denied, "never"),
    "more are needed": (_more_needed, "2 different people"),
}
every_way = pytest.mark.parametrize(("happens", "why"), WHYS.values(), ids=WHYS)


def refused_steps(approval: Approval) -> list[str]:
    return list(approval.receipt.filter(step="refused").values_list("detail", flat=True))


def stands(approval: Approval) -> str:
    approval.refresh_from_db()
    found = receipt.standstill(approval)
    assert found is not None and found.cause == "refused"
    return found.sentence


@pytest.fixture
def _signals_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "signals", "*")


def given_out(approval: Approval, to: FakeTemporal) -> dict[str, Any]:
    """Let the program have its answer, by whichever door it asked for."""
    approval.refresh_from_db()
    if approval.is_fetched:
        told = Caller(robot()).get(f"approvals/{approval.pk}/answer")
        assert told.status_code == 200
        return dict(told.json())
    if "webhook" in (approval.deliver_to or {}):
        parcel = deliveries.begin(approval.pk)
        assert parcel is not None
        deliveries.delivered(approval.pk, "somebody")
        return deliveries.body_of(approval)
    deliver(approval, to)
    return dict(to.program_signals[-1].body)


def requested(door: str) -> Approval:
    if door != "fetch":
        return asked(SIGNAL if door == "signal" else WEBHOOK)
    body = {"title": "Delete it", "tool": "delete_index", "arguments": {"name": "orders-2019"}, "external_id": "job/17"}
    told = Caller(robot()).post("approvals", body)
    assert told.status_code == 201, told.content
    return Approval.objects.get()


@pytest.mark.usefixtures("_signals_are_sent")
@every_way
@pytest.mark.parametrize("door", ["fetch", "signal", "webhook"])
def test_a_program_is_told_that_it_may_not_and_why(
    door: str, happens: Happens, why: str, theirs: FakeTemporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval = requested(door)
    approval = decide(approval)
    happens(monkeypatch)
    body = given_out(approval, theirs)
    assert (body["status"], body["verdict"], body["arguments"]) == ("decided", None, None)
    assert why in body["note"] and body["decided_by"] == "alice"
    assert why in stands(approval) and "told so" in stands(approval)
    assert len(refused_steps(approval)) == 1
    assert AuditEvent.objects.filter(kind="effect.refused", subject=approval.pk).count() == 1
    monkeypatch.undo()
    User.objects.filter(username="alice").update(is_active=True)
    reviewer()
    assert deliveries.fetched(approval, "robot")["verdict"] is None, "what was refused once stays so"
    assert audit.verify().ok


@pytest.mark.usefixtures("_signals_are_sent")
@pytest.mark.parametrize("door", ["fetch", "signal", "webhook"])
def test_a_program_that_has_its_answer_keeps_it(
    door: str, theirs: FakeTemporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval = requested(door)
    approval = decide(approval)
    assert given_out(approval, theirs)["verdict"] == "approve"
    _disabled(monkeypatch)
    assert deliveries.fetched(approval, "robot")["verdict"] == "approve" and not refused_steps(approval)


def test_what_was_fetched_is_sent_as_it_was(theirs: FakeTemporal, monkeypatch: pytest.MonkeyPatch) -> None:
    approval = asked(WEBHOOK)
    approval = decide(approval)
    assert deliveries.fetched(approval, "robot")["verdict"] == "approve"
    _disabled(monkeypatch)
    assert given_out(approval, theirs)["verdict"] == "approve"


@every_way
def test_a_signal_that_was_held_is_asked_about_when_it_is_let_go(
    happens: Happens, why: str, theirs: FakeTemporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval = asked(HERE)
    approval = decide(approval)
    with pytest.raises(SignalHeld):
        deliveries.begin(approval.pk)
    happens(monkeypatch)
    signal_pairs.settle(pair_id=SignalPair.objects.get().pk, by=admin(), confirmed=True)
    deliver(approval, theirs)
    assert theirs.program_signals[-1].body["verdict"] is None and why in theirs.program_signals[-1].body["note"]


def test_an_attempt_that_may_have_arrived_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    approval = asked(WEBHOOK)
    approval = decide(approval)
    assert deliveries.begin(approval.pk) is not None  # which nobody heard the end of
    _disabled(monkeypatch)
    assert deliveries.begin(approval.pk) is not None
    assert "may have arrived" in deliveries.body_of(approval)["note"] and "may have arrived" in stands(approval)
    assert "again by itself" in stands(approval), "the program has not been told yet"


def test_a_program_that_did_it_all_the_same_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    approval = requested("fetch")
    approval = decide(approval)
    _disabled(monkeypatch)
    assert deliveries.fetched(approval, "robot")["verdict"] is None
    told = Caller(robot()).post(f"approvals/{approval.pk}/outcome", {"status": "done"})
    assert told.status_code == 200
    assert ReportedOutcome.objects.get(pk=approval.pk).status == "done"
    approval.refresh_from_db()
    assert approval.took_effect_at is not None


def test_an_answer_that_runs_nothing_is_given_whoever_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    approval = requested("fetch")
    approval = decide(approval, "reject", "Keep it.")
    _disabled(monkeypatch)
    body = deliveries.fetched(approval, "robot")
    assert (body["verdict"], body["note"]) == ("reject", "Keep it.") and not refused_steps(approval)
    assert AnswerDelivery.objects.get().fetched_at is not None


@every_way
def test_a_foreign_graphs_call_is_asked_about_again(
    happens: Happens, why: str, use: Use, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = use(foreign.hitl("batched", lines=(foreign.CALLS[1:], "All done.")))
    ids = take(start(run), world).waiting_for
    (file,) = waiting(run)
    decide(file)
    with monkeypatch.context() as patched:
        happens(patched)
        result = go_on(run, world, 2, *ids)
    assert foreign.WORLD == []
    assert why in refused_steps(file)[0] and why in stands(file)
    if why == "never":
        assert result.outcome in ("finished", "needs_approval")  # the policy itself answers what is asked again
        return
    (again,) = waiting(run)
    assert result.waiting_for == [again.pk] and again.digest == file.digest
    if why == "2 different people":
        assert again.needed == 2
        return
    decide(again, by=reviewer("bob"))
    assert go_on(run, world, 3, again.pk).outcome == "finished"
    assert [name for name, _ in foreign.WORLD] == ["delete_file"]


@every_way
def test_a_graph_that_was_let_go_on_does_not(
    happens: Happens, why: str, use: Use, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = use(foreign.stopped(interrupt_before=["second"]), {"lines": []})
    ids = take(start(run), world).waiting_for
    (stop,) = waiting(run)
    assert stop.kind == "go_on"
    decide(stop)
    happens(monkeypatch)
    told = refusal(run, world, 2, *ids)
    assert told.type == "NotAllowedToGoOn" and why in str(told)
    assert foreign.WORLD == [("first", None)] and why in refused_steps(stop)[0]


def test_a_standing_approval_that_was_taken_back_runs_nothing(
    use: Use, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = asking.terms_for
    monkeypatch.setattr(asking, "terms_for", lambda facts: replace(usual(facts), risk="low", dwell_seconds=0))
    calls = foreign.CALLS[1:]
    run = use(foreign.hitl("batched", lines=(calls, "All done.")))
    take(start(run), world)
    (first,) = waiting(run)
    standing = approvals.make_standing(
        approval_id=first.pk,
        by=reviewer(),
        digest=first.digest,
        given=[{"path": path, "is": value} for path, value in first.arguments.items()],
        reason="Always right.",
        uses_at_most=3,
        expires_at=database_now() + timedelta(days=1),
    )
    second = use(foreign.hitl("batched", lines=(calls, "All done.")))
    ids = take(start(second), world).waiting_for
    approval = Approval.objects.get(run_id=second.pk)
    assert approval.decisions.get().source == f"standing:{standing.pk}"
    StandingApproval.objects.update(revoked_at=DatabaseNow())
    assert go_on(second, world, 2, *ids).outcome == "needs_approval"
    assert foreign.WORLD == [] and "took that back" in refused_steps(approval)[0]
    assert Run.objects.get(pk=second.pk).status == "waiting"


@every_way
def test_an_agent_server_is_not_told(
    happens: Happens, why: str, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = one_call()
    with decided(configured, thread) as (_, approval):
        with monkeypatch.context() as patched:
            happens(patched)
            answered(approval)
            assert thread.told == [] and why in refused_steps(approval)[0]
        look()
        again = [one for one in opened() if one.pk != approval.pk]
        assert len(again) == 1 and again[0].digest == approval.digest, "it is asked about again"
        decide(again[0], by=reviewer("bob"))
        answered(again[0])
        assert len(thread.told) == 1


def test_a_server_that_is_told_again_and_may_not_be_is_asked_about_again(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = one_call()
    thread.is_stubborn = True  # it took the answer, and its run ended without going on
    with decided(configured, thread) as (_, approval):
        answered(approval)
        assert len(thread.told) == 1
        with monkeypatch.context() as patched:
            _disabled(patched)
            answered(approval, again=True)
        assert len(thread.told) == 1
        look()
        again = [one for one in opened() if one.pk != approval.pk]
        assert len(again) == 1 and again[0].status == "pending"


def test_of_two_parts_of_a_question_neither_is_told(configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thread = ServedThread([batched(DELETE, SEND)], said(DELETE, SEND))
    with AgentServerDouble(thread) as server:
        serve(configured, server)
        look()
        first, second = opened()
        decide(first)
        decide(second, by=reviewer("bob"))
        _disabled(monkeypatch)
        answered(second)
        assert thread.told == []
        assert "disabled" in refused_steps(first)[0] and "Another part" in refused_steps(second)[0]
