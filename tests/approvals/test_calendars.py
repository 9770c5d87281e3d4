"""Deadlines by business hours: against a slow model that looks at the clock on the wall, minute by minute."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from approvals.policies.asking import ladder_from
from approvals.policies.calendars import DAYS, Calendar, add, described, is_open
from approvals.proposal.terms import Terms

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]
OFFICE = {day: [("09:00", "17:00")] for day in DAYS[:5]}


def calendar(hours: Any = None, timezone: str = "Europe/Berlin", holidays: Any = ()) -> Calendar:
    return Calendar(timezone=timezone, hours=OFFICE if hours is None else hours, holidays=list(holidays))


def at(text: str, zone: str = "Europe/Berlin") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


@st.composite
def day_hours(draw: st.DrawFn) -> list[tuple[str, str]]:
    marks = sorted(draw(st.sets(st.integers(4 * 6, 24 * 6), min_size=0, max_size=4)))
    marks = marks[: len(marks) // 2 * 2]
    texts = [f"{mark // 6:02}:{mark % 6}0" for mark in marks]
    return list(zip(texts[::2], texts[1::2], strict=True))


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    hours = {day: draw(day_hours()) for day in DAYS}
    if not any(hours.values()):
        hours["tue"] = [("09:00", "10:00")]
    days = st.dates(date(2026, 3, 1), date(2026, 11, 30))
    return calendar(hours, draw(st.sampled_from(ZONES)), draw(st.lists(days, max_size=3)))


moments = st.integers(0, 235 * 24 * 60).map(
    lambda minutes: datetime(2026, 3, 20, tzinfo=UTC) + timedelta(minutes=minutes)
)
durations = st.integers(0, 40 * 60).map(lambda minutes: minutes * 60)


def wall_clock_says_open(minute: datetime, calendar: Calendar) -> bool:
    local = minute.astimezone(ZoneInfo(calendar.timezone))
    shown = f"{local.hour:02}:{local.minute:02}"
    hours = [] if local.date() in calendar.holidays else calendar.hours.get(DAYS[local.weekday()], [])
    return any(start <= shown < end for start, end in hours)


@settings(max_examples=60, deadline=None)
@given(calendar=calendars(), start=moments, minutes=st.integers(1, 20 * 60))
def test_it_counts_the_minutes_that_a_wall_clock_shows_as_open(
    calendar: Calendar, start: datetime, minutes: int
) -> None:
    end, counted, minute = add(start, minutes * 60, calendar), 0, start
    while counted < minutes:
        counted += wall_clock_says_open(minute, calendar)
        minute += timedelta(minutes=1)
    assert end == minute


@settings(deadline=None)
@given(calendar=calendars(), start=moments, one=durations, other=durations)
def test_one_after_the_other_is_both_at_once(calendar: Calendar, start: datetime, one: int, other: int) -> None:
    assert add(add(start, one, calendar), other, calendar) == add(start, one + other, calendar)


@settings(deadline=None)
@given(calendar=calendars(), starts=st.tuples(moments, moments), lengths=st.tuples(durations, durations))
def test_later_or_longer_never_ends_earlier(
    calendar: Calendar, starts: tuple[datetime, datetime], lengths: tuple[int, int]
) -> None:
    assert add(min(starts), min(lengths), calendar) <= add(max(starts), min(lengths), calendar)
    assert add(min(starts), min(lengths), calendar) <= add(min(starts), max(lengths), calendar)


@settings(deadline=None)
@given(calendar=calendars(), start=moments, length=durations)
def test_the_end_lies_inside_business_time_and_not_before_the_start(
    calendar: Calendar, start: datetime, length: int
) -> None:
    end = add(start, length, calendar)
    assert is_open(end, calendar)
    assert end - start >= timedelta(seconds=length)


@pytest.mark.parametrize(
    ("start", "hours", "end"),
    [
        ("2026-11-24 10:00", 3, "2026-11-24 13:00"),
        ("2026-11-24 15:00", 2, "2026-11-24 17:00"),  # the last moment, not the next morning
        ("2026-11-24 15:00", 3, "2026-11-25 10:00"),
        ("2026-11-27 16:30", 1, "2026-11-30 09:30"),  # over a weekend
        ("2026-11-28 12:00", 1, "2026-11-30 10:00"),  # begins on a Saturday
        ("2026-12-24 16:00", 2, "2026-12-28 10:00"),  # a holiday, then a weekend
        ("2026-11-24 10:00", 40, "2026-12-01 10:00"),
    ],
)
def test_an_office_week(start: str, hours: int, end: str) -> None:
    assert add(at(start), hours * 3600, calendar(holidays=[date(2026, 12, 25)])) == at(end)


def test_where_clocks_are_put_forward_the_missing_hour_does_not_count() -> None:
    night = calendar({"sun": [("01:00", "04:00")], "mon": [("01:00", "04:00")]})
    assert add(at("2026-03-29 01:00"), 2 * 3600, night) == at("2026-03-29 04:00")
    assert add(at("2026-03-29 01:00"), 3 * 3600, night) == at("2026-03-30 02:00")


def test_a_window_inside_the_missing_hour_is_no_window_and_one_that_ends_in_it_ends_at_the_jump() -> None:
    assert add(at("2026-03-28 12:00"), 60, calendar({"sun": [("02:15", "02:45")]})) == at("2026-04-05 02:16")
    until = calendar({"sun": [("01:00", "02:30")], "mon": [("10:00", "11:00")]})
    assert add(at("2026-03-29 01:00"), 3600, until) == at("2026-03-29 03:00")  # the jump: 02:00 is 03:00
    assert add(at("2026-03-29 01:00"), 3660, until) == at("2026-03-30 10:01")


def test_where_clocks_are_put_back_both_hours_count() -> None:
    night = calendar({"sun": [("01:00", "04:00")]})
    assert add(at("2026-10-25 01:00"), 4 * 3600, night) == at("2026-10-25 04:00")
    until = calendar({"sun": [("01:00", "02:30")]})  # from the first 01:00 to the last 02:30
    assert add(at("2026-10-25 01:00"), 9000, until) == at("2026-10-25 03:00") - timedelta(minutes=30)


def test_a_day_that_a_zone_left_out_is_no_day() -> None:
    apia = calendar({day: [("09:00", "10:00")] for day in DAYS}, "Pacific/Apia")
    assert add(at("2011-12-29 09:30", "Pacific/Apia"), 3600, apia) == at("2011-12-31 09:30", "Pacific/Apia")


@pytest.mark.parametrize(
    "wrong",
    [
        {"timezone": "Europe/Atlantis"},
        {"timezone": "../../etc/passwd"},
        {"hours": {}},
        {"hours": {"mon": []}},
        {"hours": {"mon": [["22:00", "06:00"]]}},
        {"hours": {"mon": [["09:00", "09:00"]]}},
        {"hours": {"mon": [["09:00", "12:00"], ["11:00", "17:00"]]}},
        {"hours": {"mon": [["9:00", "17:00"]]}},
        {"hours": {"mon": [["09:00", "24:01"]]}},
        {"hours": {"mon": [["09:00", "17:00:30"]]}},
        {"hours": {"someday": [["09:00", "17:00"]]}},
        {"holidays": ["Christmas"]},
        {"colour": "red"},
    ],
)
def test_what_is_no_calendar_is_refused(wrong: dict[str, Any]) -> None:
    fine = {"timezone": "UTC", "hours": {"mon": [["09:00", "24:00"]]}, "holidays": ["2026-12-25"]}
    assert Calendar.model_validate(fine)
    with pytest.raises(ValidationError):
        Calendar.model_validate(fine | wrong)


def test_a_calendar_in_words() -> None:
    words = described(calendar(OFFICE | {"fri": [("09:00", "12:00"), ("13:00", "15:00")]}, holidays=[date(2026, 5, 1)]))
    assert words == [
        "Mon-Thu 09:00-17:00",
        "Fri 09:00-12:00, 13:00-15:00",
        "Sat-Sun closed",
        "closed on 2026-05-01",
    ]


def test_the_ladder_of_terms_counts_by_their_calendar() -> None:
    office = calendar().model_dump(mode="json")
    terms = Terms(
        "r", "1", remind_after=3600, escalate_after=9 * 3600, expire_after=40 * 3600, calendar="office", hours=office
    )
    ladder = ladder_from(Terms.from_json(terms.to_json()), at("2026-11-24 16:00"))
    assert ladder == [
        ("remind", at("2026-11-24 17:00")),
        ("escalate", at("2026-11-25 17:00")),
        ("expire", at("2026-12-01 16:00")),
    ]
