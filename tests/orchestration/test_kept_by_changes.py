"""A state of which LangGraph keeps only the changes (DeltaChannel): shown as that, never forked, and set back whole."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from django.contrib.auth.models import User
from langgraph.channels import DeltaChannel
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from orchestration import checkpoint_gateway
from orchestration.models import Run
from tests.api_caller import Caller, problem
from tests.fakes import FakeWorld
from tests.orchestration.test_actions import page_of
from tests.orchestration.test_costs import set_back
from tests.orchestration.test_foreign_graphs import Use, result_of, use
from tests.orchestration.test_run_turn import start, take

__all__ = ("use",)
pytestmark = pytest.mark.django_db(transaction=True)


def joined(lines: list[str], more: Any) -> list[str]:
    return [*(lines or []), *(line for some in more for line in some)]


def growing(every: int) -> Any:
    """Return a graph of two nodes whose state is kept whole at every so many changes."""
    state: Any = TypedDict("state", {"lines": Annotated[list[str], DeltaChannel(joined, snapshot_frequency=every)]})
    graph: Any = StateGraph(state)
    graph.add_node("one", lambda state: {"lines": ["one"]})
    graph.add_node("two", lambda state: {"lines": ["two"]})
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    graph.add_edge("two", END)
    return graph


def between(run: Run) -> str:
    """Return the checkpoint between the two nodes."""
    return checkpoint_gateway.checkpoints_of(run.pk)[1].checkpoint_id


def test_a_fork_where_only_changes_are_kept_is_refused_in_words(use: Use, world: FakeWorld, olga: User) -> None:
    run = use(growing(100), {"lines": ["in"]})
    assert take(start(run), world).outcome == "finished"
    Run.objects.filter(pk=run.pk).update(agent="support")  # one that is registered
    fork = {"action": "fork", "reason": "x", "checkpoint_id": between(run)}
    for dry in (True, False):
        answer = Caller(olga).post(f"runs/{run.pk}/actions", fork | {"dry_run": dry})
        assert "Of “lines” this checkpoint holds only what has changed" in problem(answer, 409)["detail"]
    assert Run.objects.count() == 1


def test_a_page_says_what_it_does_not_show_and_a_difference_tells_nothing_of_it(
    use: Use, world: FakeWorld, olga: User
) -> None:
    run = use(growing(2), {"lines": ["in"]})  # kept whole between the nodes, not at the end
    take(start(run), world)
    run.refresh_from_db()
    where = f"runs/{run.pk}/checkpoints/{run.checkpoint_id}"
    found = Caller(olga).get(where).json()
    assert (found["values"], found["by_changes"]) == ({}, ["lines"])
    assert Caller(olga).get(f"{where}/diff").json()["changes"] == []
    page = page_of(olga).get(f"/{where}/").content.decode()
    assert "Not shown" in page and "holds no values" not in page
    assert Caller(olga).get(f"runs/{run.pk}/checkpoints/{between(run)}").json()["by_changes"] == []


def test_a_changed_value_takes_the_place_of_what_was_there(use: Use, world: FakeWorld) -> None:
    run = use(growing(1), {"lines": ["in"]})
    take(start(run), world)
    set_back(run, between(run))
    run.restart = (run.restart or {}) | {"values": {"lines": ["new"]}}
    run.save()
    assert take(start(run), world, attempt=2).outcome == "finished"
    assert result_of(run) == {"lines": ["new", "two"]}
