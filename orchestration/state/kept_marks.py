"""What each agent's author hides, kept for when the agent cannot be loaded any more.

The worker keeps the marks of the agents that it has loaded, before it takes work: no run is without them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from console.clock import DatabaseNow
from orchestration.models import AgentMarks

KEPT_SECONDS: Final = 30.0  # so long a process believes what it has read

_read: tuple[float, dict[str, tuple[str, ...]]] | None = None  # when, by time.monotonic(), and the marks by agent


def keep(marks: Mapping[str, tuple[str, ...]]) -> None:
    """Keep the marks of these agents in place of those before. One statement; again changes nothing."""
    rows = [AgentMarks(agent=agent, names=sorted(set(names)), at=DatabaseNow()) for agent, names in marks.items()]
    AgentMarks.objects.bulk_create(rows, update_conflicts=True, unique_fields=["agent"], update_fields=["names", "at"])


def kept() -> dict[str, tuple[str, ...]]:
    """Return the marks that were kept, by agent. One query in half a minute."""
    global _read
    if _read is None or time.monotonic() - _read[0] > KEPT_SECONDS:
        rows = AgentMarks.objects.values_list("agent", "names")
        _read = (time.monotonic(), {agent: tuple(names) for agent, names in rows})
    return _read[1]
