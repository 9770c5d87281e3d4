"""The turn as an activity, with the real saver and the real rows: again, late, frozen, drained, refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from django.db import connection, connections
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from approvals.models import Approval
from dataplane import selectors as datasets
from dataplane.contents.passages import PassageHit
from dataplane.selectors import PassageHits
from orchestration import checkpoint_gateway, pausing, services
from orchestration.agents.graphs import Factory
from orchestration.agents.offline_model import OfflineModel
from orchestration.agents.support.agent import AGENT
from orchestration.checkpoint_gateway import Checkpoints, checkpoint_of, checkpoints_of
from orchestration.contracts import Climb, CloseRun, Turn, TurnResult
from orchestration.errors import Fenced
from orchestration.fences import Attempt
from orchestration.models import Effect, Run
from orchestration.services import TurnEnd, TurnStart
from orchestration.threads import in_database
from orchestration.turns import activity as module
from orchestration.turns import drive
from orchestration.turns.activity import Activities
from orchestration.turns.looking import looking
from tests.fakes import FakeWorld, ScriptedModel, calls
from tests.orchestration.conftest import EMAIL, REFUND, decide, go, make_run, open_for
from tests.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)

Work = Callable[[Activities], Any]


def perform(work: Work, world: FakeWorld) -> Any:
    """Run async work with activities over the real checkpoint pool."""

    async def inside() -> Any:
        checkpoints = Checkpoints(size=4)
        await checkpoints.open()
        try:
            return await work(Activities(checkpoints, world))
        finally:
            await checkpoints.close()

    return go(inside())


def attempt_env(attempt: int) -> ActivityEnvironment:
    env = ActivityEnvironment()
    env.info = replace(ActivityEnvironment.default_info(), attempt=attempt)
    return env


def take(turn: Turn, world: FakeWorld, *, attempt: int = 1) -> TurnResult:
    """Take one turn as one attempt."""
    result: TurnResult = perform(lambda activities: attempt_env(attempt).run(activities.run_turn, turn), world)
    return result


@contextmanager
def taking_turns(world: FakeWorld) -> Iterator[Callable[[Turn, int], TurnResult]]:
    """Yield how one turn is taken as one attempt, for tests of many: all in one loop, with one pool for the threads."""
    with asyncio.Runner() as runner:
        checkpoints = Checkpoints(size=2)
        activities = Activities(checkpoints, world)
        runner.run(checkpoints.open())
        try:
            yield lambda turn, attempt: runner.run(attempt_env(attempt).run(activities.run_turn, turn))
        finally:
            runner.run(checkpoints.close())
            connections.close_all()


@pytest.fixture(autouse=True)
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handbook with one ruling, in place of the vectors: the graph sees it through the selector."""
    hit = PassageHit("damaged.md", "Damaged goods", "What we pay", "Refund share: 50 %", date(2026, 1, 1), "current", 1)
    monkeypatch.setattr(datasets, "nearest_passages", lambda **_: PassageHits("handbook", 3, [hit]))


@pytest.fixture
def speak(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    def use(model: Any) -> None:
        monkeypatch.setattr(module, "chat_model", lambda: model)

    use(OfflineModel())
    yield use


@pytest.fixture
def run(transactional_db: None, speak: Callable[[Any], None]) -> Run:
    return make_run()


def fence_of(start: TurnStart) -> int:
    assert start.run is not None
    return start.run.fence


def start(run: Run) -> Turn:
    return Turn(run.pk, "support", 1)


def after(run: Run, number: int, *approvals: str) -> Turn:
    return Turn(run.pk, "support", number, list(approvals))


def test_a_turn_takes_as_many_steps_as_its_agent_says_and_no_more(
    run: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of a graph that would go on for ever: the run ends with its own sentence and asks nobody."""
    for steps, ended in ((2, True), (50, False)):
        monkeypatch.setattr(module, "agent_named", lambda _: replace(AGENT, steps_per_turn=steps))  # noqa: B023
        if ended:
            with pytest.raises(ApplicationError, match="more steps in one turn than it may") as told:
                take(start(run), world)
            assert (told.value.type, told.value.non_retryable) == ("TooManySteps", True)
            assert not Approval.objects.exists()
        else:
            assert take(start(make_run()), world).outcome == "needs_approval"


def test_the_first_turn_opens_one_approval_and_waits(run: Run, world: FakeWorld) -> None:
    result = take(start(run), world)
    approval = Approval.objects.get()
    assert (result.outcome, result.waiting_for) == ("needs_approval", [approval.pk])
    assert result.next_step_at == approval.ladder[0]["at"]
    assert (approval.tool, approval.run_id, approval.checkpoint_id) == ("issue_refund", run.pk, result.checkpoint_id)
    assert approval.dataset_versions == [{"dataset": "handbook", "version": 3}]
    run.refresh_from_db()
    assert (run.status, run.turn, run.fence) == ("waiting", 1, 1)
    assert run.dataset_versions == result.dataset_versions == [{"dataset": "handbook", "version": 3}]
    assert run.usage["model"] == "offline (rules, no language model)"
    assert world.shop.refunds == {}


def test_a_first_turn_whose_report_was_lost_opens_nothing_twice(run: Run, world: FakeWorld) -> None:
    first = take(start(run), world)
    steps = len(checkpoints_of(run.pk))
    asked = len(world.shop.requests)
    second = take(start(run), world, attempt=2)
    assert second.waiting_for == first.waiting_for == [Approval.objects.get().pk]
    assert len(checkpoints_of(run.pk)) == steps
    assert len(world.shop.requests) == asked


def test_an_attempt_that_died_after_the_graph_is_followed_by_one_that_opens_the_approval(
    run: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise ConnectionError("the process is gone")

    with monkeypatch.context() as dying:
        dying.setattr(services, "pause_turn", die)
        with pytest.raises(ConnectionError):
            take(start(run), world)
    assert not Approval.objects.exists()
    asked = len(world.shop.requests)
    assert take(start(run), world, attempt=2).waiting_for == [Approval.objects.get().pk]
    assert len(world.shop.requests) == asked


def test_a_whole_run_acts_once_on_each_approval(run: Run, world: FakeWorld) -> None:
    refund = take(start(run), world).waiting_for
    decide(refund[0])
    email = take(after(run, 2, *refund), world).waiting_for
    assert [effect.tool for effect in Effect.objects.all()] == ["issue_refund"]
    assert list(world.shop.refunds) == refund
    decide(email[0])
    result = take(after(run, 3, *email), world)
    assert result.outcome == "finished"
    run.refresh_from_db()
    assert (run.status, run.turn, run.closed_at is not None) == ("finished", 3, True)
    assert isinstance(run.result, dict)
    assert [effect["status"] for effect in run.result["effects"]] == ["done", "done"]
    assert "no language model was used" in run.result["summary"]
    assert (len(world.mails), str(world.shop.paid())) == (1, "50.00")
    steps = [step.step for step in Approval.objects.get(pk=refund[0]).receipt.order_by("id")]
    assert steps == ["recorded", "resumed", "effect_started", "effect_finished"]


def test_an_answer_that_has_landed_is_not_given_twice(
    run: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    refund = take(start(run), world).waiting_for
    decide(refund[0])

    def die(*_: Any) -> None:
        raise ConnectionError("the process is gone")

    with monkeypatch.context() as dying:
        dying.setattr(services, "pause_turn", die)
        with pytest.raises(ConnectionError):
            take(after(run, 2, *refund), world)
    steps = len(checkpoints_of(run.pk))
    result = take(after(run, 2, *refund), world, attempt=2)
    assert (result.outcome, len(result.waiting_for)) == ("needs_approval", 1)
    assert result.waiting_for != refund
    assert list(world.shop.refunds) == refund
    assert Effect.objects.get().attempts == 1
    assert len(checkpoints_of(run.pk)) == steps


def test_an_answer_that_landed_before_the_effect_goes_on_from_there(
    run: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    refund = take(start(run), world).waiting_for
    decide(refund[0])
    world.shop.lose_answers = 1
    with pytest.raises(ApplicationError) as told:
        take(after(run, 2, *refund), world)
    assert (told.value.type, told.value.non_retryable) == ("EffectUnclear", False)
    result = take(after(run, 2, *refund), world, attempt=2)
    assert result.outcome == "needs_approval"
    assert (list(world.shop.refunds), Effect.objects.get().attempts) == (refund, 2)


def test_a_finish_whose_report_was_lost_is_reported_again(run: Run, world: FakeWorld) -> None:
    refund = take(start(run), world).waiting_for
    decide(refund[0])
    email = take(after(run, 2, *refund), world).waiting_for
    decide(email[0])
    first = take(after(run, 3, *email), world)
    run.refresh_from_db()
    closed_at = run.closed_at
    second = take(after(run, 3, *email), world, attempt=2)
    assert (first.outcome, second.outcome) == ("finished", "finished")
    run.refresh_from_db()
    assert (run.status, run.closed_at) == ("finished", closed_at)
    assert len(world.mails) == 1


def test_a_turn_of_a_cancelled_run_is_not_tried_for_ever(run: Run, world: FakeWorld) -> None:
    services.close_run(run_id=run.pk, status="cancelled", kind="cancelled", message="stop")
    with pytest.raises(ApplicationError) as told:
        take(start(run), world)
    assert told.value.non_retryable
    assert world.shop.requests == []


def test_a_pending_approval_answers_still_waiting_and_takes_no_fence(run: Run, world: FakeWorld) -> None:
    waiting = take(start(run), world).waiting_for
    run.refresh_from_db()
    before = (run.fence, run.turn, run.status, len(checkpoints_of(run.pk)))
    result = take(after(run, 2, *waiting), world)
    assert (result.outcome, result.waiting_for) == ("still_waiting", waiting)
    assert result.next_step_at == Approval.objects.get().ladder[0]["at"]
    run.refresh_from_db()
    assert (run.fence, run.turn, run.status, len(checkpoints_of(run.pk))) == before
    assert not Approval.objects.get().receipt.exists()


def test_made_up_approvals_settle_nothing(run: Run, world: FakeWorld) -> None:
    take(start(run), world)
    result = take(after(run, 2, "apr_made_up"), world)
    assert result.outcome == "still_waiting"
    assert world.shop.refunds == {}


def test_an_expired_approval_is_told_to_the_agent(run: Run, world: FakeWorld) -> None:
    waiting = take(start(run), world).waiting_for
    Approval.objects.update(status="expired")
    email = take(after(run, 2, *waiting), world).waiting_for
    assert [approval.tool for approval in Approval.objects.filter(pk__in=email)] == ["send_email"]
    assert world.shop.refunds == {}
    assert not Effect.objects.exists()


def test_a_newer_attempt_fences_the_older_one_everywhere(run: Run) -> None:
    turn = start(run)
    older = fence_of(services.begin_turn(turn, Attempt("first", 1, 1)))
    newer = fence_of(services.begin_turn(turn, Attempt("first", 1, 3)))
    for late in (2, 3):
        with pytest.raises(Fenced):
            services.begin_turn(turn, Attempt("first", 1, late))
    with pytest.raises(Fenced):
        services.finish_turn(turn, older, TurnEnd("c", result={"summary": "late"}))
    with pytest.raises(Fenced):
        services.pause_turn(turn, older, TurnEnd("c"))
    run.refresh_from_db()
    assert (run.status, run.result, run.fence) == ("running", None, newer)
    assert not Approval.objects.exists()


def test_a_run_that_was_closed_meanwhile_is_neither_paused_nor_finished(run: Run) -> None:
    turn = start(run)
    fence = fence_of(services.begin_turn(turn, Attempt("first", 1, 1)))
    services.close_run(run_id=run.pk, status="cancelled", kind="cancelled", message="stop")
    for end in (services.finish_turn, services.pause_turn):
        with pytest.raises(Fenced):
            end(turn, fence, TurnEnd("c", result={"summary": "late"}))
    run.refresh_from_db()
    assert (run.status, run.result) == ("cancelled", None)


def test_a_frozen_attempt_is_evicted_and_writes_no_checkpoint(
    run: Run, world: FakeWorld, speak: Callable[[Any], None]
) -> None:
    frozen, thaw = asyncio.Event(), asyncio.Event()

    async def freeze_once() -> None:
        if not frozen.is_set():
            frozen.set()
            await thaw.wait()

    lines = [calls(("issue_refund", REFUND), tag=str(number)) for number in range(2)]
    speak(ScriptedModel.of(*lines).before(freeze_once))

    async def work(activities: Activities) -> tuple[TurnResult, int, BaseException]:
        older = asyncio.create_task(attempt_env(1).run(activities.run_turn, start(run)))
        await frozen.wait()
        result = await attempt_env(2).run(activities.run_turn, start(run))
        written = len(checkpoints_of(run.pk))
        thaw.set()
        done, _ = await asyncio.wait([older])
        error = done.pop().exception()
        assert error is not None
        return result, written, error

    result, written, error = perform(work, world)
    assert result.outcome == "needs_approval"
    assert "terminat" in str(error) or "clos" in str(error), error
    assert len(checkpoints_of(run.pk)) == written
    assert [approval.pk for approval in Approval.objects.all()] == result.waiting_for
    run.refresh_from_db()
    assert run.fence == 2


def test_a_stopping_worker_lets_go_after_its_step_and_the_next_attempt_goes_on(
    run: Run, world: FakeWorld, speak: Callable[[Any], None]
) -> None:
    stopping = attempt_env(1)

    async def stop_the_worker() -> None:
        stopping.worker_shutdown()
        for _ in range(5):  # the drain is asked for while the model still thinks
            await asyncio.sleep(0)

    model = ScriptedModel.of(
        calls(("list_refunds", {"order_id": "8801"})), calls(("issue_refund", REFUND)), calls(("issue_refund", REFUND))
    ).before(stop_the_worker)
    speak(model)

    async def work(activities: Activities) -> None:
        await stopping.run(activities.run_turn, start(run))

    with pytest.raises(ApplicationError) as told:
        perform(work, world)
    assert (told.value.type, told.value.non_retryable) == ("Drained", False)
    assert len(model.asked) == 1
    assert not Approval.objects.exists()
    model.before(None)
    result = take(start(run), world, attempt=2)
    assert result.outcome == "needs_approval"
    assert len(model.asked) == 2  # the first answer was kept
    assert world.shop.requests.count("GET /orders/8801") == 1


def test_a_permanent_error_of_the_agent_is_not_tried_again(
    run: Run, world: FakeWorld, speak: Callable[[Any], None]
) -> None:
    def wrong(_: Any) -> AIMessage:
        raise ValueError("the agent's code is wrong")

    speak(ScriptedModel.of(wrong))
    with pytest.raises(ApplicationError) as told:
        take(start(run), world)
    assert (told.value.type, told.value.non_retryable) == ("AgentError", True)
    assert "the agent's code is wrong" in told.value.message


def test_an_error_of_the_network_is_tried_again(run: Run, world: FakeWorld, speak: Callable[[Any], None]) -> None:
    def away(_: Any) -> AIMessage:
        raise ConnectionError("the model's server is away")

    speak(ScriptedModel.of(away, calls(("issue_refund", REFUND))))
    with pytest.raises(ConnectionError):  # what is not an ApplicationError, Temporal tries again
        take(start(run), world)
    assert take(start(run), world, attempt=2).outcome == "needs_approval"


def test_an_unknown_agent_is_permanent(run: Run, world: FakeWorld) -> None:
    with pytest.raises(ApplicationError) as told:
        take(Turn(run.pk, "nobody", 1), world)
    assert (told.value.type, told.value.non_retryable) == ("UnknownAgent", True)
    assert "support" in told.value.message


def test_a_turn_waits_for_a_handbook_that_is_not_published_yet(
    transactional_db: None, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with pytest.raises(ApplicationError) as told:
        take(start(make_run()), world)
    assert (told.value.type, told.value.non_retryable) == ("DatasetNotPublished", False)


def test_an_order_number_is_never_read_as_an_address(world: FakeWorld, run: Run) -> None:
    for order_id in ("../refunds", "8801?x=1", "a\x01b", "a b#c", "ü\nGET"):
        made = make_run(input={"order_id": order_id, "message": "hello"})
        result = take(start(made), world)
        assert result.outcome == "finished"
        made.refresh_from_db()
        assert made.result is not None and "could not be read" in made.result["summary"]


def test_checkpoint_values_come_back_with_their_types(run: Run, world: FakeWorld) -> None:
    result = take(start(run), world)
    decide(result.waiting_for[0])
    result = take(after(run, 2, *result.waiting_for), world)

    async def read(activities: Activities) -> dict[str, Any]:
        async with activities._checkpoints.reaching_for(run.pk) as reach:
            saver = await reach.held()
            found = await saver.aget_tuple({"configurable": {"thread_id": run.pk, "checkpoint_ns": ""}})
            values: dict[str, Any] = found.checkpoint["channel_values"]
            return values

    values = perform(read, world)
    kinds = [type(message) for message in values["messages"]]
    assert kinds[:2] == [SystemMessage, HumanMessage]
    assert set(kinds[2:]) == {AIMessage, ToolMessage}
    assert values["effects"] == [{"tool": "issue_refund", "approval_id": Effect.objects.get().pk, "status": "done"}]
    assert type(values["effects"][0]["status"]) is str
    shown = checkpoint_of(run.pk, result.checkpoint_id).values
    assert [message["type"] for message in shown["messages"]][:2] == ["system", "human"]
    assert shown["frozen"]["digest"] == Approval.objects.get(pk=result.waiting_for[0]).digest


def test_checkpoints_are_listed_newest_first_with_their_nodes(run: Run, world: FakeWorld) -> None:
    result = take(start(run), world)
    lines = checkpoints_of(run.pk)
    assert [line.node for line in reversed(lines)] == [
        "input",
        "start",
        *("read_order", "retrieve", "plan", "look_up", "plan", "propose", "freeze"),
    ]
    assert (lines[0].checkpoint_id, lines[0].next, lines[0].interrupted) == (result.checkpoint_id, ["gate"], True)
    assert [line.interrupted for line in lines[1:]] == [False] * (len(lines) - 1)
    assert [line.parent_checkpoint_id for line in lines[:-1]] == [line.checkpoint_id for line in lines[1:]]
    assert checkpoints_of(run.pk, before=lines[2].checkpoint_id, limit=2) == lines[3:5]


def test_a_models_last_words_are_kept_whatever_they_hold(
    run: Run, world: FakeWorld, speak: Callable[[Any], None]
) -> None:
    speak(ScriptedModel.of(AIMessage("Done\x00 and \ud83d gone.")))
    assert take(start(run), world).outcome == "finished"
    run.refresh_from_db()
    assert (
        run.result is not None
        and run.result["summary"] == "Done\N{SYMBOL FOR NULL} and \N{REPLACEMENT CHARACTER} gone."
    )


def test_what_the_database_can_never_store_is_not_tried_for_ever(
    run: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = drive.end_of
    monkeypatch.setattr(drive, "end_of", lambda *given: replace(usual(*given), usage={"model": "\x00"}))
    with pytest.raises(ApplicationError) as told:
        take(start(run), world)
    assert (told.value.type, told.value.non_retryable) == ("AgentError", True)


def test_usage_is_summed_over_the_whole_run(run: Run, world: FakeWorld, speak: Callable[[Any], None]) -> None:
    speak(
        ScriptedModel.of(
            calls(("issue_refund", REFUND), tag="a"), calls(("send_email", EMAIL), tag="b"), AIMessage("Done.")
        )
    )
    refund = take(start(run), world)
    assert (refund.usage["input_tokens"], refund.usage["output_tokens"]) == (7, 3)
    decide(refund.waiting_for[0])
    email = take(after(run, 2, *refund.waiting_for), world)
    assert (email.usage["input_tokens"], email.usage["output_tokens"]) == (14, 6)


def test_climbing_through_the_activity_says_when_to_come_again(run: Run, world: FakeWorld) -> None:
    approval = open_for(run)

    async def work(activities: Activities) -> Any:
        return await attempt_env(1).run(activities.climb, Climb(run.pk, [approval.pk]))

    climbed = perform(work, world)
    assert (climbed.closed, climbed.next_step_at) == (False, approval.ladder[0]["at"])
    Approval.objects.update(status="withdrawn")
    assert perform(work, world).closed


def test_closing_withdraws_what_waits_and_a_closed_run_stays_as_it_is(run: Run, world: FakeWorld) -> None:
    take(start(run), world)

    def close(status: Any) -> Work:
        body = CloseRun(run.pk, status, status, "because")
        return lambda activities: attempt_env(1).run(activities.close_run, body)

    perform(close("cancelled"), world)
    perform(close("failed"), world)
    run.refresh_from_db()
    assert (run.status, run.error) == ("cancelled", {"kind": "cancelled", "message": "because"})
    assert Approval.objects.get().status == "withdrawn"


def test_a_thread_is_read_while_the_turn_begins_and_after_it_where_somebody_else_holds_it(
    run: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = take(start(run), world)
    decide(result.waiting_for[0])
    seen: list[str] = []
    begin, stand_of = services.begin_turn, pausing.stand_of

    async def looked(*args: Any) -> Any:
        seen.append("looked")
        return await stand_of(*args)

    def begun(*args: Any) -> Any:
        try:
            return begin(*args)
        finally:
            seen.append("begun")

    monkeypatch.setattr(services, "begin_turn", begun)
    monkeypatch.setattr(pausing, "stand_of", looked)

    async def beside_another(activities: Activities) -> TurnResult:
        async with activities._checkpoints.reaching_for(run.pk) as reach:
            await reach.held()  # as one that is frozen does, whose connection is ended
            return await attempt_env(1).run(activities.run_turn, after(run, 2, *result.waiting_for))

    assert perform(beside_another, world).outcome == "needs_approval"
    assert seen.index("begun") < seen.index("looked")
    assert seen.count("looked") == 2  # before the graph, and after it


def test_a_turn_that_is_refused_gives_back_its_thread_and_its_connection(run: Run, world: FakeWorld) -> None:
    asked = take(start(run), world).waiting_for
    decide(asked[0])
    Run.objects.filter(pk=run.pk).update(status="failed")

    async def many(activities: Activities) -> None:
        for _ in range(6):  # more than the pool has
            with pytest.raises(ApplicationError, match="is closed"):
                await attempt_env(1).run(activities.run_turn, after(run, 2, *asked))
        async with activities._checkpoints.reaching_for(run.pk) as reach:
            assert await reach.early() is not None  # nobody holds the thread

    perform(many, world)


def test_who_stops_reaching_for_a_thread_just_as_it_is_got_gives_it_back(
    run: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = checkpoint_gateway._try_lock
    got = asyncio.Event()

    async def got_and_not_told(on: Any, thread_id: str) -> bool:
        assert await usual(on, thread_id)
        got.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(checkpoint_gateway, "_try_lock", got_and_not_told)

    async def stop_reaching(activities: Activities) -> None:
        async with activities._checkpoints.reaching_for(run.pk):
            await asyncio.wait_for(got.wait(), PATIENCE)
        assert await in_database(holders) == 0

    def holders() -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_locks, hashtextextended(%s, 7) AS key WHERE locktype = 'advisory' AND granted"
                " AND classid::bigint = (key >> 32) & 4294967295 AND objid::bigint = key & 4294967295",
                [run.pk],
            )
            return int(cursor.fetchone()[0])

    perform(stop_reaching, world)


def test_code_that_makes_a_graph_is_not_called_before_the_turn_has_begun(
    run: Run, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> Any:
        raise AssertionError("called too early")

    monkeypatch.setattr(drive, "graph_of", lambda _: Factory("nobody.make", make, takes_config=False))

    async def look(activities: Activities) -> Any:
        async with activities._checkpoints.reaching_for(run.pk) as reach, looking(start(run), reach) as look:
            return await look

    assert perform(look, world) is None
