"""From a model's wish to an approved effect: propose, freeze, gate, act. Nodes for any agent's graph.

The order is the point. `propose` runs once and writes the wish into state; `freeze` is pure and makes the exact
bytes; `gate` does nothing but interrupt, so that running it again on resume changes nothing; `act` hands the
approval's id and digest to the ledger, which reads the bytes again from the approval.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from approvals.proposal.canonical import NotCanonical, canonicalise, digest_of
from console.text.stored import storable
from orchestration.agents import arguments
from orchestration.agents.runtime import OUTCOME_TOOL, Agent, AgentContext, Effects, Outcome, Tool

REJECTIONS_AT_MOST = 3
AT_ONCE = 50  # proposals out of one message of the model's


class ModelWish(TypedDict):
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


class Proposed(TypedDict):
    """One of several wishes that stand in one message of the model's, on its way beside `wish`."""

    wish: ModelWish
    frozen: Frozen | None
    answer: dict[str, Any] | None


class ProposalState(TypedDict, total=False):
    """The part of a graph's state that these nodes use. `wish`, `frozen`, `answer` are of the first wish."""

    wish: ModelWish | None
    frozen: Frozen | None
    answer: dict[str, Any] | None
    besides: list[Proposed]  # the others of the same message: asked at once, done when all are decided
    rejections: int
    dataset_versions: list[dict[str, Any]]
    effects: list[dict[str, Any]]  # [{"tool", "approval_id", "status"}]


class ProposalNodes:
    """The nodes for one agent. On resume LangGraph runs the gate again from its first line; see the module."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def propose(self, state: Any) -> dict[str, Any]:
        """Take the calls of approved-only tools from the model's last message: all of them are asked about at once.

        Arguments that do not fit the tool go back to the model as the call's answer.
        """
        message: AIMessage = state["messages"][-1]
        told: list[ToolMessage] = unreadable_calls(message)
        wishes: list[ModelWish] = []
        for call in message.tool_calls:
            if not self._needs_approval(call["name"]):
                told.append(_tell(call["id"], "error", {"not_run": "This is not run beside proposals. Call it alone."}))
            elif len(wishes) == AT_ONCE:
                told.append(_tell(call["id"], "error", {"not_run": f"At most {AT_ONCE} proposals are taken at once."}))
            else:
                wish = await self._wish(message, call)
                if isinstance(wish, ToolMessage):
                    told.append(wish)
                else:
                    wishes.append(wish)
        return {**_of_all([_proposed(wish) for wish in wishes]), "messages": told}

    async def _wish(self, message: AIMessage, call: ToolCall) -> ModelWish | ToolMessage:
        tool = self._agent.tool(call["name"])
        assert tool is not None
        try:
            read = await asyncio.to_thread(arguments.read_asked, tool.arguments, tool.name, call["args"])
        except arguments.Unfit as exc:
            return _tell(call["id"], "error", {"invalid_arguments": storable(str(exc))[:2000]})
        return ModelWish(
            kind="action",
            tool=tool.name,
            arguments=read.arguments,
            words=words_of(message)[:20_000],
            call_id=call["id"] or "",
            about="",
        )

    async def freeze(self, state: ProposalState) -> dict[str, Any]:
        """Make the exact bytes and their digest. Pure: the same wish gives the same bytes."""
        return _of_all(
            [Proposed(wish=one["wish"], frozen=self._frozen(one["wish"]), answer=None) for one in _all(state)]
        )

    def _frozen(self, wish: ModelWish) -> Frozen:
        canonical = canonicalise(wish["tool"], wish["arguments"])
        tool = self._agent.tool(wish["tool"])
        return Frozen(
            kind=wish["kind"],
            canonical=canonical.decode(),
            digest=digest_of(canonical),
            summary=_summary(tool, wish),
            agent_words=wish["words"],
            arguments_schema=arguments.asked_schema(tool) if tool else {},
            risk=tool.risk if tool else "high",
        )

    async def gate(self, state: ProposalState) -> dict[str, Any]:
        """Wait for people: the turn ends here and no worker holds anything."""
        if not state.get("besides"):
            return {"answer": _answer_to(state["frozen"])}
        first, *others = _answer_to({TOGETHER: [one["frozen"] for one in _all(state)]})
        besides = [{**one, "answer": answer} for one, answer in zip(state["besides"], others, strict=True)]
        return {"answer": first, "besides": besides}

    async def act(self, state: ProposalState, runtime: Runtime[AgentContext]) -> dict[str, Any]:
        """Do what was approved, one after the other, or tell the model what was said instead.

        On retry the ledger returns the outcomes that it has.
        """
        ends = [await self._act(one, runtime.context.effects) for one in _all(state)]
        done = [end.effect for end in ends if end.effect is not None]
        changes: dict[str, Any] = {
            **_of_all([_proposed(end.question) for end in ends if end.question is not None]),
            "messages": [end.message for end in ends if end.message is not None],
        }
        if done:
            changes["effects"] = [*state.get("effects", []), *done]
        if rejected := sum(end.is_rejected for end in ends):
            changes["rejections"] = state.get("rejections", 0) + rejected
        return changes

    async def _act(self, proposed: Proposed, effects: Effects) -> _End:
        wish, frozen, answer = proposed["wish"], proposed["frozen"], proposed["answer"]
        assert frozen is not None and answer is not None
        if answer["digest"] != frozen["digest"]:
            raise ValueError("The answer is about another proposal than the frozen one.")
        if wish["kind"] == "outcome":
            outcome = await effects.settle(wish["about"], answer["approval_id"])
            return self._finish(wish, wish["about"], outcome)
        if answer["verdict"] not in ("approve", "edit"):
            return self._not_approved(wish, answer)
        if answer["verdict"] == "edit":
            wish = {**wish, "arguments": answer["arguments"]}  # to tell of; what runs is what the ledger reads
        outcome = await effects.perform(answer["approval_id"], answer.get("approved_digest", answer["digest"]))
        if outcome["status"] == "unknown":
            return _End(question=outcome_question(wish, answer["approval_id"]))
        return self._finish(wish, answer["approval_id"], outcome, answer)

    def after_propose(self, state: ProposalState) -> Literal["freeze", "plan"]:
        return "freeze" if state.get("wish") else "plan"

    def after_act(self, state: ProposalState) -> Literal["freeze", "plan", "give_up"]:
        if state.get("wish"):
            return "freeze"  # the outcome is unknown: ask a person
        return "give_up" if state.get("rejections", 0) >= REJECTIONS_AT_MOST else "plan"

    def _finish(
        self, wish: ModelWish, approval_id: str, outcome: Outcome, answer: dict[str, Any] | None = None
    ) -> _End:
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
        return _End(_tell(wish["call_id"], status, content), done)

    def _not_approved(self, wish: ModelWish, answer: dict[str, Any]) -> _End:
        """Tell the model. The reviewer's words are quoted data under a key of their own, never instructions."""
        verdict = answer["verdict"]
        content: dict[str, Any] = {"outcome": verdict, "meaning": MEANINGS[verdict]}
        if verdict == "reject":
            content["reviewer_comment"] = answer["note"]
        elif verdict == "respond":
            content |= {"answer": answer["answer"], "reviewer_comment": answer["note"]}
        status: Literal["success", "error"] = "success" if verdict == "respond" else "error"
        done = {"tool": wish["tool"], "approval_id": answer["approval_id"], "status": verdict}
        return _End(_tell(wish["call_id"], status, content), done, is_rejected=verdict == "reject")

    def _needs_approval(self, name: str) -> bool:
        tool = self._agent.tool(name)
        return tool is not None and tool.needs_approval

    def wants_approval(self, message: AIMessage) -> bool:
        """Return whether the message calls a tool that needs an approval."""
        return any(self._needs_approval(call["name"]) for call in message.tool_calls)


@dataclass(frozen=True)
class _End:
    """How one proposal ended: what the model hears and what was done, or a question to people about the outcome."""

    message: ToolMessage | None = None
    effect: dict[str, Any] | None = None
    question: ModelWish | None = None
    is_rejected: bool = False


def _answer_to(asked: Any) -> Any:
    return interrupt(asked)


def _proposed(wish: ModelWish) -> Proposed:
    return Proposed(wish=wish, frozen=None, answer=None)


def _all(state: ProposalState) -> list[Proposed]:
    """Return the wishes on their way, the first one first."""
    wish = state["wish"]
    assert wish is not None
    first = Proposed(wish=wish, frozen=state.get("frozen"), answer=state.get("answer"))
    return [first, *state.get("besides", [])]


def _of_all(proposed: list[Proposed]) -> dict[str, Any]:
    """Return the state of these wishes, of none too."""
    first = proposed[0] if proposed else None
    return {
        "wish": first["wish"] if first else None,
        "frozen": first["frozen"] if first else None,
        "answer": first["answer"] if first else None,
        "besides": proposed[1:],
    }


TOGETHER = "proposals"  # the key of several proposals in one interrupt
MEANINGS = {
    "reject": "A person rejected the proposal.",
    "respond": "The tool was not run. A person answered in its place.",
    "expired": "Nobody decided in time. This is not a rejection; do not propose it again.",
    "withdrawn": "The request was withdrawn before anybody decided. This is not a rejection.",
}


def outcome_question(wish: ModelWish, approval_id: str) -> ModelWish:
    """Ask a person whether an effect happened: the attempt was cut off and the tool cannot be asked."""
    asked = {"approval_id": approval_id, "tool": wish["tool"], "arguments": wish["arguments"]}
    try:
        canonicalise(OUTCOME_TOOL, asked)
    except NotCanonical:  # the arguments alone were as large or as deep as can be
        asked["arguments"] = f"The same as those of approval {approval_id}."
    return ModelWish(
        kind="outcome",
        tool=OUTCOME_TOOL,
        arguments=asked,
        words="",
        call_id=wish["call_id"],
        about=approval_id,
    )


def _tool_of(wish: ModelWish) -> str:
    return str(wish["arguments"]["tool"]) if wish["kind"] == "outcome" else wish["tool"]


def _summary(tool: Tool | None, wish: ModelWish) -> str:
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
