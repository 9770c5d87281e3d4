"""Why a refresh does not go on: late, crashed, held up by another run's slot; kept, and told on the run's page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from console import ports
from console.clock import database_now
from dataplane.catalogue import HANDBOOK
from dataplane.models import Dataset, Refresh
from dataplane.prefect_gateway import FlowRun
from dataplane.refreshes import standing
from dataplane.refreshes.watch import RefreshWatch
from orchestration.diagnosis import diagnosing
from tests.dataplane.fakes import FakePrefect
from tests.orchestration.conftest import make_run, open_for, reviewer

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def flow_run(state: str, name: str = "", *, ago: float = 0, run_id: str = "run-1", **changes: Any) -> FlowRun:
    at = NOW - timedelta(seconds=ago)
    fields: dict[str, Any] = {"created_at": at, "expected_start_at": at, "state_at": at, "state_message": ""}
    fields |= {"id": run_id, "name": "n", "flow": "f", "deployment": "d"}
    return FlowRun(**fields | {"state_type": state, "state_name": name or state.capitalize()} | changes)


@pytest.mark.parametrize(
    ("run", "restarts", "kind"),
    [
        (flow_run("SCHEDULED", ago=5), 0, None),
        (flow_run("SCHEDULED", "Late", ago=60), 0, "flow_late"),
        (flow_run("SCHEDULED", "AwaitingRetry", ago=3), 1, "flow_crashed"),
        (flow_run("CRASHED", ago=3), 0, "flow_crashed"),
        (flow_run("SCHEDULED", "AwaitingConcurrencySlot", ago=3), 0, "slot_held"),
        (flow_run("RUNNING", ago=600), 0, None),
        (flow_run("RUNNING", ago=600), 2, None),
    ],
)
def test_a_flow_run_that_does_not_go_on_is_told_by_its_kind(run: FlowRun, restarts: int, kind: str | None) -> None:
    found = standing.stand_of(run, restarts=restarts, now=NOW)
    assert (found or {}).get("kind") == kind


@pytest.mark.parametrize(
    ("state", "ago", "is_heard", "kind"),
    [
        ("RUNNING", 600, False, "flow_unheard"),
        ("PENDING", 600, False, "flow_unheard"),
        ("RUNNING", 600, True, None),
        ("RUNNING", 200, False, None),
        ("CANCELLING", 600, False, None),
        ("COMPLETED", 600, False, None),
    ],
)
def test_a_run_that_never_gave_a_sign_of_life_is_told(state: str, ago: int, is_heard: bool, kind: str | None) -> None:
    found = standing.stand_of(flow_run(state, ago=ago), restarts=0, now=NOW, is_heard=is_heard)
    assert (found or {}).get("kind") == kind


@pytest.mark.parametrize(
    ("others", "holder"),
    [
        ([flow_run("RUNNING", run_id="zombie", ago=900, started_at=NOW)], "zombie"),
        ([flow_run("CRASHED", run_id="dead", ago=60, started_at=NOW)], "dead"),
        ([flow_run("CRASHED", run_id="long dead", ago=900, started_at=NOW)], None),
        ([flow_run("SCHEDULED", run_id="waits too", ago=9)], None),
    ],
)
def test_the_run_that_holds_the_slot_is_named(others: list[FlowRun], holder: str | None) -> None:
    waiting = flow_run("SCHEDULED", "AwaitingConcurrencySlot", ago=3)
    found = standing.stand_of(waiting, restarts=0, now=NOW, others=[waiting, *others])
    assert found is not None and found.get("holder") == holder


def refreshing(stand: dict[str, Any] | None, **changes: Any) -> Refresh:
    Dataset.objects.get_or_create(
        name="prices",
        defaults={"title": "Prices", "fresh_for": timedelta(hours=1), "confirmed_at": database_now()},
    )
    fields: dict[str, Any] = {"id": "rfr_1", "dataset_id": "prices", "key": "k", "parameters": {}, "stand": stand}
    return Refresh.objects.create(**fields | {"prefect_flow_run_id": "0" * 36} | changes)


SINCE = "2026-11-29T03:14:00+00:00"


@pytest.mark.parametrize(
    ("stand", "cause", "words"),
    [
        ({"kind": "flow_late", "since": SINCE}, "flow_late", "late since 29 Nov 03:14 UTC: nobody has taken"),
        (
            {"kind": "flow_crashed", "since": SINCE, "restarts": 2},
            "flow_crashed",
            "crashed at 29 Nov 03:14 UTC; it is started again by itself, 2 of 3 times",
        ),
        (
            {"kind": "slot_held", "since": SINCE, "holder": "run-9", "holder_state": "Crashed"},
            "slot_held",
            "flow run run-9 (Crashed) holds it",
        ),
        (
            {"kind": "flow_unheard", "since": SINCE},
            "flow_unheard",
            "has given no sign of life since it was taken up at 29 Nov 03:14 UTC",
        ),
    ],
)
def test_a_runs_page_tells_what_keeps_its_data_from_coming(
    stand: dict[str, Any], cause: str, words: str, olga: User
) -> None:
    reviewer()
    refreshing(stand)
    run = make_run(status="waiting", dataset_versions=[{"dataset": "prices", "version": 4}])
    open_for(run)
    (found,) = diagnosing.diagnose_many([run])
    (also,) = [one for one in found.also if one.cause == cause]
    assert words in also.sentence and also.since == datetime.fromisoformat(SINCE) and also.links
    assert (found.cause.name, found.needs_somebody) == ("waiting_for_people", False), "it keeps nobody waiting"
    assert (trouble := standing.told(Refresh.objects.get(), NOW)) is not None and words in trouble.sentence
    Refresh.objects.update(status="failed")
    (found,) = diagnosing.diagnose_many([run])
    assert cause not in [one.cause for one in found.also]


def test_the_data_page_says_why_a_refresh_does_not_go_on(olga: User, client: Client) -> None:
    Dataset.objects.create(name=HANDBOOK.name, title="The handbook", fresh_for=timedelta(hours=1))
    refreshing({"kind": "flow_late", "since": SINCE}, dataset_id=HANDBOOK.name)
    client.force_login(olga)
    for path in (reverse("dataplane:data"), reverse("dataplane:dataset", args=[HANDBOOK.name])):
        shown = client.get(path, headers={"HX-Request": "true"}).content.decode()
        assert "late since 29 Nov 03:14 UTC: nobody has taken its flow run up" in shown, path
    Refresh.objects.update(status="failed")
    assert "late since" not in client.get(reverse("dataplane:data")).content.decode()


def test_what_has_not_reached_prefect_is_late_too(olga: User) -> None:
    refreshing(None, prefect_flow_run_id="", send_error="Prefect does not answer")
    Refresh.objects.update(created_at=database_now() - timedelta(minutes=3))
    (told,) = ports.data_plane().troubles_of(["prices", "nothing"]).values()
    assert told.kind == "flow_late" and "has not reached Prefect" in told.sentence


def test_the_watch_keeps_what_it_sees_and_forgets_what_is_over() -> None:
    prefect = FakePrefect()
    prefect.add_deployment(HANDBOOK.flow, HANDBOOK.deployment)
    made = prefect.create_flow_run(
        flow=HANDBOOK.flow, deployment=HANDBOOK.deployment, parameters={}, idempotency_key="k", name="n"
    )
    row = refreshing(None, prefect_flow_run_id=made.id)
    watch = RefreshWatch(prefect)
    prefect.move(made.id, "SCHEDULED", name="AwaitingConcurrencySlot")
    watch.look()
    row.refresh_from_db()
    assert row.stand is not None and row.stand["kind"] == "slot_held"
    prefect.move(made.id, "RUNNING")
    watch.look()
    row.refresh_from_db()
    assert row.stand is None
