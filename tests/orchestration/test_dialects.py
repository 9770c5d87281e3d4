"""A dialect that was made up, with three places in one interrupt: opened, decided in any order, answered once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from approvals import services as approvals
from approvals.models import Approval
from approvals.reading import receipt
from approvals.services.receipts import WITHIN, Step
from orchestration import dialects, services
from orchestration.agents.offline_model import OfflineModel
from orchestration.agents.proposals import Frozen
from orchestration.checkpoint_gateway import checkpoints_of
from orchestration.contracts import DECIDED, WORKFLOW, StartRun
from orchestration.models import Effect, Run
from orchestration.threads import in_database
from orchestration.turns import activity as module
from orchestration.turns import drive
from stack.temporal import Temporal
from tests.fakes import FakeWorld
from tests.orchestration.ballot import AMOUNTS, Ballot, ballot_graph
from tests.orchestration.conftest import decide, go, make_run
from tests.orchestration.real_worker import working
from tests.orchestration.test_run_turn import after, start, take
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


def use(monkeypatch: pytest.MonkeyPatch, graph: Any) -> None:
    monkeypatch.setattr(drive, "graph_of", lambda agent: graph)


@pytest.fixture(autouse=True)
def ballots(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(dialects, "DIALECTS", (Ballot(), *dialects.DIALECTS))
    monkeypatch.setattr(module, "chat_model", OfflineModel)
    use(monkeypatch, ballot_graph())
    yield


@pytest.fixture
def run(transactional_db: None) -> Run:
    return make_run()


def places(run: Run) -> list[Approval]:
    return list(Approval.objects.filter(run_id=run.pk).order_by("interrupt_id", "interrupt_place"))


def decision_of(approval: Approval) -> str:
    return approval.decisions.get().pk


def test_one_interrupt_opens_an_approval_for_each_place_and_a_repetition_none(run: Run, world: FakeWorld) -> None:
    waiting = take(start(run), world).waiting_for
    opened = places(run)
    assert waiting == [approval.pk for approval in opened]
    assert [approval.interrupt_place for approval in opened] == [0, 1, 2]
    assert len({approval.interrupt_id for approval in opened}) == 1
    assert [approval.summary for approval in opened] == [f"Refund {amount}" for amount in AMOUNTS]
    assert opened[0].external_id == f"{run.pk}:{opened[0].interrupt_id}"
    assert take(start(run), world, attempt=2).waiting_for == waiting
    assert len(places(run)) == 3


def test_a_death_before_all_places_were_opened_opens_none_and_the_next_attempt_all(
    run: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = approvals.open_approval

    def dies_at_the_last(proposal: Any) -> Approval:
        if proposal.interrupt_place == 2:
            raise ConnectionError("the process is gone")
        return usual(proposal)

    with monkeypatch.context() as dying:
        dying.setattr(approvals, "open_approval", dies_at_the_last)
        with pytest.raises(ConnectionError):
            take(start(run), world)
    assert places(run) == []
    assert len(take(start(run), world, attempt=2).waiting_for) == 3


@pytest.mark.parametrize("order", [*permutations(range(3))], ids=str)
def test_places_are_decided_in_any_order_and_the_interrupt_is_answered_once(
    order: tuple[int, ...], run: Run, world: FakeWorld
) -> None:
    waiting = take(start(run), world).waiting_for
    steps = len(checkpoints_of(run.pk))
    verdicts = ("approve", "reject", "approve")
    for number, place in enumerate(order, start=2):
        run.refresh_from_db()
        assert (run.status, run.fence) == ("waiting", 1)
        decide(waiting[place], verdicts[place])
        result = take(after(run, number, *waiting), world)
        if place != order[-1]:
            assert (result.outcome, result.waiting_for) == ("still_waiting", waiting)
            assert len(checkpoints_of(run.pk)) == steps and not Effect.objects.exists()
    assert result.outcome == "finished"
    run.refresh_from_db()
    assert run.result is not None
    assert run.result["verdicts"] == list(verdicts)
    assert [outcome["status"] for outcome in run.result["outcomes"]] == ["done", "done"]
    assert sorted(refund["amount"] for refund in world.shop.refunds.values()) == ["10.00", "30.00"]
    assert take(after(run, 4, *waiting), world, attempt=2).outcome == "finished"  # its report was lost
    assert Effect.objects.filter(run=run).count() == len(world.shop.refunds) == 2


@pytest.mark.parametrize("status", ["expired", "withdrawn"])
def test_a_place_that_nobody_decided_is_settled_too(status: str, run: Run, world: FakeWorld) -> None:
    waiting = take(start(run), world).waiting_for
    decide(waiting[0])
    decide(waiting[1])
    Approval.objects.filter(pk=waiting[2]).update(status=status)
    assert take(after(run, 2, *waiting), world).outcome == "finished"
    run.refresh_from_db()
    assert run.result is not None
    assert run.result["verdicts"] == ["approve", "approve", status]


def test_of_two_interrupts_the_one_that_is_settled_is_answered_and_the_other_waits(
    run: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, ballot_graph(beside={"ballot": ["5.00"]}))
    waiting = take(start(run), world).waiting_for
    single = Approval.objects.get(run_id=run.pk, summary="Refund 5.00")
    three = [approval.pk for approval in places(run) if approval.pk != single.pk]
    decide(three[1])
    decide(single)
    result = take(after(run, 2, *waiting), world)
    assert (result.outcome, sorted(result.waiting_for)) == ("needs_approval", sorted(three))
    assert single.receipt.filter(step=Step.RESUMED).exists()
    assert not Approval.objects.get(pk=three[1]).receipt.filter(step=Step.RESUMED).exists()
    decide(three[0])
    decide(three[2])
    assert take(after(run, 3, *result.waiting_for), world).outcome == "finished"


def test_a_decision_that_the_run_knows_is_not_late_while_another_place_is_open(run: Run, world: FakeWorld) -> None:
    waiting = take(start(run), world).waiting_for
    decide(waiting[0])
    take(after(run, 2, *waiting), world)
    approvals.note_receipt(approval_ids=[waiting[0]], step=Step.SIGNALLED)
    first, *others = places(run)
    assert first.expected_by == max(other.due_at for other in others) + WITHIN[Step.SIGNALLED]
    for other in others:
        decide(other)
    take(after(run, 3, *waiting), world)
    assert {step.detail for step in first.receipt.filter(step=Step.RESUMED)} == {"turn 3"}
    first.refresh_from_db()
    assert first.took_effect_at is not None
    assert not Approval.objects.filter(receipt.is_late()).exists()


def test_an_interrupt_that_is_read_otherwise_than_it_was_decided_fails_in_words(
    run: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = take(start(run), world).waiting_for
    for approval in waiting:
        decide(approval)
    monkeypatch.setattr(Ballot, "proposals_of", lambda self, interrupt: [])
    with pytest.raises(ApplicationError) as told:
        take(after(run, 2, *waiting), world)
    assert (told.value.type, told.value.non_retryable) == ("AgentCodeChanged", True)
    assert world.shop.refunds == {}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"action_requests": [], "review_configs": []}, "named none"),
        ({"action_requests": [{"name": "", "args": {}}], "review_configs": []}, "name cannot be kept"),
        ({"action_requests": [{"name": "pay", "args": {}}], "review_configs": []}, "allows no decision"),
        ({"action_requests": [{"name": "pay", "args": [1]}], "review_configs": []}, "no object"),
        ({"type": "tool_approval", "name": "pay", "args": {"amount": 2**60}}, "send it as text"),
        ({"much": "x" * 300_000}, "can be approved"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_shown_or_answered_fails_in_words(
    value: Any, words: str, run: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, ballot_graph(beside=value))
    with pytest.raises(ApplicationError) as told:
        take(start(run), world)
    assert (told.value.type, told.value.non_retryable) == ("UnknownDialect", True)
    assert words in told.value.message
    services.close_run(run_id=run.pk, status="failed", kind="UnknownDialect", message=told.value.message)
    assert places(run) == []


def test_every_dialect_keeps_its_hands_off_the_forms_of_the_others() -> None:
    own = dict.fromkeys(Frozen.__required_keys__, "x")
    *forms, last = dialects.DIALECTS
    for value in ("", None, 7, [], {}, [own], own, {**own, "guard": True}, {"ballot": ["1.00"]}, {"ballot": "x"}):
        assert sum(dialect.speaks(value) for dialect in forms) <= 1, value
        assert last.speaks(value)


@pytest.mark.engines
def test_three_places_of_one_interrupt_on_a_real_temporal(temporal: Temporal, run: Run, world: FakeWorld) -> None:
    async def scene() -> str:
        async with working(temporal, world, run.pk) as client:
            given = StartRun(run.pk, "support")
            handle = await client.start_workflow(WORKFLOW, given, id=run.pk, task_queue=run.pk, result_type=str)
            await until(lambda: Run.objects.filter(pk=run.pk, status="waiting").exists())
            opened = await in_database(lambda: places(run))
            for approval in (opened[2], opened[0], opened[1]):
                decided = await in_database(decide, approval)
                decision = await in_database(decision_of, decided)
                await handle.signal(DECIDED, {"approval_id": approval.pk, "decision_id": decision})
            return str(await handle.result())

    assert go(scene()) == "finished"
    run.refresh_from_db()
    assert run.result is not None
    assert run.result["verdicts"] == ["approve"] * 3
    assert sorted(refund["amount"] for refund in world.shop.refunds.values()) == sorted(AMOUNTS)
    effects = list(Effect.objects.filter(run=run))
    assert [(effect.status, effect.attempts) for effect in effects] == [("done", 1)] * 3
