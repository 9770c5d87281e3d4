"""A new cause is a function of the facts and a row: this file adds one, and touches nothing else."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User

from orchestration.diagnosis import diagnosing
from orchestration.diagnosis.facts import RunFacts
from orchestration.diagnosis.table import CAUSES, Cause
from orchestration.diagnosis.told import ToldCause, times
from tests.orchestration.conftest import make_run

pytestmark = pytest.mark.django_db


def takes_many_turns(facts: RunFacts) -> ToldCause | None:
    if facts.run.turn < 100:
        return None
    return ToldCause(f"It has taken {times(facts.run.turn, 'turn')}.", who=["olga"], group="support")


MANY_TURNS = Cause("many_turns", "stuck", takes_many_turns, "Takes many turns", ("cancel",), 60)


def test_a_new_cause_is_told_where_it_fits_and_offers_its_action() -> None:
    olga = User.objects.create(username="olga")
    olga.groups.add(Group.objects.get_or_create(name="operator")[0])
    long, short = make_run(status="running", turn=1_200), make_run(status="running", turn=3)
    told, other = diagnosing.diagnose_many([long, short], causes=(MANY_TURNS, *CAUSES))
    assert (told.cause, told.state, told.heading) == (MANY_TURNS, "stuck", "Takes many turns")
    assert (told.sentence, told.who, told.group) == ("It has taken 1,200 turns.", ["olga"], "many_turns:support")
    assert told.needs_somebody
    (offer,) = diagnosing.offers(told, olga, long)
    assert (offer.name, offer.permitted) == ("cancel", True)
    (as_before,) = diagnosing.diagnose_many([short])
    assert (other.cause, other.whole) == (as_before.cause, as_before.whole)


def test_of_two_causes_the_upper_row_is_told() -> None:
    run = make_run(status="running", turn=1_200)
    (told,) = diagnosing.diagnose_many([run], causes=(*CAUSES, MANY_TURNS))
    assert told.cause != MANY_TURNS
