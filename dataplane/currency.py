"""Whether what an agent has read is still what it would read now, and whether anybody has looked lately.

Two facts: a version is *current* when the dataset has no other one now; it is *fresh* when a refresh has also confirmed
that in time. A current version that nobody has confirmed for days may be wrong all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from console.clock import DatabaseNow
from console.ports import Read
from dataplane import catalogue
from dataplane.models import Dataset, Refresh


def told(reads: Sequence[Mapping[str, Any]]) -> list[Read]:
    """Return what is known now of `[{"dataset", "version"}]`."""
    return told_of_all([reads])[0]


def told_of_all(lists: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[Read]]:
    """Do the same for several lists at once, with two short queries however many there are."""
    names = sorted({read["dataset"] for reads in lists for read in reads})
    if not names:
        return [[] for _ in lists]
    rows = Dataset.objects.select_related("current_version").annotate(now=DatabaseNow()).filter(name__in=names)
    known, faults = {row.name: row for row in rows}, last_faults(names)
    return [[_told(read, known.get(read["dataset"]), faults) for read in reads] for reads in lists]


def _told(read: Mapping[str, Any], row: Any, faults: Mapping[str, str]) -> Read:
    name, number = read["dataset"], read["version"]
    current = row.current_version.version if row is not None and row.current_version else None
    is_current = current == number
    is_fresh = row is not None and is_current and _is_fresh(row)
    return {
        "dataset": name,
        "version": number,
        "is_current": is_current,
        "is_fresh": is_fresh,
        "note": _note(row, number, is_fresh, faults.get(name, "")),
    }


def _is_fresh(row: Any) -> bool:  # Any: a Dataset annotated with `now`
    known = catalogue.known(row.name)  # as it says now; the row has what it said at first, for where it is gone
    fresh_for = known.fresh_for if known else row.fresh_for
    return bool(row.confirmed_at is not None and row.now <= row.confirmed_at + fresh_for)


def _note(row: Any, number: int, is_fresh: bool, fault: str) -> str:
    if row is None or row.current_version is None:
        return "no version of it is current"
    if row.current_version.version != number:
        is_newer = row.current_version.version > number
        return (
            f"{'a newer version exists' if is_newer else 'another version is current'}: {row.current_version.version}"
        )
    if is_fresh:
        return "still current"
    since = f"for {in_words(row.now - row.confirmed_at)}" if row.confirmed_at else "since it was made current"
    return f"current, but not confirmed {since}" + (f"; last refresh {fault}" if fault else "")


def last_faults(names: Iterable[str]) -> dict[str, str]:
    """Return in words why the newest refresh of each dataset confirmed nothing; those that did are left out."""
    asked = Refresh.objects.filter(dataset_id__in=names, is_dry_run=False)
    newest = asked.order_by("dataset_id", "-id").distinct("dataset_id")
    return {row.dataset_id: words for row in newest if (words := _fault(row))}


def _fault(row: Refresh) -> str:
    if row.status == Refresh.Status.FAILED:
        return f"failed: {row.error}".rstrip(": .")
    if row.status == Refresh.Status.CANCELLED:
        return "was cancelled"
    if row.status in Refresh.OPEN:
        why = f": {row.send_error}" if row.send_error else ""
        return f"has not ended{why}".rstrip(" .")
    return ""


def in_words(span: timedelta) -> str:
    """Return a span as people say it: "5 days", "26 hours", "40 minutes"."""
    for unit, name, least in ((86400, "day", 2 * 86400), (3600, "hour", 3600), (60, "minute", 0)):
        if span.total_seconds() >= least:
            number = int(span.total_seconds() // unit)
            return f"{number} {name}" + ("" if number == 1 else "s")
    return "0 minutes"
