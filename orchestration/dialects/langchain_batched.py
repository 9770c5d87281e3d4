"""How LangChain's HumanInTheLoopMiddleware asks: all gated calls of a model's turn in one interrupt (HITLRequest).

    {"action_requests": [{"name", "args", "description"?}], "review_configs": [{"action_name", "allowed_decisions"}]}
    -> {"decisions": [{"type": "approve"} | {"type": "edit", "edited_action": {"name", "args"}}
                      | {"type": "reject", "message"} | {"type": "respond", "message"}]}

The graph saves an answer before it checks it, so that a wrong one is asked for ever: what `answer` returns is what the
middleware takes. An edit may name any other tool there, so the name is always the one that was asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from approvals.reading.for_runs import Settled
from orchestration.agents.runtime import UNSAID
from orchestration.dialects.base import AskedInterrupt, Place, Untellable
from orchestration.dialects.calls import ending_of, place_of_call, silence_about, text_of
from orchestration.errors import UnknownDialect

_VERDICTS = ("approve", "edit", "reject", "respond")


class Batched:
    """One place for each call."""

    name = "langchain"

    def speaks(self, value: Any) -> bool:
        return (
            isinstance(value, dict)
            and isinstance(value.get("action_requests"), list)
            and isinstance(value.get("review_configs"), list)
        )

    def proposals_of(self, interrupt: AskedInterrupt) -> list[Place]:
        requests = interrupt.value["action_requests"]
        if not requests or not all(isinstance(one, dict) for one in requests):
            raise UnknownDialect("The agent asked people to review tool calls, and named none.")
        return [
            place_of_call(
                one.get("name"),
                one.get("args"),
                words=one.get("description"),
                verdicts=allowed(interrupt.value, number),
            )
            for number, one in enumerate(requests)
        ]

    def answer(self, interrupt: AskedInterrupt, places: Sequence[Settled], on_silence: Any = UNSAID) -> dict[str, Any]:
        names = [one["name"] for one in interrupt.value["action_requests"]]
        return {
            "decisions": [
                decision_of(place, name, allowed(interrupt.value, number), on_silence)
                for number, (place, name) in enumerate(zip(places, names, strict=True))
            ]
        }


def allowed(value: Any, number: int) -> tuple[str, ...]:
    """Return the decisions that the call at this place takes."""
    name, configs = value["action_requests"][number].get("name"), value["review_configs"]
    beside = configs[number : number + 1]
    of_it = [one for one in (*beside, *configs) if isinstance(one, dict) and one.get("action_name") == name]
    given = of_it[0].get("allowed_decisions") if of_it else None
    return tuple(verdict for verdict in _VERDICTS if isinstance(given, list) and verdict in given)


def decision_of(place: Settled, name: str, may: Sequence[str], on_silence: Any) -> dict[str, Any]:
    """Return LangChain's decision for one call. Raises Untellable for one that the call does not take."""
    ending = ending_of(place)
    verdict = "reject" if ending.verdict in ("expired", "withdrawn") else ending.verdict
    if verdict not in may:
        raise Untellable(f"{name} takes only {', '.join(may)}, and the request was {ending.verdict}.")
    if verdict == "approve":
        return {"type": "approve"}
    if verdict == "edit":
        return {"type": "edit", "edited_action": {"name": name, "args": ending.arguments or {}}}
    if verdict == "respond":
        return {"type": "respond", "message": text_of(ending.answer)}
    message = ending.note if ending.verdict == "reject" else silence_about(ending, on_silence)
    return {"type": "reject", "message": message} if message else {"type": "reject"}
