"""Many open runs of which 200 are stuck by eight causes: found within the watcher's budget, listed at a flat cost.

The same with 10,000 and its time is `bench.stuck`: neither the looks nor the queries grow with those that are well.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from bench.stuck import ADDRESSES, EXAMINED_EVERY, Temporal, seed
from console import health
from console.clock import database_now
from orchestration import reconciling
from orchestration.diagnosis import standing
from orchestration.models import Lookout, Run
from tests.orchestration.conftest import go

pytestmark = pytest.mark.django_db(transaction=True)

RUNS, EACH, CAUSES = 2_000, 25, 8
QUERIES = 20 + 15 * CAUSES  # of one examination at most: some, and some for each cause, none for each run
MINUTE = 60  # seconds, in each of which a relay looks around once


def watch(temporal: Temporal, wanted: int) -> int:
    """Do what a relay does each second, until as many are found; return after how many seconds that is."""
    for second in range(MINUTE):
        for part in ("worker", "relay"):
            health.beat(part, "works", ok=True)
        if second % EXAMINED_EVERY == 0:
            with CaptureQueriesContext(connection) as caught:
                is_more = standing.step(None)
            assert not is_more and len(caught) <= QUERIES, "one step examines them all"
        asked = len(temporal.asked)
        Lookout.objects.update(looked_at=database_now() - timedelta(seconds=2))
        go(reconciling.look_around(temporal))  # type: ignore[arg-type]  # what it asks of Temporal is all there
        assert len(temporal.asked) - asked <= reconciling.LOOKS_AT_ONCE
        if Run.objects.exclude(cause="").count() == wanted:
            return second
    pytest.fail(f"{Run.objects.exclude(cause='').count()} of {wanted} were found in {MINUTE} s")


def costs(client: Client) -> dict[str, int]:
    """Return how many queries each list takes."""
    found = {}
    for name, address in ADDRESSES.items():
        with CaptureQueriesContext(connection) as caught:
            answer = client.get(address, headers={"HX-Request": "true"})
        assert answer.status_code == 200
        found[name] = len(caught)
    return found


def test_all_are_found_within_a_minute_and_the_lists_cost_the_same_however_many_there_are() -> None:
    temporal = seed(RUNS, EACH)
    watch(temporal, CAUSES * EACH)
    causes = Counter(Run.objects.exclude(cause="").values_list("cause", flat=True))
    assert len(causes) == CAUSES and set(causes.values()) == {EACH}, causes
    healthy = Run.objects.filter(pk__contains="-waits-") | Run.objects.filter(pk__contains="-works-")
    assert healthy.count() == RUNS - CAUSES * EACH and not healthy.exclude(cause="").exists()

    client = Client()
    client.force_login(User.objects.get(username="olga"))
    costs(client)  # the first request of a process asks more
    many = costs(client)
    page = client.get(ADDRESSES["the stuck list"]).content.decode()
    assert page.count(f">{EACH} runs</span>") == CAUSES and len(page) < 120_000
    few = Run.objects.filter(pk__endswith="-00000")
    Run.objects.exclude(pk__in=few.values("pk")).update(cause="", cause_group="")
    assert Run.objects.exclude(cause="").count() == CAUSES
    few_cost = costs(client)  # a list of runs asks more where some on its page wait for people
    assert max(*many.values(), *few_cost.values()) <= 25, (many, few_cost)
    for name in ("the stuck list", "the stuck list by the API"):
        assert few_cost[name] == many[name]
