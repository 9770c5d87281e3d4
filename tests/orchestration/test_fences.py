"""Which attempt of a run is the newest: by era, then turn, then attempt, or by when Temporal made it due."""

from __future__ import annotations

import pytest
from django.db import transaction

from orchestration import fences, services
from orchestration.contracts import StartRun, Turn
from orchestration.errors import Fenced
from orchestration.fences import Attempt
from orchestration.models import Run
from orchestration.services import TurnEnd
from tests.orchestration.conftest import make_run

pytestmark = pytest.mark.django_db


def begun(
    run: Run, turn: int, *, number: int = 1, temporal_run: str = "first", era: int = 0, due_at: float = 0.0
) -> Run:
    """Begin an attempt of a run."""
    start = services.begin_turn(Turn(run.pk, "support", turn, era=era), Attempt(temporal_run, turn, number, due_at))
    assert start.run is not None
    return start.run


def raise_era(run: Run) -> None:
    with transaction.atomic():
        fences.begin_era(Run.objects.select_for_update().get(pk=run.pk))


def test_a_new_era_fences_all_that_has_begun_and_its_turns_count_from_anywhere() -> None:
    run = make_run()
    under_way = begun(run, 7)
    raise_era(run)
    with pytest.raises(Fenced):
        services.finish_turn(Turn(run.pk, "support", 7), under_way.fence, TurnEnd("c"))
    for turn, number in ((7, 2), (8, 1), (800, 1)):
        with pytest.raises(Fenced):
            begun(run, turn, number=number)
    again = begun(run, 5, temporal_run="second")
    assert (again.era, again.turn, again.temporal_run_id) == (1, 5, "second")
    with pytest.raises(Fenced):
        begun(run, 9, temporal_run="first")
    services.finish_turn(Turn(run.pk, "support", 5), again.fence, TurnEnd("c"))


def test_a_workflow_that_was_started_for_a_later_era_takes_the_run_into_it() -> None:
    run = make_run()
    begun(run, 7)
    later = begun(run, 1, temporal_run="second", era=2)
    assert (later.era, later.turn) == (2, 1)
    with pytest.raises(Fenced):
        begun(run, 8)
    assert begun(run, 2, temporal_run="second", era=2).era == 2


def test_rows_of_before_there_were_eras_go_on() -> None:
    run = make_run(temporal_runs=[{"id": "first", "turn": 3, "attempt": 2}], turn=3, fence=9)
    with pytest.raises(Fenced):
        begun(run, 3, number=2)
    assert (begun(run, 3, number=3).era, begun(run, 4).fence) == (0, 11)


@pytest.mark.parametrize("first", [1, 50], ids=["begun as usual", "at length"])
def test_an_attempt_that_temporal_counts_anew_is_newer_than_those_that_were_due_before(first: int) -> None:
    run = make_run()
    if first > 1:
        begun(run, 3, due_at=1_000.0)
    old = begun(run, 3, number=first, due_at=2_000.0)
    again = begun(run, 3, number=1, due_at=2_030.25)
    with pytest.raises(Fenced):
        services.finish_turn(Turn(run.pk, "support", 3), old.fence, TurnEnd("c"))
    for late in (2_030.25, 2_000.0, 0.0):
        with pytest.raises(Fenced):
            begun(run, 3, number=1, due_at=late)
    with pytest.raises(Fenced):
        begun(run, 2, due_at=9_000.0)
    assert begun(run, 3, number=2, due_at=2_060.0).fence == again.fence + 1
    raise_era(run)
    with pytest.raises(Fenced):
        begun(run, 3, number=1, due_at=9_000.0)


def test_the_era_travels_from_the_start_to_the_workflow() -> None:
    payload = {"run_id": "r", "agent": "support", "turn_seconds": 600}
    assert services.workflow_input(payload) == StartRun("r", "support")
    assert services.workflow_input(payload | {"era": 3}).era == 3
