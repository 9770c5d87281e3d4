"""A dialect and an agent that were made up: one interrupt asks for three refunds at once, which are decided apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from typing_extensions import TypedDict

from approvals.proposal.canonical import canonicalise, digest_of
from approvals.reading.for_runs import Settled
from orchestration.agents.runtime import AgentContext
from orchestration.dialects.base import AskedInterrupt, Place
from tests.orchestration.conftest import REFUND

NOBODY = object()
AMOUNTS = ("10.00", "20.00", "30.00")


class Ballot:
    """Asks {"ballot": [amounts]}; is answered by a list with one line for each, in the same order."""

    name = "ballot"

    def speaks(self, value: Any) -> bool:
        return isinstance(value, dict) and isinstance(value.get("ballot"), list)

    def proposals_of(self, interrupt: AskedInterrupt) -> list[Place]:
        return [_place(amount) for amount in interrupt.value["ballot"]]

    def answer(
        self, interrupt: AskedInterrupt, places: Sequence[Settled], on_silence: Any = None
    ) -> list[dict[str, Any]]:
        return [
            {"approval": place.approval_id, "digest": place.ending.digest, "verdict": place.ending.verdict}
            for place in places
            if place.ending is not None
        ]


def _place(amount: str) -> Place:
    canonical = canonicalise("issue_refund", REFUND | {"amount": amount})
    return Place("action", canonical, digest_of(canonical), f"Refund {amount}", "", {}, "high")


class State(TypedDict, total=False):
    answers: list[dict[str, Any]]
    single: Any
    result: dict[str, Any]


def ballot_graph(*, beside: Any = NOBODY) -> Any:
    """Return a graph that asks once for all of AMOUNTS, and does what was approved; not compiled.

    `beside`: what a second node asks at the same time.
    """

    async def ask(given: State) -> Any:
        return {"answers": interrupt({"ballot": list(AMOUNTS)})}

    async def ask_beside(given: State) -> Any:
        return {"single": interrupt(beside)}

    async def act(given: State, runtime: Runtime[AgentContext]) -> Any:
        effects = runtime.context.effects
        lines = [*given["answers"], *given.get("single", [])]
        agreed = [one for one in lines if one["verdict"] in ("approve", "edit")]
        outcomes = [await effects.perform(one["approval"], one["digest"]) for one in agreed]
        return {"result": {"verdicts": [one["verdict"] for one in given["answers"]], "outcomes": outcomes}}

    graph: Any = StateGraph(State, context_schema=AgentContext)
    graph.add_node("ask", ask)
    graph.add_node("act", act)
    graph.add_edge(START, "ask")
    if beside is NOBODY:
        graph.add_edge("ask", "act")
    else:
        graph.add_node("beside", ask_beside)
        graph.add_edge(START, "beside")
        graph.add_edge(["ask", "beside"], "act")
    graph.add_edge("act", END)
    return graph
