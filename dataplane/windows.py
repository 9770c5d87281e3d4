"""Which window a moment lies in: the key under which a dataset is refreshed once. Pure.

The policy stands in the dataset's catalogue entry and fits its schedule: with a schedule by the hour and windows of a
day, every refresh but the first of a day would be the same refresh.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from zoneinfo import ZoneInfo


class WindowPolicy(Protocol):
    """Gives each moment the key of its window."""

    @property
    def zone(self) -> str:
        """The IANA name of the zone whose clock the windows go by."""
        ...

    def key(self, moment: datetime) -> str:
        """Return the key of the window that the moment (aware) lies in: 1 to 80 characters that a key may have."""
        ...


def due_key(window: str, policy: WindowPolicy, due: datetime) -> str:
    """Return the key of a time (aware) at which a schedule comes due, by the zone's clock: `2026-11-24.06:00+0000`.

    `window`: the key of the window that the time lies in. The offset tells the hours apart that a clock repeats.
    """
    return f"{window}.{due.astimezone(ZoneInfo(policy.zone)):%H:%M%z}"


@dataclass(frozen=True)
class Days:
    """One window a day, by the zone's calendar: `2026-11-24`."""

    zone: str = "UTC"

    def key(self, moment: datetime) -> str:
        return moment.astimezone(ZoneInfo(self.zone)).date().isoformat()


@dataclass(frozen=True)
class Hours:
    """Windows of some hours from the zone's midnight on, named by their begin: `2026-11-24T06:00+00:00`.

    The hour that a change of the clock repeats is two windows where a window is an hour, else part of one.
    """

    every: int = 1
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if self.every not in (1, 2, 3, 4, 6, 8, 12):
            raise ValueError("the hours of a window must divide a day")

    def key(self, moment: datetime) -> str:
        local = moment.astimezone(ZoneInfo(self.zone))
        begin = local.replace(hour=local.hour - local.hour % self.every, minute=0, second=0, microsecond=0)
        return begin.replace(fold=local.fold if self.every == 1 else 0).isoformat(timespec="minutes")
