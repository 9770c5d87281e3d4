"""When a run of somebody else's flow is taken for dead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dataplane import assets, catalogue
from dataplane.errors import PrefectAway
from dataplane.models import Dataset, Refresh
from dataplane.prefect_gateway import FlowRun
from dataplane.refreshes import follow
from dataplane.refreshes.follow import Follower, dead_because
from tests.dataplane.fakes import FakePrefect

from .test_missed_windows import FakeDeployments

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SERVED = "Nobody serves its deployment"
SILENT = "no sign of life"


def ago(seconds: int) -> datetime:
    return NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("age", "beats", "polled", "why"),
    [
        # Killed at once, with whoever had started it: true within 90 s, however many signs of life there were.
        (65, [], 65, SERVED),
        (65, [65], 65, SERVED),
        (95, [65, 95], 65, SERVED),
        (155, [65, 95, 125, 155], 65, SILENT),
        # Just now nobody can tell.
        (50, [], 50, ""),
        (50, [50], 50, ""),
        (300, [20, 50], 300, ""),
        (300, [50], 300, ""),
        # Somebody serves it: only missing signs of life tell.
        (600, [50, 80, 110], 5, ""),
        (600, [60, 90, 120], 5, SILENT),
        (600, [60, 90, 150], 5, ""),  # one was lost, or comes late
        # One that gives a sign every three minutes is not dead between two of them.
        (600, [170, 350], 5, ""),
        (600, [170, 350], 65, ""),
        # One sign does not say how often they come, and two may be of two attempts.
        (300, [290], 5, ""),
        (1800, [1790], 5, ""),
        (1900, [1890], 5, SILENT),
        (600, [270, 275], 5, ""),
        (600, [290, 295], 5, SILENT),
        (600, [50, 52, 54], 5, ""),  # no flow gives them more often than every 30 s
        (1200, [900, 1500], 5, ""),
    ],
)
def test_a_run_is_taken_for_dead_by_what_is_known_of_it(age: int, beats: list[int], polled: int, why: str) -> None:
    run = FlowRun("r", "name", "flow", "d", "RUNNING", "Running", "", ago(age), ago(age))
    found = dead_because(run, pid="", beats=[ago(one) for one in beats], polled_at=ago(polled), now=NOW)
    assert (why in found) if why else not found, found


@pytest.mark.parametrize(
    ("kind", "beats", "polled", "back", "why"),
    [
        # Prefect was away for minutes: nobody could tell it of a life, and its runners come back by and by.
        ("RUNNING", [400], 400, 5, ""),
        ("RUNNING", [400], 400, 170, ""),
        ("RUNNING", [400], 400, 190, SERVED),
        ("RUNNING", [300, 330, 360], 300, 30, ""),
        ("RUNNING", [300, 330, 360], 5, 50, ""),
        ("RUNNING", [300, 330, 360], 5, 60, SILENT),
        ("RUNNING", [], 400, 5, ""),
        ("CANCELLING", [], 400, 30, ""),
        ("CANCELLING", [], 400, 65, "told to cancel"),
        # That was long ago.
        ("RUNNING", [65], 65, 3600, SERVED),
    ],
)
def test_after_an_outage_of_prefect_its_runs_get_the_time_to_be_heard(
    kind: str, beats: list[int], polled: int, back: int, why: str
) -> None:
    run = FlowRun("r", "name", "flow", "d", kind, kind.title(), "", ago(600), ago(600))
    found = dead_because(
        run, pid="", beats=[ago(one) for one in beats], polled_at=ago(polled), now=NOW, back_at=ago(back)
    )
    assert (why in found) if why else not found, found


@pytest.mark.django_db
@pytest.mark.parametrize(("away_for", "is_an_outage"), [(5, False), (60, True)])
def test_who_follows_knows_since_when_prefect_is_back(
    away_for: int, is_an_outage: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefect = FakePrefect()
    others: Any = FakeDeployments(prefect)
    follower = Follower(prefect, others)
    answers: list[Any] = [PrefectAway("away"), PrefectAway("away"), 0]
    moments = [ago(away_for + 1), ago(1), NOW]

    def catch_up(_: Any, *, cut_at: datetime | None) -> None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return moments[-1 - len(answers)]

    monkeypatch.setattr(follow, "datetime", Clock)
    monkeypatch.setattr(assets, "catch_up", catch_up)
    monkeypatch.setattr(catalogue, "others", dict)
    dataset = Dataset.objects.create(name="d", fresh_for=timedelta(days=1))
    Refresh.objects.create(id="rfr_1", dataset=dataset, key="k", parameters={}, deployment="nightly")
    for _ in range(2):
        with pytest.raises(PrefectAway):
            follower.look()
    follower.look()
    assert follower.back_at == (NOW if is_an_outage else None)
