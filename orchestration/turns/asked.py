"""What a graph asks, filled in from what stands around it: its tools, and the model's message that made the calls.

The tool of a graph that was not written for us runs from the graph's own state, not from the bytes that were shown. So
before an answer is given, the call in the state is held against what was approved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage

from approvals.proposal.canonical import NotCanonical, canonicalise, digest_of, read_canonical
from approvals.reading.for_runs import Settled
from console.text.plain_json import plain
from console.text.stored import storable
from orchestration.agents.graphs import tool_schema_of
from orchestration.agents.guarding import is_guarded
from orchestration.agents.runtime import Agent
from orchestration.dialects import dialect_of
from orchestration.dialects.base import Place, Untellable
from orchestration.pausing import Stand

_WORDS_AT_MOST = 20_000  # characters
_AFTER_MODEL = ".after_model"  # how create_agent names a middleware's node that runs after the model


@dataclass(frozen=True)
class Around:
    """What is known of a graph besides an interrupt."""

    agent: Agent
    tools: Mapping[str, Any]  # LangChain's, by name
    stand: Stand

    def places_of(self, interrupt: Any) -> list[Place]:
        """Return what the interrupt asks, filled in."""
        dialect = dialect_of(interrupt)
        places = dialect.proposals_of(interrupt)
        if dialect.name in ("own", "guard"):
            return places
        message = self._message_of(interrupt)
        calls = _calls_of(message, places)
        words = storable(str(message.text).strip())[:_WORDS_AT_MOST] if message is not None else ""
        return [self._filled_in(place, call, words) for place, call in zip(places, calls, strict=True)]

    def is_known(self, name: str) -> bool:
        """Return whether the agent has a tool of this name.

        One that registers none may have any: a graph that is called inside a node or a tool cannot be looked into.
        """
        registered = {tool.name for tool in self.agent.tools}
        return not registered or name in registered or name in self.tools

    def is_other(self, interrupt: Any, settled: Settled, place: Place) -> bool:
        """Return whether what the graph holds at this place is not what people were shown, and agreed to or answered.

        A node that waits beside others is run again with each of their answers, and may ask in other words by then.
        """
        ending = settled.ending
        if ending is None or ending.verdict not in ("approve", "edit", "respond"):
            return False
        return ending.proposed_digest != place.digest or self._differs(interrupt, settled.place, settled.call_id)

    def check_tellable(self, interrupt: Any, settled: Sequence[Settled]) -> None:
        """Raise Untellable where what was decided about one call would be carried out for another one, too.

        LangChain's middleware carries out changes and rejections by the calls' ids, and a model may give several calls
        one id. Then it can be told only that all of them are approved, or that none is.
        """
        dialect = dialect_of(interrupt)
        message = self._message_of(interrupt)
        if dialect.name != "langchain" or message is None:
            return
        calls = _calls_of(message, dialect.proposals_of(interrupt))
        for call_id, times in Counter(call["id"] for call in message.tool_calls).items():
            ends = [
                "reject" if one.ending.verdict in ("expired", "withdrawn") else one.ending.verdict
                for one, call in zip(settled, calls, strict=True)
                if one.ending is not None and call is not None and call["id"] == call_id
            ]
            approved, rejected = set(ends) <= {"approve"}, set(ends) <= {"reject"} and len(ends) == times
            if times > 1 and not (approved or rejected):
                raise Untellable(
                    f"The model gave {times} calls the one id {call_id!r}, and LangChain tells them apart by it: they "
                    "could only be approved together or rejected together. None of them was done."
                )

    def _differs(self, interrupt: Any, number: int, call_id: str) -> bool:
        """Return whether the state holds another call than the interrupt asks about at this place.

        `call_id`: of the call that was the same when it was asked, "" where there was none. LangChain's middleware asks
        about the calls of the message as they stand. Others ask in their own words: a tool that asks inside itself has
        filled in its defaults, and what it runs is what it asks.
        """
        dialect = dialect_of(interrupt)
        places = dialect.proposals_of(interrupt)
        message = self._message_of(interrupt)
        if message is None or any(place.kind != "action" or place.is_tracked for place in places):
            return False
        place = places[number]
        known = place.call_id or call_id
        held = [call for call in message.tool_calls if known and call["id"] == known]
        if held:
            return all(_digest(call) != place.digest for call in held)  # a model may give two calls one id
        if place.call_id or not (call_id or self._is_asked_after_its_model(interrupt)):
            return False
        of_the_name = {_tool_of(one) for one in places} & {call["name"] for call in message.tool_calls}
        return bool(of_the_name) and _calls_of(message, places)[number] is None

    def _is_asked_after_its_model(self, interrupt: Any) -> bool:
        """Return whether LangChain's middleware asks about the very message that `_message_of` returns.

        An agent that is called inside a tool or a node asks about a message of its own, which is not kept: what is at
        hand then is its caller's.
        """
        where = self.stand.asked_in.get(interrupt.id, "")
        return dialect_of(interrupt).name == "langchain" and where.endswith(_AFTER_MODEL)

    def _message_of(self, interrupt: Any) -> AIMessage | None:
        """Return the model's newest message in the state of the graph that asked."""
        _, snapshot = self.stand.asked_by.get(interrupt.id, (None, None))
        values = getattr(snapshot, "values", None)
        messages = values.get("messages") if isinstance(values, dict) else None
        if not isinstance(messages, list):
            return None
        return next((one for one in reversed(messages) if isinstance(one, AIMessage)), None)

    def _filled_in(self, place: Place, call: Mapping[str, Any] | None, words: str) -> Place:
        if place.kind != "action":
            return replace(place, agent_words=place.agent_words or words)
        name, arguments = read_canonical(place.canonical)
        tool, ours = self.tools.get(name), self.agent.tool(name)
        told = place.agent_words
        is_boilerplate = not told or told.startswith(f"Tool execution requires approval\n\nTool: {name}\n")
        schema = place.arguments_schema or (tool_schema_of(tool) if tool is not None else {})
        guarded = tool if is_guarded(tool) else None
        return replace(
            place,
            agent_words=words if is_boilerplate else told,
            arguments_schema=schema,
            risk=guarded.risk if guarded else ours.risk if ours else place.risk,
            summary=guarded.sentence(arguments) if guarded else place.summary,
            call_id=place.call_id or (str(call["id"] or "") if call else ""),
            is_tracked=guarded is not None,
        )


def _calls_of(message: AIMessage | None, places: Sequence[Place]) -> list[Any]:
    """Return for each place the call of the message that it is about; the first of several that are the same."""
    left = list(message.tool_calls) if message is not None else []
    found: list[Any] = []
    for place in places:
        at = next((number for number, call in enumerate(left) if _digest(call) == place.digest), None)
        found.append(None if at is None else left[at])
        left = left if at is None else [*left[:at], *left[at + 1 :]]
    return found


def _digest(call: Any) -> str:
    try:
        return digest_of(canonicalise(call["name"], plain(call["args"], exactly=True)))
    except NotCanonical:
        return ""


def _tool_of(place: Place) -> str:
    return read_canonical(place.canonical)[0]
