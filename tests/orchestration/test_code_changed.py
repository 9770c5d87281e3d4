"""Code changes, or checkpoints go, while a run is open: it goes on rightly or fails, and never ends green."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from temporalio.exceptions import ApplicationError

from approvals.models import Approval, AuditEvent
from approvals.reading import receipt
from console.clock import database_now
from orchestration import services, spending
from orchestration.contracts import Turn
from orchestration.errors import NotCarriedOut
from orchestration.models import Effect, Run
from orchestration.services import TurnEnd
from orchestration.turns import drive
from tests.at_once import at_once
from tests.fakes import FakeWorld
from tests.orchestration.changing_graph import graph_with
from tests.orchestration.conftest import decide, make_run, open_for
from tests.orchestration.test_run_turn import after, start, take

pytestmark = pytest.mark.django_db(transaction=True)

Use = Callable[..., None]


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Release other code of the agent: `code(gate="gate2")`."""

    def release(**changes: Any) -> None:
        graph = graph_with(**changes)
        monkeypatch.setattr(drive, "graph_of", lambda agent: graph)

    release()
    return release


@pytest.fixture
def run(transactional_db: None) -> Run:
    return make_run()


def waiting(run: Run, world: FakeWorld) -> str:
    """Take the first turn; return the approval that the run waits for."""
    (approval,) = take(start(run), world).waiting_for
    return approval


def fails(turn: Turn, world: FakeWorld, **more: Any) -> ApplicationError:
    with pytest.raises(ApplicationError) as told:
        take(turn, world, **more)
    assert told.value.non_retryable
    run = Run.objects.get(pk=turn.run_id)
    services.close_run(run_id=run.pk, status="failed", kind=str(told.value.type), message=told.value.message)
    return told.value


def change(statement: str, run: Run) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, {"run": run.pk})
        assert cursor.rowcount != 0 or statement.startswith("TRUNCATE")


CANNOT_GO_ON: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "the gate is renamed": ({}, {"gate": "ask"}, "“gate”"),
    "the gate waits for another node too": ({}, {"waits_also": True}, "“gate”"),
    "the gate waits for another node no more": ({"waits_also": True}, {}, "“gate”"),
    "a gate that a Send started is renamed": ({"by_send": True}, {"by_send": True, "gate": "ask"}, "“gate”"),
    "the gate inside a graph is renamed": (
        {"gate": "desk", "inner": "gate"},
        {"gate": "desk", "inner": "ask"},
        "“desk/gate”",
    ),
    "the graph around the gate is gone": ({"gate": "desk", "inner": "gate"}, {"gate": "desk"}, "“desk/gate”"),
    "the gate moves into a graph": ({"gate": "desk"}, {"gate": "desk", "inner": "gate"}, "“desk”"),
    "a state key that holds something is gone": ({}, {"without": "memo"}, "the state key “memo”"),
    "the key with what was approved is gone": ({}, {"without": "frozen"}, "the state key “frozen”"),
    "the node that acts is gone": ({}, {"skip_act": True}, "node gone: act"),
}


@pytest.mark.parametrize("case", CANNOT_GO_ON)
def test_a_run_whose_code_has_no_place_for_the_answer_fails_and_is_not_finished(
    case: str, run: Run, world: FakeWorld, code: Use
) -> None:
    before, now, named = CANNOT_GO_ON[case]
    code(**before)
    approval = waiting(run, world)
    decide(approval)
    code(**now)
    error = fails(after(run, 2, approval), world)
    assert error.type == "AgentCodeChanged" and named in error.message, error.message
    assert "agent's code changed" in error.message
    run.refresh_from_db()
    assert (run.status, run.result, Effect.objects.count()) == ("failed", None, 0)
    found = receipt.standstill(Approval.objects.get(pk=approval))
    assert found is not None and found.is_final
    assert (found.cause, found.words) == ("code_changed", error.message)


GOES_ON: dict[str, dict[str, Any]] = {
    "a node is new before the gate": {"review": True},
    "the node after the gate is renamed": {"act": "carry_out"},
    "the last node is renamed": {"finish": "report"},
}


@pytest.mark.parametrize("case", GOES_ON)
def test_a_run_goes_on_after_a_change_that_does_not_matter_to_it_and_says_so(
    case: str, run: Run, world: FakeWorld, code: Use
) -> None:
    approval = waiting(run, world)
    decide(approval)
    code(**GOES_ON[case])
    assert take(after(run, 2, approval), world).outcome == "finished"
    run.refresh_from_db()
    assert (run.status, Effect.objects.get().status) == ("finished", "done")
    assert [one["turn"] for one in run.code_changes] == [2] and "node" in run.code_changes[0]["changed"]
    assert AuditEvent.objects.filter(kind="run.code_changed", subject=run.pk).count() == 1


def test_a_run_whose_code_is_the_same_says_nothing_of_a_change(run: Run, world: FakeWorld, code: Use) -> None:
    approval = waiting(run, world)
    decide(approval)
    code()
    assert take(after(run, 2, approval), world).outcome == "finished"
    run.refresh_from_db()
    assert run.code_changes == []


def test_code_that_changes_between_two_attempts_of_the_first_turn_does_not_end_green(
    run: Run, world: FakeWorld, code: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise ConnectionError("the process is gone")

    with monkeypatch.context() as dying:
        dying.setattr(services, "pause_turn", die)
        with pytest.raises(ConnectionError):
            take(start(run), world)
    code(gate="ask")
    assert fails(start(run), world, attempt=2).type == "AgentCodeChanged"


def test_an_agent_that_ends_without_doing_what_was_approved_has_not_finished(
    run: Run, world: FakeWorld, code: Use
) -> None:
    code(skip_act=True)
    approval = waiting(run, world)
    decide(approval)
    error = fails(after(run, 2, approval), world)
    assert error.type == "NotCarriedOut" and f"issue_refund ({approval})" in error.message
    found = receipt.standstill(Approval.objects.get(pk=approval))
    assert found is not None and "Nothing was done" in found.sentence


def test_what_is_approved_while_its_run_is_about_to_end_keeps_it_from_its_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run.objects.filter(pk=run.pk).update(fence=7, status="running", turn=1)
    approval = open_for(run)
    usual = spending.note

    def meanwhile(*given: Any) -> None:  # the run's row is held by now
        at_once(lambda: decide(approval))
        usual(*given)

    monkeypatch.setattr(spending, "note", meanwhile)
    with pytest.raises(NotCarriedOut, match=approval.pk):
        services.finish_turn(Turn(run.pk, "support", 1), 7, TurnEnd("c"))
    run.refresh_from_db()
    approval.refresh_from_db()
    assert (run.status, approval.status) == ("running", "decided")


@pytest.mark.parametrize("verdict", ["reject", "expired", "withdrawn"])
def test_an_agent_may_end_without_doing_what_nobody_approved(
    verdict: str, run: Run, world: FakeWorld, code: Use
) -> None:
    code(skip_act=True)
    approval = waiting(run, world)
    if verdict == "reject":
        decide(approval, "reject")
    else:
        Approval.objects.update(status=verdict, closed_at=database_now())
    assert take(after(run, 2, approval), world).outcome == "finished"


def test_an_agent_that_was_refused_by_the_ledger_may_end(run: Run, world: FakeWorld, code: Use) -> None:
    approval = waiting(run, world)
    decide(approval).decisions.get().by.groups.clear()  # type: ignore[union-attr]
    assert take(after(run, 2, approval), world).outcome == "finished"
    assert not Effect.objects.exists()


def test_a_graph_that_stops_before_a_node_has_not_finished_and_asks(
    run: Run, world: FakeWorld, code: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_with()
    usual = graph.compile
    monkeypatch.setattr(graph, "compile", lambda **given: usual(interrupt_before=["freeze"], **given))
    monkeypatch.setattr(drive, "graph_of", lambda agent: graph)
    (asked,) = take(start(run), world).waiting_for
    found = Approval.objects.get(pk=asked)
    assert found.kind == "go_on" and "“freeze”" in found.summary


GONE = {
    "all tables emptied": "TRUNCATE agent.checkpoints, agent.checkpoint_blobs, agent.checkpoint_writes",
    "its checkpoints deleted": "DELETE FROM agent.checkpoints WHERE thread_id = %(run)s",
    "the newest deleted": "DELETE FROM agent.checkpoints WHERE thread_id = %(run)s AND checkpoint_id ="
    " (SELECT max(checkpoint_id) FROM agent.checkpoints WHERE thread_id = %(run)s)",
    "the values deleted": "DELETE FROM agent.checkpoint_blobs WHERE thread_id = %(run)s",
    "one value deleted": "DELETE FROM agent.checkpoint_blobs WHERE thread_id = %(run)s AND channel = 'frozen'",
    "the writes deleted": "DELETE FROM agent.checkpoint_writes WHERE thread_id = %(run)s",
    "a value unreadable": "UPDATE agent.checkpoint_blobs SET blob = '\\xc1'::bytea"
    " WHERE thread_id = %(run)s AND channel = 'frozen'",
    "a value of an unknown kind": "UPDATE agent.checkpoint_blobs SET type = 'pigeon'"
    " WHERE thread_id = %(run)s AND channel = 'frozen'",
    "a write unreadable": "UPDATE agent.checkpoint_writes SET blob = '\\x81a1'::bytea"
    " WHERE thread_id = %(run)s AND channel = '__interrupt__'",
    "a checkpoint that is none": "UPDATE agent.checkpoints SET checkpoint = '{}' WHERE thread_id = %(run)s",
}


@pytest.mark.parametrize("case", GONE)
def test_a_run_whose_checkpoints_are_gone_fails_and_never_begins_again(
    case: str, run: Run, world: FakeWorld, code: Use
) -> None:
    proposed: list[str] = []

    async def count() -> None:
        proposed.append("again")

    code(on_propose=count)
    approval = waiting(run, world)
    decide(approval)
    change(GONE[case], run)
    error = fails(after(run, 2, approval), world)
    assert error.type == "CheckpointsGone" and error.message.startswith("Its "), error.message
    assert "checkpoints" in error.message
    assert (proposed, Effect.objects.count(), Approval.objects.count()) == (["again"], 0, 1)
    found = receipt.standstill(Approval.objects.get(pk=approval))
    assert found is not None and found.cause == "checkpoints_gone" and found.is_final


def test_an_answer_that_had_landed_is_not_taken_for_one_whose_checkpoints_are_gone(
    run: Run, world: FakeWorld, code: Use
) -> None:
    tries: list[str] = []

    async def break_once() -> None:
        tries.append("")
        if len(tries) == 1:
            raise ConnectionError("the network broke")

    code(on_act=break_once)
    approval = waiting(run, world)
    decide(approval)
    with pytest.raises(ConnectionError):
        take(after(run, 2, approval), world)
    assert take(after(run, 2, approval), world, attempt=2).outcome == "finished"
    assert len(tries) == 2 and Effect.objects.get().status == "done"
