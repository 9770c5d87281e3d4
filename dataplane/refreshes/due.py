"""Which refresh a run of a schedule does: its window's, or one of its own where that had ended before. Pure.

A window may be used up before the schedule's time has come: by hand, or by an earlier time of the schedule. What such
a refresh has read is older than what the schedule promises, so the due time becomes a refresh of its own. One that is
still open when the time comes is joined. The same due time always gives the same key: two processes, a restart and a
retry find each other's row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from dataplane.windows import due_key

if TYPE_CHECKING:
    from dataplane.catalogue import Entry


@dataclass(frozen=True)
class Earlier:
    """A refresh that is there already."""

    key: str
    flow_run_id: str
    ended_at: datetime | None  # aware; None while it is open
    is_alike: bool = True  # asked for as the schedule asks: with its parameters, and not as a dry run


def possible_keys(entry: Entry, due: datetime) -> tuple[str, str]:
    """Return the key of the window that the due time (aware) lies in, and the due time's own."""
    window = entry.key(due)
    return window, due_key(window, entry.window, due)


def key_when_due(entry: Entry, due: datetime, earlier: Iterable[Earlier], *, flow_run_id: str) -> str:
    """Return the key of the refresh that the flow run does, which a schedule made for this time (aware).

    `earlier`: the dataset's refreshes that have one of the possible keys, or name the flow run.
    """
    window, own = possible_keys(entry, due)
    found = {one.key: one for one in earlier}
    for one in found.values():
        if one.flow_run_id == flow_run_id:
            return one.key
    if own in found:
        return own
    first = found.get(window)
    if first is None or (first.is_alike and (first.ended_at is None or first.ended_at >= due)):
        return window
    return own
