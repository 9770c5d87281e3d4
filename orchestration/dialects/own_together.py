"""How our own agents ask for several things that stand in one message of the model's: as `own`, in one interrupt.

{"proposals": [frozen, ...]} -> a list of what `own` answers, in the same order
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from approvals.reading.for_runs import Settled
from orchestration.agents.proposals import TOGETHER
from orchestration.agents.runtime import UNSAID
from orchestration.dialects.base import AskedInterrupt, Place
from orchestration.dialects.own import Own


@dataclass(frozen=True)
class _One:
    id: str
    value: Any


class OwnTogether:
    """One place for each proposal."""

    name = "own"
    _own = Own()

    def speaks(self, value: Any) -> bool:
        return (
            isinstance(value, dict)
            and value.keys() == {TOGETHER}
            and isinstance(value[TOGETHER], list)
            and bool(value[TOGETHER])
            and all(self._own.speaks(one) for one in value[TOGETHER])
        )

    def proposals_of(self, interrupt: AskedInterrupt) -> list[Place]:
        ones = [_One(interrupt.id, value) for value in interrupt.value[TOGETHER]]
        return [place for one in ones for place in self._own.proposals_of(one)]

    def answer(
        self, interrupt: AskedInterrupt, places: Sequence[Settled], on_silence: Any = UNSAID
    ) -> list[dict[str, Any]]:
        values = interrupt.value[TOGETHER]
        return [
            self._own.answer(_One(interrupt.id, value), [place], on_silence)
            for value, place in zip(values, places, strict=True)
        ]
