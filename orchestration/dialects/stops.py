"""How a graph waits that was compiled with `interrupt_before` or `interrupt_after`: it stops, and asks nothing.

Such a stop is asked about as "go on?". Yes lets the graph go on; there is no way to tell the graph no, so a rejection
ends the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from approvals.proposal.canonical import digest_of
from approvals.reading.for_runs import Settled
from orchestration.agents.runtime import UNSAID
from orchestration.dialects.base import AskedInterrupt, Place, Untellable
from orchestration.dialects.calls import ending_of, exact
from orchestration.stops import Stop

TOOL: Final = "go_on"


class Stops:
    """One place: go on?"""

    name = "stop"

    def speaks(self, value: Any) -> bool:
        return isinstance(value, Stop)

    def proposals_of(self, interrupt: AskedInterrupt) -> list[Place]:
        nodes = list(interrupt.value.nodes)
        canonical = exact(TOOL, {"next": nodes})
        named = " and ".join(f"“{node}”" for node in nodes)
        return [
            Place(
                kind="go_on",
                canonical=canonical,
                digest=digest_of(canonical),
                summary=f"Go on? The agent stopped before {named}",
                agent_words="",
                arguments_schema={},
                risk="high",
                verdicts=("approve", "reject"),
                is_tracked=False,
            )
        ]

    def answer(self, interrupt: AskedInterrupt, places: Sequence[Settled], on_silence: Any = UNSAID) -> bool:
        """Return True. Silence never lets a graph go on."""
        (place,) = places
        ending = ending_of(place)
        if ending.verdict == "approve":
            return True
        if ending.verdict == "reject":
            said = f": {ending.note}" if ending.note else "."
            raise Untellable(f"{ending.decided_by or 'The policy'} did not let the agent go on{said}")
        raise Untellable(f"The agent had stopped, and whether it may go on was {ending.verdict}.")
