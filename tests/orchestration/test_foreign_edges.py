"""Edges of foreign forms of asking that no other test stands for: what is no JSON, what a change names, what lacks."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel, model_validator
from temporalio.exceptions import ApplicationError
from typing_extensions import TypedDict

from approvals.models import Approval
from orchestration.dialects.calls import place_of_call
from orchestration.errors import UnknownDialect
from tests.fakes import FakeWorld
from tests.orchestration import foreign_graphs as foreign
from tests.orchestration.test_foreign_graphs import Use, give, go_on, refusal, result_of, use, waiting
from tests.orchestration.test_run_turn import start, take

__all__ = ("use",)
pytestmark = pytest.mark.django_db(transaction=True)


def asked_for(approval: Approval) -> Any:
    return json.loads(bytes(approval.canonical))["arguments"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (foreign.Amount(amount=3), {"amount": 3}),
        ({"question": "When?", "on": datetime(2026, 3, 1, tzinfo=UTC)}, {"question": "When?"}),
        ([{"amounts": (1, 2)}], {"asked": [{"amounts": [1, 2]}]}),
    ],
    ids=["a model", "a time", "a tuple"],
)
def test_a_value_that_is_no_json_is_shown_as_json_the_same_on_every_attempt(
    value: Any, shown: Any, use: Use, world: FakeWorld
) -> None:
    run = use(foreign.asking(value), {})
    asked = take(start(run), world).waiting_for
    (approval,) = waiting(run)
    before = bytes(approval.canonical)
    assert take(start(run), world, attempt=2).waiting_for == asked
    (again,) = waiting(run)
    assert bytes(again.canonical) == before and asked_for(again).items() >= shown.items()
    give(again, "respond", answer="Yes.")
    assert go_on(run, world, 2, *asked).outcome == "finished"


def test_two_interrupts_of_one_node_are_two_questions_and_each_gets_its_own_answer(use: Use, world: FakeWorld) -> None:
    def ask(state: foreign.Lines) -> foreign.Lines:
        first = interrupt("First?")
        return {"lines": [first, interrupt("Second?")]}

    graph: Any = StateGraph(foreign.Lines)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    run = use(graph, {})
    (first,) = take(start(run), world).waiting_for
    give(Approval.objects.get(pk=first), "respond", answer="one")
    (second,) = go_on(run, world, 2, first).waiting_for
    assert second != first
    assert go_on(run, world, 2, first, attempt=2).waiting_for == [second], "the first answer is not given twice"
    give(Approval.objects.get(pk=second), "respond", answer="two")
    assert go_on(run, world, 3, second).outcome == "finished"
    assert result_of(run) == {"lines": ["one", "two"]}


@pytest.mark.parametrize("mode", ["batched", "per_call"])
def test_a_change_cannot_name_another_tool(mode: str, use: Use, world: FakeWorld) -> None:
    @tool
    def note(name: str, path: str = "") -> str:
        """Write a note."""
        foreign.WORLD.append(("note", {"name": name, "path": path}))
        return "noted"

    lines = ([foreign.call("note", 1) | {"args": {"name": "a"}}], "All done.")
    run = use(foreign.hitl(mode, lines, [note, foreign.delete_file], {"note": True}))
    asked = take(start(run), world).waiting_for
    give(waiting(run)[0], "edit", edited={"name": "delete_file", "path": "report"})
    assert go_on(run, world, 2, *asked).outcome == "finished"
    assert foreign.WORLD == [("note", {"name": "delete_file", "path": "report"})]


@pytest.mark.parametrize("mode", ["batched", "per_call"])
def test_calls_of_one_tool_keep_their_own_answers_whatever_the_order_they_are_decided_in(
    mode: str, use: Use, world: FakeWorld
) -> None:
    calls = [foreign.call("send_email", number, to=f"{name}@acme.example") for number, name in enumerate("abc")]
    run = use(foreign.hitl(mode, (calls, "All done.")))
    asked = take(start(run), world).waiting_for
    for approval in sorted(waiting(run), key=lambda one: str(asked_for(one)["to"]), reverse=True):
        give(approval, "reject" if asked_for(approval)["to"].startswith("b") else "approve")
    assert go_on(run, world, 2, *asked).outcome == "finished"
    assert sorted(given["to"] for _, given in foreign.WORLD) == ["a@acme.example", "c@acme.example"]


def test_a_call_without_an_id_fails_the_run_in_words(use: Use, world: FakeWorld) -> None:
    nameless = foreign.call("send_email", 1, to="ann@acme.example") | {"id": None}
    run = use(foreign.hitl("per_call", ([nameless], "All done.")))
    with pytest.raises(ApplicationError, match="has no ID") as told:
        take(start(run), world)
    assert told.value.non_retryable and not Approval.objects.filter(run_id=run.pk).exists()


@pytest.mark.parametrize("mode", ["batched", "per_call"])
def test_two_calls_that_their_model_gave_one_id_are_both_approved(mode: str, use: Use, world: FakeWorld) -> None:
    calls = [foreign.call("send_email", 1, to=f"{name}@acme.example") for name in ("ann", "bob")]
    run = use(foreign.hitl(mode, (calls, "All done.")))
    asked = take(start(run), world).waiting_for
    for approval in waiting(run):
        give(approval, "approve")
    assert go_on(run, world, 2, *asked).outcome == "finished"
    assert sorted(given["to"] for _, given in foreign.WORLD) == ["ann@acme.example", "bob@acme.example"]


@pytest.mark.parametrize(
    "verdicts", [("edit", "approve"), ("approve", "reject"), ("edit", "edit"), ("respond", "approve")], ids="+".join
)
def test_of_two_calls_with_one_id_nothing_is_done_that_was_decided_about_the_other(
    verdicts: tuple[str, str], use: Use, world: FakeWorld
) -> None:
    """LangChain's middleware would do the change of one of them twice, or leave the approved one out."""
    calls = [foreign.call("send_email", 1, to=f"{name}@acme.example") for name in ("ann", "bob")]
    run = use(foreign.hitl("batched", (calls, "All done.")))
    asked = take(start(run), world).waiting_for
    for approval, verdict in zip(waiting(run), verdicts, strict=True):
        changed = {"to": "carl@acme.example"} if verdict == "edit" else None
        give(approval, verdict, edited=changed, answer="no" if verdict == "respond" else None)
    error = refusal(run, world, 2, *asked)
    assert error.type == "NotAllowedToGoOn" and "2 calls the one id" in error.message
    assert foreign.WORLD == []


def test_a_change_of_a_call_does_not_change_one_beside_it_that_nobody_was_asked_about(
    use: Use, world: FakeWorld
) -> None:
    calls = [foreign.call("read_file", 1, path="a"), foreign.call("send_email", 1, to="ann@acme.example")]
    run = use(foreign.hitl("batched", (calls, "All done.")))
    asked = take(start(run), world).waiting_for
    (approval,) = waiting(run)
    give(approval, "edit", edited={"to": "carl@acme.example"})
    assert "2 calls the one id" in refusal(run, world, 2, *asked).message
    assert foreign.WORLD == []


def test_two_calls_with_one_id_are_both_rejected(use: Use, world: FakeWorld) -> None:
    calls = [foreign.call("send_email", 1, to=f"{name}@acme.example") for name in ("ann", "bob")]
    run = use(foreign.hitl("batched", (calls, "All done.")))
    asked = take(start(run), world).waiting_for
    for approval in waiting(run):
        give(approval, "reject")
    assert go_on(run, world, 2, *asked).outcome == "finished"
    assert foreign.WORLD == []


@pytest.mark.parametrize("mode", ["batched", "per_call"])
def test_a_call_that_would_be_shown_otherwise_than_it_runs_is_asked_about_by_nobody(
    mode: str, use: Use, world: FakeWorld
) -> None:
    run = use(foreign.hitl(mode, ([foreign.call("send_email", 1, to="a\x00b")], "All done.")))
    with pytest.raises(ApplicationError) as told:
        take(start(run), world)
    assert told.value.non_retryable and foreign.WORLD == []
    assert not Approval.objects.filter(run_id=run.pk).exists()


@pytest.mark.parametrize("value", ["a\x00b", {"a\x00b": 1}, [float("nan")], float("inf")], ids=ascii)
def test_no_argument_is_shown_in_another_way_than_it_is(value: Any) -> None:
    with pytest.raises(UnknownDialect, match="cannot be shown exactly"):
        place_of_call("pay", {"given": value}, verdicts=["approve"])


@pytest.mark.parametrize("stop", [{"interrupt_after": ["first"]}, {"interrupt_before": ["second"]}], ids=str)
def test_a_stop_of_a_graph_inside_another_asks_whether_to_go_on(stop: Any, use: Use, world: FakeWorld) -> None:
    graph: Any = StateGraph(foreign.Lines)
    graph.add_node("inner", foreign.stopped(**stop))
    graph.add_edge(START, "inner")
    graph.add_edge("inner", END)
    run = use(graph.compile(), {})
    (asked,) = take(start(run), world).waiting_for
    approval = Approval.objects.get(pk=asked)
    assert approval.kind == "go_on" and foreign.WORLD == [("first", None)]
    give(approval, "approve")
    assert go_on(run, world, 2, asked).outcome == "finished"
    assert foreign.WORLD == [("first", None), ("second", None)]


@pytest.mark.parametrize("messages", [None, 3, "three", ["three"], {"three": 3}], ids=str)
def test_a_graph_may_keep_something_else_under_the_name_of_messages(messages: Any, use: Use, world: FakeWorld) -> None:
    class Counting(TypedDict):
        messages: Any
        result: Any

    graph: Any = StateGraph(Counting)
    graph.add_node("count", lambda state: {"messages": messages, "result": "counted"})
    graph.add_edge(START, "count")
    graph.add_edge("count", END)
    run = use(graph, {"messages": messages, "result": ""})
    assert take(start(run), world).outcome == "finished"
    assert result_of(run) == "counted"


@pytest.mark.parametrize("value", ["a\x00b", float("nan")], ids=["a character U+0000", "not a number"])
def test_a_value_that_postgresql_refuses_ends_the_run_in_words(value: Any, use: Use, world: FakeWorld) -> None:
    class Written(TypedDict, total=False):
        value: Any

    graph: Any = StateGraph(Written)
    graph.add_node("write", lambda state: {"value": value})
    graph.add_edge(START, "write")
    graph.add_edge("write", END)
    run = use(graph, {"value": 1})
    with pytest.raises(ApplicationError, match="no character U\\+0000") as told:
        take(start(run), world)
    assert (told.value.type, told.value.non_retryable) == ("AgentError", True)


@task
async def put(question: str) -> str:
    return f"{question} {interrupt(question)}"


async def put_both(state: Any) -> Any:
    return {"lines": list(await asyncio.gather(put("First?"), put("Second?")))}


def in_a_node() -> Any:
    graph: Any = StateGraph(foreign.Lines)
    graph.add_node("ask", put_both)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return graph


@pytest.mark.parametrize("made", [lambda: entrypoint()(put_both), in_a_node], ids=["an entrypoint", "a node"])
def test_tasks_that_a_function_calls_ask_and_get_their_answers(made: Any, use: Use, world: FakeWorld) -> None:
    run = use(made(), {"lines": []})
    (first,) = take(start(run), world).waiting_for
    give(Approval.objects.get(pk=first), "respond", answer="one")
    (second,) = go_on(run, world, 2, first).waiting_for
    assert go_on(run, world, 2, first, attempt=2).waiting_for == [second]
    give(Approval.objects.get(pk=second), "respond", answer="two")
    assert go_on(run, world, 3, second).outcome == "finished"
    said = result_of(run)["lines"]
    assert {line.split()[0] for line in said} == {"First?", "Second?"}
    assert {line.split()[1] for line in said} == {"one", "two"}


def test_the_error_handler_of_a_node_asks_and_gets_its_answer(use: Use, world: FakeWorld) -> None:
    def pay(state: foreign.Lines) -> foreign.Lines:
        interrupt("Pay?")
        raise ConnectionError("the bank is away")

    def ask(state: foreign.Lines) -> foreign.Lines:
        return {"lines": [interrupt("The bank is away. Book by hand?")]}

    graph: Any = StateGraph(foreign.Lines)
    graph.add_node("pay", pay, error_handler=ask)
    graph.add_edge(START, "pay")
    graph.add_edge("pay", END)
    run = use(graph, {})
    (first,) = take(start(run), world).waiting_for
    give(Approval.objects.get(pk=first), "respond", answer="Yes.")
    (second,) = go_on(run, world, 2, first).waiting_for
    assert second != first and "by hand" in Approval.objects.get(pk=second).summary
    give(Approval.objects.get(pk=second), "respond", answer="By hand.")
    assert go_on(run, world, 3, second).outcome == "finished"
    assert result_of(run) == {"lines": ["By hand."]}


@pytest.mark.parametrize("mode", ["batched", "per_call"])
def test_what_a_helper_asks_is_not_held_against_the_message_of_its_caller(
    mode: str, use: Use, world: FakeWorld
) -> None:
    """Though that message makes another call of the same tool."""
    to_ann = foreign.call("send_email", 1, to="ann@acme.example")
    to_bob = foreign.call("send_email", 7, to="bob@acme.example")
    gates = {"send_email": True}
    inner = foreign.hitl(mode, ([to_bob], "The helper is done."), gates=gates)

    @tool
    async def helper(task: str) -> str:
        """Give a task to the helper."""
        said = await inner.ainvoke({"messages": [{"role": "user", "content": task}]})
        return str(said["messages"][-1].text)

    calls = [to_ann, foreign.call("helper", 6, task="Write to Bob.")]
    run = use(foreign.hitl(mode, (calls, "All done."), [foreign.send_email, helper], gates))
    end = take(start(run), world)
    for number in range(2, 4 if mode == "batched" else 3):  # the helper is called once what is beside it is decided
        for approval in waiting(run):
            give(approval, "approve")
        end = go_on(run, world, number, *end.waiting_for)
    assert end.outcome == "finished" and Approval.objects.count() == 2
    assert sorted(given["to"] for _, given in foreign.WORLD) == ["ann@acme.example", "bob@acme.example"]


def calls_and_asks() -> Any:
    """A node that calls a graph which asks, and then asks by itself."""
    inner = foreign.asking("First?").compile()

    def outer(state: foreign.Lines) -> foreign.Lines:
        inner.invoke({})
        return {"lines": [interrupt("Second?")]}

    graph: Any = StateGraph(foreign.Lines)
    graph.add_node("outer", outer)
    graph.add_edge(START, "outer")
    return graph.compile()


def test_a_node_that_calls_a_graph_which_asks_may_then_ask_by_itself(use: Use, world: FakeWorld) -> None:
    run = use(calls_and_asks(), {})
    first = take(start(run), world).waiting_for
    give(Approval.objects.get(pk=first[0]), "respond", answer="one")
    second = go_on(run, world, 2, *first).waiting_for
    (approval,) = waiting(run)
    assert second == [approval.pk] and first != second
    give(approval, "respond", answer="two")
    assert go_on(run, world, 3, *second).outcome == "finished"
    assert foreign.WORLD == [] and result_of(run) == {"lines": ["two"]}


class Span(BaseModel):
    """What no JSON schema can say: the end comes after the start."""

    start: int
    end: int

    @model_validator(mode="after")
    def _in_order(self) -> Span:
        if self.end <= self.start:
            raise ValueError("the end comes after the start")
        return self


def asks_beside_another() -> Any:
    graph: Any = StateGraph(foreign.Lines)

    def span(state: foreign.Lines) -> foreign.Lines:
        answer = interrupt("From when to when?", response_schema=Span)
        foreign.WORLD.append(("span", answer.model_dump()))
        return {"lines": ["span"]}

    def other(state: foreign.Lines) -> foreign.Lines:
        foreign.WORLD.append(("other", interrupt("Who?")))
        return {"lines": ["other"]}

    for name, node in (("span", span), ("other", other)):
        graph.add_node(name, node)
        graph.add_edge(START, name)
    return graph.compile()


def test_an_answer_that_only_the_graphs_own_check_refuses_is_asked_for_again(use: Use, world: FakeWorld) -> None:
    run = use(foreign.asking("From when to when?", schema=Span), {})
    asked = take(start(run), world).waiting_for
    (approval,) = waiting(run)
    give(approval, "respond", answer={"start": 5, "end": 1})
    with pytest.raises(ApplicationError, match="the end comes after the start") as told:
        go_on(run, world, 2, *asked)
    assert told.value.type == "AnswerNotTaken" and not told.value.non_retryable
    again = go_on(run, world, 2, *asked, attempt=2)
    assert again.outcome == "needs_approval" and again.waiting_for != asked
    assert "the end comes after the start" in approval.receipt.get(step="refused").detail
    give(Approval.objects.get(pk=again.waiting_for[0]), "respond", answer={"start": 1, "end": 5})
    assert go_on(run, world, 3, *again.waiting_for).outcome == "finished"


def test_beside_an_answer_that_is_refused_nothing_is_done_twice(use: Use, world: FakeWorld) -> None:
    run = use(asks_beside_another(), {})
    asked = take(start(run), world).waiting_for
    for approval in waiting(run):
        is_span = bool(approval.answer_schema)
        give(approval, "respond", answer={"start": 5, "end": 1} if is_span else "Ann")
    with pytest.raises(ApplicationError):
        go_on(run, world, 2, *asked)
    again = go_on(run, world, 2, *asked, attempt=2)
    for approval in waiting(run):
        give(approval, "respond", answer={"start": 1, "end": 5} if approval.answer_schema else "Ann")
    assert go_on(run, world, 3, *again.waiting_for).outcome == "finished"
    assert sorted(name for name, _ in foreign.WORLD) == ["other", "span"]
