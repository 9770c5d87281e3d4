"""Business calendars: hours of the week in a time zone, and holidays; deadlines that count only those hours.

A window begins at the first moment of its zone that shows its start, and ends at the last that shows its end: where
the clocks are put back both hours count, and where they are put forward the missing hour does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HORIZON = timedelta(days=3 * 366)  # no deadline lies further away
_END_OF_DAY = "24:00"


def _known_zone(name: str) -> str:
    if name not in _zones():
        raise ValueError("This is not a time zone; write it as Europe/Berlin or UTC.")
    return name


def _clock_time(text: str) -> str:
    try:
        if text != _END_OF_DAY:
            text = time.fromisoformat(text).strftime("%H:%M") if len(text) == 5 else _not_a_time(text)
    except ValueError:
        _not_a_time(text)
    return text


def _not_a_time(text: str) -> str:
    raise ValueError(f"“{text[:20]}” is not a time of day; write it as 09:00, at most 24:00.")


def _in_order(days: list[date]) -> list[date]:
    return sorted(set(days))


ClockTime = Annotated[str, AfterValidator(_clock_time)]


class Calendar(BaseModel):
    """One business calendar as it is kept in a version of the policy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timezone: Annotated[str, AfterValidator(_known_zone)]
    hours: dict[Day, Annotated[list[tuple[ClockTime, ClockTime]], Field(max_length=6)]]  # local, [start, end)
    holidays: Annotated[list[date], Field(max_length=400), AfterValidator(_in_order)] = []

    @model_validator(mode="after")
    def _windows_make_sense(self) -> Calendar:
        for day, windows in self.hours.items():
            last = ""
            for start, end in windows:
                if start >= end:
                    raise ValueError(
                        f"{day}: {start}-{end} ends before it begins. End at 24:00 and go on at 00:00 the next day."
                    )
                if start < last:
                    raise ValueError(f"{day}: {start}-{end} begins before the hours above it have ended.")
                last = end
        if not any(self.hours.values()):
            raise ValueError("A calendar needs hours on at least one day of the week.")
        return self

    def windows(self, since: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Yield the open windows that end at the moment or later, in order, up to the horizon; aware, UTC."""
        zone, holidays = ZoneInfo(self.timezone), set(self.holidays)
        first = since.astimezone(zone).date() - timedelta(days=1)  # which may end at this very moment
        for number in range(HORIZON.days + 1):
            day = first + timedelta(days=number)
            if day in holidays:
                continue
            for start, end in self.hours.get(DAYS[day.weekday()], ()):
                window = _moment(day, start, zone, fold=0), _moment(day, end, zone, fold=1)
                if window[0] < window[1] and since <= window[1]:
                    yield window


def add(start: datetime, seconds: int, calendar: Calendar) -> datetime:
    """Return the moment when so many seconds of business time have passed since `start` (aware); aware, UTC.

    It lies inside business time, its last moments included; a start outside counts from the next opening. Beyond
    the horizon of three years the last closing before it is returned.
    """
    start, left = start.astimezone(UTC), timedelta(seconds=seconds)
    closing = start
    for opening, closing in calendar.windows(start):
        begins = max(start, opening)
        if begins + left <= closing:
            return begins + left
        left -= closing - begins
    return closing


def is_open(moment: datetime, calendar: Calendar) -> bool:
    """Return whether the moment lies inside business time, the last moment of a window included."""
    opening, _ = next(calendar.windows(moment), (moment + HORIZON, None))
    return opening <= moment


def described(calendar: Calendar) -> list[str]:
    """Return the calendar in words: days with the same hours together, then the holidays."""
    lines: list[tuple[list[str], str]] = []
    for day in DAYS:
        hours = ", ".join(f"{start}-{end}" for start, end in calendar.hours.get(day, ())) or "closed"
        if lines and lines[-1][1] == hours:
            lines[-1][0].append(day)
        else:
            lines.append(([day], hours))
    words = [f"{_span(days)} {hours}" for days, hours in lines]
    if calendar.holidays:
        words.append("closed on " + ", ".join(day.isoformat() for day in calendar.holidays))
    return words


def _span(days: list[str]) -> str:
    named = [day.capitalize() for day in days]
    return named[0] if len(named) == 1 else f"{named[0]}-{named[-1]}"


def _moment(day: date, clock: str, zone: ZoneInfo, *, fold: int) -> datetime:
    """Return when the zone's clocks show the time: the first or (`fold` 1) the last time, or when they jump over it."""
    if clock == _END_OF_DAY:
        day, clock = day + timedelta(days=1), "00:00"
    local = datetime.combine(day, time.fromisoformat(clock), zone)
    moments = [local.replace(fold=one).astimezone(UTC) for one in (0, 1)]
    if moments[0] > moments[1]:
        return _jump(moments[1], moments[0], zone)
    return moments[fold]


def _jump(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """Return the second at which the zone's offset changes between two moments."""
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low).total_seconds() // 2)
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def read_calendars(stored: Any) -> dict[str, Calendar]:
    """Read {name: calendar}. Raises ValueError (pydantic's among them) when one is not a calendar."""
    if not isinstance(stored, dict):
        raise ValueError("Calendars are an object: each name with its calendar.")
    return {name: Calendar.model_validate(one) for name, one in stored.items()}
