"""What a relay lets its deliveries and chores reach."""

from __future__ import annotations

from typing import Protocol

from orchestration.relay.entries import Claimed
from orchestration.temporal_protocol import TemporalGateway


class Reach(Protocol):
    """One relay, as its deliveries and chores see it."""

    mail_fault: str  # why mails wait, "" when none was refused

    @property
    def temporal(self) -> TemporalGateway | None:
        """Temporal, `None` while it does not answer."""

    async def knock(self) -> None:
        """Find out whether Temporal still answers, where it is believed to."""

    async def stamp_signalled(self, entry: Claimed) -> None:
        """Stamp a decision as told, together with all that were told in the same moment."""
