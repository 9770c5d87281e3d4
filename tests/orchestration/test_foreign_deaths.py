"""Every attempt at every turn of a foreign graph ends without a word, at each of three points; the next one goes on.

The shapes and their ends are those of `test_foreign_for_real.py`, where real workers are killed; here it is each shape,
with each end, at each point, by the turn's own activity over PostgreSQL.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from approvals.models import Approval
from console import faults
from orchestration.agents.offline_model import OfflineModel
from orchestration.agents.runtime import Agent
from orchestration.checkpoint_gateway import checkpoint_of
from orchestration.contracts import Turn, TurnResult
from orchestration.models import Run
from orchestration.turns import activity as module
from orchestration.turns import drive
from tests.fakes import FakeWorld
from tests.orchestration import foreign_graphs as foreign
from tests.orchestration.conftest import make_run
from tests.orchestration.test_foreign_for_real import KILLED_AT, SHAPES, End, Shape, settle
from tests.orchestration.test_run_turn import after, start, taking_turns

pytestmark = pytest.mark.django_db(transaction=True)

Take = Callable[[Turn, int], TurnResult]


class Died(BaseException):
    """The process is gone: nothing of ours catches it."""


def registered(name: str) -> Any:
    """Return what `foreign_agents` holds under the name, and leave `foreign.WORLD` to this process."""
    usual = foreign.WORLD
    try:
        return getattr(importlib.import_module("tests.orchestration.foreign_agents"), name)
    finally:
        foreign.WORLD = usual


def use(monkeypatch: pytest.MonkeyPatch, shape: Shape) -> None:
    found = registered(shape.agent)
    agent = found if isinstance(found, Agent) else Agent(name=shape.agent, title="Foreign", graph="x.y")
    graph = registered("questions") if isinstance(found, Agent) else found
    monkeypatch.setattr(module, "chat_model", OfflineModel)
    monkeypatch.setattr(module, "agent_named", lambda name: agent)
    monkeypatch.setattr(drive, "graph_of", lambda name: graph)


def dying(take: Take, point: str) -> Take:
    """Return how a turn is taken whose first attempt dies at the point."""

    def die(reached: str, subject: str = "") -> None:
        if reached == point:
            raise Died

    def struck(turn: Turn, attempt: int) -> TurnResult:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(faults, "reach", die)
            with suppress(Died, ApplicationError):  # some turn ends the run before it comes to the point
                take(turn, attempt)
        return take(turn, attempt + 1)

    return struck


def play(take: Take, shape: Shape, verdict: str) -> Run:
    """Take a run to the end that people give it, check that, and return it."""
    foreign.WORLD.clear()
    run, end = make_run(agent=shape.agent, input=shape.given), shape.ends[verdict]
    failed = ""
    try:
        result, number = take(start(run), 1), 1
        while result.outcome != "finished":
            for approval in Approval.objects.filter(pk__in=result.waiting_for).order_by("id"):
                settle(shape, approval, verdict)
            number += 1
            result = take(after(run, number, *result.waiting_for), 1)
    except ApplicationError as exc:
        failed = exc.type or ""
    run.refresh_from_db()
    check(run, end, failed)
    return run


def check(run: Run, end: End, failed: str) -> None:
    assert failed == end.fails
    text = json.dumps([checkpoint_of(run.pk, run.checkpoint_id).values, run.result], default=str)
    assert [held for held in end.holds if held not in text] == []
    assert sorted(name for name, _ in foreign.WORLD) == sorted(end.done), "each once"


def asked(run: Run) -> int:
    return Approval.objects.filter(run_id=run.pk).count()


@pytest.mark.parametrize("name", SHAPES)
def test_a_foreign_graph_ends_as_people_decide_though_each_attempt_dies_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = SHAPES[name]
    use(monkeypatch, shape)
    with taking_turns(FakeWorld()) as take:
        for verdict in shape.ends:
            undisturbed = asked(play(take, shape, verdict))
            for point in KILLED_AT:
                assert asked(play(dying(take, point), shape, verdict)) == undisturbed, "nobody is asked twice"
