"""Answers that were made up, right and wrong, to every form of asking: none spoils a thread for the next one.

Each answer goes the whole way: to the decision, which refuses it in a sentence or keeps it, then by the dialect to the
graph itself. A graph that raises on what the dialect made of a kept answer, or still waits for it, is a spoilt thread.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from approvals import services as approvals
from approvals.errors import ApprovalError
from approvals.models import Approval
from approvals.reading.for_runs import settled
from approvals.services import Answer, Proposal, open_approval
from orchestration.agents.graphs import compiled, tools_of
from orchestration.agents.runtime import Agent
from orchestration.dialects import dialect_of
from orchestration.dialects.base import Untellable
from orchestration.pausing import stand_of
from orchestration.threads import in_database
from orchestration.turns.asked import Around
from tests.orchestration import foreign_graphs as foreign
from tests.orchestration.conftest import go, make_run, reviewer

pytestmark = pytest.mark.django_db(transaction=True)

SHAPES: dict[str, Any] = {
    "langchain batched": lambda: foreign.hitl(),
    "langchain per call": lambda: foreign.hitl("per_call"),
    "agent inbox list": lambda: foreign.asking([foreign.HUMAN, foreign.HUMAN]),
    "agent inbox object": lambda: foreign.asking(foreign.HUMAN),
    "raw": lambda: foreign.asking({"question": "How much?"}),
    "raw with a schema": lambda: foreign.asking("How much?", schema=foreign.Amount),
    "a stop": lambda: foreign.stopped(interrupt_before=["second"]),
    "parallel": foreign.parallel,
    "subgraph": foreign.subgraph,
}
VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        7,
        -1,
        2.5,
        "",
        " ",
        "yes",
        "x" * 500,
        [],
        {},
        [1],
        {"a": 1},
        {"amount": 5},
        {"amount": 500},
    ),
    *({"to": "b"}, {"to": 7}, {"path": "p"}, {"to": "b", "subject": "s"}, {"decisions": []}, {"type": "approve"}),
    *(
        {"name": "read_file", "args": {}},
        [{"type": "accept", "args": None}],
        {"to": None},
        {"nested": {"a": [1, {"b": 2}]}},
    ),
]


@dataclass
class Thread:
    """A graph in memory with its approvals."""

    graph: Any
    saver: Any
    run_id: str

    async def call(self, given: Any) -> None:
        config: Any = {"configurable": {"thread_id": self.run_id, "__pregel_strict_resume": True}}
        await self.graph.ainvoke(given, config, version="v2", durability="sync")

    async def stand(self) -> Any:
        return await stand_of(self.graph, self.saver, self.run_id)


AGENT = Agent(name="foreign", title="Foreign", graph="x.y")


def opened(thread: Thread, stand: Any) -> list[Approval]:
    known = Around(AGENT, tools_of(thread.graph), stand)
    found = []
    for interrupt in stand.asked:
        places = known.places_of(interrupt)
        for number, place in enumerate(places):
            found.append(
                open_approval(
                    Proposal(
                        **vars(place),
                        external_id=f"{thread.run_id}:{interrupt.id}:{number}",
                        agent="foreign",
                        run_id=thread.run_id,
                        interrupt_id=interrupt.id,
                        interrupt_place=number,
                        checkpoint_id=stand.checkpoint_id,
                        requested_by_id=None,
                        dialect=dialect_of(interrupt).name,
                        places=len(places),
                    )
                )
            )
    return found


def made_up(chance: random.Random, approval: Approval, others: list[Approval]) -> Answer:
    if chance.random() < 0.15:
        return good(approval)
    about = chance.choice([approval, approval, approval, *others])  # sometimes what belongs to another request
    known = approval.verdicts if chance.random() < 0.6 else ["approve", "edit", "reject", "respond", "accept", ""]
    verdict = chance.choice(known)
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
    verdict = next(one for one in ("approve", "respond") if one in approval.verdicts)
    answer = {"amount": 5} if verdict == "respond" else None
    return Answer(verdict, approval.version, approval.digest, answer=answer)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bad_answer_is_refused_in_a_sentence_and_the_next_good_one_works(shape: str, how_many_examples: int) -> None:
    chance = random.Random(f"{shape} 1")
    alice, bob = reviewer(), reviewer("bob")
    given = refused = threads = 0
    while given < how_many_examples:
        foreign.WORLD.clear()
        ended = ""
        saver = InMemorySaver()
        thread = Thread(
            compiled(SHAPES[shape]()).copy(update={"checkpointer": saver}), saver, make_run(agent="foreign").pk
        )
        go(thread.call(foreign.TALK if "langchain" in shape else {}))
        threads += 1
        for _ in range(10):  # pauses of one graph
            stand = go(thread.stand())
            if not stand.asked:
                break
            rows = opened(thread, stand)
            for row in rows:
                for _ in range(chance.randrange(6)):
                    answer = made_up(chance, row, rows)
                    given += 1
                    try:
                        approvals.decide(approval_id=row.pk, reviewer=alice, given=answer)
                    except ApprovalError as exc:
                        assert str(exc)
                        refused += 1
                    row.refresh_from_db()
                if row.status == "pending":
                    approvals.decide(approval_id=row.pk, reviewer=bob, given=good(row))
            if ended := go(resumed(thread, stand, rows)):
                break
        assert ended or not go(thread.stand()).asked
    assert 0 < refused < given and threads


async def resumed(thread: Thread, stand: Any, rows: list[Approval]) -> str:
    """Answer everything; return in words why the run ends, "" where it goes on. Only a stop takes no rejection."""
    by_interrupt: dict[str, list[Any]] = {}
    for one in await in_database(settled, [row.pk for row in rows]):
        by_interrupt.setdefault(one.interrupt_id, []).append(one)
    answers = {}
    for interrupt in stand.asked:
        try:
            answers[interrupt.id] = dialect_of(interrupt).answer(interrupt, by_interrupt[interrupt.id])
        except Untellable as exc:
            assert dialect_of(interrupt).name == "stop", exc
            return str(exc)
    if stand.stop:
        del answers[stand.stop.id]
    await thread.call(Command(resume=answers) if answers else None)
    after = await thread.stand()
    assert not after.pending & stand.pending
    return ""
