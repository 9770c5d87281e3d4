"""What a graph holds is not what was approved, or a thread is spoilt: it asks again, under another id."""

from __future__ import annotations

from functools import partial
from operator import add
from typing import Annotated, Any, TypedDict

import pytest
from django.contrib.auth.models import Group, User
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

from approvals.models import Approval
from approvals.reading.receipt import standstill
from orchestration.actions import acting, reset
from orchestration.agents.runtime import Agent
from orchestration.checkpoint_gateway import Checkpoints
from orchestration.contracts import Turn
from orchestration.errors import CannotAskAgain
from orchestration.models import Run
from orchestration.pausing import stand_of
from orchestration.turns import asking_again, drive
from orchestration.turns.asking_again import ask_again
from tests.fakes import FakeWorld
from tests.orchestration import foreign_graphs as foreign
from tests.orchestration.conftest import go
from tests.orchestration.test_foreign_deaths import dying
from tests.orchestration.test_foreign_graphs import Use, give, go_on, messages_of, result_of, use, waiting
from tests.orchestration.test_run_turn import after, start, take, taking_turns

__all__ = ("use",)
pytestmark = pytest.mark.django_db(transaction=True)


def by_hand(run: Run, graph: Any, work: Any) -> Any:
    """Do something with the thread beside the product."""

    async def inside() -> Any:
        checkpoints = Checkpoints(size=4)
        await checkpoints.open()
        try:
            async with checkpoints.reaching_for(run.pk) as reach:
                saver = await reach.held()
                held = drive.with_saver(graph, saver)
                return await work(held, await stand_of(held, saver, run.pk))
        finally:
            await checkpoints.close()

    return go(inside())


BAD = [{"decisions": [{"type": "approve"}]}, {}, "yes", {"decisions": [{"type": "edit"}] * 2}, {"decisions": "no"}]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_spoilt_thread_of_langchains_middleware_asks_again_and_goes_on(bad: Any, use: Use, world: FakeWorld) -> None:
    graph = foreign.hitl()
    run = use(graph)
    asked = take(start(run), world).waiting_for

    async def heal(held: Any, stand: Any) -> None:
        await ask_again(held, stand)

    by_hand(run, graph, partial(_spoilt, run, bad))
    by_hand(run, graph, heal)
    again = go_on(run, world, 1, attempt=2).waiting_for
    assert set(again) & set(asked) == set()
    assert {Approval.objects.get(pk=one).status for one in asked} == {"withdrawn"}
    for approval in waiting(run):
        give(approval, "approve")
    assert go_on(run, world, 2, *again).outcome == "finished"
    assert sorted(name for name, _ in foreign.WORLD) == ["delete_file", "send_email"]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_the_operators_action_frees_a_thread_that_is_spoilt(
    bad: Any, use: Use, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = foreign.hitl()
    run = use(graph)
    asked = take(start(run), world).waiting_for
    by_hand(run, graph, partial(_spoilt, run, bad))
    monkeypatch.setattr(reset, "agent_named", lambda name: Agent(name=name, title="Foreign", graph="x.y"))
    olga = User.objects.create_user("olga")
    olga.groups.add(Group.objects.get_or_create(name="operator")[0])
    seen = acting.preview(run, "ask_again", {})
    assert sorted(seen.approvals_withdrawn) == sorted(asked)
    acting.act(run_id=run.pk, action="ask_again", reason="Its answer is stuck", by=olga, options={}, state=seen.state)
    run.refresh_from_db()
    again = take(Turn(run.pk, "support", run.turn + 1, [], era=run.era), world).waiting_for
    assert len(again) == len(asked) and not set(again) & set(asked)
    assert {Approval.objects.get(pk=one).status for one in asked} == {"withdrawn"}
    for approval in waiting(run):
        give(approval, "approve")
    run.refresh_from_db()
    assert take(Turn(run.pk, "support", run.turn + 1, again, era=run.era), world).outcome == "finished"
    assert sorted(name for name, _ in foreign.WORLD) == ["delete_file", "send_email"]


async def _spoilt(run: Run, bad: Any, held: Any, stand: Any) -> None:
    """Give the graph a wrong answer, which it saves and refuses, and then the right one, which comes too late."""
    config: Any = {"configurable": {"thread_id": run.pk}}
    (interrupt,) = stand.interrupts
    for answer in (bad, {"decisions": [{"type": "approve"}] * 2}):
        with pytest.raises(Exception):  # noqa: B017  each wrong answer has an error of its own
            await held.ainvoke(Command(resume={interrupt.id: answer}), config, durability="sync")


async def _swapped(run: Run, held: Any, stand: Any, under: str = "") -> None:
    """Change the call in the state and leave the interrupt as it is, as nothing but a stranger's write could.

    `under`: the call's new id, "" for its old one.
    """
    serde = JsonPlusSerializer()
    connection = held.checkpointer.conn
    rows = await (
        await connection.execute(
            "SELECT version, type, blob FROM agent.checkpoint_blobs WHERE thread_id = %s AND channel = 'messages'",
            [run.pk],
        )
    ).fetchall()
    for row in rows:
        messages = serde.loads_typed((row["type"], bytes(row["blob"])))
        for message in messages:
            for call in getattr(message, "tool_calls", []):
                if call["name"] == "send_email":
                    call["args"] = {**call["args"], "to": "mallory@evil.example"}
                    call["id"] = under or call["id"]
        kind, blob = serde.dumps_typed(messages)
        await connection.execute(
            "UPDATE agent.checkpoint_blobs SET type = %s, blob = %s"
            " WHERE thread_id = %s AND channel = 'messages' AND version = %s",
            [kind, blob, run.pk, row["version"]],
        )


def stands_in_the_lane(approval: Approval) -> bool:
    approval.refresh_from_db()
    why = standstill(approval)
    return approval.took_effect_at is None and why is not None and (why.cause, why.is_final) == ("refused", True)


DIES_AT = ("", "turn.before_ask_again", "turn.after_ask_again", "turn.before_graph", "turn.after_graph")


@pytest.mark.parametrize(("point", "under"), [*((point, "") for point in DIES_AT), ("", "call-9")])
def test_a_call_that_is_another_one_than_was_approved_is_asked_about_again(
    point: str, under: str, use: Use, world: FakeWorld
) -> None:
    graph = foreign.hitl(gates={"send_email": True})
    run = use(graph)
    asked = take(start(run), world).waiting_for
    (approval,) = waiting(run)
    by_hand(run, graph, partial(_swapped, run, under=under))
    give(approval, "approve")
    with taking_turns(world) as taking:
        again = dying(taking, point)(after(run, 2, *asked), 1)
    assert again.outcome == "needs_approval" and again.waiting_for != asked
    assert not [one for one in foreign.WORLD if one[0] == "send_email"]
    (other,) = waiting(run)
    assert "mallory" in bytes(other.canonical).decode()
    assert approval.receipt.filter(step="refused", detail__contains="another call").count() == 1
    assert stands_in_the_lane(approval)
    give(other, "reject")
    assert go_on(run, world, 3, *again.waiting_for, attempt=3).outcome == "finished"
    assert not [one for one in foreign.WORLD if one[0] == "send_email"]
    run.refresh_from_db()
    assert messages_of(run)


@pytest.mark.parametrize("mode", ["batched", "per_call"])
@pytest.mark.parametrize("point", DIES_AT)
def test_what_was_decided_beside_another_call_is_asked_again_with_it_and_says_so(
    point: str, mode: str, use: Use, world: FakeWorld
) -> None:
    graph = foreign.hitl(mode)
    run = use(graph)
    asked = take(start(run), world).waiting_for
    by_hand(run, graph, partial(_swapped, run))
    decided = waiting(run)
    for approval in decided:
        give(approval, "approve")
    with taking_turns(world) as taking:
        again = dying(taking, point)(after(run, 2, *asked), 1)
    assert again.outcome == "needs_approval" and not set(again.waiting_for) & set(asked)
    assert foreign.WORLD == []
    assert [approval.receipt.filter(step="refused").count() for approval in decided] == [1, 1]
    assert all(stands_in_the_lane(approval) for approval in decided)
    for approval in waiting(run):
        give(approval, "approve")
    assert go_on(run, world, 3, *again.waiting_for, attempt=3).outcome == "finished"
    assert sorted(name for name, _ in foreign.WORLD) == ["delete_file", "send_email"]


def test_a_graph_inside_a_graph_asks_again(use: Use, world: FakeWorld) -> None:
    graph = foreign.subgraph()
    run = use(graph, {})
    asked = take(start(run), world).waiting_for

    async def again(held: Any, stand: Any) -> None:
        await ask_again(held, stand)

    by_hand(run, graph, again)
    anew = go_on(run, world, 1, attempt=2).waiting_for
    assert len(anew) == len(asked) and not set(anew) & set(asked)
    give(Approval.objects.get(pk=anew[0]), "respond", answer="First.")
    second = go_on(run, world, 2, *anew).waiting_for
    give(Approval.objects.get(pk=second[0]), "respond", answer="Second.")
    assert go_on(run, world, 3, *second).outcome == "finished"


class Said(TypedDict, total=False):
    said: Annotated[list[str], add]


def asks_and_acts(name: str) -> Any:
    """Return a node that acts once it has an answer."""

    def node(state: Said) -> Said:
        answer = interrupt(f"{name}?")
        foreign.WORLD.append((name, answer))
        return {"said": [f"{name}: {answer}"]}

    return node


def acts(name: str) -> Any:
    def node(state: Said) -> Said:
        foreign.WORLD.append((name, None))
        return {"said": [name]}

    return node


def side_by_side() -> Any:
    """Two nodes that ask, and one that does not, in one step."""
    graph: Any = StateGraph(Said)
    for name, node in (("one", asks_and_acts("one")), ("two", asks_and_acts("two")), ("three", acts("three"))):
        graph.add_node(name, node)
        graph.add_edge(START, name)
    return graph.compile()


def sent() -> Any:
    """The same by Sends to one node."""
    graph: Any = StateGraph(Said)
    graph.add_node("work", lambda given: asks_and_acts(given["name"])({}) if given["asks"] else acts("three")({}))
    sends = [Send("work", {"name": name, "asks": name != "three"}) for name in ("one", "three", "two")]
    graph.add_conditional_edges(START, lambda _: sends, ["work"])
    return graph.compile()


def after_both() -> Any:
    """A node that asks once two others have ended; nobody can say which of the two led to it."""
    graph: Any = StateGraph(Said)
    for name in ("a", "b"):
        graph.add_node(name, acts(name))
        graph.add_edge(START, name)
    graph.add_node("one", asks_and_acts("one"))
    graph.add_node("two", asks_and_acts("two"))
    graph.add_edge(["a", "b"], "one")
    graph.add_edge(["a", "b"], "two")
    return graph.compile()


def around(inner: Any) -> Any:
    graph: Any = StateGraph(Said)
    graph.add_node("inner", inner)
    graph.add_edge(START, "inner")
    return graph.compile()


SHAPES: dict[str, Any] = {
    "side by side": side_by_side,
    "sent": sent,
    "after both": after_both,
    "inside": lambda: around(side_by_side()),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_has_ended_in_the_step_that_asks_again_is_not_done_once_more(
    shape: str, use: Use, world: FakeWorld
) -> None:
    graph = SHAPES[shape]()
    run = use(graph, {})
    asked = take(start(run), world).waiting_for
    first = next(one for one in waiting(run) if one.agent_words == "one?" or "one?" in one.summary)
    give(first, "respond", answer="yes")
    left = go_on(run, world, 2, *asked).waiting_for
    before = list(foreign.WORLD)
    assert ("one", "yes") in before

    async def again(held: Any, stand: Any) -> None:
        await ask_again(held, stand)

    by_hand(run, graph, again)
    anew = go_on(run, world, 2, attempt=2).waiting_for
    assert len(anew) == 1 and not set(anew) & set(left)
    assert foreign.WORLD == before  # noqa: SIM300
    give(Approval.objects.get(pk=anew[0]), "respond", answer="also")
    assert go_on(run, world, 3, *anew).outcome == "finished"
    assert [*before, ("two", "also")] == foreign.WORLD
    assert {"one: yes", "two: also"} <= set(result_of(run)["said"])


def test_an_answer_to_other_words_than_the_agent_asks_by_now_is_not_given(use: Use, world: FakeWorld) -> None:
    rounds: list[int] = []

    def again(state: Said) -> Said:
        rounds.append(len(rounds) + 1)
        return {"said": [interrupt(f"Round {rounds[-1]}?")]}

    graph: Any = StateGraph(Said)
    for name, node in (("one", asks_and_acts("one")), ("again", again)):
        graph.add_node(name, node)
        graph.add_edge(START, name)
    run = use(graph.compile(), {})
    asked = take(start(run), world).waiting_for
    by_words = {one.summary: one for one in waiting(run)}
    give(by_words["one?"], "respond", answer="yes")
    go_on(run, world, 2, *asked)
    first = by_words["Round 1?"]
    give(first, "respond", answer="to the first round")
    anew = go_on(run, world, 3, first.pk)
    assert anew.outcome == "needs_approval" and anew.waiting_for != [first.pk]
    assert first.receipt.filter(step="refused").exists()
    (asked_now,) = waiting(run)
    assert asked_now.summary == f"Round {rounds[-1]}?"
    give(asked_now, "respond", answer="to this one")
    assert go_on(run, world, 4, asked_now.pk).outcome == "finished"
    assert "to this one" in result_of(run)["said"] and foreign.WORLD == [("one", "yes")]


def beside_a_graph() -> Any:
    """A node that asks, beside a graph that has acted and then asks."""
    inner: Any = StateGraph(Said)
    inner.add_node("three", acts("three"))
    inner.add_node("two", asks_and_acts("two"))
    inner.add_edge(START, "three")
    inner.add_edge("three", "two")
    graph: Any = StateGraph(Said)
    graph.add_node("one", asks_and_acts("one"))
    graph.add_node("inner", inner.compile())
    graph.add_edge(START, "one")
    graph.add_edge(START, "inner")
    return graph.compile()


def calls_a_graph() -> Any:
    """A node that calls a graph which nobody can see from outside: it has acted, and asks."""
    inner: Any = StateGraph(Said)
    inner.add_node("three", acts("three"))
    inner.add_node("one", asks_and_acts("one"))
    inner.add_edge(START, "three")
    inner.add_edge("three", "one")
    held = {"graph": inner.compile()}
    graph: Any = StateGraph(Said)
    graph.add_node("outer", lambda state: held["graph"].invoke({}))
    graph.add_edge(START, "outer")
    return graph.compile()


@pytest.mark.parametrize("shape", [beside_a_graph, calls_a_graph])
def test_what_a_graph_has_done_inside_a_node_that_waits_is_not_done_again(
    shape: Any, use: Use, world: FakeWorld
) -> None:
    graph = shape()
    run = use(graph, {})
    take(start(run), world)
    before = list(foreign.WORLD)
    assert before == [("three", None)]

    async def again(held: Any, stand: Any) -> None:
        with pytest.raises(CannotAskAgain, match="done once more"):
            await ask_again(held, stand)

    by_hand(run, graph, again)
    for approval in waiting(run):
        give(approval, "respond", answer="yes")
    run.refresh_from_db()
    assert go_on(run, world, 2, *[one.pk for one in Approval.objects.filter(run_id=run.pk)]).outcome == "finished"
    assert sorted(foreign.WORLD, key=str).count(("three", None)) == 1


def test_an_attempt_that_dies_while_it_has_a_graph_ask_again_has_changed_nothing(
    use: Use, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = side_by_side()
    run = use(graph, {})
    asked = take(start(run), world).waiting_for
    first = next(one for one in waiting(run) if one.summary == "one?")
    give(first, "respond", answer="yes")
    (left,) = go_on(run, world, 2, *asked).waiting_for
    before = list(foreign.WORLD)

    async def dies(*_: Any) -> bool:
        raise ConnectionError("the process is gone")

    async def again(held: Any, stand: Any) -> None:
        with pytest.raises(ConnectionError):
            await ask_again(held, stand)

    with monkeypatch.context() as patched:
        patched.setattr(asking_again, "_keep_what_has_ended", dies)
        by_hand(run, graph, again)
    give(Approval.objects.get(pk=left), "respond", answer="also")
    assert go_on(run, world, 3, left).outcome == "finished"
    assert [*before, ("two", "also")] == foreign.WORLD


def test_a_node_that_has_acted_and_asks_once_more_is_not_made_to_begin_anew(use: Use, world: FakeWorld) -> None:
    graph = side_by_side()
    run = use(graph, {})
    take(start(run), world)

    async def again(held: Any, stand: Any) -> None:
        with pytest.raises(CannotAskAgain, match="done once more"):
            await ask_again(held, stand, None, ["of the question before"])
        await ask_again(held, stand, None, list(stand.written))

    by_hand(run, graph, again)


def test_the_call_of_a_task_that_has_ended_is_not_made_again(use: Use, world: FakeWorld) -> None:
    @task
    def pays() -> str:
        foreign.WORLD.append(("pays", None))
        return "paid"

    @entrypoint()
    def graph(given: Any) -> Any:
        return [pays().result(), interrupt("And now?")]

    run = use(graph, {})
    asked = take(start(run), world).waiting_for

    async def again(held: Any, stand: Any) -> None:
        with pytest.raises(CannotAskAgain, match="would be done once more"):
            await ask_again(held, stand)

    by_hand(run, graph, again)
    give(Approval.objects.get(pk=asked[0]), "respond", answer="go")
    assert go_on(run, world, 2, *asked).outcome == "finished"
    assert foreign.WORLD == [("pays", None)]


def test_a_graph_that_waits_for_nothing_cannot_ask_again(use: Use, world: FakeWorld) -> None:
    graph = foreign.stopped()
    run = use(graph, {})
    assert take(start(run), world).outcome == "finished"

    async def heal(held: Any, stand: Any) -> None:
        with pytest.raises(CannotAskAgain, match="waits for no answer"):
            await ask_again(held, stand)

    by_hand(run, graph, heal)
