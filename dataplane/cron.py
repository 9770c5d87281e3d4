"""A cron line of five fields: what is wrong with it, in words, and when it comes due next. Pure.

Prefect keeps no more than its next three runs, so the times that people are shown are computed here. They are
Prefect's own: a test holds the two together over many lines and over the changes of the clock. Times go by the zone's
clock on the wall; one that a change of the clock repeats comes once, and one that it leaves out comes by the clock as
it goes afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

LOOKS_AHEAD = timedelta(days=366 * 9)  # 29 February is at most eight years away
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d{1,4}))?")


class BadCron(ValueError):
    """The line cannot be followed; the message says which of its fields, and why."""


@dataclass(frozen=True)
class _Field:
    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()
    first_word: int = 0  # what the first of the words means
    also: int | None = None  # another number for the least: 7 is Sunday, too


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS, 1),
    _Field("day of the week", 0, 6, _DAYS, 0, also=7),
)


@dataclass(frozen=True)
class Cron:
    """One line, read."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday
    any_day: bool  # the day of the month leaves it to the weekday
    any_weekday: bool  # the other way round

    def is_on(self, day: datetime) -> bool:
        """Return whether the line names this day. With both kinds of days given, either of them does."""
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return by_month and by_week
        return by_month or by_week


def read(line: str) -> Cron:
    """Return what the line says. Raises BadCron."""
    parts = line.split()
    if len(parts) != len(_FIELDS):
        raise BadCron(f"must have five fields (minute, hour, day, month, weekday), not {len(parts)}")
    minutes, hours, days, months, weekdays = (_values(part, of) for part, of in zip(parts, _FIELDS, strict=True))
    cron = Cron(
        minutes,
        hours,
        days,
        months,
        weekdays,
        any_day=_leaves_it(parts[2], len(days) == 31, to=parts[4]),
        any_weekday=_leaves_it(parts[4], len(weekdays) == 7, to=parts[2]),
    )
    # Prefect finds no time at all, not even by the weekday, where no month has the day.
    of_months = replace(cron, any_weekday=True, weekdays=frozenset(range(7)))
    if not any(True for _ in _days(of_months, datetime(2026, 1, 1))):  # noqa: DTZ001 - a day on the wall
        raise BadCron("names no day that there is")
    return cron


def _leaves_it(field: str, is_every_day: bool, *, to: str) -> bool:
    """Return whether this field of days leaves it to the other one which days are meant, as Prefect reads them.

    `*` does. `*/1` or `1-31`, which name every day too, do so only beside a field with a `*` in it.
    """
    return "*" in field.split(",") or (is_every_day and "*" in to)


@cache
def zones() -> list[str]:
    """Return the IANA names of all time zones, UTC first."""
    return ["UTC", *sorted(available_timezones() - {"UTC"})]


def is_zone(name: str) -> bool:
    """Return whether this is a time zone's IANA name."""
    return name in zones()


def next_times(line: str, zone: str, *, after: datetime, count: int = 10) -> list[datetime]:
    """Return the next times, aware in UTC, later than `after`. Raises BadCron."""
    return list(islice(_times(read(line), ZoneInfo(zone), after), count))


def _times(cron: Cron, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    begin = after.astimezone(zone).replace(tzinfo=None) - timedelta(hours=3)
    last = after
    for day in _days(cron, begin):
        walls = (day.replace(hour=hour, minute=minute) for hour in cron.hours for minute in cron.minutes)
        for moment in sorted({_instant(wall, zone) for wall in walls}):
            if moment > last:
                last = moment
                yield moment


def _instant(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the instant of a time on the wall: the first of two, and by the later clock where there is none."""
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return min(first, second)


def _days(cron: Cron, begin: datetime) -> Iterator[datetime]:
    day = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    end = day + LOOKS_AHEAD
    while day < end:
        if cron.is_on(day):
            yield day
        day += timedelta(days=1)


def _values(text: str, of: _Field) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise BadCron(f"{of.name}: {part[:20]!r} is no number, range or step")
        step = int(match["step"] or 1)
        if not step:
            raise BadCron(f"{of.name}: a step of 0 never comes")
        if match["first"] == "*":
            if match["last"]:
                raise BadCron(f"{of.name}: {part[:20]!r} is no range")
            first, last = of.least, of.most
        else:
            first, last = _range(match, of)
        if first > last:
            raise BadCron(f"{of.name}: the range {part[:20]} ends before it begins")
        found |= set(range(first, last + 1, step))
    return frozenset(of.least if value == of.also else value for value in found)


def _range(match: re.Match[str], of: _Field) -> tuple[int, int]:
    """Return the first and the last value. A range or step that begins at its own end means all values to Prefect."""
    first = _number(match["first"], of)
    if not (match["last"] or match["step"]):
        return first, first
    first = of.least if first == of.also and not match["last"] else first
    last = _number(match["last"], of) if match["last"] else of.most
    return (of.least, of.most) if first == last else (first, last)


def _number(text: str, of: _Field) -> int:
    if text in of.words:
        return of.words.index(text) + of.first_word
    if not (text.isascii() and text.isdecimal()) or len(text) > 4:
        raise BadCron(f"{of.name}: {text[:20]!r} is no number")
    most = of.most if of.also is None else of.also
    if not of.least <= int(text) <= most:
        raise BadCron(f"{of.name}: must be from {of.least} to {most}, not {text}")
    return int(text)
