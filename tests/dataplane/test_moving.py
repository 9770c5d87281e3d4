"""What moves in flow runs under way is asked for once, for all who look, and told to their pages."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane import moving
from dataplane.catalogue import HANDBOOK
from dataplane.moving import MovingRuns
from tests.dataplane.fakes import FakePrefect

pytestmark = pytest.mark.django_db


class Marks:
    """What Prefect has of each run besides its state."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        self.asked: list[list[str]] = []

    def marks(self, flow_run_ids: list[str]) -> dict[str, str]:
        self.asked.append(list(flow_run_ids))
        return {one: self.of.get(one, "") for one in flow_run_ids}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(moving, "announce", lambda *topics: found.extend(topics))
    return found


@pytest.fixture
def prefect() -> FakePrefect:
    fake = FakePrefect()
    fake.add_deployment(HANDBOOK.flow, HANDBOOK.deployment)
    return fake


def begin(prefect: FakePrefect, key: str) -> str:
    run: Any = prefect.create_flow_run(
        flow=HANDBOOK.flow, deployment=HANDBOOK.deployment, parameters={}, idempotency_key=key, name=key
    )
    prefect.move(run.id, "RUNNING")
    return str(run.id)


def test_only_what_moved_is_told(prefect: FakePrefect, told: list[str]) -> None:
    one, other = begin(prefect, "a"), begin(prefect, "b")
    marks = Marks()
    runs = MovingRuns(prefect, marks)
    assert runs.look() == 2 and sorted(told) == sorted([f"flow-run:{one}", f"flow-run:{other}"])
    told.clear()
    assert runs.look() == 2 and told == []
    marks.of[other] = "a line more"
    runs.look()
    assert told == [f"flow-run:{other}"]
    assert all(len(asked) == 2 for asked in marks.asked), "one question for all runs"


def test_a_run_that_ended_is_looked_at_a_little_longer_for_its_last_lines(
    prefect: FakePrefect, told: list[str]
) -> None:
    run_id, marks = begin(prefect, "a"), Marks()
    runs = MovingRuns(prefect, marks)
    runs.look()
    prefect.move(run_id, "COMPLETED")
    told.clear()
    assert runs.look() == 1 and told == [f"flow-run:{run_id}"]
    told.clear()
    marks.of[run_id] = "its last line"
    assert runs.look() == 1 and told == [f"flow-run:{run_id}"]


def test_a_run_that_ended_long_ago_is_looked_at_no_more(
    prefect: FakePrefect, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "TRAIL_SECONDS", -1.0)
    run_id, runs = begin(prefect, "a"), MovingRuns(prefect, Marks())
    assert runs.look() == 1
    prefect.move(run_id, "COMPLETED")
    assert runs.look() == 0


def test_nothing_under_way_asks_nothing_more(prefect: FakePrefect, told: list[str]) -> None:
    marks = Marks()
    assert MovingRuns(prefect, marks).look() == 0 and marks.asked == [] and told == []
