"""What a turn's heartbeats say: the node that the graph is at, and since when."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypedDict
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from langgraph.graph import END, START, StateGraph

from orchestration import under_way
from orchestration.contracts import Turn
from orchestration.models import TurnProgress
from orchestration.threads import in_database
from orchestration.turns.progress import BEHIND_AT_MOST, Nodes, Teller, watched
from tests.orchestration.conftest import go, make_run
from tests.waiting import PATIENCE, until

NOW = datetime(2026, 11, 28, 15, 0, tzinfo=UTC)
TURN = Turn("support-1", "support", 3)


class State(TypedDict, total=False):
    """A state of one value."""

    count: int


def test_heartbeats_say_at_which_node_the_graph_is_inner_graphs_included() -> None:
    nodes, said = Nodes(NOW), list[dict[str, Any]]()

    async def look(_: State) -> State:
        await asyncio.sleep(0)
        said.append(nodes.details(TURN))
        return {"count": 1}

    async def fail(_: State) -> State:
        said.append(nodes.details(TURN))
        raise LookupError("no such order")

    begun: Any = StateGraph(State)
    inner = begun.add_node("read", look).add_edge(START, "read").compile()
    graph: Any = StateGraph(State)
    graph.add_node("plan", look).add_node("work", inner).add_node("act", fail)
    graph.add_edge(START, "plan").add_edge("plan", "work").add_edge("work", "act").add_edge("act", END)

    async def work() -> None:
        assert nodes.details(TURN) == {"turn": 3, "node": None, "since": None}
        with suppress(LookupError):
            await graph.compile().ainvoke({"count": 0}, {"callbacks": [nodes]})

    go(work())
    assert [one["node"] for one in said] == ["plan", "work", "act"]
    assert all(datetime.fromisoformat(one["since"]) >= NOW for one in said)
    assert nodes.details(TURN) == {"turn": 3, "node": None, "since": None}


@pytest.mark.django_db(transaction=True)
def test_who_watches_sees_the_node_and_what_the_model_says_while_the_turn_lasts(olga: User) -> None:
    run = make_run(status="running", turn=3, fence=7)
    turn, nodes = Turn(run.pk, "support", 3), Nodes(NOW)
    client = Client()
    client.force_login(olga, backend="django.contrib.auth.backends.ModelBackend")
    url, by_script = reverse("orchestration:progress", args=[run.pk]), {"HX-Request": "true"}
    said: list[str] = []

    async def work(_: State) -> State:
        call = uuid4()
        for token in ("I refund ", "<b>the lamp"):
            await nodes.on_llm_new_token(token, run_id=call)
        await until(lambda: TurnProgress.objects.filter(words__contains="lamp").exists())
        said.append(await in_database(lambda: client.get(url, headers=by_script).content.decode()))
        return {"count": 1}

    begun: Any = StateGraph(State)
    graph: Any = begun.add_node("plan", work).add_edge(START, "plan").add_edge("plan", END)

    async def watching() -> None:
        async with watched(turn, 7, nodes, every=0.01):
            await graph.compile().ainvoke({"count": 0}, {"callbacks": [nodes]})

    go(watching())
    assert "plan" in said[0] and "I refund &lt;b&gt;the lamp" in said[0]
    assert not TurnProgress.objects.exists(), "nothing stays when the attempt has ended"
    assert "I refund" not in client.get(url, headers=by_script).content.decode()


@pytest.mark.django_db(transaction=True)
def test_a_step_that_takes_long_stays_shown_without_another_word() -> None:
    run = make_run(status="running", turn=3, fence=7)
    nodes = Nodes(NOW)

    async def work(_: State) -> State:
        await until(lambda: TurnProgress.objects.exists())
        for _look in range(2):
            await in_database(lambda: TurnProgress.objects.update(at=NOW))  # as if nothing was heard since
            await until(lambda: under_way.progress_of(run) is not None)
        return {"count": 1}

    begun: Any = StateGraph(State)
    graph: Any = begun.add_node("plan", work).add_edge(START, "plan").add_edge("plan", END)

    async def watching() -> None:
        async with watched(Turn(run.pk, "support", 3), 7, nodes, every=0.01, again_after=0.01):
            await graph.compile().ainvoke({"count": 0}, {"callbacks": [nodes]})

    go(watching())


@pytest.mark.django_db(transaction=True)
def test_an_attempt_that_was_overtaken_and_a_row_left_behind_are_not_shown() -> None:
    run = make_run(status="running", turn=3, fence=8)
    under_way.tell(run.pk, 3, 7, "old", "")
    assert not TurnProgress.objects.exists()
    under_way.tell(run.pk, 3, 8, "new", "")
    under_way.over(run.pk, 7)
    found = under_way.progress_of(run)
    assert found is not None and found.node == "new"
    TurnProgress.objects.update(at=NOW)
    assert under_way.progress_of(run) is None


def test_what_comes_while_it_is_behind_is_dropped() -> None:
    teller, may_go_on = Teller(), threading.Event()

    def slow() -> None:
        may_go_on.wait(PATIENCE)

    async def many() -> list[bool]:
        tasks = [asyncio.create_task(teller.tell(slow)) for _ in range(2 * BEHIND_AT_MOST)]
        await asyncio.sleep(0)
        may_go_on.set()
        return await asyncio.gather(*tasks)

    told = go(many())
    assert sum(told) == BEHIND_AT_MOST and not all(told)
