"""Put the effect of any LangChain tool under the ledger: `guard(tool)`.

    agent = create_agent(model, tools=[guard(send_email), search], middleware=[...])

A guarded tool runs only what people approved, at most once: with the ledger's fence, under the approval's id as its
key, and with *unknown* and a question to people where an attempt was cut off. If the call was approved before, by
LangChain's middleware, it runs under that approval; else, and where the call is another one than was approved, the tool
asks first.

On resume its node runs again from its first line, so whether it asks is settled before anything is awaited: several
guarded calls in one node ask and are answered in the same order each time.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeVar

from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command, interrupt
from pydantic import BaseModel, ValidationError

from approvals.proposal.canonical import NotCanonical, canonicalise, digest_of
from console.forms import schema_check
from console.text.plain_json import plain
from orchestration.agents.graphs import tool_schema_of
from orchestration.agents.proposals import MEANINGS, ModelWish, outcome_question
from orchestration.agents.runtime import FromGraph, Outcome, Risk, Tool, World

T = TypeVar("T")
DONE_WITHOUT_WORDS: Final = "Done."


class ToolEffects(Protocol):
    """The ledger, for tools that an agent has not registered."""

    async def perform_with(self, tool: Tool, approval_id: str, digest: str) -> Outcome:
        """Perform what was approved by this tool, at most once; a repetition returns the first outcome."""

    async def settle(self, approval_id: str, question_id: str) -> Outcome:
        """Take a person's answer about an unknown effect."""

    async def refuse(self, approval_id: str, reason: str) -> None:
        """Say with what was approved that it is not done, unless it has begun. Again changes nothing."""


@dataclass(frozen=True)
class GuardedTurn:
    """What a turn lends to guarded tools. `approved`: call id -> approval id and approved digest."""

    effects: ToolEffects
    approved: Mapping[str, tuple[str, str]]


TURN: ContextVar[GuardedTurn | None] = ContextVar("guarded_turn", default=None)
_KEY: ContextVar[str] = ContextVar("effect_key", default="")


@contextmanager
def lent(turn: GuardedTurn) -> Iterator[None]:
    """Lend guarded tools what they need, for as long as the graph runs."""
    token = TURN.set(turn)
    try:
        yield
    finally:
        TURN.reset(token)


class NotForTheModel(GraphBubbleUp):
    """What the ledger raised for a guarded tool; `orchestration.turns.drive` raises `error` again outside of the graph.

    A tool node, or middleware, would tell any other error to the model as the tool's answer, and the run would go on
    past an effect whose end nobody has seen. LangGraph hands on what bubbles up, and keeps nothing of it in the thread.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class NotUnderSignalbox(RuntimeError):
    """A guarded tool was called where no ledger is: it runs only in an agent's run."""


class AnsweredWithError(RuntimeError):
    """A guarded tool caught its own error and told it as its answer, so nobody knows how far it came."""


def effect_key() -> str:
    """Return the idempotency key of the effect that is under way: call it inside a guarded tool, hand it to the world.

    It is the same however often the effect is tried. "" outside a guarded tool.
    """
    return _KEY.get()


def guard(
    tool: BaseTool,
    *,
    risk: Risk = "high",
    is_idempotent: bool = False,
    timeout_seconds: int = 30,
    render: Callable[[dict[str, Any]], str] | None = None,
) -> GuardedTool:
    """Return the tool so that its effect goes through the ledger.

    `is_idempotent`: the tool hands `effect_key()` to a world that does the same thing once for it; then an attempt that
    was cut off is tried again, else people are asked what happened. `render`: the arguments as a sentence for people.
    The tool raises `ToolFailed` only where it is certain that nothing happened. It may not interrupt inside itself.
    """
    return GuardedTool(
        name=tool.name,
        description=tool.description,
        args_schema=tool.args_schema,
        return_direct=tool.return_direct,
        inner=tool,
        risk=risk,
        is_idempotent=is_idempotent,
        timeout_seconds=timeout_seconds,
        render=render,
    )


def is_guarded(tool: Any) -> bool:
    return isinstance(tool, GuardedTool)


class GuardedTool(BaseTool):
    """A LangChain tool under the ledger; see `guard`."""

    inner: BaseTool
    risk: Risk = "high"
    is_idempotent: bool = False
    timeout_seconds: int = 30
    render: Callable[[dict[str, Any]], str] | None = None

    def sentence(self, arguments: dict[str, Any]) -> str:
        """Return the call in one sentence; where the author's own words fail, its name and arguments."""
        if self.render is not None:
            try:
                return str(self.render(arguments))
            except Exception:  # noqa: BLE001  it is the author's code, and arguments may be of any shape
                return self.name
        told = ", ".join(f"{name} {value}" for name, value in arguments.items())
        return " ".join(f"{self.name}: {told}".split()) if told else self.name

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        raise NotUnderSignalbox(f"{self.name} is guarded, so it runs only where a run of Signalbox awaits it.")

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Ask where it was not asked, perform, and tell the model. `input`: a tool call, or its arguments alone."""
        turn = TURN.get()
        if turn is None:
            self._run()
            raise AssertionError
        given, call_id = _call_of(input)
        injected = {name: value for name, value in given.items() if name in self._injected()}
        shown = {name: value for name, value in given.items() if name not in injected}
        arguments = plain(shown, exactly=True)
        approval_id, digest = turn.approved.get(call_id, ("", ""))
        try:
            fault, canonical = self._fault(given), canonicalise(self.name, arguments)
        except NotCanonical as exc:
            fault, canonical = str(exc), b""
        if fault:
            return await self._not_taken(turn, approval_id, call_id, fault)
        if digest != digest_of(canonical):
            answer = self._ask("action", canonical, self.sentence(arguments), call_id)
            if approval_id:
                why = f"{self.name} was called in another way than was approved."
                await _of_the_ledger(turn.effects.refuse(approval_id, why))
            if answer["verdict"] not in ("approve", "edit"):
                return self._not_run(call_id, answer)
            approval_id, digest = answer["approval_id"], answer["approved_digest"]
            changed = answer["arguments"] if answer["verdict"] == "edit" else {}
            if changed and (fault := self._fault({**injected, **changed})):
                return await self._not_taken(turn, approval_id, call_id, fault)
        tool = self._tool(injected, call_id, config)
        outcome = await _of_the_ledger(turn.effects.perform_with(tool, approval_id, digest))
        if outcome["status"] == "unknown":
            wish = ModelWish(kind="action", tool=self.name, arguments=arguments, words="", call_id=call_id, about="")
            question = outcome_question(wish, approval_id)
            asked = canonicalise(question["tool"], question["arguments"])
            words = f"Did it happen? {self.name} was cut off, and it cannot be asked"
            answer = self._ask("outcome", asked, words, call_id)
            outcome = await _of_the_ledger(turn.effects.settle(approval_id, answer["approval_id"]))
        return self._of(call_id, outcome)

    async def _not_taken(self, turn: GuardedTurn, approval_id: str, call_id: str, fault: str) -> ToolMessage:
        """Tell the model why the tool does not take the arguments, and the record where they had been approved."""
        if approval_id:
            why = f"{self.name} does not take these arguments: {fault}"
            await _of_the_ledger(turn.effects.refuse(approval_id, why))
        return self._told(call_id, "error", {"invalid_arguments": fault})

    def _ask(self, kind: str, canonical: bytes, summary: str, call_id: str) -> dict[str, Any]:
        """Wait for people, in the form of `orchestration.dialects.guard`."""
        frozen = {
            "guard": True,
            "kind": kind,
            "canonical": canonical.decode(),
            "digest": digest_of(canonical),
            "summary": summary,
            "agent_words": "",
            "arguments_schema": tool_schema_of(self.inner) if kind == "action" else {},
            "risk": self.risk,
            "call_id": call_id,
        }
        answer = _answer_to(frozen)
        if answer["digest"] != frozen["digest"]:
            raise ValueError("The answer is about another call than the guarded one.")
        return answer

    def _tool(self, injected: Mapping[str, Any], call_id: str, config: RunnableConfig | None) -> Tool:
        """Return the tool as the ledger calls it: with the arguments that were approved, and with nothing else."""

        async def call(arguments: Any, world: World, key: str) -> dict[str, Any]:
            _KEY.set(key)
            approved = {**injected, **arguments.model_dump()}
            told = await self.inner.ainvoke(
                {"type": "tool_call", "name": self.name, "args": approved, "id": call_id or key}, config
            )
            if isinstance(told, ToolMessage) and told.status == "error":
                raise AnsweredWithError(f"{self.name} answered with an error: {_content_of(told)[:1000]}")
            return {"content": _content_of(told)}

        return Tool(
            name=self.name,
            title=self.name,
            description=self.description,
            arguments=FromGraph,
            render=lambda arguments: self.sentence(arguments.model_dump()),
            call=call,
            risk=self.risk,
            is_idempotent=self.is_idempotent,
            timeout_seconds=self.timeout_seconds,
        )

    def _injected(self) -> set[str]:
        """Return the names of the arguments that the graph puts in, which no model gives and nobody is shown."""
        seen = tool_schema_of(self.inner).get("properties", {})
        return set(self.inner.get_input_jsonschema().get("properties", {})) - set(seen) if seen else set()

    def _fault(self, given: dict[str, Any]) -> str:
        """Return why the tool does not take the arguments, "" when it does: nobody is asked about those."""
        schema = self.args_schema
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            try:
                schema.model_validate(given)
            except ValidationError as exc:
                return str(exc)[:2000]
        unknown = [one for one in self._faults_of(given) if one.sentence == schema_check.NOT_KNOWN]
        return " ".join(f"{'.'.join(map(str, one.path))}: {one.sentence}" for one in unknown)[:2000]

    def _faults_of(self, given: dict[str, Any]) -> list[schema_check.Fault]:
        shown = {name: value for name, value in given.items() if name not in self._injected()}
        try:
            return schema_check.check(tool_schema_of(self.inner), plain(shown))
        except schema_check.BrokenSchema:
            return []

    def _not_run(self, call_id: str, answer: dict[str, Any]) -> ToolMessage:
        verdict = answer["verdict"]
        content: dict[str, Any] = {"outcome": verdict, "meaning": MEANINGS[verdict]}
        if answer.get("note"):
            content["reviewer_comment"] = answer["note"]
        if verdict == "respond":
            content["answer"] = answer["answer"]
        return self._told(call_id, "success" if verdict == "respond" else "error", content)

    def _of(self, call_id: str, outcome: Outcome) -> ToolMessage:
        result = outcome["result"]
        if outcome["status"] == "done" and result is not None and "content" in result:
            content = result["content"] or DONE_WITHOUT_WORDS
            return ToolMessage(content, tool_call_id=call_id, name=self.name, status="success")
        said = {"outcome": outcome["status"], "result": result, "reason": outcome["reason"]}
        return self._told(call_id, "success" if outcome["status"] == "done" else "error", said)

    def _told(self, call_id: str, status: Literal["success", "error"], content: dict[str, Any]) -> ToolMessage:
        text = json.dumps(content, ensure_ascii=False)
        return ToolMessage(text, tool_call_id=call_id, name=self.name, status=status)


async def _of_the_ledger(work: Awaitable[T]) -> T:
    """Return what the ledger says. Raises NotForTheModel for whatever it raises."""
    try:
        return await work
    except Exception as exc:  # noqa: BLE001  also where the database is away
        raise NotForTheModel(exc) from None


def _answer_to(frozen: dict[str, Any]) -> dict[str, Any]:
    return dict(interrupt(frozen))


def _call_of(given: Any) -> tuple[dict[str, Any], str]:
    if isinstance(given, dict) and given.get("type") == "tool_call":
        return dict(given["args"]), str(given.get("id") or "")
    return (dict(given), "") if isinstance(given, dict) else ({"input": given}, "")


def _content_of(told: Any) -> str:
    """Return what the tool told the model, as text that can be kept."""
    if isinstance(told, Command):
        update = told.update if isinstance(told.update, dict) else {}
        messages = [one for one in update.get("messages", []) if isinstance(one, ToolMessage)]
        return messages[-1].text if messages else DONE_WITHOUT_WORDS
    if isinstance(told, ToolMessage):
        return told.content if isinstance(told.content, str) else json.dumps(plain(told.content))
    return told if isinstance(told, str) else json.dumps(plain(told))
