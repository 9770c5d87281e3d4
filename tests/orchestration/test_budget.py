"""What models use is counted wherever they are called, and a budget stops a run before the next call, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from temporalio.exceptions import ApplicationError

from console.clock import database_now
from orchestration.actions import raise_limits, reset
from orchestration.agents.offline_model import OfflineModel
from orchestration.agents.runtime import Agent
from orchestration.errors import ActionRefused
from orchestration.models import Run
from orchestration.turns import activity as module
from orchestration.turns import drive
from tests.api_caller import Caller, problem
from tests.fakes import FakeWorld
from tests.orchestration import foreign_graphs as foreign
from tests.orchestration.conftest import make_run
from tests.orchestration.test_run_turn import start, take

pytestmark = pytest.mark.django_db(transaction=True)

Use = Callable[..., Run]


class Paid(foreign.Told):
    """Says what each call has used."""

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        told = super()._generate(messages, *args, **kwargs).generations[0].message
        assert isinstance(told, AIMessage)
        told.usage_metadata = UsageMetadata(input_tokens=70, output_tokens=30, total_tokens=100)
        return ChatResult(generations=[ChatGeneration(message=told)])


@tool
def ask_helper(task: str) -> str:
    """Give a task to another agent, which calls its model by `invoke`."""
    helper: Any = create_agent(Paid(lines=["The helper is done."]), [])
    return str(helper.invoke({"messages": [{"role": "user", "content": task}]})["messages"][-1].text)


def with_helper() -> Any:
    line = [foreign.call("ask_helper", 1, task="Tidy up.")]
    return create_agent(Paid(lines=[line, "All done."]), [ask_helper])


def by_invoke() -> Any:
    """A graph whose two nodes call a model without waiting for it, and hide what it says from the state."""
    graph: Any = StateGraph(foreign.Lines)

    def ask(state: foreign.Lines) -> foreign.Lines:
        return {"lines": [str(Paid(lines=["Yes."]).invoke("Is it so?").text)]}

    for name in ("first", "second"):
        graph.add_node(name, ask)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", END)
    return graph.compile()


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> Iterator[Use]:
    """Make a run of a graph whose agent has a budget."""
    monkeypatch.setattr(module, "chat_model", OfflineModel)

    def made(graph: Any, tokens_per_run: int | None, given: Any = foreign.TALK) -> Run:
        monkeypatch.setattr(drive, "graph_of", lambda agent: graph)
        agent = Agent(name="paid", title="Paid", graph="x.y", tokens_per_run=tokens_per_run)
        for where in (module, raise_limits):
            monkeypatch.setattr(where, "agent_named", lambda name: agent)
        return make_run(agent="paid", input=given)

    yield made


def used(run: Run) -> tuple[int, int]:
    run.refresh_from_db()
    return run.usage["input_tokens"], run.usage["output_tokens"]


@pytest.mark.parametrize(("graph", "given", "calls"), [(with_helper, foreign.TALK, 3), (by_invoke, {}, 2)])
def test_every_model_is_counted_wherever_it_is_called(
    graph: Any, given: Any, calls: int, use: Use, world: FakeWorld
) -> None:
    run = use(graph(), None, given)
    assert take(start(run), world).outcome == "finished"
    assert used(run) == (calls * 70, calls * 30)
    assert take(start(run), world, attempt=2).outcome == "finished"  # its report was lost
    assert used(run) == (calls * 70, calls * 30)


@pytest.mark.parametrize(
    ("graph", "given", "budget", "calls"),
    [(with_helper, foreign.TALK, 100, 1), (with_helper, foreign.TALK, 150, 2), (by_invoke, {}, 1, 1)],
)
def test_no_model_is_called_once_the_budget_is_used_up_and_more_of_it_lets_the_run_go_on(
    graph: Any, given: Any, budget: int, calls: int, use: Use, world: FakeWorld
) -> None:
    run = use(graph(), budget, given)
    with pytest.raises(ApplicationError) as told:
        take(start(run), world)
    assert (told.value.type, told.value.non_retryable) == ("BudgetUsedUp", True)
    assert f"have used {calls * 100} tokens, and it may use {budget}." in told.value.message
    assert used(run) == (calls * 70, calls * 30)
    with pytest.raises(ApplicationError, match="budget is used up"):  # it stays so, and costs nothing
        take(start(run), world, attempt=2)
    assert used(run) == (calls * 70, calls * 30)
    Run.objects.filter(pk=run.pk).update(limits={"tokens_per_run": 10_000})
    assert take(start(run), world, attempt=3).outcome == "finished"


def test_a_budget_is_raised_for_this_run_and_only_raised(use: Use, olga: User, monkeypatch: pytest.MonkeyPatch) -> None:
    run = use(by_invoke(), 1000)
    error = {"kind": "BudgetUsedUp", "message": "m"}
    Run.objects.filter(pk=run.pk).update(status="failed", turn=1, closed_at=database_now(), error=error)
    monkeypatch.setattr(reset, "check_agent", lambda run: None)
    monkeypatch.setattr(raise_limits, "agents", lambda: {"paid"})
    path, body = f"runs/{run.pk}/actions", {"action": "raise_limits", "reason": "A long case"}
    answer = Caller(olga).post(path, body | {"tokens_per_run": 1000})
    assert problem(answer, 409)["detail"] == "The run may use 1,000 tokens already. Name a larger number."
    assert "Name the limit" in problem(Caller(olga).post(path, body), 409)["detail"]
    assert problem(Caller(olga).post(path, body | {"tokens_per_run": 0}), 422)["errors"][0]["path"] == "tokens_per_run"
    run.refresh_from_db()
    assert raise_limits.start(run) == {"tokens_per_run": 2000} and raise_limits.ACTION.is_offered(run)
    assert Caller(olga).post(path, body | {"tokens_per_run": 3000}).status_code == 202
    run.refresh_from_db()
    assert run.limits == {"tokens_per_run": 3000}


def test_a_run_without_a_budget_has_none_to_raise(use: Use) -> None:
    run = use(by_invoke(), None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reset, "check_agent", lambda run: None)
        with pytest.raises(ActionRefused, match="has no budget"):
            raise_limits.preview(run, raise_limits.Limits(tokens_per_run=5))
