"""What models use is counted wherever they are called, and a budget stops a run before the next call, in words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from threading import Barrier, Event
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from temporalio.exceptions import ApplicationError

from console.clock import database_now
from orchestration import services
from orchestration.actions import raise_limits, reset
from orchestration.agents.offline_model import OfflineModel
from orchestration.agents.runtime import Agent
from orchestration.errors import ActionRefused, AgentStopped, BudgetUsedUp, DayBudgetUsedUp
from orchestration.models import ModelUse, Run
from orchestration.prices import Tokens
from orchestration.turns import activity as module
from orchestration.turns import drive
from orchestration.turns.usage import DayBudget, Spending
from tests.api_caller import Caller, problem
from tests.fakes import FakeWorld
from tests.orchestration import foreign_graphs as foreign
from tests.orchestration.conftest import make_run
from tests.orchestration.test_run_turn import start, take
from tests.waiting import PATIENCE, eventually

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
    [(with_helper, foreign.TALK, 100, 1), (with_helper, foreign.TALK, 150, 2), (by_invoke, {}, 50, 1)],
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


LONG: Any = [[HumanMessage("Is it so? " * 28)]]  # 280 characters, which are taken for 70 tokens
ANSWER = LLMResult(
    generations=[
        [
            ChatGeneration(
                message=AIMessage(
                    "Yes.", usage_metadata=UsageMetadata(input_tokens=70, output_tokens=30, total_tokens=100)
                )
            )
        ]
    ]
)


def begun_at_once(*spendings: Spending) -> list[UUID | str]:
    """Begin a call on each at the same time; return the calls, and words for those that are refused."""
    together = Barrier(len(spendings))

    def begin(spending: Spending) -> UUID | str:
        call = uuid4()
        together.wait(PATIENCE)
        try:
            spending.on_chat_model_start({}, LONG, run_id=call)
        except (BudgetUsedUp, DayBudgetUsedUp) as exc:
            return str(exc)
        return call

    with ThreadPoolExecutor(len(spendings)) as pool:
        return list(pool.map(begin, spendings))


def one_after_the_other(spending: Spending, times: int) -> None:
    for _ in range(times):
        call = uuid4()
        spending.on_chat_model_start({}, LONG, run_id=call)
        spending.on_llm_end(ANSWER, run_id=call)


def test_a_budget_that_holds_not_even_what_is_asked_calls_no_model(use: Use, world: FakeWorld) -> None:
    run = use(by_invoke(), 1, {})
    with pytest.raises(ApplicationError, match=r"have used 0 tokens, and it may use 1\. That call .* to take 2"):
        take(start(run), world)
    run.refresh_from_db()
    assert not ModelUse.objects.filter(run=run).exists()


def test_calls_side_by_side_begin_only_while_the_budget_holds_them_all() -> None:
    spending = Spending({}, 350)
    one_after_the_other(spending, 1)
    begun = begun_at_once(*[spending] * 10)
    calls = [call for call in begun if isinstance(call, UUID)]
    assert len(calls) == 2, "100 are used and each is expected to take 100"
    assert "has no room for the next call" in next(word for word in begun if isinstance(word, str))
    for call in calls:
        spending.on_llm_end(ANSWER, run_id=call)
    assert spending.usage()["input_tokens"] + spending.usage()["output_tokens"] == 300


def test_a_call_that_failed_takes_no_room() -> None:
    spending = Spending({}, 250)
    one_after_the_other(spending, 1)
    (call,) = begun_at_once(spending)
    assert isinstance(call, UUID) and isinstance(begun_at_once(spending)[0], str)
    spending.on_llm_error(TimeoutError(), run_id=call)
    assert isinstance(begun_at_once(spending)[0], UUID)


LIMIT: ContextVar[asyncio.Timeout] = ContextVar("LIMIT")


class TooSlow(Paid):
    """Has not answered when its caller's time is over."""

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        LIMIT.get().reschedule(asyncio.get_running_loop().time())
        await asyncio.Event().wait()
        raise AssertionError


async def _in_its_task() -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(None) as limit:
            LIMIT.set(limit)
            await TooSlow(lines=["No."]).ainvoke(LONG[0])


async def _in_a_task_of_its_own() -> None:
    await asyncio.create_task(_in_its_task())


@pytest.mark.parametrize("cut_off", [_in_its_task, _in_a_task_of_its_own])
def test_a_call_that_was_cancelled_takes_no_room(
    cut_off: Callable[[], Awaitable[None]], use: Use, world: FakeWorld
) -> None:
    async def ask(state: foreign.Lines) -> foreign.Lines:
        for _ in range(10):
            await cut_off()
        told = await Paid(lines=["Yes."]).ainvoke(LONG[0])
        return {"lines": [str(told.text)]}

    graph: Any = StateGraph(foreign.Lines)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    run = use(graph.compile(), 350, {})
    assert take(start(run), world).outcome == "finished"
    assert used(run) == (70, 30)


def test_what_is_told_while_the_day_is_looked_at_counts_once() -> None:
    """An answer comes just after a call beside it has looked at the day: that call must know of it all the same."""
    told_today, is_last, looked, ended = 0, Event(), Event(), Event()

    def look() -> int:
        seen = told_today
        if is_last.is_set():
            looked.set()
            eventually(lambda: spending.used() or ended.is_set(), "the answer beside is counted")
            ended.wait(0.2)  # it cannot end, for it waits to tell what it has used
        return seen

    def tell(usage: dict[str, Any], new: dict[str, Tokens]) -> None:
        nonlocal told_today
        told_today += sum(one.total for one in new.values())

    def end(call: UUID) -> None:
        spending.on_llm_end(ANSWER, run_id=call)
        ended.set()

    spending = Spending({}, None, DayBudget(0, 150, look), tell=tell)
    first = uuid4()
    spending.on_chat_model_start({}, LONG, run_id=first)
    is_last.set()
    with ThreadPoolExecutor(2) as pool:
        second = pool.submit(spending.on_chat_model_start, {}, LONG, run_id=uuid4())
        assert looked.wait(PATIENCE)
        pool.submit(end, first).result(PATIENCE)
        with pytest.raises(DayBudgetUsedUp, match="have used 100 tokens since midnight"):
            second.result(PATIENCE)


def test_parallel_nodes_keep_to_the_budget(use: Use, world: FakeWorld) -> None:
    graph: Any = StateGraph(foreign.Lines)

    def ask(state: foreign.Lines) -> foreign.Lines:
        return {"lines": [str(Paid(lines=["Yes."]).invoke(LONG[0]).text)]}

    graph.add_node("first", ask)
    graph.add_edge(START, "first")
    for number in range(10):
        graph.add_node(f"beside{number}", ask)
        graph.add_edge("first", f"beside{number}")
        graph.add_edge(f"beside{number}", END)
    run = use(graph.compile(), 350, {})
    with pytest.raises(ApplicationError, match="the next call"):
        take(start(run), world)
    assert sum(used(run)) <= 350


@pytest.mark.parametrize("budget", [1000, None])
def test_what_calls_have_used_outlives_the_worker_and_is_counted_once(
    budget: int | None, use: Use, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = use(by_invoke(), budget, {})
    usual = drive.call

    async def killed(*given: Any, **more: Any) -> None:
        await usual(*given, **more)
        raise asyncio.CancelledError

    with monkeypatch.context() as dying:
        dying.setattr(drive, "call", killed)
        with pytest.raises(asyncio.CancelledError):
            take(start(run), world)
    assert used(run) == (140, 60), "by calls that ended before the worker did"
    assert take(start(run), world, attempt=2).outcome == "finished"
    assert used(run) == (140, 60)
    assert [(use.input_tokens, use.output_tokens) for use in ModelUse.objects.filter(run=run)] == [(140, 60)]


@pytest.mark.parametrize("where", [(drive, "end_of"), (services, "finish_turn")])
def test_what_a_turn_has_used_is_kept_that_cannot_end(
    where: tuple[Any, str], use: Use, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AgentStopped("The agent stopped.")

    run = use(by_invoke(), None, {})
    monkeypatch.setattr(*where, refuse)
    with pytest.raises(ApplicationError, match="The agent stopped"):
        take(start(run), world)
    assert used(run) == (140, 60)
    assert [(use.input_tokens, use.output_tokens) for use in ModelUse.objects.filter(run=run)] == [(140, 60)]


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
