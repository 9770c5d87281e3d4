"""Graphs that were not written for us: pause, approve, change, reject, answer, silence; on the Postgres saver."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from approvals import services as approvals
from approvals.errors import InvalidVerdict, MayNotDecide
from approvals.models import Approval
from approvals.services import Answer
from orchestration.agents.offline_model import OfflineModel
from orchestration.agents.runtime import UNSAID, Agent
from orchestration.checkpoint_gateway import checkpoint_of
from orchestration.contracts import TurnResult
from orchestration.models import Effect, Run
from orchestration.turns import activity as module
from orchestration.turns import drive
from tests.fakes import FakeWorld
from tests.orchestration import foreign_graphs as foreign
from tests.orchestration.conftest import decide, make_run, reviewer
from tests.orchestration.test_run_turn import after, start, take

pytestmark = pytest.mark.django_db(transaction=True)

Use = Callable[..., Run]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> Iterator[Use]:
    """Make a run of a graph."""
    monkeypatch.setattr(module, "chat_model", OfflineModel)
    foreign.WORLD.clear()

    def made(graph: Any, given: Any = None, on_silence: Any = UNSAID, owners: tuple[str, ...] = ()) -> Run:
        monkeypatch.setattr(drive, "graph_of", lambda agent: graph)
        agent = Agent(name="foreign", title="Foreign", graph="x.y", on_silence=on_silence, owners=owners)
        monkeypatch.setattr(module, "agent_named", lambda name: agent)
        return make_run(agent="foreign", input=foreign.TALK if given is None else given)

    yield made


def waiting(run: Run) -> list[Approval]:
    return list(Approval.objects.filter(run_id=run.pk, status="pending").order_by("interrupt_id", "interrupt_place"))


def give(approval: Approval, verdict: str, *, note: str = "", answer: Any = None, edited: Any = None) -> None:
    given = Answer(
        verdict, approval.version, approval.digest, note or ("no" if verdict == "reject" else ""), edited, answer
    )
    approvals.decide(approval_id=approval.pk, reviewer=reviewer(), given=given)
    if verdict == "edit":  # whoever changes it does not approve the change
        decide(approval.pk, by=reviewer("bob"))


def close(approval: Approval, status: str = "expired") -> None:
    Approval.objects.filter(pk=approval.pk).update(status=status)


def go_on(run: Run, world: FakeWorld, number: int, *approval_ids: str, attempt: int = 1) -> TurnResult:
    return take(after(run, number, *approval_ids), world, attempt=attempt)


def result_of(run: Run) -> Any:
    run.refresh_from_db()
    return run.result


def messages_of(run: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = checkpoint_of(run.pk, run.checkpoint_id).values["messages"]
    return found


def refusal(run: Run, world: FakeWorld, number: int, *approval_ids: str) -> ApplicationError:
    with pytest.raises(ApplicationError) as told:
        go_on(run, world, number, *approval_ids)
    assert told.value.non_retryable
    return told.value


@pytest.mark.parametrize("mode", ["batched", "per_call"])
def test_langchains_middleware_is_asked_call_by_call_and_answered_when_all_are_decided(
    mode: str, use: Use, world: FakeWorld
) -> None:
    run = use(foreign.hitl(mode))
    asked = take(start(run), world).waiting_for
    mail, file = sorted(waiting(run), key=lambda one: one.tool, reverse=True)
    assert sorted(asked) == sorted([mail.pk, file.pk])
    assert (mail.tool, mail.kind, mail.dialect, mail.is_tracked) == ("send_email", "action", "langchain", False)
    assert (sorted(mail.verdicts), sorted(file.verdicts)) == (
        ["approve", "edit", "reject", "respond"],
        ["approve", "reject"],
    )
    assert mail.arguments_schema["properties"].keys() == {"to", "subject"}  # of the graph's own tool
    assert mail.agent_words == "I would do this."
    assert mail.asked["call_id"] == "call-1"
    give(mail, "edit", edited={"to": "bob@acme.example", "subject": "Report"})
    one = go_on(run, world, 2, *asked)
    assert one.outcome == ("still_waiting" if mode == "batched" else "needs_approval")
    give(file, "reject", note="Keep it.")
    assert go_on(run, world, 3, *asked).outcome == "finished"
    assert foreign.WORLD == [("send_email", {"to": "bob@acme.example", "subject": "Report"})]
    assert result_of(run) == {"messages": "All done."}
    mail.refresh_from_db()
    assert mail.took_effect_at is not None  # as far as anybody can tell: the run has it
    assert not Effect.objects.filter(run=run).exists()
    assert go_on(run, world, 4, *asked, attempt=2).outcome == "finished"
    assert len(foreign.WORLD) == 1


def test_who_owns_the_agent_is_kept_out_where_a_rule_says_so(
    use: Use, world: FakeWorld, eyes_on_the_owner: None
) -> None:
    take(start(use(foreign.hitl("batched"), owners=("alice",))), world)
    mail, _ = sorted(waiting(Run.objects.get()), key=lambda one: one.tool, reverse=True)
    assert mail.agent_owners == ["alice"]
    with pytest.raises(MayNotDecide, match="You own this agent"):
        decide(mail)
    assert decide(mail, by=reviewer("bob")).status == "decided"


@pytest.mark.parametrize("mode", ["batched", "per_call"])
def test_langchains_model_hears_an_answer_and_that_nobody_decided(mode: str, use: Use, world: FakeWorld) -> None:
    run = use(foreign.hitl(mode))
    asked = take(start(run), world).waiting_for
    mail, file = sorted(waiting(run), key=lambda one: one.tool, reverse=True)
    give(mail, "respond", answer="Ann knows already.")
    close(file)
    assert go_on(run, world, 2, *asked).outcome == "finished"
    assert foreign.WORLD == []
    run.refresh_from_db()
    said = {step["tool_call_id"]: step["content"] for step in messages_of(run) if step["type"] == "tool"}
    assert said["call-1"] == "Ann knows already."
    assert "Nobody decided in time" in said["call-2"]


@pytest.mark.parametrize("mode", ["batched", "per_call"])
def test_what_langchain_would_not_take_is_refused_when_it_is_decided(mode: str, use: Use, world: FakeWorld) -> None:
    run = use(foreign.hitl(mode))
    asked = take(start(run), world).waiting_for
    mail, file = sorted(waiting(run), key=lambda one: one.tool, reverse=True)
    bad: Any
    for bad in (
        {"verdict": "edit", "edited": {"to": 7}},
        {"verdict": "edit", "edited": {"subject": "nobody"}},
        {"verdict": "respond", "answer": {"text": "x"}},
        {"verdict": "respond", "answer": 7},
    ):
        with pytest.raises(InvalidVerdict):
            give(mail, **bad)
    with pytest.raises(InvalidVerdict, match="approve, reject"):
        give(file, "edit", edited={"path": "x"})
    give(mail, "approve")
    give(file, "approve")
    assert go_on(run, world, 2, *asked).outcome == "finished"
    assert sorted(name for name, _ in foreign.WORLD) == ["delete_file", "send_email"]


@pytest.mark.parametrize("verdict", ["approve", "edit", "reject", "respond", "expired"])
@pytest.mark.parametrize(
    "value",
    [[foreign.HUMAN], foreign.HUMAN, json.dumps(foreign.HUMAN), json.dumps([foreign.HUMAN])],
    ids=["list", "bare", "text", "text of a list"],
)
def test_agent_inbox_gets_its_list(value: Any, verdict: str, use: Use, world: FakeWorld) -> None:
    run = use(foreign.asking(value), {})
    (asked,) = take(start(run), world).waiting_for
    (approval,) = waiting(run)
    assert (approval.dialect, approval.agent_words) == ("agent-inbox", "# An e-mail")
    if verdict == "expired":
        close(approval)
    else:
        edited = {"to": "bob@acme.example"} if verdict == "edit" else None
        give(approval, verdict, edited=edited, answer="Later." if verdict == "respond" else None)
    assert go_on(run, world, 2, asked).outcome == "finished"
    expected = {
        "approve": {"type": "accept", "args": None},
        "edit": {"type": "edit", "args": {"action": "send_email", "args": {"to": "bob@acme.example"}}},
        "reject": {"type": "ignore", "args": None},
        "respond": {"type": "response", "args": "Later."},
        "expired": {"type": "ignore", "args": None},
    }
    assert result_of(run) == {"lines": [[expected[verdict]]]}


def test_several_entries_of_agent_inbox_are_answered_together(use: Use, world: FakeWorld) -> None:
    other = {**foreign.HUMAN, "action_request": {"action": "delete_file", "args": {"path": "a"}}}
    run = use(foreign.asking([foreign.HUMAN, other]), {})
    asked = take(start(run), world).waiting_for
    first, second = waiting(run)
    give(second, "reject")
    assert go_on(run, world, 2, *asked).outcome == "still_waiting"
    give(first, "approve")
    assert go_on(run, world, 3, *asked).outcome == "finished"
    assert [line["type"] for line in result_of(run)["lines"][0]] == ["accept", "ignore"]


def test_a_plain_question_is_answered_with_any_json_and_never_approved(use: Use, world: FakeWorld) -> None:
    run = use(foreign.asking("Shall I?", {"question": "How much?", "unit": "EUR"}), {})
    (first,) = take(start(run), world).waiting_for
    approval = Approval.objects.get(pk=first)
    assert (approval.kind, approval.summary, approval.verdicts) == ("question", "Shall I?", ["respond"])
    with pytest.raises(InvalidVerdict):
        give(approval, "approve")
    give(approval, "respond", answer=False)
    (second,) = go_on(run, world, 2, first).waiting_for
    give(Approval.objects.get(pk=second), "respond", answer={"amount": 3})
    assert go_on(run, world, 3, second).outcome == "finished"
    assert result_of(run) == {"lines": [False, {"amount": 3}]}


def test_an_answer_has_to_fit_the_graphs_own_schema(use: Use, world: FakeWorld) -> None:
    run = use(foreign.asking("How much?", schema=foreign.Amount), {})
    (asked,) = take(start(run), world).waiting_for
    (approval,) = waiting(run)
    bad: Any
    for bad in (7, "seven", {"amount": 0}, {"amount": "x"}, {}, [], True):
        with pytest.raises(InvalidVerdict, match="cannot take this answer"):
            give(approval, "respond", answer=bad)
    give(approval, "respond", answer={"amount": 5})
    assert go_on(run, world, 2, asked).outcome == "finished"
    assert result_of(run) == {"lines": [{"amount": 5}]}


def test_silence_is_told_as_the_registration_says_and_else_ends_the_run(use: Use, world: FakeWorld) -> None:
    run = use(foreign.asking("Shall I?"), {}, on_silence={"nobody": True})
    (asked,) = take(start(run), world).waiting_for
    close(Approval.objects.get(pk=asked))
    assert go_on(run, world, 2, asked).outcome == "finished"
    assert result_of(run) == {"lines": [{"nobody": True}]}
    run = use(foreign.asking("Shall I?"), {})
    (asked,) = take(start(run), world).waiting_for
    close(Approval.objects.get(pk=asked))
    error = refusal(run, world, 2, asked)
    assert error.type == "RunExpired" and "on_silence" in error.message


def test_parallel_questions_are_answered_apart_in_any_order(use: Use, world: FakeWorld) -> None:
    run = use(foreign.parallel(), {})
    asked = take(start(run), world).waiting_for
    by_name = {one.summary.split()[2]: one for one in waiting(run)}
    give(by_name["press"], "respond", answer="no word")
    left = go_on(run, world, 2, *asked)
    assert sorted(left.waiting_for) == sorted([by_name["finance"].pk, by_name["legal"].pk])
    give(by_name["legal"], "respond", answer="fine")
    give(by_name["finance"], "respond", answer="paid")
    assert go_on(run, world, 3, *left.waiting_for).outcome == "finished"
    assert sorted(result_of(run)["lines"]) == [["finance", "paid"], ["legal", "fine"], ["press", "no word"]]


def test_a_graph_inside_a_graph_asks_twice(use: Use, world: FakeWorld) -> None:
    run = use(foreign.subgraph(), {})
    (first,) = take(start(run), world).waiting_for
    give(Approval.objects.get(pk=first), "respond", answer=1)
    (second,) = go_on(run, world, 2, first).waiting_for
    give(Approval.objects.get(pk=second), "respond", answer=2)
    assert go_on(run, world, 3, second).outcome == "finished"
    assert result_of(run) == {"lines": [1, 2]}


@pytest.mark.parametrize(
    ("stops", "worked"),
    [({"interrupt_before": ["second"]}, 1), ({"interrupt_after": ["first"]}, 1), ({"interrupt_before": "*"}, 0)],
)
def test_a_stop_of_the_compilation_asks_whether_to_go_on(stops: Any, worked: int, use: Use, world: FakeWorld) -> None:
    run = use(foreign.stopped(**stops), {})
    (asked,) = take(start(run), world).waiting_for
    approval = Approval.objects.get(pk=asked)
    assert (approval.kind, sorted(approval.verdicts)) == ("go_on", ["approve", "reject"])
    assert len(foreign.WORLD) == worked
    assert take(start(run), world, attempt=2).waiting_for == [asked]  # its report was lost
    assert len(foreign.WORLD) == worked
    give(approval, "approve")
    result = go_on(run, world, 2, asked)
    if stops["interrupt_before" if "interrupt_before" in stops else "interrupt_after"] == "*":
        (asked,) = result.waiting_for
        assert go_on(run, world, 2, asked).outcome == "still_waiting"
        give(Approval.objects.get(pk=asked), "approve")
        result = go_on(run, world, 3, asked)
    assert result.outcome == "finished"
    assert foreign.WORLD == [("first", None), ("second", None)]


@pytest.mark.parametrize("how", ["reject", "expired"])
def test_a_stop_that_nobody_lets_go_on_ends_the_run(how: str, use: Use, world: FakeWorld) -> None:
    run = use(foreign.stopped(interrupt_before=["second"]), {})
    (asked,) = take(start(run), world).waiting_for
    approval = Approval.objects.get(pk=asked)
    if how == "reject":
        give(approval, "reject", note="Not today.")
    else:
        close(approval)
    error = refusal(run, world, 2, asked)
    assert error.type == ("NotAllowedToGoOn" if how == "reject" else "RunExpired")
    assert how == "expired" or "Not today." in error.message
    assert foreign.WORLD == [("first", None)]


def test_a_question_that_was_answered_beside_a_stop_wakes_nobody_until_the_stop_is_decided(
    use: Use, world: FakeWorld
) -> None:
    run = use(foreign.stop_beside_a_question(), {})
    asked = take(start(run), world).waiting_for
    question, stop = (next(one for one in waiting(run) if one.kind == kind) for kind in ("question", "go_on"))
    give(question, "respond", answer="the left one")
    past = [{**rung, "at": "2026-01-01T00:00:00+00:00"} for rung in question.ladder]
    Approval.objects.filter(pk=question.pk).update(ladder=past)
    result = go_on(run, world, 2, *asked)
    assert sorted(result.waiting_for) == sorted(asked) and foreign.WORLD == []
    assert result.next_step_at == stop.ladder[0]["at"]
    give(stop, "approve")
    assert go_on(run, world, 3, *asked).outcome == "finished"
    assert foreign.WORLD == [("work", None)]


def test_an_agent_inside_a_tool_of_an_agent_asks(use: Use, world: FakeWorld) -> None:
    run = use(foreign.deep())
    asked = take(start(run), world).waiting_for
    (approval,) = waiting(run)
    assert approval.tool == "delete_file"
    give(approval, "approve")
    assert go_on(run, world, 2, *asked).outcome == "finished"
    assert foreign.WORLD == [("delete_file", {"path": "old"})]


def test_a_tool_that_interrupts_inside_itself_gets_its_answer(use: Use, world: FakeWorld) -> None:
    run = use(foreign.asking_tool())
    asked = take(start(run), world).waiting_for
    give(Approval.objects.get(pk=asked[0]), "respond", answer="yes")
    assert go_on(run, world, 2, *asked).outcome == "finished"
    assert foreign.WORLD == [("book", "yes")]


@pytest.mark.parametrize("verdict", ["approve", "edit", "respond"])
def test_a_tool_that_asks_with_its_defaults_filled_in_is_asked_about_once(
    verdict: str, use: Use, world: FakeWorld
) -> None:
    run = use(foreign.wrapped_tool())
    asked = take(start(run), world).waiting_for
    (approval,) = waiting(run)
    assert approval.arguments == {"to": "ann@acme.example", "subject": "Hello"}
    edited = {"to": "ann@acme.example", "subject": "Good day"}
    give(
        approval,
        verdict,
        edited=edited if verdict == "edit" else None,
        answer="By hand." if verdict == "respond" else None,
    )
    assert go_on(run, world, 2, *asked).outcome == "finished"
    done = {"approve": [("send_email", approval.arguments)], "edit": [("send_email", edited)], "respond": []}
    assert done[verdict] == foreign.WORLD
    assert Approval.objects.filter(run_id=run.pk).count() == 1


def test_entries_that_come_in_another_order_than_the_calls_find_their_own_call(use: Use, world: FakeWorld) -> None:
    calls = [foreign.call("send_email", 1, to="ann@acme.example"), foreign.call("delete_file", 2, path="report")]
    run = use(foreign.asking_about(calls, reversed(calls)))
    take(start(run), world)
    assert {one.tool: one.asked["call_id"] for one in waiting(run)} == {
        "send_email": "call-1",
        "delete_file": "call-2",
    }


def test_a_loop_asks_twenty_times(use: Use, world: FakeWorld) -> None:
    run = use(foreign.loop(), {})
    asked = take(start(run), world).waiting_for
    for number in range(1, 21):
        (only,) = asked
        approval = Approval.objects.get(pk=only)
        assert approval.summary == f"Round {number}?"
        give(approval, "respond", answer=number)
        result = go_on(run, world, number + 1, only)
        asked = result.waiting_for
    assert result.outcome == "finished"
    assert result_of(run) == {"lines": list(range(1, 21))}
