"""Changing which version is current, and refreshing windows of the past. Each says first what it would touch."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction

from console import ports
from console.clock import database_now
from console.ids import new_id
from console.live.announce import announce
from console.roles import may
from dataplane import catalogue, selectors
from dataplane.contents.passages import INDEX_FROM_ROWS
from dataplane.contents.search_indexes import SEARCH_PLANS
from dataplane.errors import FlowRunActionRefused, InvalidParameters
from dataplane.models import Dataset, Refresh
from dataplane.refreshes.request import request_refresh

MOST_WINDOWS: Final = 100
USUAL_WINDOWS: Final = 10
MOST_SHOWN: Final = 50
FIRST_YEAR, LAST_YEAR = 1970, 9000
_STEP: Final = timedelta(minutes=30)  # no window is shorter than an hour
_LONGEST: Final = timedelta(days=367, hours=1)  # a leap year and the day after, on which a clock may go back


@dataclass(frozen=True)
class Rollback:
    """What making another version current would touch."""

    dataset: str
    current: int
    version: int
    agents: list[str]
    requests_waiting: list[str]  # their agent has read the version that would no longer be current
    runs_open: list[str]
    warnings: list[str] = field(default_factory=list)


def preview_rollback(dataset: str, version: int) -> Rollback:
    """Return who would be affected. Raises DatasetNotFound, DatasetNotPublished, FlowRunActionRefused."""
    target, current = selectors.version(dataset, version), selectors.current_version(dataset)
    if target.kind == SEARCH_PLANS.name:
        raise FlowRunActionRefused(
            "How a dataset is searched follows the dataset: make another version of it current, or rebuild the index."
        )
    if target.pk == current.pk:
        raise FlowRunActionRefused(f"Version {version} is the current one already.")
    uses = ports.dataset_readers().uses_of(dataset, current.version, MOST_SHOWN)
    waiting = [one["id"] for use in uses for one in use["requests"] if one["status"] == "pending"]
    return Rollback(
        dataset=dataset,
        current=current.version,
        version=target.version,
        agents=ports.dataset_readers().agents_reading(dataset),
        requests_waiting=waiting,
        runs_open=[use["run_id"] for use in uses if use["is_open"]],
        warnings=[
            f"The next refresh that finds the content of version {current.version} again makes that one current again: "
            "pause the schedule, or mend the source, first."
        ],
    )


def roll_back(*, dataset: str, version: int, reason: str, user: User) -> Rollback:
    """Make another published version current; nothing is written or removed. The same again is refused in words.

    Raises PermissionDenied, InvalidParameters, and what the preview raises.
    """
    if not may(user, "refresh"):
        raise PermissionDenied("Only an admin may make another version current.")
    _check_reason(reason)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"signalbox dataset {dataset}"])
        touched = preview_rollback(dataset, version)
        # What confirmed the version before says nothing of this one: only the next refresh does.
        chosen = selectors.version(dataset, version)
        Dataset.objects.filter(name=dataset).update(current_version=chosen, confirmed_at=None)
        for entry in catalogue.CATALOGUE.values():
            if entry.follows == dataset and chosen.rows >= INDEX_FROM_ROWS:
                request_refresh(dataset=entry.name, key=new_id("after"), user=None)
        announce("data", "inbox", "runs")
        ports.record().record(
            actor=user.get_username(),
            kind="dataset.rolled_back",
            subject=dataset,
            body={"from": touched.current, "to": touched.version, "reason": reason.strip()},
        )
    return touched


def _check_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > 500:
        raise InvalidParameters([("reason", "say why, in 1 to 500 characters: it stands in the record")])


@dataclass(frozen=True)
class Window:
    """One window of a backfill, and what its refresh is; empty: there is none yet."""

    key: str
    status: str = ""


@dataclass(frozen=True)
class Backfill:
    """The windows between two moments: those asked for now, and how many there are beyond the limit."""

    windows: list[Window]
    left: int

    @property
    def missing(self) -> list[Window]:
        return [one for one in self.windows if not one.status]


def preview_backfill(dataset: str, begin: datetime, end: datetime, limit: int = USUAL_WINDOWS) -> Backfill:
    """Return the windows from `begin` to `end` (aware), oldest first; at most `limit` of those without a refresh.

    A window that has not begun is none of them: nobody uses it up before its time.
    Raises DatasetNotFound, InvalidParameters.
    """
    entry = catalogue.entry(dataset)
    errors = []
    if not 1 <= limit <= MOST_WINDOWS:
        errors.append(("limit", f"must be from 1 to {MOST_WINDOWS}"))
    if begin > end:
        errors.append(("to", "must not be before from"))
    elif end - begin > _LONGEST:
        errors.append(("from", "must be a year before to at most"))
    now = database_now()
    if end > now + timedelta(days=1):
        errors.append(("to", "must not lie in the future"))
    if errors:
        raise InvalidParameters(errors)
    moments = [*(begin + _STEP * step for step in range(int((end - begin) / _STEP) + 1)), end]
    keys = list(dict.fromkeys(entry.key(moment) for moment in moments if moment <= now))
    known: dict[str, str] = dict(Refresh.objects.filter(dataset_id=dataset, key__in=keys).values_list("key", "status"))
    shown: list[Window] = []
    missing = 0
    for key in keys:
        missing += key not in known
        if missing > limit and key not in known:
            continue
        shown.append(Window(key, known.get(key, "")))
    return Backfill(shown, max(0, missing - limit))


def backfill(*, dataset: str, begin: datetime, end: datetime, limit: int, user: User) -> Backfill:
    """Ask for a refresh of each window that has none, oldest first; the same again asks for the next ones.

    One by one: what was asked for before a fault stays asked for. Raises PermissionDenied, InvalidParameters.
    """
    if not may(user, "refresh"):
        raise PermissionDenied("Only an admin may backfill.")
    found = preview_backfill(dataset, begin, end, limit)
    for window in found.missing:
        request_refresh(dataset=dataset, key=window.key, user=user)
    return preview_backfill(dataset, begin, end, limit) if not found.missing else _asked(dataset, found)


def _asked(dataset: str, found: Backfill) -> Backfill:
    keys = [one.key for one in found.windows]
    known: dict[str, str] = dict(Refresh.objects.filter(dataset_id=dataset, key__in=keys).values_list("key", "status"))
    return Backfill([Window(one.key, known.get(one.key, "")) for one in found.windows], found.left)


def span_of(dataset: str, begin: Any, end: Any) -> tuple[datetime, datetime]:
    """Return from when to when is asked for (UTC). Raises DatasetNotFound, InvalidParameters.

    Each is an instant or a date. A date goes by the clock of the dataset's windows, as an instant without a zone does:
    `begin` is the first moment of its day, `end` the last one, or now while that day lasts.
    """
    zone = ZoneInfo(catalogue.entry(dataset).window.zone)
    first, _ = _bounds(begin, "from", zone)
    day, last = _bounds(end, "to", zone)
    return first, max(day, min(last, database_now()))


def _bounds(text: Any, field_name: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the first and the last moment of a date; of an instant that instant, twice. In UTC."""
    try:
        moment, is_date = _read(str(text))
    except ValueError as exc:
        raise InvalidParameters([(field_name, "must be a date, for instance 2026-11-24, or an instant")]) from exc
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:  # beyond, some zone's clock would leave the calendar
        raise InvalidParameters([(field_name, f"must be from the year {FIRST_YEAR} to {LAST_YEAR}")])
    moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    first = moment.astimezone(UTC)
    if not is_date:
        return first, first
    return first, (moment + timedelta(days=1)).astimezone(UTC) - timedelta(microseconds=1)


def _read(text: str) -> tuple[datetime, bool]:
    """Return what was given, and whether it is a date. Raises ValueError."""
    try:
        return datetime.combine(date.fromisoformat(text), time()), True
    except ValueError:
        return datetime.fromisoformat(text), False
