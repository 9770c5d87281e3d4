from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User

from dataplane import catalogue, selectors
from dataplane.catalogue import HANDBOOK
from dataplane.refreshes.keys import KEY
from dataplane.refreshes.request import request_refresh
from dataplane.windows import Days, Hours, WindowPolicy, due_key


@pytest.mark.parametrize(
    ("policy", "moment", "key"),
    [
        (Days(), "2026-11-28T23:59:59+00:00", "2026-11-28"),
        (Days(), "2026-11-29T00:30:00+01:00", "2026-11-28"),
        (Days("Europe/Berlin"), "2026-11-28T23:30:00+00:00", "2026-11-29"),
        (Days("America/New_York"), "2026-11-28T04:59:00+00:00", "2026-11-27"),
        (Hours(), "2026-11-28T06:59:59+00:00", "2026-11-28T06:00+00:00"),
        (Hours(6, "Asia/Kolkata"), "2026-11-28T00:29:00+00:00", "2026-11-28T00:00+05:30"),
        (Hours(6, "Asia/Kolkata"), "2026-11-28T00:30:00+00:00", "2026-11-28T06:00+05:30"),
    ],
)
def test_a_moment_lies_in_the_window_of_the_policys_own_zone(policy: WindowPolicy, moment: str, key: str) -> None:
    assert policy.key(datetime.fromisoformat(moment)) == key


BERLIN = ZoneInfo("Europe/Berlin")
AUTUMN, SPRING = datetime(2026, 10, 25, tzinfo=BERLIN), datetime(2026, 3, 29, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("every", "day", "windows"),
    [(1, AUTUMN, 25), (1, SPRING, 23), (2, AUTUMN, 12), (2, SPRING, 12), (6, AUTUMN, 4), (6, SPRING, 4)],
)
def test_a_change_of_the_clock_neither_loses_nor_splits_a_window(every: int, day: datetime, windows: int) -> None:
    begin, end = day.astimezone(UTC), (day + timedelta(days=1)).astimezone(UTC)
    quarters = [begin + timedelta(minutes=15 * step) for step in range(int((end - begin) / timedelta(minutes=15)))]
    keys = [Hours(every, "Europe/Berlin").key(moment) for moment in quarters]
    changes = sum(one != other for one, other in pairwise(keys))
    assert len(set(keys)) == windows == changes + 1, "each window is one stretch of time"
    assert all(KEY.fullmatch(key) for key in keys)


def test_the_hour_that_a_clock_repeats_comes_due_twice() -> None:
    policy, first = Days("Europe/Berlin"), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    keys = [due_key(policy.key(due), policy, due) for due in (first, first + timedelta(hours=1))]
    assert keys == ["2026-10-25.02:30+0200", "2026-10-25.02:30+0100"]
    assert all(KEY.fullmatch(key) for key in keys)


def test_hours_that_do_not_divide_a_day_are_refused() -> None:
    with pytest.raises(ValueError, match="must divide a day"):
        Hours(5)


def test_a_refresh_without_a_key_is_that_of_its_datasets_own_window(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    class Always:
        zone = "UTC"

        def key(self, moment: datetime) -> str:
            assert moment.tzinfo is not None
            return "always"

    monkeypatch.setitem(catalogue.CATALOGUE, "handbook", replace(HANDBOOK, window=Always()))
    refresh, _ = request_refresh(dataset="handbook", user=ada)
    assert refresh.key == selectors.window_key("handbook") == selectors.suggested_key("handbook") == "always"
