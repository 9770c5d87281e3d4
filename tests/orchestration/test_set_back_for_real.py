"""What operators do on the real engines: reset, ask again, fork, end, fail, try again; each as it was said before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import OperationalError
from temporalio.client import Client

from approvals.models import Approval, ReceiptStep
from orchestration import checkpoint_gateway, histories, services, temporal_gateway
from orchestration.actions import acting
from orchestration.actions.base import Preview
from orchestration.agents.offline_model import OfflineModel
from orchestration.errors import ActionRefused
from orchestration.models import Effect, Run
from orchestration.prices import Tokens
from orchestration.temporal_gateway import RealTemporal
from orchestration.threads import in_database
from orchestration.turns import activity as module
from orchestration.turns import drive
from stack.temporal import Temporal
from tests import session_postgres
from tests.fakes import FakeWorld
from tests.orchestration.conftest import INPUT, decide, go
from tests.orchestration.real_worker import relaying_too
from tests.orchestration.test_reset_for_real import REFUNDS, graph_of_many_turns
from tests.waiting import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]


@pytest.fixture(scope="module")
def server() -> Iterator[Temporal]:
    """A server of its own: its only worker is the one of the test."""
    found = Temporal(session_postgres.HOME / "temporal for runs set back", time_skipping=False)
    found.start()
    yield found
    found.stop()


class Scene:
    """One run under a relay and a worker, and what an operator does about it."""

    def __init__(self, world: FakeWorld) -> None:
        self.world = world
        self.olga, _ = User.objects.get_or_create(username="olga")
        self.olga.groups.add(Group.objects.get_or_create(name="operator")[0])
        self.run, _ = services.start_run(agent="support", given=INPUT, requested_by=self.olga)

    async def pending(self, run: Run | None = None) -> Approval:
        """Return what the run asks, once it waits for it."""
        run_id = (run or self.run).pk
        found: Approval = await until(
            lambda: Approval.objects.filter(
                run_id=run_id, status="pending", run_id__in=Run.objects.filter(status="waiting").values("pk")
            ).first()
        )
        return found

    async def approve(self, times: int, run: Run | None = None) -> None:
        for _ in range(times):
            approval = await self.pending(run)
            await in_database(decide, approval)
            await until(Effect.objects.filter(pk=approval.pk, status="done").exists)

    async def do(self, action: str, reason: str = "a test", **options: Any) -> tuple[Preview, acting.Done]:
        """Preview the action and do exactly that."""

        def both() -> tuple[Preview, acting.Done]:
            self.run.refresh_from_db()
            seen = acting.preview(self.run, action, options)
            asked: dict[str, Any] = {"action": action, "reason": reason, "by": self.olga, "options": options}
            return seen, acting.act(run_id=self.run.pk, state=seen.state, **asked)

        await until(lambda: acting.is_told(self.run))
        return await in_database(both)

    async def ended(self, run: Run | None = None) -> Run:
        run_id = (run or self.run).pk
        found: Run = await until(lambda: Run.objects.filter(pk=run_id, closed_at__isnull=False).first())
        return found

    def refunds(self) -> list[str]:
        return sorted(refund["amount"] for refund in self.world.shop.refunds.values())


Play = Callable[[Callable[[Scene], Awaitable[None]]], Scene]


@pytest.fixture
def play(transactional_db: None, server: Temporal, monkeypatch: pytest.MonkeyPatch) -> Play:
    graph = graph_of_many_turns()
    monkeypatch.setattr(drive, "graph_of", lambda agent: graph)
    monkeypatch.setattr(module, "chat_model", OfflineModel)

    def played(scene: Callable[[Scene], Awaitable[None]]) -> Scene:
        made = Scene(FakeWorld())

        async def inside() -> None:
            async with relaying_too(server, made.world):
                await scene(made)

        go(inside())
        made.run.refresh_from_db()
        return made

    return played


def amounts(up_to: int) -> list[str]:
    return [f"{number}.00" for number in range(1, up_to + 1)]


def test_a_run_set_back_past_three_effects_does_none_of_them_again_and_does_what_the_preview_said(play: Play) -> None:
    told: dict[str, Any] = {}

    async def scene(it: Scene) -> None:
        await it.approve(3)
        waiting = await it.pending()
        asked = await in_database(lambda: list(Approval.objects.order_by("opened_at").values_list("pk", flat=True)))
        seen, done = await it.do("reset", turn=2)
        assert seen.effects_kept == asked[:3] and seen.effects_repeated == []
        assert seen.approvals_withdrawn == [waiting.pk] and seen.decisions_voided == []
        assert (done.run.era, done.run.status) == (1, "starting")
        told["dropped"] = seen.checkpoints_dropped
        again = await it.pending()
        assert again.pk not in asked
        await in_database(waiting.refresh_from_db)
        assert waiting.status == "withdrawn"
        line = await in_database(lambda: checkpoint_gateway.line_to(it.run.pk, checkpoint_gateway.newest_of(it.run.pk)))
        assert seen.checkpoints_dropped and not set(seen.checkpoints_dropped) & set(line)
        await it.approve(REFUNDS)
        await it.ended()

    it = play(scene)
    assert it.run.status == "finished", it.run.error
    assert it.refunds() == amounts(REFUNDS)
    taken_up = Effect.objects.filter(run=it.run).exclude(key="").order_by("started_at")
    assert [effect.result["amount"] for effect in taken_up] == amounts(3)  # type: ignore[index]
    assert Effect.objects.filter(run=it.run, is_set_back=True).count() == 3
    assert it.run.turn == 2 * REFUNDS - 2 and len(it.run.temporal_run_ids) == 2


def test_a_run_that_returns_to_where_it_was_counts_what_it_did_there_and_nothing_of_what_lies_beside(
    play: Play,
) -> None:
    async def scene(it: Scene) -> None:
        await it.approve(3)
        await it.pending()
        tip = await in_database(lambda: checkpoint_gateway.newest_of(it.run.pk))
        asked = await in_database(lambda: list(Approval.objects.order_by("opened_at").values_list("pk", flat=True)))
        await it.do("reset", turn=1)
        await it.approve(2)  # which takes up the first two
        await it.pending()
        await it.do("reset", checkpoint_id=tip)
        rows = {one.pk: one for one in await in_database(lambda: list(Effect.objects.filter(run=it.run)))}
        assert [(rows[pk].is_set_back, rows[pk].taken_up_by) for pk in asked[:3]] == [(False, "")] * 3
        twins = [one for one in rows.values() if one.pk not in asked]
        assert sorted(one.taken_up_by for one in twins) == sorted(asked[:2]) and all(one.is_set_back for one in twins)
        await it.approve(REFUNDS - 3)
        await it.ended()

    it = play(scene)
    assert it.run.status == "finished", it.run.error
    assert it.refunds() == amounts(REFUNDS)


def test_decisions_that_had_not_begun_are_void_and_what_they_covered_is_asked_again(play: Play) -> None:
    async def scene(it: Scene) -> None:
        await it.approve(1)
        waiting = await it.pending()
        await it.do("pause")
        await in_database(decide, waiting)
        decision = await in_database(lambda: waiting.decisions.get().pk)
        seen, _ = await it.do("reset", turn=2)
        assert seen.decisions_voided == [decision] and seen.approvals_withdrawn == []
        refused = await in_database(
            lambda: ReceiptStep.objects.filter(approval=waiting, step="refused").values_list("detail", flat=True).get()
        )
        assert refused == "olga has set the run back to before it: a test"
        await it.do("resume")
        await it.approve(REFUNDS)
        await it.ended()

    it = play(scene)
    assert it.run.status == "finished", it.run.error
    assert it.refunds() == amounts(REFUNDS)


def test_asking_again_withdraws_what_waits_and_a_failed_run_goes_on_from_its_last_pause(play: Play) -> None:
    async def scene(it: Scene) -> None:
        first = await it.pending()
        seen, _ = await it.do("ask_again")
        assert seen.approvals_withdrawn == [first.pk] and seen.checkpoints_dropped == []
        second = await it.pending()
        assert second.pk != first.pk and second.digest == first.digest
        it.world.shop.refuse = ""
        await in_database(
            lambda: services.close_run(run_id=it.run.pk, status="failed", kind="AgentError", message="x", era=1)
        )
        run = await it.ended()
        seen, _ = await it.do("reset", checkpoint_id=run.checkpoint_id)
        assert "The run is failed and is opened again." in seen.warnings
        await it.approve(REFUNDS)
        await it.ended()

    it = play(scene)
    assert (it.run.status, it.run.error) == ("finished", None)
    assert it.refunds() == amounts(REFUNDS)


def test_a_turn_that_is_cut_off_while_it_sets_the_thread_back_does_so_again(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[str] = []
    real = services.note_placed

    def cut_off_once(turn: Any, fence: int, checkpoint_id: str, ahead: Tokens) -> None:
        noted.append(checkpoint_id)
        if len(noted) == 1:
            raise OperationalError("the server closed the connection")
        real(turn, fence, checkpoint_id, ahead)

    monkeypatch.setattr(services, "note_placed", cut_off_once)

    async def scene(it: Scene) -> None:
        await it.approve(2)
        await it.pending()
        await it.do("reset", turn=2)
        await it.approve(REFUNDS)
        await it.ended()

    it = play(scene)
    assert len(set(noted)) == 2 and (it.run.restart or {})["placed"] == noted[1]
    assert it.run.status == "finished" and it.refunds() == amounts(REFUNDS)


def test_a_fork_begins_with_another_state_asks_for_its_effects_anew_and_leaves_the_first_alone(play: Play) -> None:
    forks: list[Run] = []

    async def scene(it: Scene) -> None:
        await it.approve(2)
        waiting = await it.pending()
        options: dict[str, Any] = {"turn": 2, "values": {"asked": 5}}
        seen, done = await it.do("fork", **options)
        assert len(seen.effects_repeated) == 2 and seen.approvals_withdrawn == seen.checkpoints_dropped == []
        again = await in_database(
            lambda: acting.act(
                run_id=it.run.pk, action="fork", reason="a test", by=it.olga, state=seen.state, options=options
            )
        )
        assert done.new_run is not None and again.new_run == done.new_run
        forks.append(done.new_run)
        await it.approve(3, done.new_run)
        await it.ended(done.new_run)
        await in_database(waiting.refresh_from_db)
        assert waiting.status == "pending"
        assert await in_database(lambda: Run.objects.get(pk=it.run.pk).status) == "waiting"

    it = play(scene)
    (fork,) = forks
    fork.refresh_from_db()
    assert (fork.status, fork.parent_id, fork.requested_by) == ("finished", it.run.pk, it.olga)
    assert it.refunds() == ["1.00", "1.00", "2.00", "6.00", "7.00"]
    assert Effect.objects.filter(run=fork).count() == 3 and it.run.era == 0
    with pytest.raises(ActionRefused, match="finished"):
        acting.act(run_id=fork.pk, action="reset", reason="x", by=it.olga, options={"turn": 1})


@pytest.mark.parametrize("action", ["cancel", "end"])
def test_an_end_takes_along_what_the_preview_named_and_nothing_that_was_done(play: Play, action: str) -> None:
    async def scene(it: Scene) -> None:
        await it.approve(2)
        waiting = await it.pending()
        seen, _ = await it.do(action)
        assert (seen.approvals_withdrawn, seen.decisions_voided) == ([waiting.pk], [])
        assert seen.effects_repeated == seen.effects_kept == seen.checkpoints_dropped == []
        assert (await it.ended()).status == "cancelled"
        await until(lambda: acting.is_told(it.run))
        rows = await in_database(lambda: list(Approval.objects.order_by("opened_at")))
        assert [row.status for row in rows] == ["decided", "decided", "withdrawn"]
        assert [row.took_effect_at is not None for row in rows] == [True, True, False]

    it = play(scene)
    assert it.refunds() == amounts(2)
    assert list(Effect.objects.filter(run=it.run).values_list("status", "attempts")) == [("done", 1)] * 2


def test_a_decision_that_the_run_had_not_taken_up_comes_to_nothing_as_the_preview_said(play: Play) -> None:
    async def scene(it: Scene) -> None:
        await it.approve(1)
        waiting = await it.pending()
        await it.do("pause")
        await in_database(decide, waiting)
        decision = await in_database(lambda: waiting.decisions.get().pk)
        seen, _ = await it.do("cancel")
        assert (seen.approvals_withdrawn, seen.decisions_voided) == ([], [decision])
        assert (await it.ended()).status == "cancelled"
        await in_database(waiting.refresh_from_db)
        assert (waiting.status, waiting.took_effect_at) == ("decided", None)

    it = play(scene)
    assert it.refunds() == amounts(1) and Effect.objects.filter(run=it.run).count() == 1


async def failing(it: Scene) -> Approval:
    """Let the shop do what it is asked, and lose its answers, until the turn has failed twice."""
    it.world.shop.lose_answers = 1_000_000
    approval = await it.pending()
    await in_database(decide, approval)
    await until(Run.objects.filter(pk=it.run.pk, failure__attempt__gte=2).exists)
    return approval


def test_what_is_tried_again_now_is_asked_under_its_key_as_the_preview_said(play: Play) -> None:
    async def scene(it: Scene) -> None:
        approval = await failing(it)
        it.world.shop.lose_answers = 0
        seen, _ = await it.do("retry_now")
        assert "issue_refund is asked again under its key, which makes it happen once." in seen.warnings
        assert seen.approvals_withdrawn == seen.decisions_voided == []
        await until(Effect.objects.filter(pk=approval.pk, status="done").exists)
        await it.approve(REFUNDS - 1)
        await it.ended()

    it = play(scene)
    assert it.run.status == "finished", it.run.error
    assert it.refunds() == amounts(REFUNDS)


def test_a_turn_that_an_operator_fails_is_not_tried_again_and_what_it_had_done_stands(play: Play) -> None:
    async def scene(it: Scene) -> None:
        await failing(it)
        seen, _ = await it.do("fail_activity")
        assert seen.approvals_withdrawn == seen.decisions_voided == []
        assert any(one.startswith("issue_refund is being carried out right now") for one in seen.warnings)
        assert (await it.ended()).status == "failed"
        await until(lambda: acting.is_told(it.run))

    it = play(scene)
    assert "olga" in (it.run.error or {})["message"]
    assert it.refunds() == amounts(1) and Effect.objects.filter(run=it.run).count() == 1
    assert Approval.objects.get(run_id=it.run.pk).status == "decided"


def test_a_point_is_named_by_an_event_too_and_one_that_is_not_there_changes_nothing(
    play: Play, server: Temporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def from_the_server(run_id: str) -> list[dict[str, Any]]:
        async def ask() -> list[dict[str, Any]]:
            return await temporal_gateway.histories(
                RealTemporal(await Client.connect(server.address, namespace=server.namespace)), run_id
            )

        return asyncio.run(ask())

    monkeypatch.setattr(histories, "temporal_as_it_is", from_the_server)

    async def scene(it: Scene) -> None:
        await it.approve(1)
        await it.pending()
        events = (await in_database(from_the_server, it.run.pk))[-1]["events"]
        scheduled = [int(one["eventId"]) for one in events if "activityTaskScheduledEventAttributes" in one]
        by_event, by_turn = await in_database(
            lambda: [acting.preview(it.run, "reset", one) for one in ({"event_id": scheduled[1]}, {"turn": 2})]
        )
        assert by_event == by_turn and len(by_event.effects_kept) == 1
        for options, words in (
            ({"turn": 9}, "where turn 9 of this run began"),
            ({"checkpoint_id": "none"}, "has no checkpoint none"),
            ({"event_id": 999}, "There is no event 999"),
        ):
            with pytest.raises(ActionRefused, match=words):
                await it.do("reset", **options)

    assert play(scene).run.era == 0
