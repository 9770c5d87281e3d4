"""A LangChain tool under the ledger: asked about once, done once, unknown where nobody saw its end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware, ToolRetryMiddleware
from langchain_core.tools import ToolException, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel, field_validator
from temporalio.exceptions import ApplicationError

from approvals.errors import InvalidVerdict
from approvals.models import Approval
from console import faults
from console.forms import schema_check
from orchestration import pausing
from orchestration.agents.guarding import NotUnderSignalbox, effect_key, guard
from orchestration.agents.runtime import ToolFailed
from orchestration.models import Effect
from orchestration.turns import drive
from tests.fakes import FakeWorld
from tests.orchestration import foreign_graphs as foreign
from tests.orchestration.conftest import go
from tests.orchestration.test_foreign_graphs import Use, close, give, go_on, messages_of, use, waiting
from tests.orchestration.test_run_turn import start, take

__all__ = ("use",)
pytestmark = pytest.mark.django_db(transaction=True)

KEYS: list[str] = []
TWO = [foreign.call("pay", 1, to="ann", amount=3), foreign.call("pay", 2, to="bob", amount=4)]


@tool
async def pay(to: str, amount: int, reference: str = "-") -> str:
    """Pay somebody."""
    KEYS.append(effect_key())
    foreign.WORLD.append((to, amount))
    if amount == 13:
        raise ToolFailed("The bank says no.")
    if amount == 14:
        raise ConnectionError("no answer")
    if amount == 15 and foreign.WORLD.count((to, amount)) == 1:
        raise ConnectionError("no answer this time")
    return f"paid {to}"


def agent(*amounts: int, middle: bool = False, is_idempotent: bool = False) -> Any:
    """Return an agent that pays once for each amount, in one message; `middle`: LangChain's middleware asks."""
    calls = [foreign.call("pay", number, to="ann", amount=amount) for number, amount in enumerate(amounts, start=1)]
    guarded = guard(pay, is_idempotent=is_idempotent, render=lambda given: f"Pay {given['amount']} to {given['to']}")
    if middle:
        return foreign.hitl(lines=(calls, "All done."), tools=[guarded], gates={"pay": True})
    return create_agent(foreign.Told(lines=[calls, "All done."]), [guarded])


def tolerant(*amounts: int, is_one_node: bool) -> Any:
    """Return an agent that pays in one message, and tells its model of whatever a tool raises."""
    calls = [foreign.call("pay", number, to="ann", amount=amount) for number, amount in enumerate(amounts, start=1)]
    model, tools = foreign.Told(lines=[calls, "All done."]), [guard(pay, is_idempotent=True)]
    if not is_one_node:
        return create_agent(model, tools, middleware=[ToolRetryMiddleware(max_retries=0)])
    return with_tool_node(model, tools)


def with_tool_node(model: foreign.Told, tools: list[Any]) -> Any:
    """Return an agent whose tools are called in one node, all calls of a message at once."""
    graph: Any = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode(tools, handle_tool_errors=True))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph


@pytest.fixture(autouse=True)
def _clean() -> None:
    KEYS.clear()


@pytest.mark.parametrize("middle", [False, True], ids=["asks itself", "middleware asks"])
def test_a_guarded_call_is_asked_about_once_and_runs_once_under_the_approvals_key(
    middle: bool, use: Use, world: FakeWorld
) -> None:
    run = use(agent(3, middle=middle))
    asked = take(start(run), world).waiting_for
    (approval,) = waiting(run)
    assert (approval.summary, approval.is_tracked, approval.asked["call_id"]) == ("Pay 3 to ann", True, "call-1")
    assert foreign.WORLD == []
    give(approval, "approve")
    assert go_on(run, world, 2, *asked).outcome == "finished"
    assert go_on(run, world, 2, *asked, attempt=2).outcome == "finished"
    effect = Effect.objects.get(run=run)
    assert (effect.pk, effect.status, effect.result) == (approval.pk, "done", {"content": "paid ann"})
    assert ([("ann", 3)], [approval.pk]) == (foreign.WORLD, KEYS)
    approval.refresh_from_db()
    assert [step.step for step in approval.receipt.order_by("at", "id")] == [
        "recorded",
        "resumed",
        "effect_started",
        "effect_finished",
    ]


def test_an_edit_adds_nothing_that_the_tool_would_not_get(use: Use, world: FakeWorld) -> None:
    lines = ([foreign.call("pay", 1, to="ann", amount=3)], "All done.")
    for graph in (agent(3), foreign.hitl(lines=lines, tools=[pay], gates={"pay": True})):
        run = use(graph)
        take(start(run), world)
        (approval,) = waiting(run)
        with pytest.raises(InvalidVerdict) as refused:
            give(approval, "edit", edited={"to": "ann", "amount": 3, "bcc": "eve@x.example"})
        assert "bcc" in str(refused.value.errors) and schema_check.NOT_KNOWN in str(refused.value.errors)
        approval.refresh_from_db()
        assert (approval.status, approval.version) == ("pending", 1)
    assert foreign.WORLD == []


def test_nobody_is_asked_about_an_argument_that_the_tool_would_not_get(use: Use, world: FakeWorld) -> None:
    calls = [foreign.call("pay", 1, to="ann", amount=3, bcc="eve@x.example")]
    run = use(create_agent(foreign.Told(lines=[calls, "All done."]), [guard(pay)]))
    assert take(start(run), world).outcome == "finished"
    run.refresh_from_db()
    assert f"bcc: {schema_check.NOT_KNOWN}" in str(messages_of(run))
    assert not Approval.objects.filter(run_id=run.pk).exists() and foreign.WORLD == []


@pytest.mark.parametrize("middle", [False, True])
@pytest.mark.parametrize("verdict", ["edit", "reject", "respond", "expired"])
def test_what_people_said_is_what_runs_or_what_the_model_hears(
    verdict: str, middle: bool, use: Use, world: FakeWorld
) -> None:
    run = use(agent(3, middle=middle))
    asked = take(start(run), world).waiting_for
    (approval,) = waiting(run)
    edited = {"to": "bob", "amount": 2, "reference": "x"}
    if verdict == "expired":
        close(approval)
    else:
        give(
            approval,
            verdict,
            edited=edited if verdict == "edit" else None,
            answer="Paid by hand." if verdict == "respond" else None,
        )
    assert go_on(run, world, 2, *asked).outcome == "finished"
    assert ([("bob", 2)] if verdict == "edit" else []) == foreign.WORLD
    assert [effect.arguments for effect in Effect.objects.filter(run=run)] == ([edited] if verdict == "edit" else [])
    run.refresh_from_db()
    (told,) = [one["content"] for one in messages_of(run) if one["type"] == "tool"]
    words = {"edit": "paid bob", "reject": "no", "respond": "Paid by hand.", "expired": "Nobody decided in time"}
    assert words[verdict] in told


def test_two_guarded_calls_at_once_keep_their_own_answers(use: Use, world: FakeWorld) -> None:
    run = use(agent(3, 5))
    asked = take(start(run), world).waiting_for
    three, five = sorted(waiting(run), key=lambda one: one.summary)
    give(five, "approve")
    left = go_on(run, world, 2, *asked)
    assert left.waiting_for == [three.pk] and foreign.WORLD == [("ann", 5)]
    give(three, "reject")
    assert go_on(run, world, 3, *left.waiting_for).outcome == "finished"
    assert ([("ann", 5)], [five.pk]) == (foreign.WORLD, KEYS)


def test_the_same_call_twice_is_two_approvals_and_two_effects(use: Use, world: FakeWorld) -> None:
    run = use(agent(3, 3, middle=True))
    asked = take(start(run), world).waiting_for
    for approval in waiting(run):
        give(approval, "approve")
    assert go_on(run, world, 2, *asked).outcome == "finished"
    assert sorted(KEYS) == sorted(asked) and len(foreign.WORLD) == 2


def test_a_call_without_a_clear_end_is_asked_about_and_not_made_again(use: Use, world: FakeWorld) -> None:
    run = use(agent(14))
    asked = take(start(run), world).waiting_for
    give(waiting(run)[0], "approve")
    (question,) = go_on(run, world, 2, *asked).waiting_for
    approval = Approval.objects.get(pk=question)
    assert (approval.kind, approval.summary) == ("outcome", "Did it happen? pay was cut off, and it cannot be asked")
    give(approval, "approve")
    assert go_on(run, world, 3, question).outcome == "finished"
    assert foreign.WORLD == [("ann", 14)]
    assert Effect.objects.get(run=run).status == "done"


@pytest.mark.parametrize(
    ("is_one_node", "others"),
    [(True, ()), (False, ()), (False, (3,))],
    ids=["tool node", "middleware", "middleware, two calls at once"],
)
def test_no_tool_node_tells_the_model_that_there_was_no_clear_answer_and_the_call_is_made_again(
    is_one_node: bool, others: tuple[int, ...], use: Use, world: FakeWorld
) -> None:
    run = use(tolerant(15, *others, is_one_node=is_one_node))
    asked = take(start(run), world).waiting_for
    while open_ones := waiting(run):
        give(open_ones[0], "approve")
    with pytest.raises(ApplicationError) as told:
        go_on(run, world, 2, *asked)
    assert (told.value.type, told.value.non_retryable) == ("EffectUnclear", False)
    run.refresh_from_db()
    assert run.failure is not None
    assert (run.failure["kind"], run.failure["message"]) == ("EffectUnclear", str(told.value.message))
    assert Effect.objects.get(run=run, arguments__amount=15).status == "executing"
    result = go_on(run, world, 2, *asked, attempt=2)
    assert result.outcome == "finished"
    assert sorted(foreign.WORLD) == sorted([("ann", 15)] * 2 + [("ann", amount) for amount in others])
    assert {effect.status for effect in Effect.objects.filter(run=run)} == {"done"}
    assert set(KEYS) == set(Effect.objects.filter(run=run).values_list("pk", flat=True))
    run.refresh_from_db()
    assert [one["content"] for one in messages_of(run) if one["type"] == "tool"] == ["paid ann"] * (1 + len(others))


def test_a_call_beside_one_that_asks_has_ended_before_its_turn_does(
    use: Use, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question of one call ends the node of both."""
    stopped = asyncio.Event()

    @tool
    async def wire(to: str) -> str:
        """Send money."""
        if to == "ann":
            await stopped.wait()
        foreign.WORLD.append(("wire", to))
        return f"sent to {to}"

    calls = [foreign.call("wire", number, to=to) for number, to in enumerate(("ann", "bob"), start=1)]
    run = use(with_tool_node(foreign.Told(lines=[calls, "All done."]), [guard(wire)]))
    (first,) = take(start(run), world).waiting_for
    give(waiting(run)[0], "approve")
    call, look, looked = drive.call, pausing.stand_of, list[list[Any]]()

    async def calling(*given: Any) -> None:
        try:
            await call(*given)
        finally:
            stopped.set()

    async def looking(*given: Any) -> pausing.Stand:
        looked.append(list(foreign.WORLD))
        return await look(*given)

    monkeypatch.setattr(drive, "call", calling)
    monkeypatch.setattr(pausing, "stand_of", looking)
    (second,) = go_on(run, world, 2, first).waiting_for
    assert looked[-1] == [("wire", "ann")], "the turn goes on once the call has ended"
    assert Effect.objects.get(run=run).status == "done"
    assert (waiting(run)[0].kind, waiting(run)[0].arguments) == ("action", {"to": "bob"})
    give(waiting(run)[0], "approve")
    assert go_on(run, world, 3, second).outcome == "finished"
    assert foreign.WORLD == [("wire", "ann"), ("wire", "bob")]


def test_a_tool_that_says_no_has_failed_and_the_model_hears_it(use: Use, world: FakeWorld) -> None:
    run = use(agent(13))
    asked = take(start(run), world).waiting_for
    give(waiting(run)[0], "approve")
    assert go_on(run, world, 2, *asked).outcome == "finished"
    assert Effect.objects.get(run=run).status == "failed"


@pytest.mark.parametrize("is_idempotent", [False, True])
@pytest.mark.parametrize("where", ["effect.before_call", "effect.after_call"])
def test_a_death_around_the_call_does_it_once_or_asks(
    where: str, is_idempotent: bool, use: Use, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = use(agent(3, middle=True, is_idempotent=is_idempotent))
    asked = take(start(run), world).waiting_for
    give(waiting(run)[0], "approve")

    def die(point: str, subject: str = "") -> None:
        if point == where:
            raise ConnectionError("the process is gone")

    with monkeypatch.context() as dying:
        dying.setattr(faults, "reach", die)
        with pytest.raises(ConnectionError):
            go_on(run, world, 2, *asked)
    assert Effect.objects.get(run=run).status == "executing"
    result = go_on(run, world, 2, *asked, attempt=2)
    if is_idempotent:
        assert result.outcome == "finished" and set(KEYS) == set(asked)
    else:
        assert Effect.objects.get(run=run).status == "unknown"
        assert Approval.objects.get(pk=result.waiting_for[0]).kind == "outcome"
        assert len(foreign.WORLD) == (where == "effect.after_call")


def test_arguments_that_the_tool_does_not_take_go_back_to_the_model_and_nobody_is_asked(
    use: Use, world: FakeWorld
) -> None:
    lines = [[foreign.call("pay", 1, to="ann", amount="much")], "All done."]
    run = use(create_agent(foreign.Told(lines=lines), [guard(pay)]))
    assert take(start(run), world).outcome == "finished"
    run.refresh_from_db()
    (told,) = [one["content"] for one in messages_of(run) if one["type"] == "tool"]
    assert "invalid_arguments" in told and not Approval.objects.filter(run_id=run.pk).exists()


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ({"to": "ann", "amount": "much"}, "pay does not take these arguments"),
        ({"to": "ann", "amount": 3, "bcc": "eve@x.example"}, "pay does not take these arguments"),
    ],
)
def test_what_was_approved_and_the_tool_does_not_take_is_refused_and_the_run_ends_well(
    first: dict[str, Any], words: str, use: Use, world: FakeWorld
) -> None:
    lines = ([foreign.call("pay", 1, **first)], [foreign.call("pay", 2, to="ann", amount=3)], "All done.")
    run = use(foreign.hitl(lines=lines, tools=[guard(pay)], gates={"pay": True}))
    (wrong,) = take(start(run), world).waiting_for
    give(waiting(run)[0], "approve")
    (right,) = go_on(run, world, 2, wrong).waiting_for
    give(waiting(run)[0], "approve")
    for attempt in (1, 2):
        assert go_on(run, world, 3, right, attempt=attempt).outcome == "finished"
    assert foreign.WORLD == [("ann", 3)] and [right] == KEYS
    (refused,) = Approval.objects.get(pk=wrong).receipt.filter(step="refused")
    assert words in refused.detail and not Effect.objects.filter(pk=wrong).exists()


def test_a_call_that_became_another_one_is_asked_about_anew_and_the_first_approval_is_refused(
    use: Use, world: FakeWorld
) -> None:
    """A middleware of the author's changes the call between the approval and the tool."""

    class Raises(AgentMiddleware):  # type: ignore[misc]  # LangChain's types are not ours to see
        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            call = {**request.tool_call, "args": {**request.tool_call["args"], "amount": 5}}
            return await handler(request.override(tool_call=call))

    gates = HumanInTheLoopMiddleware({"pay": True})
    lines = [[foreign.call("pay", 1, to="ann", amount=3)], "All done."]
    run = use(create_agent(foreign.Told(lines=lines), [guard(pay)], middleware=[gates, Raises()]))
    (first,) = take(start(run), world).waiting_for
    give(waiting(run)[0], "approve")
    (second,) = go_on(run, world, 2, first).waiting_for
    assert waiting(run)[0].arguments == {"to": "ann", "amount": 5} and foreign.WORLD == []
    give(waiting(run)[0], "approve")
    assert go_on(run, world, 3, second).outcome == "finished"
    assert ([("ann", 5)], [second]) == (foreign.WORLD, KEYS)
    assert Approval.objects.get(pk=first).receipt.filter(step="refused").exists()


@pytest.mark.parametrize("is_idempotent", [False, True])
def test_an_error_that_a_tool_answers_with_is_no_success(is_idempotent: bool, use: Use, world: FakeWorld) -> None:
    @tool
    async def wire(to: str) -> str:
        """Send money."""
        foreign.WORLD.append(("wire", to))
        raise ToolException("The line broke.")

    wire.handle_tool_error = True
    guarded = guard(wire, is_idempotent=is_idempotent)
    run = use(create_agent(foreign.Told(lines=[[foreign.call("wire", 1, to="ann")], "All done."]), [guarded]))
    asked = take(start(run), world).waiting_for
    give(waiting(run)[0], "approve")
    if is_idempotent:
        with pytest.raises(ApplicationError, match="gave no clear answer") as told:
            go_on(run, world, 2, *asked)
        assert not told.value.non_retryable and Effect.objects.get(run=run).status == "executing"
    else:
        (question,) = go_on(run, world, 2, *asked).waiting_for
        assert Approval.objects.get(pk=question).kind == "outcome"
        effect = Effect.objects.get(run=run)
        assert effect.status == "unknown" and "The line broke." in effect.error
    assert foreign.WORLD == [("wire", "ann")]


@pytest.mark.parametrize("is_idempotent", [False, True])
def test_a_change_that_only_the_tools_own_check_refuses_is_refused_before_it_runs(
    is_idempotent: bool, use: Use, world: FakeWorld
) -> None:
    class Paid(BaseModel):
        to: str
        amount: int

        @field_validator("amount")
        @classmethod
        def is_even(cls, amount: int) -> int:
            if amount % 2:
                raise ValueError("must be even")
            return amount

    @tool(args_schema=Paid)
    async def halve(to: str, amount: int) -> str:
        """Pay half of it."""
        foreign.WORLD.append(("halve", amount))
        return "paid"

    lines = [[foreign.call("halve", 1, to="ann", amount=4)], "All done."]
    run = use(create_agent(foreign.Told(lines=lines), [guard(halve, is_idempotent=is_idempotent)]))
    (asked,) = take(start(run), world).waiting_for
    give(waiting(run)[0], "edit", edited={"to": "ann", "amount": 3})
    for attempt in (1, 2):
        assert go_on(run, world, 2, asked, attempt=attempt).outcome == "finished"
    assert foreign.WORLD == [] and not Effect.objects.filter(run=run).exists()
    (refused,) = Approval.objects.get(pk=asked).receipt.filter(step="refused")
    assert "must be even" in refused.detail


def test_a_guarded_tool_runs_nowhere_else() -> None:
    guarded = guard(pay)
    with pytest.raises(NotUnderSignalbox):
        guarded.invoke({"to": "ann", "amount": 3})
    with pytest.raises(NotUnderSignalbox):
        go(guarded.ainvoke({"to": "ann", "amount": 3}))
    assert foreign.WORLD == [] or ("ann", 3) not in foreign.WORLD
