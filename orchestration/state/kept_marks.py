"""What each agent's author hides, kept for when the agent cannot be loaded any more.

The worker keeps the marks of the agents that it has loaded, before it takes work. What was marked once is kept on: a
worker of older code that starts later takes nothing away.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from django.db import connection, transaction

from orchestration.models import AgentMarks

KEPT_SECONDS: Final = 30.0  # so long a process believes what it has read

_read: tuple[float, dict[str, tuple[str, ...]]] | None = None  # when, by time.monotonic(), and the marks by agent


_KEEP: Final = """
INSERT INTO orchestration_agentmarks AS kept (agent, names, at) VALUES (%s, %s, signalbox_now())
ON CONFLICT (agent) DO UPDATE SET at = excluded.at, names = ARRAY(
    SELECT DISTINCT name FROM unnest(kept.names || excluded.names) AS name ORDER BY name
)
"""


def keep(marks: Mapping[str, tuple[str, ...]]) -> None:
    """Keep the marks of these agents, beside those that were kept before. A statement each; again changes nothing."""
    rows = [(agent, sorted(set(names))) for agent, names in sorted(marks.items())]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(_KEEP, rows)


def kept() -> dict[str, tuple[str, ...]]:
    """Return the marks that were kept, by agent. One query in half a minute."""
    global _read
    if _read is None or time.monotonic() - _read[0] > KEPT_SECONDS:
        rows = AgentMarks.objects.values_list("agent", "names")
        _read = (time.monotonic(), {agent: tuple(names) for agent, names in rows})
    return _read[1]
