from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from dataplane import selectors
from dataplane.catalogue import HANDBOOK
from dataplane.flow_run_actions import FlowRunOffer
from dataplane.models import Refresh
from dataplane.prefect_gateway import LogLine
from dataplane.refreshes import dispatch
from dataplane.refreshes.request import request_refresh
from tests.page_client import signed_in

from .conftest import content, publish
from .fakes import FakePrefect

DATA = reverse("dataplane:data")
REFRESH = reverse("dataplane:refresh", args=["handbook"])


def page(user: User, path: str, status: int = 200, *, by_script: bool = False) -> str:
    response = signed_in(user).get(path, headers={"HX-Request": "true"} if by_script else {})
    assert response.status_code == status
    return response.content.decode()


def test_an_empty_installation_says_what_it_waits_for(ada: User, fake_prefect: FakePrefect) -> None:
    shown = page(ada, DATA)
    assert "No version yet" in shown and "No flow run yet" in shown
    request_refresh(dataset="handbook", user=None)
    assert "The first refresh is under way" in page(ada, DATA)


def test_an_admin_sees_the_form_with_its_key_and_the_others_who_may(
    ada: User, alice: User, fake_prefect: FakePrefect
) -> None:
    assert f'value="{selectors.window_key("handbook")}"' in page(ada, DATA)
    shown = page(alice, DATA)
    assert "Refresh now" not in shown and "An admin can refresh" in shown


def test_strangers_are_told_what_they_lack(eve: User) -> None:
    for path in (DATA, reverse("dataplane:flow_runs"), reverse("dataplane:flow_run", args=[uuid4()])):
        assert "reviewer" in page(eve, path, 403)
        assert Client().get(path).status_code == 302


def test_the_form_works_without_script_and_twice_is_once(ada: User, fake_prefect: FakePrefect) -> None:
    browser = signed_in(ada)
    sent = {"key": "k1", "folder": "", "passage_characters": "1600"}
    first = browser.post(REFRESH, sent, follow=True)
    assert "is on its way to Prefect" in first.content.decode()
    again = browser.post(REFRESH, sent, follow=True)
    assert "nothing was started twice" in again.content.decode()
    row = Refresh.objects.get()
    assert (row.key, row.parameters, row.requested_by) == ("k1", {}, ada)


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        ({"key": "k1", "passage_characters": "12"}, 422, "greater than or equal to 200"),
        ({"key": "k1", "folder": "../secrets"}, 422, "must be a folder below the handbook"),
        ({"key": "two words"}, 422, "must be 1 to 100 letters"),
        ({"key": ""}, 422, "This field is required"),
        ({"key": "taken"}, 409, "already belongs to a refresh with other parameters"),
    ],
)
def test_a_refused_form_says_why_and_keeps_what_was_typed(
    ada: User, fake_prefect: FakePrefect, sent: dict[str, str], status: int, words: str
) -> None:
    request_refresh(dataset="handbook", key="taken", parameters={"folder": "eu"}, user=ada)
    response = signed_in(ada).post(REFRESH, sent)
    shown = response.content.decode()
    assert response.status_code == status and words in shown
    assert all(f'value="{value}"' in shown for value in sent.values() if value)


def test_who_may_not_refresh_cannot_post_either(alice: User, olga: User, ada: User) -> None:
    for person in (alice, olga):
        assert signed_in(person).post(REFRESH, {"key": "k1"}).status_code == 403
    assert signed_in(ada).get(REFRESH).status_code == 405
    assert not Refresh.objects.exists()


def test_a_refresh_while_prefect_is_away_is_kept_and_said_so(ada: User, fake_prefect: FakePrefect) -> None:
    fake_prefect.is_away = True
    shown = signed_in(ada).post(REFRESH, {"key": "k1"}, follow=True).content.decode()
    assert "it is sent when Prefect is back" in shown
    assert "Prefect is away" in shown and "k1" in shown


@pytest.mark.usefixtures("database_url")
def test_the_data_page_shows_versions_refreshes_and_flow_runs(ada: User, fake_prefect: FakePrefect) -> None:
    request_refresh(dataset="handbook", key="k1", user=ada)
    dispatch.dispatch_all(fake_prefect)
    publish("k1", content("Thirty days."))
    shown = page(ada, DATA)
    for words in ("version 1", "Fresh", "Published", "handbook k1", "Scheduled", "1 passages"):
        assert words in shown
    for path, target in ((reverse("dataplane:dataset", args=["handbook"]), 'id="dataset-handbook"'),):
        fragment = page(ada, path, by_script=True)
        assert target in fragment and "<html" not in fragment
    fragment = page(ada, reverse("dataplane:flow_runs"), by_script=True)
    assert 'id="flow-runs"' in fragment and "<html" not in fragment
    assert "<html" in page(ada, reverse("dataplane:flow_runs"))


def test_a_flow_run_shows_its_state_its_refresh_and_its_logs(alice: User, fake_prefect: FakePrefect) -> None:
    request_refresh(dataset="handbook", key="k1", user=None)
    dispatch.dispatch_all(fake_prefect)
    run_id = Refresh.objects.get().prefect_flow_run_id
    fake_prefect.move(run_id, "RUNNING")
    fake_prefect.lines[run_id] = [LogLine(datetime.now(UTC), "error", "<b>not bold</b>", "")]
    path = reverse("dataplane:flow_run", args=[run_id])
    shown = page(alice, path)
    assert "Running" in shown and "&lt;b&gt;not bold" in shown and "by the schedule" in shown
    assert f'data-live-topics="flow-run:{run_id}"' in shown
    assert page(alice, reverse("dataplane:flow_run", args=[run_id.upper()])).count(run_id), "one spelling of one id"
    assert page(alice, path, by_script=True).startswith('\n\n<div id="flow-run"')
    page(alice, reverse("dataplane:flow_run", args=[uuid4()]), 404)

    fake_prefect.is_away = True
    shown = page(alice, path)
    assert "Prefect is away" in shown and "k1" in shown
    page(alice, reverse("dataplane:flow_run", args=[uuid4()]), 503)


@pytest.mark.usefixtures("database_url")
def test_a_version_shows_its_passages_in_pages(alice: User, fake_prefect: FakePrefect) -> None:
    publish("k1", content(*[f"Rule number {number}." for number in range(45)]))
    path = reverse("dataplane:version", args=["handbook", 1])
    shown = page(alice, path)
    assert "Rule number 39." in shown and "Rule number 40." not in shown and "?after=39" in shown
    rest = page(alice, f"{path}?after=39")
    assert "Rule number 44." in rest and "From the start" in rest and "?after=44" not in rest
    page(alice, reverse("dataplane:version", args=["handbook", 2]), 404)


@pytest.mark.usefixtures("database_url")
def test_the_data_page_costs_the_same_however_much_there_is(ada: User, fake_prefect: FakePrefect) -> None:
    client = signed_in(ada)

    def cost() -> int:
        client.get(DATA)
        with CaptureQueriesContext(connection) as queries:
            client.get(DATA)
        return len(queries)

    def refreshed(number: int) -> None:
        request_refresh(dataset="handbook", key=f"k{number}", user=ada)
        dispatch.dispatch_all(fake_prefect)
        publish(f"k{number}", content(f"Rule {number}."))

    refreshed(0)
    few = cost()
    for number in range(1, 9):
        refreshed(number)
    assert cost() == few


def test_a_run_of_somebody_elses_is_told_nothing_about_keys(alice: User, fake_prefect: FakePrefect) -> None:
    fake_prefect.add_deployment("load_orders", "nightly")
    theirs = fake_prefect.create_flow_run(
        flow="load_orders", deployment="nightly", parameters={}, idempotency_key="n", name="orders"
    )
    fake_prefect.move(theirs.id, "COMPLETED")
    for path in (DATA, reverse("dataplane:flow_run", args=[theirs.id])):
        shown = page(alice, path)
        assert "ot started from here" in shown
        assert "same key" not in shown and "another run" not in shown


@pytest.mark.parametrize(
    ("state", "words"), [("RUNNING", "none yet"), ("COMPLETED", "same key"), ("CRASHED", "ended before it was made")]
)
def test_a_run_of_ours_without_a_refresh_says_why(
    state: str, words: str, alice: User, fake_prefect: FakePrefect
) -> None:
    ours = fake_prefect.create_flow_run(
        flow=HANDBOOK.flow, deployment=HANDBOOK.deployment, parameters={}, idempotency_key="n", name="ours"
    )
    fake_prefect.move(ours.id, state)
    assert words in page(alice, DATA)


def test_what_is_next_on_the_schedule_names_its_deployment_however_much_is_planned_later(
    alice: User, fake_prefect: FakePrefect
) -> None:
    for flow, deployment, hours in [("load_orders", "nightly", 9), *(("poll", "often", 10 + n) for n in range(20))]:
        fake_prefect.add_deployment(flow, deployment)
        planned = fake_prefect.create_flow_run(
            flow=flow, deployment=deployment, parameters={}, idempotency_key=f"{hours}", name="planned"
        )
        due_at = datetime.now(UTC) + timedelta(hours=hours)
        fake_prefect.runs[planned.id] = replace(fake_prefect.runs[planned.id], expected_start_at=due_at)
    assert 'next on schedule: <span class="mono">load_orders/nightly</span>' in page(alice, DATA)


def test_a_reason_for_one_action_on_a_flow_run_is_not_kept_for_another() -> None:
    both = [FlowRunOffer("retry", "Run again", "It runs again."), FlowRunOffer("release_slot", "Give it back", "Free.")]
    shown = render_to_string("dataplane/_flow_run_actions.html", {"flow_run_id": uuid4(), "offers": both})
    assert 'data-draft="retry"' in shown and 'data-draft="release_slot"' in shown
