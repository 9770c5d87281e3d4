"""From a model's wish to an approved effect: propose, freeze, gate, act. Nodes for any agent's graph.

The order is the point. `propose` runs once and writes the wish into state; `freeze` is pure and makes the exact
bytes; `gate` does nothing but interrupt, so that running it again on resume changes nothing; `act` hands the
approval's id and digest to the ledger, which reads the bytes again from the approval.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal, TypedDict

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from approvals.proposal.canonical import NotCanonical, canonicalise, digest_of
from console.text.json_text import storable
from orchestration.agents import arguments
from orchestration.agents.runtime import Agent, AgentContext, Outcome, Tool

REJECTIONS_AT_MOST = 3


class Wish(TypedDict):
    """What the model wants, with arguments already checked against the tool's schema."""

    kind: Literal["action", "outcome"]
    tool: str
    arguments: dict[str, Any]
    words: str  # the model's own, untrusted
    call_id: str  # the model's tool call, to answer it
    about: str  # for `outcome`: the approval whose effect is unknown


class Frozen(TypedDict):
    """The request as it goes to people; `canonical` is the truth, the rest is rendered from it or untrusted."""

    kind: str
    canonical: str
    digest: str
    summary: str
    agent_words: str
    arguments_schema: dict[str, Any]
    risk: str


class ProposalState(TypedDict, total=False):
    """The part of a graph's state that these nodes use."""

    wish: Wish | None
    frozen: Frozen | None
    answer: dict[str, Any] | None
    rejections: int
    dataset_versions: list[dict[str, Any]]
    effects: list[dict[str, Any]]  # [{"tool", "approval_id", "status"}]


class ProposalNodes:
    """The nodes for one agent. On resume LangGraph runs the gate again from its first line; see the module."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def propose(self, state: Any) -> dict[str, Any]:
        """Take the first call of an approved-only tool from the model's last message.

        Arguments that do not fit the tool go back to the model as the call's answer.
        """
        message: AIMessage = state["messages"][-1]
        call = next(call for call in message.tool_calls if self._needs_approval(call["name"]))
        others = [
            _tell(other["id"], "error", {"not_run": "Only one proposal at a time is taken."})
            for other in message.tool_calls
            if other is not call
        ]
        others += unreadable_calls(message)
        tool = self._agent.tool(call["name"])
        assert tool is not None
        try:
            read = await asyncio.to_thread(arguments.read_asked, tool.arguments, tool.name, call["args"])
        except arguments.Unfit as exc:
            problem = {"invalid_arguments": storable(str(exc))[:2000]}
            return {"wish": None, "messages": [_tell(call["id"], "error", problem), *others]}
        wish = Wish(
            kind="action",
            tool=tool.name,
            arguments=read.arguments,
            words=words_of(message)[:20_000],
            call_id=call["id"] or "",
            about="",
        )
        return {"wish": wish, "messages": others}

    async def freeze(self, state: ProposalState) -> dict[str, Any]:
        """Make the exact bytes and their digest. Pure: the same wish gives the same bytes."""
        wish = state["wish"]
        assert wish is not None
        canonical = canonicalise(wish["tool"], wish["arguments"])
        tool = self._agent.tool(wish["tool"])
        frozen = Frozen(
            kind=wish["kind"],
            canonical=canonical.decode(),
            digest=digest_of(canonical),
            summary=_summary(tool, wish),
            agent_words=wish["words"],
            arguments_schema=arguments.asked_schema(tool) if tool else {},
            risk=tool.risk if tool else "high",
        )
        return {"frozen": frozen, "answer": None}

    async def gate(self, state: ProposalState) -> dict[str, Any]:
        """Wait for people: the turn ends here and no worker holds anything."""
        return {"answer": interrupt(state["frozen"])}

    async def act(self, state: ProposalState, runtime: Runtime[AgentContext]) -> dict[str, Any]:
        """Do what was approved, or tell the model what was said instead."""
        wish, frozen, answer = state["wish"], state["frozen"], state["answer"]
        assert wish is not None and frozen is not None and answer is not None
        if answer["digest"] != frozen["digest"]:
            raise ValueError("The answer is about another proposal than the frozen one.")
        effects = runtime.context.effects
        if wish["kind"] == "outcome":
            outcome = await effects.settle(wish["about"], answer["approval_id"])
            return self._finish(state, wish, wish["about"], outcome)
        if answer["verdict"] not in ("approve", "edit"):
            return self._not_approved(state, wish, answer)
        if answer["verdict"] == "edit":
            wish = {**wish, "arguments": answer["arguments"]}  # to tell of; what runs is what the ledger reads
        outcome = await effects.perform(answer["approval_id"], answer.get("approved_digest", answer["digest"]))
        if outcome["status"] == "unknown":
            return {"wish": _question(wish, answer["approval_id"]), "frozen": None, "answer": None}
        return self._finish(state, wish, answer["approval_id"], outcome, answer)

    def after_propose(self, state: ProposalState) -> Literal["freeze", "plan"]:
        return "freeze" if state.get("wish") else "plan"

    def after_act(self, state: ProposalState) -> Literal["freeze", "plan", "give_up"]:
        if state.get("wish"):
            return "freeze"  # the outcome is unknown: ask a person
        return "give_up" if state.get("rejections", 0) >= REJECTIONS_AT_MOST else "plan"

    def _finish(
        self,
        state: ProposalState,
        wish: Wish,
        approval_id: str,
        outcome: Outcome,
        answer: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Tell the model what was done; after an edit also with which arguments, or it would ask again."""
        status: Literal["success", "error"] = "success" if outcome["status"] == "done" else "error"
        content: dict[str, Any] = {
            "outcome": outcome["status"],
            "result": outcome["result"],
            "reason": outcome["reason"],
        }
        if answer is not None and answer["verdict"] == "edit":
            content |= {"changed_by_a_reviewer": True, "arguments_used": answer["arguments"]}
        if answer is not None and answer.get("note"):
            content["reviewer_comment"] = answer["note"]
        done = {"tool": _tool_of(wish), "approval_id": approval_id, "status": outcome["status"]}
        return {
            "wish": None,
            "frozen": None,
            "messages": [_tell(wish["call_id"], status, content)],
            "effects": [*state.get("effects", []), done],
        }

    def _not_approved(self, state: ProposalState, wish: Wish, answer: dict[str, Any]) -> dict[str, Any]:
        """Tell the model. The reviewer's words are quoted data under a key of their own, never instructions."""
        verdict = answer["verdict"]
        content: dict[str, Any] = {"outcome": verdict, "meaning": _MEANINGS[verdict]}
        if verdict == "reject":
            content["reviewer_comment"] = answer["note"]
        elif verdict == "respond":
            content |= {"answer": answer["answer"], "reviewer_comment": answer["note"]}
        status: Literal["success", "error"] = "success" if verdict == "respond" else "error"
        return {
            "wish": None,
            "frozen": None,
            "messages": [_tell(wish["call_id"], status, content)],
            "rejections": state.get("rejections", 0) + (verdict == "reject"),
            "effects": [
                *state.get("effects", []),
                {"tool": wish["tool"], "approval_id": answer["approval_id"], "status": verdict},
            ],
        }

    def _needs_approval(self, name: str) -> bool:
        tool = self._agent.tool(name)
        return tool is not None and tool.needs_approval

    def wants_approval(self, message: AIMessage) -> bool:
        """Say whether the message calls a tool that needs an approval."""
        return any(self._needs_approval(call["name"]) for call in message.tool_calls)


OUTCOME_TOOL = "confirm_outcome"
_MEANINGS = {
    "reject": "A person rejected the proposal.",
    "respond": "The tool was not run. A person answered in its place.",
    "expired": "Nobody decided in time. This is not a rejection; do not propose it again.",
    "withdrawn": "The request was withdrawn before anybody decided. This is not a rejection.",
}


def _question(wish: Wish, approval_id: str) -> Wish:
    """Ask a person whether an effect happened: the attempt was cut off and the tool cannot be asked."""
    asked = {"approval_id": approval_id, "tool": wish["tool"], "arguments": wish["arguments"]}
    try:
        canonicalise(OUTCOME_TOOL, asked)
    except NotCanonical:  # the arguments alone were as large or as deep as can be
        asked["arguments"] = f"The same as those of approval {approval_id}."
    return Wish(
        kind="outcome",
        tool=OUTCOME_TOOL,
        arguments=asked,
        words="",
        call_id=wish["call_id"],
        about=approval_id,
    )


def _tool_of(wish: Wish) -> str:
    return str(wish["arguments"]["tool"]) if wish["kind"] == "outcome" else wish["tool"]


def _summary(tool: Tool | None, wish: Wish) -> str:
    if wish["kind"] == "outcome":
        return f"Did it happen? {_tool_of(wish)} was cut off, and it cannot be asked"
    assert tool is not None
    return tool.sentence(arguments.read_back(tool.arguments, wish["arguments"]))


def _tell(call_id: str | None, status: Literal["success", "error"], content: dict[str, Any]) -> ToolMessage:
    return ToolMessage(json.dumps(content, ensure_ascii=False), tool_call_id=call_id or "", status=status)


def unreadable_calls(message: AIMessage) -> list[ToolMessage]:
    """Answer the calls whose arguments are not JSON; every call that a model makes needs an answer."""
    problem = {"invalid_arguments": "The arguments are not valid JSON."}
    return [_tell(call["id"], "error", problem) for call in message.invalid_tool_calls]


def words_of(message: BaseMessage) -> str:
    """Return what the model said, as text that can be kept."""
    return storable(str(message.text).strip())
