"""Run an agent's graph alone, in a test or a notebook: you are the reviewer, and the ledger is a list.

desk = Desk(graph)
(asked,) = desk.start({"to": "ann@acme.example"})
desk.decide(asked, "approve")
desk.result      # the state that the graph ended with
desk.effects     # what guarded tools did
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from approvals.proposal.canonical import canonicalise, digest_of, read_canonical
from orchestration.agents.graphs import compiled
from orchestration.agents.guarding import GuardedTurn, NotForTheModel, lent
from orchestration.agents.runtime import Outcome, Tool, ToolFailed

_CONFIG: Any = {"configurable": {"thread_id": "desk"}}


@dataclass(frozen=True)
class Asked:
    """What waits for an answer. `tool` and `arguments` are of a guarded call; else `value` is what was asked."""

    id: str
    value: Any
    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class Effect:
    tool: str
    arguments: dict[str, Any]
    key: str
    status: str
    result: Any


class Desk:
    """A graph with its pauses, in memory."""

    def __init__(self, graph: Any) -> None:
        """`graph`: as it is registered, compiled or not."""
        self._graph = compiled(graph).copy(update={"checkpointer": InMemorySaver()})
        self._approved: dict[str, dict[str, Any]] = {}
        self.effects: list[Effect] = []

    def start(self, given: dict[str, Any]) -> list[Asked]:
        """Run the graph to its first pause, or to its end, and return what it asks."""
        return self._go_on(given)

    def decide(
        self, asked: Asked, verdict: str, *, arguments: dict[str, Any] | None = None, **more: Any
    ) -> list[Asked]:
        """Answer a guarded call, and return what is asked next. `more`: `note`, or `answer` for the verdict respond."""
        held = arguments if verdict == "edit" and arguments is not None else asked.arguments
        answer = {
            "approval_id": f"desk-{asked.id}",
            "digest": asked.value["digest"],
            "approved_digest": digest_of(canonicalise(asked.tool, held)),
            "verdict": verdict,
            "arguments": held,
            "note": more.get("note", ""),
            "answer": more.get("answer"),
        }
        if verdict in ("approve", "edit"):
            self._approved[str(answer["approval_id"])] = held
        return self.answer(asked, answer)

    def answer(self, asked: Asked, answer: Any) -> list[Asked]:
        """Answer anything else with what the graph takes, and return what is asked next."""
        return self._go_on(Command(resume={asked.id: answer}))

    @property
    def asked(self) -> list[Asked]:
        return [_asked(interrupt) for interrupt in self._graph.get_state(_CONFIG).interrupts]

    @property
    def result(self) -> dict[str, Any]:
        return dict(self._graph.get_state(_CONFIG).values)

    def _go_on(self, given: Any) -> list[Asked]:
        with lent(GuardedTurn(self, {})):
            try:
                asyncio.run(self._graph.ainvoke(given, _CONFIG))
            except NotForTheModel as exc:
                raise exc.error from exc.error.__cause__
        return self.asked

    async def perform_with(self, tool: Tool, approval_id: str, digest: str) -> Outcome:
        """Do what was approved, as the ledger does it: once."""
        done = next((effect for effect in self.effects if effect.key == approval_id), None)
        if done is None:
            arguments = self._approved[approval_id]
            done = Effect(tool.name, arguments, approval_id, "done", None)
            try:
                done.result = await tool.call(tool.arguments.model_validate(arguments), None, approval_id)  # type: ignore[arg-type]  # the world is not there
            except ToolFailed as exc:
                done.status, done.result = "failed", str(exc)
            self.effects.append(done)
        failed = done.status == "failed"
        return Outcome(
            status="failed" if failed else "done",
            result=None if failed else done.result,
            reason=str(done.result) if failed else "",
        )

    async def settle(self, approval_id: str, question_id: str) -> Outcome:
        return Outcome(status="unknown", result=None, reason="")

    async def refuse(self, approval_id: str, reason: str) -> None:
        """Nothing to say it with: no record is kept here."""


def _asked(interrupt: Any) -> Asked:
    value = interrupt.value
    if not (isinstance(value, dict) and "canonical" in value):
        return Asked(interrupt.id, value)
    tool, arguments = read_canonical(value["canonical"].encode())
    return Asked(interrupt.id, value, tool, arguments)
