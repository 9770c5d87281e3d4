"""Answers that were made up, right and wrong, to every form of asking: none spoils a thread for the next one.

Each answer goes the whole way: to the decision, which refuses it in a sentence or keeps it, and by the turn's own
activity to the graph, whose thread is kept in PostgreSQL. A graph that raises on what was made of a kept answer, or
still waits for it, is a spoilt thread.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth.models import User
from temporalio.exceptions import ApplicationError

from approvals import services as approvals
from approvals.errors import ApprovalError
from approvals.models import Approval, Decision
from approvals.services import Answer
from orchestration.agents.offline_model import OfflineModel
from orchestration.agents.runtime import Agent
from orchestration.contracts import Turn, TurnResult
from orchestration.models import Effect
from orchestration.turns import activity as module
from orchestration.turns import drive
from tests.fakes import FakeWorld
from tests.orchestration import foreign_graphs as foreign
from tests.orchestration.conftest import EMAIL, INPUT, REFUND, make_run, open_for, reviewer
from tests.orchestration.test_guarded_tools import agent as paying
from tests.orchestration.test_run_turn import after, published, start, taking_turns

__all__ = ("published",)
pytestmark = pytest.mark.django_db(transaction=True)

PAUSES_AT_MOST = 30  # of one run: more is a graph that asks for ever


@dataclass(frozen=True)
class Shape:
    """A form of asking. `graph`: none for our own agent, whose model then proposes what `proposes` names."""

    graph: Callable[[], Any] | None = None
    given: Any = field(default_factory=dict)
    proposes: tuple[tuple[str, dict[str, Any]], ...] = ()
    acts: bool = False  # what people agree to is done, each once
    may_fail_as: tuple[str, ...] = ()  # it has no true word for every ending


SHAPES: dict[str, Shape] = {
    "langchain batched": Shape(foreign.hitl, foreign.TALK, acts=True),
    "langchain per call": Shape(lambda: foreign.hitl("per_call"), foreign.TALK, acts=True),
    "agent inbox list": Shape(lambda: foreign.asking([foreign.HUMAN, foreign.HUMAN])),
    "agent inbox object": Shape(lambda: foreign.asking(foreign.HUMAN)),
    "agent inbox text": Shape(lambda: foreign.asking(json.dumps([foreign.HUMAN]))),
    "raw": Shape(lambda: foreign.asking({"question": "How much?"}), may_fail_as=("RunExpired",)),
    "raw with a schema": Shape(lambda: foreign.asking("How much?", schema=foreign.Amount), may_fail_as=("RunExpired",)),
    "a stop": Shape(
        lambda: foreign.stopped(interrupt_before=["second"]), may_fail_as=("RunExpired", "NotAllowedToGoOn")
    ),
    "parallel": Shape(foreign.parallel, may_fail_as=("RunExpired",)),
    "subgraph": Shape(foreign.subgraph, may_fail_as=("RunExpired",)),
    "an agent in a tool": Shape(foreign.deep, foreign.TALK, acts=True),
    "guarded tools": Shape(lambda: paying(3, 4), foreign.TALK, acts=True),
    "own": Shape(given=INPUT, proposes=(("issue_refund", REFUND),), acts=True),
    "own together": Shape(given=INPUT, proposes=(("issue_refund", REFUND), ("send_email", EMAIL)), acts=True),
}
#: what people write as changed arguments or as an answer: what fits one of the forms, and what fits none
VALUES: list[Any] = [
    *(None, True, False, 0, 7, -1, 2.5, "", " ", "yes", "x" * 500),
    *([], {}, [1], {"a": 1}, {"amount": 5}, {"amount": 500}, {"nested": {"a": [1, {"b": 2}]}}),
    *({"to": "b"}, {"to": 7}, {"to": None}, {"path": "p"}, {"to": "b", "subject": "s"}),
    *({"to": "b", "amount": 2, "reference": "x"}, REFUND | {"amount": "20.00"}, EMAIL | {"subject": "Hello"}),
    *({"decisions": []}, {"type": "approve"}, {"name": "read_file", "args": {}}, [{"type": "accept", "args": None}]),
]


@dataclass
class Tally:
    """What was tried."""

    given: int = 0
    refused: int = 0
    taken: int = 0
    partial: int = 0  # turns that some of what was asked went without
    runs: int = 0


@dataclass
class Play:
    """One form of asking, with who answers."""

    shape: Shape
    chance: random.Random
    turn: Callable[[Turn, int], TurnResult]
    unrelated: Approval  # another run waits for it
    alice: User
    bob: User
    tally: Tally

    def run_once(self) -> None:
        """Take a run from its start to its end, whatever people say."""
        foreign.WORLD.clear()
        run = make_run(agent="foreign" if self.shape.graph else "support", input=self.shape.given)
        self.tally.runs += 1
        result = self.turn(start(run), 1)
        for number in range(2, PAUSES_AT_MOST):
            if result.outcome == "finished":
                break
            asked = result.waiting_for
            self._answer_some(asked)
            try:
                result = self.turn(after(run, number, *asked), 1)
            except ApplicationError as exc:
                assert exc.type in self.shape.may_fail_as, exc
                return  # in words, for there is no true answer
            self._check_that_answers_landed(asked, result.waiting_for)
        assert result.outcome == "finished", f"it still waits after {PAUSES_AT_MOST} turns"
        if self.shape.acts:
            agreed = Decision.objects.filter(approval__run_id=run.pk, verdict="approve").count()
            done = Effect.objects.filter(run=run).count() or len(foreign.WORLD)
            assert done == agreed, "what people agreed to is done, and nothing else"

    def _answer_some(self, asked: list[str]) -> None:
        """Try answers to each, and close at least one."""
        rows = list(Approval.objects.filter(pk__in=asked, status="pending").order_by("interrupt_id", "interrupt_place"))
        self.chance.shuffle(rows)
        is_partial = len(rows) > 1 and self.chance.random() < 0.3
        for number, row in enumerate(rows):
            for _ in range(self.chance.randrange(20)):
                self._try(row, rows)
            if row.status != "pending" or (is_partial and number):
                continue
            if self.chance.random() < 0.05:
                Approval.objects.filter(pk=row.pk).update(status="expired")
            else:
                approvals.decide(approval_id=row.pk, reviewer=self.bob, given=good(row))
        left = Approval.objects.filter(pk__in=asked, status="pending").count()
        self.tally.partial += left > 0

    def _try(self, row: Approval, rows: list[Approval]) -> None:
        answer = made_up(self.chance, row, [*rows, self.unrelated])
        self.tally.given += 1
        try:
            approvals.decide(approval_id=row.pk, reviewer=self.alice, given=answer)
        except ApprovalError as exc:
            assert str(exc)
            self.tally.refused += 1
        else:
            self.tally.taken += 1
        row.refresh_from_db()

    def _check_that_answers_landed(self, asked: list[str], waits_for: list[str]) -> None:
        """Whatever interrupt is answered as a whole is not waited for any more; what has an open part is."""
        rows = Approval.objects.filter(pk__in=asked).values_list("pk", "interrupt_id", "status")
        open_ones = {interrupt for _, interrupt, status in rows if status == "pending"}
        for pk, interrupt, _ in rows:
            assert (pk in waits_for) == (interrupt in open_ones), "an answer was lost, or a question was"


def made_up(chance: random.Random, approval: Approval, others: list[Approval]) -> Answer:
    if chance.random() < 0.1:
        return good(approval)
    about = chance.choice([approval, approval, approval, *others])  # sometimes what belongs to another request
    known = approval.verdicts if chance.random() < 0.6 else ["approve", "edit", "reject", "respond", "accept", ""]
    verdict = chance.choice(known or ["approve", "edit", "reject", "respond"])
    is_odd = chance.random() < 0.15  # what goes with another verdict
    return Answer(
        verdict=verdict,
        version=chance.choice([approval.version] * 6 + [0, 9]),
        digest=about.digest,
        note=chance.choice(["because", "because", "", "x" * 5000]),
        edited_arguments=chance.choice(VALUES) if (verdict == "edit") != is_odd else None,
        answer=chance.choice(VALUES) if (verdict == "respond") != is_odd else None,
    )


def good(approval: Approval) -> Answer:
    verdict = "respond" if approval.kind == Approval.Kind.QUESTION else "approve"
    answer = {"amount": 5} if verdict == "respond" else None
    return Answer(verdict, approval.version, approval.digest, answer=answer)


def use(monkeypatch: pytest.MonkeyPatch, shape: Shape) -> None:
    """Let runs be of this shape."""
    if shape.graph is None:
        calls = [foreign.call(name, number, **given) for number, (name, given) in enumerate(shape.proposes)]
        monkeypatch.setattr(module, "chat_model", lambda: foreign.Told(lines=[calls, "All done."]))
        return
    graph, agent = shape.graph(), Agent(name="foreign", title="Foreign", graph="x.y")
    monkeypatch.setattr(module, "chat_model", OfflineModel)
    monkeypatch.setattr(drive, "graph_of", lambda name: graph)
    monkeypatch.setattr(module, "agent_named", lambda name: agent)


@pytest.mark.parametrize("name", SHAPES)
def test_a_bad_answer_is_refused_in_a_sentence_and_the_next_good_one_works(
    name: str, how_many_examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = Tally()
    use(monkeypatch, SHAPES[name])
    unrelated = open_for(make_run())
    with taking_turns(FakeWorld()) as turn:
        play = Play(SHAPES[name], random.Random(name), turn, unrelated, reviewer(), reviewer("bob"), tally)
        while tally.given < how_many_examples:
            play.run_once()
    unrelated.refresh_from_db()
    assert unrelated.status == "pending", "nobody has answered it"
    assert tally.refused and tally.taken and tally.given == tally.refused + tally.taken, tally
