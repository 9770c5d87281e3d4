"""How our own agents ask: one frozen proposal in each interrupt. See `orchestration.agents.proposals`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from approvals.reading.for_runs import Settled
from orchestration.agents.proposals import Frozen
from orchestration.agents.runtime import UNSAID
from orchestration.dialects.base import AskedInterrupt, Place

KEYS: Final = Frozen.__required_keys__


class Own:
    """One place: the proposal's bytes with their digest. Answered by an object, see `answer`."""

    name = "own"

    def speaks(self, value: Any) -> bool:
        return isinstance(value, dict) and value.keys() >= KEYS and "guard" not in value

    def proposals_of(self, interrupt: AskedInterrupt) -> list[Place]:
        frozen = interrupt.value
        return [
            Place(
                kind=frozen["kind"],
                canonical=frozen["canonical"].encode(),
                digest=frozen["digest"],
                summary=frozen["summary"],
                agent_words=frozen["agent_words"],
                arguments_schema=frozen["arguments_schema"],
                risk=frozen["risk"],
            )
        ]

    def answer(self, interrupt: AskedInterrupt, places: Sequence[Settled], on_silence: Any = UNSAID) -> dict[str, Any]:
        """Return {"approval_id", "decision_id", "digest", "approved_digest", "verdict", "note", "answer", "arguments",
        "decided_by"}.

        `digest` is that of the bytes that the agent had proposed, `approved_digest` that of what may be executed.
        `arguments`, for the verdict `edit`, are those of the current version. The verdict is `expired` or `withdrawn`
        when nobody decided.
        """
        (place,) = places
        ending = place.ending
        if ending is None:
            raise ValueError(f"The approval {place.approval_id} is still pending.")
        return {
            "approval_id": place.approval_id,
            "decision_id": ending.decision_id,
            "digest": ending.proposed_digest,
            "approved_digest": ending.digest,
            "verdict": ending.verdict,
            "note": ending.note,
            "answer": ending.answer,
            "arguments": ending.arguments,
            "decided_by": ending.decided_by,
        }
