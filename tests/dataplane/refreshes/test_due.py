"""What a run of the schedule does where its window was used up before: by hand, or by an earlier time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from dataplane import versions
from dataplane.catalogue import HANDBOOK, HandbookParameters
from dataplane.contents.passages import PassageContent
from dataplane.flows import producing, steps
from dataplane.models import Dataset, DatasetVersion, Refresh
from dataplane.refreshes.request import request_refresh
from tests.dataplane.conftest import content, publish

pytestmark = pytest.mark.usefixtures("database_url")

DUE = datetime(2026, 11, 24, 6, tzinfo=UTC)
WINDOW, OWN = "2026-11-24", "2026-11-24.06:00+0000"
Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Do what a run of the schedule does, without Prefect; its sources say `words`."""

    def make(parameters: HandbookParameters) -> PassageContent:
        return content(f"{said['words']} {parameters.folder}")

    def published(entry: Any, made: Any, **given: Any) -> Any:
        return versions.publish(entry, made.unquote(), **given)

    said: dict[str, str] = {}
    monkeypatch.setattr(producing, "publish", published)
    monkeypatch.setattr(producing, "get_run_logger", lambda: logging.getLogger(__name__))
    monkeypatch.setattr(steps, "show", lambda *_: None)
    make.__annotations__["parameters"] = HandbookParameters
    flow = producing.produces(HANDBOOK)(make)

    def run(words: str, *, due: datetime = DUE, number: int = 1) -> str:
        said["words"] = words
        flow_run = SimpleNamespace(
            id=f"00000000-0000-4000-8000-0000000001{number:02}", scheduled_start_time=due, parameters={}
        )
        monkeypatch.setattr(producing, "runtime", SimpleNamespace(flow_run=flow_run))
        return flow.fn(None, None)

    return run


def by_hand(status: str = "published", *, ended_at: datetime | None = None, **more: Any) -> Refresh:
    """A refresh of the window that somebody asked for, at one in the night unless another time is given."""
    request_refresh(dataset="handbook", key=WINDOW, user=None, **more)
    Refresh.objects.update(status=status, finished_at=ended_at or DUE - timedelta(hours=5))
    return Refresh.objects.get()


def ended() -> dict[str, str]:
    return dict(Refresh.objects.order_by("id").values_list("key", "status"))


@pytest.mark.parametrize("status", ["unchanged", "finished", "failed", "cancelled"])
@pytest.mark.parametrize("parameters", [{}, {"folder": "returns"}], ids=["as the schedule", "a part"])
def test_a_window_used_up_by_hand_leaves_the_schedule_its_refresh(
    run: Run, status: str, parameters: dict[str, Any]
) -> None:
    by_hand(status, parameters=parameters)
    assert run("New words.") == "Version 1 is published, with 1 passages."
    assert ended() == {WINDOW: status, OWN: "published"}
    assert Dataset.objects.get().confirmed_at is not None
    assert Refresh.objects.get(key=OWN).parameters == {}, "all of the handbook, whatever part was asked for before"


def test_one_due_time_is_one_refresh_whoever_runs_it_and_however_often(run: Run) -> None:
    by_hand("failed")
    run("New words.")
    Refresh.objects.filter(key=WINDOW).update(finished_at=None, status="running")  # somebody runs it again
    for number in (1, 2):
        assert run("Other words.", number=number) == "This refresh was done already: version 1."
    assert DatasetVersion.objects.count() == 1 and len(ended()) == 2


@pytest.mark.parametrize("minutes", [0, 5])
def test_what_was_still_under_way_when_the_time_came_is_joined(run: Run, minutes: int) -> None:
    publish(WINDOW, content("New words."))
    Refresh.objects.update(finished_at=DUE + timedelta(minutes=minutes))
    assert run("Other words.") == "This refresh was done already: version 1."
    assert ended() == {WINDOW: "published"}


@pytest.mark.parametrize("asked", [{"parameters": {"folder": "returns"}}, {"is_dry_run": True}])
def test_a_part_or_a_dry_run_that_is_under_way_does_not_stand_for_the_schedule(run: Run, asked: dict[str, Any]) -> None:
    by_hand("running", **asked)
    run("New words.")
    assert ended() == {WINDOW: "running", OWN: "published"}


def test_a_failed_refresh_of_the_schedule_is_taken_up_again_by_its_own_run(run: Run) -> None:
    run("New words.")
    # By a clock that is behind Prefect's it ended before it was due.
    Refresh.objects.update(status="failed", finished_at=DUE - timedelta(seconds=1))
    run("New words.")
    assert ended() == {WINDOW: "unchanged"}


def test_a_schedule_by_the_hour_reads_at_every_hour(run: Run) -> None:
    said = []
    for hour in range(3):
        due = DUE + timedelta(hours=hour)
        said.append(run(f"Words of hour {hour}.", due=due, number=hour))
        Refresh.objects.filter(finished_at__gt=due + timedelta(hours=1)).update(finished_at=due + timedelta(minutes=1))
    assert said == [f"Version {number} is published, with 1 passages." for number in (1, 2, 3)]
    assert list(ended()) == [WINDOW, "2026-11-24.07:00+0000", "2026-11-24.08:00+0000"]
