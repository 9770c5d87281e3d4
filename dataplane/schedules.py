"""When datasets are refreshed by themselves: rows that the catalogue begins and people then own. No Django here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

    from dataplane.catalogue import DatasetEntry

_DAILY = re.compile(r"(?P<minute>[0-9]{1,2}) (?P<hour>[0-9]{1,2}) \* \* \*")


@dataclass(frozen=True)
class ScheduleEntry:
    """One schedule of a dataset."""

    slug: str = "main"  # its name among the dataset's
    cron: str = ""  # five fields; of a schedule that stands in Prefect alone whatever it has, in words
    timezone: str = "UTC"  # IANA name
    is_active: bool = True

    @property
    def times(self) -> tuple[str, str, bool]:
        """What two schedules of one dataset are the same by: its name does not count."""
        return self.cron, self.timezone, self.is_active

    @property
    def words(self) -> str:
        """The schedule as people say it, e.g. "daily at 06:00 UTC"."""
        if daily := _DAILY.fullmatch(self.cron):
            return f"daily at {int(daily['hour']):02}:{int(daily['minute']):02} {self.timezone}"
        if len(self.cron.split()) != 5:  # an interval or a rule of Prefect's
            return f"{self.cron} ({self.timezone})"
        return f"at {self.cron} ({self.timezone})"


def in_words(schedules: Sequence[ScheduleEntry]) -> str:
    """Return when the dataset is refreshed by itself."""
    return " and ".join(one.words for one in schedules if one.is_active) or "only when somebody asks"


def seeded(connection: psycopg.Connection[Any], entry: DatasetEntry) -> list[ScheduleEntry]:
    """Return the dataset's schedules; the first time ever, write the catalogue's before.

    Whoever changes, pauses or deletes a row has the last word: no later start brings the catalogue's back.
    """
    with connection.transaction():
        connection.execute(
            "INSERT INTO dataplane_dataset (name, title, fresh_for) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [entry.name, entry.title, entry.fresh_for],
        )
        first = connection.execute(
            "UPDATE dataplane_dataset SET scheduled_at = signalbox_now() WHERE name = %s AND scheduled_at IS NULL",
            [entry.name],
        )
        if first.rowcount:
            begin = entry.schedule
            connection.execute(
                "INSERT INTO dataplane_schedule (dataset_id, slug, cron, timezone, is_active)"
                " VALUES (%s, %s, %s, %s, %s)",
                [entry.name, begin.slug, begin.cron, begin.timezone, begin.is_active],
            )
        found = connection.execute(
            "SELECT slug, cron, timezone, is_active FROM dataplane_schedule WHERE dataset_id = %s ORDER BY slug",
            [entry.name],
        )
        return [ScheduleEntry(*row) for row in found.fetchall()]
