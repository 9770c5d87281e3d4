"""Who holds the record's chain keeps every decision waiting, so it waits for no row that somebody else may hold."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection, transaction
from django.db.models import Model

from approvals import services as approvals
from approvals.models import Approval, AuditEvent
from approvals.services import Proposal, decision_sql
from approvals.services.receipts import hold_all
from console.clock import database_now
from orchestration import ending, failing, fences, services
from orchestration.actions import acting
from orchestration.agent_servers import rows
from orchestration.agents.support.agent import AGENT
from orchestration.contracts import Turn
from orchestration.diagnosis import standing
from orchestration.effects import EffectLedger
from orchestration.errors import ActionRefused
from orchestration.failing import Failed
from orchestration.models import Effect, Run, ThreadQuestion, Trouble
from orchestration.services import TurnEnd
from tests.at_once import at_once, until_somebody_waits
from tests.chain_order import locks_before_it_records
from tests.fakes import FakeWorld
from tests.orchestration.conftest import decide, make_run, open_for, reviewer
from tests.orchestration.test_actions import somebody
from tests.orchestration.test_diagnosis import Scene
from tests.orchestration.test_standing import failing as failing_run
from tests.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)

FENCE = 7


@pytest.fixture
def run(transactional_db: None) -> Run:
    return make_run(fence=FENCE, status="running", turn=1)


def _proposal(run: Run, like: Approval) -> Proposal:
    return Proposal(
        external_id=f"{run.pk}:new",
        kind="action",
        canonical=bytes(like.canonical),
        digest=like.digest,
        summary="Another refund",
        agent_words="",
        arguments_schema={},
        risk="high",
        agent=run.agent,
        run_id=run.pk,
        interrupt_id="new",
        checkpoint_id="c1",
        requested_by_id=None,
    )


def test_a_run_that_is_set_back_with_one_place_decided_and_another_open(run: Run) -> None:
    decided, pending = decide(open_for(run)), open_for(run)

    def set_back() -> None:
        approvals.set_back(run_id=run.pk, asked=[decided.pk, pending.pk], reason="Again", actor="olga", begun=[])

    assert locks_before_it_records(set_back, pending)
    pending.refresh_from_db()
    assert pending.status == "withdrawn" and decided.receipt.filter(step="refused").exists()


def test_several_open_requests_that_are_handed_over(run: Run) -> None:
    olga = User.objects.create_user("olga")
    olga.groups.add(Group.objects.get_or_create(name="operator")[0])
    first, second = open_for(run), open_for(run)
    alice = reviewer()

    def hand_over() -> None:
        acting.act(run_id=run.pk, action="hand_over", reason="She knows it", by=olga, options={"to": "alice"})

    assert locks_before_it_records(hand_over, second)
    for approval in (first, second):
        approval.refresh_from_db()
        assert approval.claimed_by == alice


def test_a_turn_that_asks_something_else_than_what_is_still_open(run: Run) -> None:
    before = open_for(run)

    def pause() -> None:
        services.pause_turn(Turn(run.pk, "support", 1), FENCE, TurnEnd("c1", [_proposal(run, before)]))

    assert locks_before_it_records(pause, before)
    before.refresh_from_db()
    assert before.status == "withdrawn"
    assert Approval.objects.get(run_id=run.pk, interrupt_id="new").status == "pending"


def test_what_is_asked_again_is_not_withdrawn(run: Run) -> None:
    before = open_for(run)
    turn, end = Turn(run.pk, "support", 1), TurnEnd("c1", [_proposal(run, before)])
    first, _ = services.pause_turn(turn, FENCE, end)
    again, _ = services.pause_turn(turn, FENCE, end)
    assert first == again
    assert Approval.objects.get(pk=first[0]).status == "pending"


def test_an_effect_that_ends_for_the_one_before_the_run_was_set_back_too(run: Run, world: FakeWorld) -> None:
    first, again = decide(open_for(run)), decide(open_for(run))
    fields = {"tool": first.tool, "digest": first.digest, "decision_id": "d", "is_idempotent": True, "fence": FENCE}
    Effect.objects.create(approval_id=first.pk, run=run, is_set_back=True, taken_up_by=again.pk, **fields)
    Effect.objects.create(approval_id=again.pk, run=run, key=first.pk, **fields)
    ledger = EffectLedger(run.pk, FENCE, AGENT, world)
    assert locks_before_it_records(lambda: ledger._end(again.pk, "done", {"id": "r1"}, ""), first)
    assert {effect.status for effect in Effect.objects.all()} == {"done"}


def test_a_thread_on_a_server_that_went_on_with_one_place_decided_and_another_open(run: Run) -> None:
    decided, pending = decide(open_for(run, interrupt_id="i")), open_for(run, interrupt_id="i", interrupt_place=1)
    question = ThreadQuestion.objects.create(
        server="there", thread_id="t", interrupt_id="i", run_id=run.pk, asked_as="i", assistant_id="a"
    )
    assert locks_before_it_records(lambda: rows.went_on(question, held=True), decided)
    pending.refresh_from_db()
    assert pending.status == "withdrawn"
    assert decided.receipt.filter(step="refused").exists()


def test_two_causes_that_are_new_at_once(run: Run) -> None:
    scene = Scene()
    stuck = [failing_run(scene, kind, stuck_at=scene.now) for kind in ("AwayError", "FullError")]
    second = Trouble.objects.create(group="turn_failing:FullError", cause="turn_failing")
    examined = list(Run.objects.filter(pk__in=[one.pk for one in stuck]).order_by("pk"))
    assert locks_before_it_records(lambda: standing.examine(examined), second)
    assert AuditEvent.objects.filter(kind="run.stuck").count() == 2


TURN = 1
HOLDERS: dict[str, Callable[[Run], Any]] = {
    "a turn that begins": lambda run: fences.hold(run.pk),
    "a turn that is placed": lambda run: services._hold(Turn(run.pk, "support", TURN), FENCE),
    "an attempt that is let go": lambda run: fences.let_go(Turn(run.pk, "support", TURN), FENCE),
    "a turn that fails": lambda run: failing.note(Turn(run.pk, "support", TURN), FENCE, 1, Failed(("OSError",), "x")),
    "a turn under other code": lambda run: services.note_code_changed(Turn(run.pk, "support", TURN), FENCE, "a node"),
    "an effect that begins": lambda run: EffectLedger(run.pk, FENCE, AGENT, FakeWorld())._check_fence(),
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=list(HOLDERS))
def test_a_new_row_that_names_a_run_waits_for_nobody_who_holds_it(run: Run, hold: Callable[[Run], Any]) -> None:
    Run.objects.filter(pk=run.pk).update(temporal_runs=[{"id": "t", "turn": TURN, "attempt": 1}])
    with transaction.atomic():
        hold(run)
        assert at_once(lambda: _can_be_named(run)) == [True]


def test_a_new_row_that_names_an_approval_waits_for_nobody_who_holds_it(run: Run) -> None:
    approval = open_for(run)
    holders: list[Callable[[], Any]] = [lambda: decision_sql.hold(approval.pk), lambda: hold_all([approval.pk])]
    for hold in holders:
        with transaction.atomic():
            hold()
            assert at_once(lambda: _can_be_named(approval)) == [True]


def _can_be_named(row: Model) -> bool:
    """Return whether a foreign key to the row would be found good at once."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM {row._meta.db_table} WHERE id = %s FOR KEY SHARE SKIP LOCKED", [row.pk])
        return cursor.fetchone() is not None


def _while_a_decision_is_under_way(approval: Approval, change: Callable[[], Any]) -> None:
    """Begin the change when the decision is made, and commit the decision when the change waits for it."""
    made = threading.Event()

    def decides() -> None:
        with transaction.atomic():
            decide(approval)
            made.set()
            until_somebody_waits()

    def changes() -> None:
        assert made.wait(PATIENCE)
        change()

    at_once(decides, changes)


def test_a_decision_under_way_while_its_run_is_closed_is_voided_and_who_made_it_is_told(run: Run) -> None:
    approval = open_for(run)
    _while_a_decision_is_under_way(
        approval,
        lambda: ending.close_run(run_id=run.pk, status="failed", kind="Away", message="It failed.", actor="worker"),
    )
    told = AuditEvent.objects.get(kind="run.failed").body
    assert (told["voided"], told["told"]) == ([approval.pk], ["alice"])
    approval.refresh_from_db()
    assert approval.status == "decided" and approval.expected_by is not None
    assert approval.expected_by <= database_now()


def test_an_action_whose_preview_knew_nothing_of_a_decision_under_way_is_refused(run: Run) -> None:
    olga, approval = somebody("operator", "olga"), open_for(run)
    state = acting.preview(run, "end").state

    def end() -> None:
        with pytest.raises(ActionRefused, match="moved on"):
            acting.act(run_id=run.pk, action="end", reason="It hangs", by=olga, state=state)

    _while_a_decision_is_under_way(approval, end)
    run.refresh_from_db()
    assert run.status == "running"
