"""When a dataset is refreshed by itself, and changing that. The rows are the truth, and Prefect is told of them.

Until somebody keeps schedules here, those that stand in Prefect hold for a deployment of somebody else's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction

from console import ports
from console.clock import DatabaseNow, database_now
from console.live.announce import announce
from console.roles import may
from console.text.digests import digest_of_drawn
from dataplane import catalogue, cron, selectors
from dataplane.catalogue import Entry
from dataplane.deployments import PrefectSchedule, deployments
from dataplane.errors import InvalidParameters, SchedulesChanged
from dataplane.models import Dataset
from dataplane.models import Schedule as Row
from dataplane.registered import Registered
from dataplane.schedules import ScheduleEntry

MOST: Final = 10  # schedules of one dataset
NEXT_TIMES: Final = 10
_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")


@dataclass(frozen=True)
class Planned:
    """One schedule, and when it comes due."""

    schedule: ScheduleEntry
    next_times: list[datetime]  # aware, UTC; none while it is paused
    fault: str = ""  # why it cannot be followed: a row of somebody else's
    note: str = ""  # why Prefect alone knows its times


def planned(dataset: str, now: datetime | None = None) -> list[Planned]:
    """Return the dataset's schedules with their next ten times.

    Raises DatasetNotFound; where the schedules are left to Prefect, what `in_prefect` raises.
    """
    entry, now = selectors.keeper_of_times(catalogue.entry(dataset)), now or database_now()
    there = [_planned_there(one, now) for one in in_prefect(entry)]
    return [*there, *(_planned(one, now) for one in selectors.schedules_of(entry))]


def in_prefect(entry: Entry) -> list[PrefectSchedule]:
    """Return the schedules that are left to Prefect; none, and no call, where they are kept here.

    Raises PrefectAway, PrefectRefused, DeploymentNotFound.
    """
    if not (isinstance(entry, Registered) and selectors.is_left_to_prefect(entry)):
        return []
    return deployments().find(entry.flow, entry.deployment).schedules


def _planned_there(schedule: PrefectSchedule, now: datetime) -> Planned:
    found = _planned(schedule.entry, now)
    if schedule.is_cron and not found.fault:
        return found
    why = f"Here it is {found.fault}." if schedule.is_cron else "It is no cron line of five fields."
    return Planned(schedule.entry, [], note=f"Prefect alone knows its times. {why}")


def preview(given: Sequence[Mapping[str, Any]]) -> list[Planned]:
    """Return the next times of schedules that were only typed. Raises InvalidParameters."""
    now = database_now()
    return [_planned(one, now) for one in read(given)]


def _planned(schedule: ScheduleEntry, now: datetime) -> Planned:
    if not schedule.is_active:
        return Planned(schedule, [])
    try:
        return Planned(schedule, cron.next_times(schedule.cron, schedule.timezone, after=now, count=NEXT_TIMES))
    except (cron.BadCron, OSError, ValueError) as exc:
        return Planned(schedule, [], f"not followed: {exc}")


def read(given: Sequence[Mapping[str, Any]]) -> list[ScheduleEntry]:
    """Return the schedules that were typed or sent. Raises InvalidParameters, naming each path."""
    errors: list[tuple[str, str]] = []
    if len(given) > MOST:
        errors.append(("schedules", f"must be {MOST} at most, not {len(given)}"))
    found: list[ScheduleEntry] = []
    for number, one in enumerate(given[:MOST]):
        schedule = ScheduleEntry(
            slug=str(one.get("slug") or "main").strip(),
            cron=" ".join(str(one.get("cron") or "").split()),
            timezone=str(one.get("timezone") or "UTC").strip(),
            is_active=bool(one.get("is_active", True)),
        )
        errors += [(f"schedules.{number}.{name}", words) for name, words in _faults(schedule, found)]
        found.append(schedule)
    if errors:
        raise InvalidParameters(errors)
    return found


def _faults(schedule: ScheduleEntry, before: Sequence[ScheduleEntry]) -> list[tuple[str, str]]:
    faults: list[tuple[str, str]] = []
    if not _SLUG.fullmatch(schedule.slug):
        faults.append(("slug", "must be 1 to 50 small letters, digits, - or _"))
    if schedule.slug in {one.slug for one in before}:
        faults.append(("slug", f"the name {schedule.slug[:50]} is another schedule's"))
    if len(schedule.cron) > 100:
        faults.append(("cron", "must have 100 characters at most"))
    else:
        try:
            cron.read(schedule.cron)
        except cron.BadCron as exc:
            faults.append(("cron", str(exc)))
    if not cron.is_zone(schedule.timezone):
        faults.append(("timezone", "must be a time zone's name, for instance Europe/Berlin or UTC"))
    return faults


def digest_of(schedules: Iterable[ScheduleEntry]) -> str:
    """Return what tells these schedules from others, in whatever order they come."""
    return digest_of_drawn(sorted([*asdict(one).values()] for one in schedules))


def replace_schedules(
    *,
    dataset: str,
    schedules: Sequence[Mapping[str, Any]],
    user: User,
    take_over: bool = False,
    seen: str | None = None,
) -> list[ScheduleEntry]:
    """Let the dataset have exactly these schedules; none: it is refreshed only when somebody asks.

    1. Check that the user may, and what they want.
    2. Where the schedules were left to Prefect, refuse to remove one from there unless told to `take_over`.
    3. Under the row's lock, refuse when `seen` is not the digest of the schedules that hold now.
    4. Replace the rows; the same ones again change nothing.
    5. Record the schedules of before and of now, and announce it.

    The flow process serves them a few seconds later, and again after every start.
    `seen`: the digest of what was shown, from `digest_of`; None replaces whatever is there.
    Raises PermissionDenied, DatasetNotFound, InvalidParameters, SchedulesChanged, and what `in_prefect` raises.
    """
    if not may(user, "refresh"):
        raise PermissionDenied("Only an admin may change a schedule.")
    entry, wanted = catalogue.entry(dataset), sorted(read(schedules), key=lambda one: one.slug)
    if (keeper := selectors.keeper_of_times(entry)).name != entry.name:
        raise InvalidParameters([("schedules", f"{keeper.name} runs the same deployment and keeps its times.")])
    there = in_prefect(entry)  # before the transaction: Prefect may be slow
    if not take_over:
        _refuse_to_remove(there, wanted, entry)
    with transaction.atomic():
        Dataset.objects.get_or_create(name=entry.name, defaults={"title": entry.title, "fresh_for": entry.fresh_for})
        row = Dataset.objects.select_for_update(no_key=True).get(name=entry.name)
        kept = selectors.schedules_of(entry)
        before = kept if row.scheduled_at is not None or not there else [one.entry for one in there]
        if row.scheduled_at is not None and before == wanted:
            return wanted
        if seen is not None and seen != digest_of(before):
            raise SchedulesChanged
        Row.objects.filter(dataset=row).delete()
        Row.objects.bulk_create([Row(dataset=row, **asdict(one)) for one in wanted])
        Dataset.objects.filter(pk=row.pk, scheduled_at=None).update(scheduled_at=DatabaseNow())
        announce("data")
        ports.record().record(
            actor=user.get_username(),
            kind="dataset.schedules_changed",
            subject=entry.name,
            body={"before": [asdict(one) for one in before], "after": [asdict(one) for one in wanted]},
        )
    return wanted


def _refuse_to_remove(there: Sequence[PrefectSchedule], wanted: Sequence[ScheduleEntry], entry: Entry) -> None:
    """Raise InvalidParameters with what would go from Prefect: other times, or parameters that nothing would fix."""
    fixed = entry.fixed if isinstance(entry, Registered) else {}
    kept = {one.times for one in wanted}
    going = []
    for one in there:
        is_other = any(name not in fixed or fixed[name] != value for name, value in one.parameters.items())
        if is_other or one.entry.times not in kept:
            more = ", with parameters of its own" if is_other else ""
            going.append(f"{one.entry.slug}: {one.entry.words}{more}")
    if going:
        words = "say that these may go, which stand in Prefect and are not among the ones given: "
        raise InvalidParameters([("take_over", words + "; ".join(going))])
