"""How a graph asks with a plain `interrupt(value)`: any value, answered with any JSON.

With `interrupt(value, response_schema=...)` the answer has to fit that. Nothing can be approved here, for nobody but
the graph knows what an approval would mean: people answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from approvals.proposal.canonical import digest_of
from approvals.reading.for_runs import Settled
from console.forms import schema_check
from console.text.plain_json import plain
from orchestration.agents.runtime import UNSAID
from orchestration.dialects.base import AskedInterrupt, Place, Untellable
from orchestration.dialects.calls import ending_of, exact

TOOL: Final = "question"
_TELLING: Final = ("question", "message", "prompt", "title", "description", "text", "instruction", "query")


class Raw:
    """One place, a question. It takes whatever no other dialect does."""

    name = "interrupt"

    def speaks(self, value: Any) -> bool:
        return True

    def proposals_of(self, interrupt: AskedInterrupt) -> list[Place]:
        value = plain(interrupt.value)
        arguments = value if isinstance(value, dict) else {"asked": value}
        canonical = exact(TOOL, arguments)
        return [
            Place(
                kind="question",
                canonical=canonical,
                digest=digest_of(canonical),
                summary=_summary(value),
                agent_words="",
                arguments_schema={},
                risk="medium",
                verdicts=("respond",),
                answer_schema=_schema(interrupt),
                is_tracked=False,
            )
        ]

    def answer(self, interrupt: AskedInterrupt, places: Sequence[Settled], on_silence: Any = UNSAID) -> Any:
        (place,) = places
        ending = ending_of(place)
        if ending.verdict == "respond":
            answer = ending.answer
        elif ending.verdict in ("expired", "withdrawn") and on_silence is not UNSAID:
            answer = on_silence
        else:
            raise Untellable(f"The agent asked a question, which was {ending.verdict}.")
        schema = _schema(interrupt)
        faults = schema_check.check(schema, answer) if schema else []
        if faults:
            raise Untellable(f"The agent's question does not take the answer: {faults[0].sentence}")
        return answer


def _schema(interrupt: AskedInterrupt) -> dict[str, Any]:
    schema = getattr(interrupt, "response_schema", None)
    return schema if isinstance(schema, dict) else {}


def _summary(value: Any) -> str:
    if isinstance(value, dict):
        told = next((value[name] for name in _TELLING if isinstance(value.get(name), str) and value[name].strip()), "")
    else:
        told = value if isinstance(value, str) else ""
    line = " ".join(told.split())
    return line or "The agent asks for an answer"
