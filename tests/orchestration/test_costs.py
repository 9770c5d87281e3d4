"""What models used is kept by turn, agent and day with its cost; a budget of a day stops an agent's runs in words."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatResult
from langgraph.graph import END, START, StateGraph
from pydantic import ConfigDict
from temporalio.exceptions import ApplicationError

from approvals.models import Approval
from console.clock import database_now
from console.environment import Environment, environment
from orchestration import checkpoint_gateway, prices, spending
from orchestration.actions import raise_limits, reset
from orchestration.agents import models
from orchestration.agents.offline_model import OfflineModel
from orchestration.agents.runtime import Agent, ModelCalls
from orchestration.errors import ActionRefused
from orchestration.models import ModelUse, Run
from orchestration.prices import Tokens
from orchestration.turns import activity as module
from orchestration.turns import drive
from orchestration.turns.usage import Spending, ahead_of
from tests.api_caller import Caller
from tests.fakes import FakeWorld
from tests.orchestration import foreign_graphs as foreign
from tests.orchestration.conftest import make_run
from tests.orchestration.test_budget import Paid, by_invoke, with_helper
from tests.orchestration.test_run_turn import attempt_env, perform, start, take
from tests.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _priced(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> None:
    monkeypatch.setattr(module, "chat_model", OfflineModel)
    monkeypatch.setattr(environment(), "prices", "*=10/100")


def used(monkeypatch: pytest.MonkeyPatch, graph: Any, given: Any = foreign.TALK, **registered: Any) -> Run:
    monkeypatch.setattr(drive, "graph_of", lambda agent: graph)
    agent = Agent(name="paid", title="Paid", graph="x.y", **registered)
    for where in (module, raise_limits):
        monkeypatch.setattr(where, "agent_named", lambda name: agent)
    return make_run(agent="paid", input=given)


def page(user: User, url: str) -> str:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    headers = {"HX-Request": "true"} if url.endswith("/rest/") else {}
    return client.get(url, headers=headers).content.decode()


def test_a_run_has_a_cost_in_the_list_on_its_page_and_in_the_api(
    monkeypatch: pytest.MonkeyPatch, world: FakeWorld, olga: User
) -> None:
    run = used(monkeypatch, with_helper())
    take(start(run), world)
    take(start(run), world, attempt=2)  # its report was lost: nothing is counted twice
    run.refresh_from_db()
    assert run.usage["cost_micros"] == 3 * (70 * 10 + 30 * 100)
    assert Caller(olga).get(f"runs/{run.pk}").json()["cost"] == {"micros": 11_100, "currency": "USD"}
    assert "0.0111 USD" in page(olga, reverse("orchestration:runs"))
    assert "210 in, 90 out, 0.0111 USD" in page(olga, reverse("orchestration:run_rest", args=[run.pk]))


def set_back(run: Run, checkpoint_id: str) -> None:
    """Have the run's next turn begin at the checkpoint, as a reset does, and a fork for its first."""
    run.restart = {"checkpoint_id": checkpoint_id, "values": {}, "placed": ""}
    run.checkpoint_id, run.status, run.closed_at = checkpoint_id, Run.Status.STARTING, None
    run.save()


def test_a_fork_pays_for_its_own_calls_only_also_when_it_is_set_back(
    monkeypatch: pytest.MonkeyPatch, world: FakeWorld
) -> None:
    run = used(monkeypatch, with_helper())
    take(start(run), world)
    before_last_call = checkpoint_gateway.checkpoints_of(run.pk)[1].checkpoint_id
    fork = make_run(agent="paid")
    checkpoint_gateway.copy_to(run.pk, before_last_call, fork.pk)
    for times in (1, 2):
        set_back(fork, before_last_call)
        assert take(start(fork), world, attempt=times).outcome == "finished"
        fork.refresh_from_db()
        assert (fork.usage["input_tokens"], fork.usage["output_tokens"]) == (times * 70, times * 30)
    (use,) = ModelUse.objects.filter(run=fork)
    assert (use.input_tokens, use.output_tokens) == (140, 60)


def test_what_only_the_state_knows_is_counted_where_it_is_not_another_runs() -> None:
    paid = AIMessage("Yes.", usage_metadata=UsageMetadata(input_tokens=70, output_tokens=30, total_tokens=100))
    began = {"messages": [paid, paid]}
    for usage in ({}, {"input_tokens": 700, "output_tokens": 300}):
        spending = Spending(usage, None, ahead=ahead_of(usage, began))
        assert spending.used(began) == {}
        assert spending.used({"messages": [paid] * 3}) == {spending.models(): Tokens(70, 30)}


def test_costs_add_up_by_agent_and_day(monkeypatch: pytest.MonkeyPatch, world: FakeWorld, olga: User) -> None:
    for _ in range(2):
        take(start(used(monkeypatch, by_invoke(), {})), world)
    ModelUse.objects.create(
        run=make_run(agent="old"), turn=1, model="m", agent="old", day=_today() - timedelta(days=5), input_tokens=9
    )
    (row,) = spending.by_day(1).rows
    assert (row.agent, row.tokens, row.cost_micros) == ("paid", Tokens(280, 120), 14_800)
    assert [one["agent"] for one in Caller(olga).get("usage", days=7).json()["items"]] == ["paid", "old"]
    shown = page(olga, reverse("orchestration:usage"))
    assert "0.0148 USD" in shown and "old" in shown
    assert "No model was used" not in page(olga, reverse("orchestration:usage") + "?days=x")


def test_sums_are_of_all_days_also_where_not_every_row_is_listed(monkeypatch: pytest.MonkeyPatch, olga: User) -> None:
    day, run = database_now().date(), make_run(agent="a")
    for number in range(3):
        ModelUse.objects.create(
            run=run, turn=1, model=f"m{number}", agent="a", day=day, input_tokens=7, output_tokens=3, cost_micros=10_000
        )
    monkeypatch.setattr(spending, "ROWS_AT_MOST", 2)
    told = Caller(olga).get("usage").json()
    assert (len(told["items"]), told["is_cut"]) == (2, True)
    assert told["total"] == {"input_tokens": 21, "output_tokens": 9, "cost_micros": 30_000}
    shown = page(olga, reverse("orchestration:usage"))
    assert "In all 30 tokens, 0.0300 USD. Only the newest 2 rows are listed" in shown
    monkeypatch.setattr(spending, "ROWS_AT_MOST", 3)
    assert Caller(olga).get("usage").json()["is_cut"] is False


def _today() -> Any:
    return ModelUse.objects.values_list("day", flat=True).first()


def test_an_attempt_that_fails_is_counted_once(monkeypatch: pytest.MonkeyPatch, world: FakeWorld) -> None:
    run = used(monkeypatch, with_helper(), tokens_per_run=100)
    for attempt in (1, 2):
        with pytest.raises(ApplicationError):
            take(start(run), world, attempt=attempt)
    use = ModelUse.objects.get(run=run)
    assert (use.input_tokens, use.output_tokens, use.cost_micros) == (70, 30, 3_700)


def test_the_budget_of_a_day_stops_the_agents_next_run_before_its_model_is_called(
    monkeypatch: pytest.MonkeyPatch, world: FakeWorld, olga: User
) -> None:
    take(start(used(monkeypatch, by_invoke(), {}, tokens_per_day=250)), world)
    run = used(monkeypatch, by_invoke(), {}, tokens_per_day=250)
    with pytest.raises(ApplicationError) as told:
        take(start(run), world)
    assert (told.value.type, told.value.non_retryable) == ("DayBudgetUsedUp", True)
    assert "have used 300 tokens since midnight UTC, and may use 250." in told.value.message
    other = used(monkeypatch, by_invoke(), {})
    assert take(start(other), world).outcome == "finished", "who has no budget is not held to one"
    Run.objects.filter(pk=run.pk).update(limits={"tokens_per_day": 10_000})
    used(monkeypatch, by_invoke(), {}, tokens_per_day=250)
    assert take(start(run), world, attempt=2).outcome == "finished"


class PaidTogether(Paid):
    """Each turn's first call waits until those of all turns are under way."""

    together: asyncio.Barrier

    model_config = ConfigDict(arbitrary_types_allowed=True)

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        if messages[0].text == "first":
            async with asyncio.timeout(PATIENCE):
                await self.together.wait()
        return self._generate(messages)


TURNS = 3


def test_turns_at_once_share_the_budget_of_the_day_from_call_to_call(
    monkeypatch: pytest.MonkeyPatch, world: FakeWorld
) -> None:
    """Beyond it go at most the calls that are under way when it is used up: one of each turn here, not three."""
    model = PaidTogether(lines=["Yes."], together=asyncio.Barrier(TURNS))
    graph: Any = StateGraph(foreign.Lines)
    for name in ("first", "second", "third"):

        async def ask(state: foreign.Lines, name: str = name) -> foreign.Lines:
            return {"lines": [str((await model.ainvoke(name)).text)]}

        graph.add_node(name, ask)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", "third")
    graph.add_edge("third", END)
    compiled = graph.compile()
    runs = [used(monkeypatch, compiled, {}, tokens_per_day=250) for _ in range(TURNS)]

    async def all_turns(activities: Any) -> list[Any]:
        turns = [attempt_env(1).run(activities.run_turn, start(run)) for run in runs]
        return await asyncio.gather(*turns, return_exceptions=True)

    told = perform(all_turns, world)
    assert "DayBudgetUsedUp" in {getattr(one, "type", "") for one in told}
    assert TURNS * 100 <= spending.used_today("paid") <= 250 + TURNS * 100


def test_a_run_is_let_beyond_the_day_and_only_up(monkeypatch: pytest.MonkeyPatch, olga: User) -> None:
    run = used(monkeypatch, by_invoke(), tokens_per_day=250)
    run.error = {"kind": "DayBudgetUsedUp"}
    run.status = Run.Status.FAILED
    monkeypatch.setattr(reset, "check_agent", lambda run: None)
    monkeypatch.setattr(raise_limits, "agents", lambda: {"paid"})
    assert raise_limits.ACTION.is_offered(run) and raise_limits.start(run) == {"tokens_per_day": 500}
    with pytest.raises(ActionRefused, match="up to 250 tokens a day already"):
        raise_limits.preview(run, raise_limits.Limits(tokens_per_day=250))
    assert "in place of 250" in str(raise_limits.preview(run, raise_limits.Limits(tokens_per_day=251)).warnings)


def test_without_prices_nothing_is_said_of_costs(monkeypatch: pytest.MonkeyPatch, world: FakeWorld, olga: User) -> None:
    monkeypatch.setattr(environment(), "prices", "")
    run = used(monkeypatch, by_invoke(), {})
    take(start(run), world)
    run.refresh_from_db()
    assert run.usage.keys() == {"model", "input_tokens", "output_tokens"}
    assert Caller(olga).get(f"runs/{run.pk}").json()["cost"] is None and "USD" not in page(olga, "/runs/")


def test_a_model_is_priced_by_its_whole_name_its_own_or_any(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "openai:gpt-x=1/2, claude-x=3/4.5, llama3.2:3b=0/0, some.model-v1:0=5/6"
    monkeypatch.setattr(environment(), "prices", told)
    million = Tokens(1_000_000, 1_000_000)
    assert prices.cost_of_one("openai:gpt-x", million) == 3_000_000
    assert prices.cost_of_one("anthropic:claude-x", million) == 7_500_000
    assert prices.cost_of_one("mistral:other", million) is None
    assert prices.cost_of_one("ollama:llama3.2:3b", million) == prices.cost_of_one("llama3.2:3b", million) == 0
    assert prices.cost_of_one("bedrock_converse:some.model-v1:0", million) == 11_000_000
    assert prices.words(1_234_567) == "1.23 USD" and prices.words(1_234) == "0.0012 USD" and prices.words(None) == ""


@pytest.mark.parametrize("text", ["gpt", "gpt=1", "gpt=1/x", "=1/2", "gpt=-1/2", "gpt=1/2/3", "gpt=NaN/1"])
def test_prices_that_cannot_be_read_are_refused_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match="as model=in/out"):
        Environment(prices=text)


def test_a_request_says_which_model_had_it_asked(monkeypatch: pytest.MonkeyPatch, world: FakeWorld, olga: User) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    take(start(used(monkeypatch, foreign.hitl(), model="openai:gpt-x")), world)
    approval = Approval.objects.first()
    assert approval is not None and approval.asked["model"] == "openai:gpt-x"
    assert approval.asked["model"] in page(olga, reverse("approvals:approval", args=[approval.pk]))


def test_an_agents_own_model_has_its_own_timeout_retries_and_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
    calls = ModelCalls(seconds=7, retries=5, per_minute=30)
    made: Any = models.model_of(Agent(name="a", title="A", graph="x.y", model="openai:gpt-x", model_calls=calls))
    assert (made.model_name, made.request_timeout, made.max_retries) == ("gpt-x", 7, 5)
    assert made.rate_limiter.requests_per_second == 0.5
    same = models.model_of(Agent(name="a", title="A", graph="x.y", model="openai:gpt-x", model_calls=calls))
    assert same is made, "one rate for all its runs"


def test_an_author_is_told_which_extra_has_a_models_package() -> None:
    missing = Agent(name="a", title="A", graph="x.y", model="mistralai:m")
    assert "uv sync --extra mistral" in models.fault_of(missing)
    assert "cannot be made" in models.fault_of(Agent(name="a", title="A", graph="x.y", model="nobody:m"))
    assert models.fault_of(Agent(name="a", title="A", graph="x.y")) == ""
