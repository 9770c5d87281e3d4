from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import connection

from console.clock import database_now
from dataplane import selectors
from dataplane.catalogue import HANDBOOK
from dataplane.errors import DatasetNotFound, InvalidParameters, PrefectAway, RefreshKeyTaken
from dataplane.flow_service import is_any_running, request_first_refreshes
from dataplane.models import Dataset, Refresh
from dataplane.prefect_gateway import LONGEST_WAIT, HttpPrefectGateway
from dataplane.refreshes import dispatch, standing
from dataplane.refreshes.request import request_refresh
from tests.dataplane.conftest import content, publish
from tests.dataplane.fakes import FakePrefect


def test_the_same_key_is_the_same_refresh(ada: User) -> None:
    first, is_new = request_refresh(dataset="handbook", key="k1", user=ada)
    again, is_new_again = request_refresh(dataset="handbook", key="k1", user=ada)
    assert (first.pk, is_new, is_new_again) == (again.pk, True, False)


def test_without_a_key_it_is_the_windows_refresh(ada: User) -> None:
    refresh, _ = request_refresh(dataset="handbook", user=ada)
    assert refresh.key == selectors.window_key("handbook")


def test_the_same_key_with_other_parameters_is_a_conflict(ada: User) -> None:
    first, _ = request_refresh(dataset="handbook", key="k1", user=ada)
    with pytest.raises(RefreshKeyTaken) as caught:
        request_refresh(dataset="handbook", key="k1", parameters={"folder": "eu"}, user=ada)
    assert caught.value.refresh_id == first.pk


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"agent": "support"}, "parameters.agent"),
        ({"passage_characters": 3}, "parameters.passage_characters"),
        ({"folder": "../../etc"}, "parameters.folder"),
        ({"folder": "/etc"}, "parameters.folder"),
        ({"folder": 7}, "parameters.folder"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_before_prefect_sees_them(
    ada: User, parameters: dict[str, object], path: str
) -> None:
    with pytest.raises(InvalidParameters) as caught:
        request_refresh(dataset="handbook", parameters=parameters, user=ada)
    assert [error["path"] for error in caught.value.errors] == [path]
    assert not Refresh.objects.exists()


@pytest.mark.parametrize("key", ["", "a b", "-x", "a" * 101, "a\nb", "schlüssel"])
def test_a_key_that_nobody_could_read_is_refused(ada: User, key: str) -> None:
    with pytest.raises(InvalidParameters):
        request_refresh(dataset="handbook", key=key, user=ada)


def test_only_an_admin_may_and_only_what_exists(ada: User, alice: User, olga: User, eve: User) -> None:
    for stranger in (alice, olga, eve):
        with pytest.raises(PermissionDenied):
            request_refresh(dataset="handbook", user=stranger)
    with pytest.raises(DatasetNotFound):
        request_refresh(dataset="nothing", user=ada)


@pytest.mark.django_db(transaction=True)
def test_many_clicks_at_once_make_one_refresh_and_one_flow_run(fake_prefect: FakePrefect) -> None:
    gate = threading.Barrier(6)

    def click(_: int) -> tuple[str, bool]:
        try:
            gate.wait()
            refresh, is_new = request_refresh(dataset="handbook", key="k1", user=None)
            dispatch.dispatch_all(fake_prefect)
            return refresh.pk, is_new
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(click, range(6)))
    assert len({pk for pk, _ in answers}) == 1
    assert sum(is_new for _, is_new in answers) == 1
    dispatch.dispatch_all(fake_prefect)
    (run,) = fake_prefect.runs.values()
    assert run.idempotency_key == "refresh_handbook/daily:handbook:k1"
    assert run.parameters == {"key": "k1", "parameters": {}}


def test_a_refresh_waits_for_prefect_and_is_sent_when_it_is_back(db: None, fake_prefect: FakePrefect) -> None:
    request_refresh(dataset="handbook", key="k1", user=None)
    fake_prefect.is_away = True
    assert not dispatch.dispatch_one(fake_prefect)
    row = Refresh.objects.get()
    assert (row.status, row.send_attempts, row.send_error) == ("scheduled", 1, "Prefect does not answer.")
    fake_prefect.is_away = False
    assert not dispatch.dispatch_one(fake_prefect), "not before it is due again"
    dispatch.send_soon()
    assert dispatch.dispatch_one(fake_prefect)
    row.refresh_from_db()
    assert row.prefect_flow_run_id in fake_prefect.runs and row.send_error == ""


def test_a_crash_after_prefects_answer_finds_the_same_flow_run(db: None, fake_prefect: FakePrefect) -> None:
    request_refresh(dataset="handbook", key="k1", user=None)
    dispatch.dispatch_one(fake_prefect)
    Refresh.objects.update(prefect_flow_run_id="")  # our note of it was lost
    dispatch.send_soon()  # as whoever begins anew does
    dispatch.dispatch_one(fake_prefect)
    assert list(fake_prefect.runs) == [Refresh.objects.get().prefect_flow_run_id]


@pytest.mark.django_db(transaction=True)
def test_prefect_is_asked_in_no_transaction(fake_prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch) -> None:
    request_refresh(dataset="handbook", key="k1", user=None)
    create = fake_prefect.create_flow_run
    seen: list[tuple[bool, bool]] = []

    def asked(**given: Any) -> Any:
        seen.append((connection.in_atomic_block, dispatch.dispatch_one(fake_prefect)))
        return create(**given)

    monkeypatch.setattr(fake_prefect, "create_flow_run", asked)
    assert dispatch.dispatch_one(fake_prefect)
    assert seen == [(False, False)], "and nobody else sends it meanwhile"


def test_what_prefect_answers_too_late_takes_nothing_back(
    db: None, fake_prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_refresh(dataset="handbook", key="k1", user=None)

    def late(**_: Any) -> Any:
        Refresh.objects.update(prefect_flow_run_id="noted by another")
        raise PrefectAway("Prefect does not answer.")

    monkeypatch.setattr(fake_prefect, "create_flow_run", late)
    assert not dispatch.dispatch_one(fake_prefect)
    row = Refresh.objects.get()
    assert (row.prefect_flow_run_id, row.send_error) == ("noted by another", "")


def test_one_that_cannot_be_sent_holds_nothing_up(
    db: None, fake_prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = request_refresh(dataset="handbook", key="k1", user=None)
    other, _ = request_refresh(dataset="handbook", key="k2", user=None)
    create = fake_prefect.create_flow_run

    def broken(**given: Any) -> Any:
        if given["parameters"]["key"] == "k1":
            raise RuntimeError("never seen before")
        return create(**given)

    monkeypatch.setattr(fake_prefect, "create_flow_run", broken)
    with pytest.raises(RuntimeError):
        dispatch.dispatch_one(fake_prefect)
    assert dispatch.dispatch_one(fake_prefect)
    first.refresh_from_db()
    other.refresh_from_db()
    assert other.prefect_flow_run_id and (first.prefect_flow_run_id, first.send_attempts) == ("", 1)


@pytest.mark.parametrize("status", [408, 425, 429])
def test_a_refresh_is_sent_again_where_prefect_asks_for_patience(db: None, status: int) -> None:
    answer = httpx.Response(status, headers={"Retry-After": "3600"}, json={"detail": "too many"})
    busy = HttpPrefectGateway("http://p.example/api", transport=httpx.MockTransport(lambda request: answer))
    request_refresh(dataset="handbook", key="k1", user=None)
    dispatch.dispatch_one(busy)
    row = Refresh.objects.get()
    assert row.status == "scheduled" and f"({status}): too many" in row.send_error
    wait = row.send_due_at - database_now()
    assert LONGEST_WAIT - timedelta(minutes=1) < wait <= LONGEST_WAIT


def test_a_deployment_that_is_not_registered_yet_is_waited_for(db: None) -> None:
    prefect = FakePrefect()
    request_refresh(dataset="handbook", key="k1", user=None)
    dispatch.dispatch_one(prefect)
    assert Refresh.objects.get().status == "scheduled"
    prefect.add_deployment(HANDBOOK.flow, HANDBOOK.deployment)
    dispatch.send_soon()
    assert dispatch.dispatch_one(prefect)


def after_a_minute() -> str:
    """Return what is told of the one refresh a minute later."""
    found = standing.told(Refresh.objects.get(), database_now() + timedelta(minutes=1))
    return found.sentence if found else ""


def eleven_minutes_later() -> None:
    """Let what is kept of how the one refresh stands be older."""
    stand = Refresh.objects.get().stand
    assert stand is not None
    since = datetime.fromisoformat(stand["since"]) - timedelta(minutes=11)
    Refresh.objects.update(stand={**stand, "since": since.isoformat()})


def test_a_refresh_fails_when_prefect_has_not_known_its_deployment_for_ten_minutes(db: None) -> None:
    prefect = FakePrefect()
    Dataset.objects.create(name="orders", fresh_for=timedelta(days=1))
    names = {"flow": "load_orders", "deployment": "nightly"}
    Refresh.objects.create(id="rfr_1", dataset_id="orders", key="k", parameters={}, **names)
    dispatch.dispatch_one(prefect)
    assert "Deploy it again" in after_a_minute() and "Prefect answers" not in after_a_minute()
    eleven_minutes_later()
    prefect.is_away = True
    dispatch.send_soon()
    dispatch.dispatch_one(prefect)
    assert "It is sent as soon as Prefect answers." in after_a_minute()
    prefect.is_away = False
    dispatch.send_soon()
    dispatch.dispatch_one(prefect)
    assert Refresh.objects.get().status == "scheduled", "what was said before Prefect was away does not count"
    eleven_minutes_later()
    dispatch.send_soon()
    dispatch.dispatch_one(prefect)
    row = Refresh.objects.get()
    assert (row.status, row.prefect_flow_run_id) == ("failed", "") and row.finished_at is not None
    assert "Deploy it again, or name another one in its registration; then refresh again under another" in row.error
    calls = len(prefect.calls)
    dispatch.send_soon()
    assert not dispatch.dispatch_one(prefect) and len(prefect.calls) == calls


def test_a_refresh_of_a_dataset_that_the_catalogue_has_lost_fails_and_holds_nothing_up(
    db: None, fake_prefect: FakePrefect
) -> None:
    Dataset.objects.create(name="of-before", fresh_for=timedelta(days=1))
    Refresh.objects.create(id="rfr_1", dataset_id="of-before", key="k", parameters={})
    wanted, _ = request_refresh(dataset="handbook", key="k1", user=None)
    for _ in range(2):
        dispatch.dispatch_all(fake_prefect)
    lost = Refresh.objects.get(pk="rfr_1")
    assert (lost.status, lost.error) == ("failed", "There is no dataset called of-before.")
    wanted.refresh_from_db()
    assert wanted.prefect_flow_run_id in fake_prefect.runs


def test_a_deployment_of_ours_is_waited_for_as_long_as_it_takes(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "UNKNOWN_FOR", timedelta(seconds=-1))
    prefect = FakePrefect()
    request_refresh(dataset="handbook", key="k1", user=None)
    for _ in range(3):
        dispatch.send_soon()
        dispatch.dispatch_one(prefect)
    assert Refresh.objects.get().status == "scheduled"
    assert "once the process that serves flows has told Prefect of it" in after_a_minute()
    prefect.add_deployment(HANDBOOK.flow, HANDBOOK.deployment)
    dispatch.send_soon()
    assert dispatch.dispatch_one(prefect)
    assert Refresh.objects.get().stand is None


@pytest.mark.usefixtures("database_url")
def test_the_first_refresh_is_asked_for_once_and_not_after_it_was_published() -> None:
    request_first_refreshes()
    request_first_refreshes()
    assert Refresh.objects.get().key == selectors.window_key("handbook")
    publish(selectors.window_key("handbook"), content("Thirty days."))
    request_first_refreshes()
    assert Refresh.objects.count() == 1


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize("key", [None, "by-hand"])
def test_a_refresh_with_other_parameters_that_is_under_way_is_the_first_one(key: str | None) -> None:
    request_refresh(dataset="handbook", key=key, parameters={"passage_characters": 800}, user=None)
    request_first_refreshes()
    assert Refresh.objects.count() == 1


@pytest.mark.usefixtures("database_url")
def test_a_dry_run_that_is_under_way_does_not_stand_for_the_first_refresh() -> None:
    window = selectors.window_key("handbook")
    request_refresh(dataset="handbook", key=window, user=None, is_dry_run=True)
    request_first_refreshes()
    assert Refresh.objects.get(is_dry_run=False).key == f"{window}.2"


@pytest.mark.usefixtures("database_url")
def test_a_first_refresh_that_is_refused_stops_nobody_who_dispatches(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    window = selectors.window_key("handbook")
    request_refresh(dataset="handbook", key=window, user=None, is_dry_run=True)
    monkeypatch.setattr(selectors, "suggested_key", lambda dataset: window)  # somebody took it since
    request_first_refreshes()
    assert "the first refresh of handbook was not asked for" in caplog.text and Refresh.objects.count() == 1


@pytest.mark.usefixtures("database_url")
def test_a_runner_to_be_started_anew_waits_for_runs_of_ours_alone() -> None:
    Dataset.objects.create(name="orders", fresh_for=timedelta(days=1))
    theirs = {"flow": "load_orders", "deployment": "nightly"}
    Refresh.objects.create(id="rfr_1", dataset_id="orders", key="k", parameters={}, status="running", **theirs)
    assert not is_any_running()
    request_refresh(dataset="handbook", user=None)
    Refresh.objects.filter(dataset_id="handbook").update(status="running")
    assert is_any_running()


@pytest.mark.usefixtures("database_url")
def test_a_used_up_window_is_not_proposed_again() -> None:
    window = selectors.window_key("handbook")
    assert selectors.suggested_key("handbook") == window
    request_refresh(dataset="handbook", user=None)
    assert selectors.suggested_key("handbook") == window, "an open one is joined"
    publish(window, content("Thirty days."))
    assert selectors.suggested_key("handbook") == f"{window}.2"


@pytest.mark.usefixtures("database_url")
def test_refreshes_are_paged_newest_first() -> None:
    for number in range(5):
        request_refresh(dataset="handbook", key=f"k{number}", user=None)
    first = selectors.refreshes(limit=2)
    second = selectors.refreshes(limit=3, cursor=first.next or "")
    assert [row.key for row in first.items + second.items] == ["k4", "k3", "k2", "k1", "k0"]
    assert second.next is None
