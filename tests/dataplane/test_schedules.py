from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from approvals.models import AuditEvent
from console.environment import environment
from dataplane import catalogue, cron, scheduling, selectors
from dataplane.catalogue import HANDBOOK
from dataplane.deployments import Deployment, PrefectDeployments
from dataplane.models import Dataset
from dataplane.models import Schedule as Row
from dataplane.plain_sql import connect
from dataplane.prefect_gateway import HttpPrefectGateway
from dataplane.schedules import ScheduleEntry, in_words, seeded
from tests.api_caller import Caller, paths_of

from .conftest import content, publish
from .fakes import FakePrefect


def at_start() -> list[ScheduleEntry]:
    """What a flow process that starts now serves."""
    with connect() as connection:
        return seeded(connection, HANDBOOK)


@pytest.mark.usefixtures("database_url")
def test_the_catalogue_begins_a_schedule_and_the_row_goes_on() -> None:
    assert at_start() == [HANDBOOK.schedule] == at_start()
    Row.objects.update(cron="30 5 * * 1", timezone="Europe/Berlin")
    edited = ScheduleEntry("main", "30 5 * * 1", "Europe/Berlin")
    assert at_start() == [edited]
    Row.objects.create(dataset_id="handbook", slug="noon", cron="0 12 * * *", is_active=False)
    assert at_start() == [edited, ScheduleEntry("noon", "0 12 * * *", is_active=False)]
    Row.objects.all().delete()
    assert at_start() == [] == at_start(), "whoever deleted it has the last word"


@pytest.mark.usefixtures("database_url")
def test_a_dataset_from_before_there_were_schedules_gets_its_own() -> None:
    Dataset.objects.create(name="handbook", title="Handbook", fresh_for=HANDBOOK.fresh_for)
    assert at_start() == [HANDBOOK.schedule]


@pytest.mark.parametrize(
    ("schedules", "words"),
    [
        ([ScheduleEntry(cron="0 6 * * *")], "daily at 06:00 UTC"),
        ([ScheduleEntry(cron="5 18 * * *", timezone="Asia/Kolkata")], "daily at 18:05 Asia/Kolkata"),
        (
            [ScheduleEntry(cron="0 * * * 1-5"), ScheduleEntry("b", "0 6 * * *")],
            "at 0 * * * 1-5 (UTC) and daily at 06:00 UTC",
        ),
        ([ScheduleEntry(cron="0 6 * * *", is_active=False)], "only when somebody asks"),
        ([], "only when somebody asks"),
    ],
)
def test_a_schedule_is_told_in_words(schedules: list[ScheduleEntry], words: str) -> None:
    assert in_words(schedules) == words


@pytest.mark.usefixtures("database_url")
def test_the_data_page_tells_the_row_and_before_it_the_catalogue(
    ada: User, client: Client, fake_prefect: FakePrefect
) -> None:
    publish("k1", content("Thirty days."))
    client.force_login(ada)
    page = reverse("dataplane:dataset", args=["handbook"])
    assert "daily at 06:00 UTC" in client.get(page, headers={"HX-Request": "true"}).content.decode()
    at_start()
    Row.objects.update(cron="15 7 * * *", timezone="Europe/Berlin")
    assert "daily at 07:15 Europe/Berlin" in client.get(page, headers={"HX-Request": "true"}).content.decode()


ZONES = ("Europe/Berlin", "America/New_York", "UTC", "Australia/Lord_Howe")
LINES = (
    "0 6 * * *", "30 2 * * *", "0 * * * *", "*/15 * * * *", "0 0 1 * *", "0 12 13 * 5", "15 1,2,3 * * *",
    "0 */6 * * *", "5 0-23/2 * * mon-fri",
)  # fmt: skip
#: a day before the clock changes in one of the zones, and one on which none does
AROUND = ("2026-03-07", "2026-03-28", "2026-10-03", "2026-10-24", "2026-10-31", "2026-07-01")


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("line", LINES)
def test_the_next_times_are_prefects_own_over_changes_of_the_clock(zone: str, line: str) -> None:
    from prefect.server.schemas.schedules import CronSchedule  # the server's own; 2 s of imports

    for day in AROUND:
        after = datetime.fromisoformat(f"{day}T12:00:00+00:00")
        theirs = asyncio.run(CronSchedule(cron=line, timezone=zone).get_dates(n=12, start=after + timedelta(seconds=1)))
        assert cron.next_times(line, zone, after=after, count=12) == [moment.astimezone(UTC) for moment in theirs]


DAYS = ("*", "13", "*/3", "*/1", "1-31", "3-3", "*,5", "31/2")
WEEKDAYS = ("*", "mon", "*/2", "*/1", "0-6", "7", "7/2", "sun/2", "1/2", "1-7/3", "7-7", "6/1", "*,5")


@pytest.mark.parametrize("day", DAYS)
def test_a_day_and_a_weekday_are_joined_as_prefect_joins_them(day: str) -> None:
    from prefect.server.schemas.schedules import CronSchedule

    after = datetime(2026, 11, 24, 12, tzinfo=UTC)
    for weekday in WEEKDAYS:
        line = f"0 9 {day} * {weekday}"
        theirs = asyncio.run(CronSchedule(cron=line, timezone="UTC").get_dates(n=12, start=after))
        assert cron.next_times(line, "UTC", after=after, count=12) == theirs, line


@pytest.mark.parametrize("line", ["5-5 6 * * *", "59/2 6 * * *", "0 23/5 * * *", "0 6 1 12/1 *", "0 6 1 mar-mar *"])
def test_a_range_that_ends_where_it_begins_is_all_values_as_prefect_has_it(line: str) -> None:
    from prefect.server.schemas.schedules import CronSchedule

    after = datetime(2026, 11, 24, 12, tzinfo=UTC)
    theirs = asyncio.run(CronSchedule(cron=line, timezone="UTC").get_dates(n=12, start=after))
    assert cron.next_times(line, "UTC", after=after, count=12) == theirs


def test_the_next_29_of_february_may_be_years_away() -> None:
    assert cron.next_times("0 0 29 2 *", "UTC", after=datetime(2026, 3, 1, tzinfo=UTC), count=1) == [
        datetime(2028, 2, 29, tzinfo=UTC)
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 6 * *", "must have five fields (minute, hour, day, month, weekday), not 4"),
        ("60 6 * * *", "minute: must be from 0 to 59, not 60"),
        ("0 6 31 2 *", "names no day that there is"),
        ("0 6 31 2 mon", "names no day that there is"),
        ("0 6 * * 8", "day of the week: must be from 0 to 7, not 8"),
        ("0 9-5 * * *", "hour: the range 9-5 ends before it begins"),
        ("*/0 * * * *", "minute: a step of 0 never comes"),
        ("@daily", "must have five fields (minute, hour, day, month, weekday), not 1"),
        ("0 6 * * funday", "day of the week: 'funday' is no number"),
    ],
)
def test_a_line_that_cannot_be_followed_is_told_by_its_field(line: str, words: str) -> None:
    with pytest.raises(cron.BadCron) as refused:
        cron.read(line)
    assert str(refused.value) == words


@pytest.mark.usefixtures("database_url")
def test_a_schedule_put_by_a_program_outlives_a_start_and_is_on_the_record(ada: User, alice: User) -> None:
    path, body = (
        "datasets/handbook/schedules",
        {"schedules": [{"slug": "early", "cron": "30 4 * * 1-5", "timezone": "Europe/Berlin"}]},
    )
    assert Caller(alice).put(path, body).status_code == 403
    said = Caller(ada).put(path, body).json()["items"][0]
    assert (said["slug"], said["fault"], len(said["next"])) == ("early", None, 10)
    assert said == Caller(ada).put(path, body).json()["items"][0] | {"next": said["next"]}
    assert at_start() == [ScheduleEntry("early", "30 4 * * 1-5", "Europe/Berlin")], "a start keeps what was edited"
    recorded = AuditEvent.objects.get(kind="dataset.schedules_changed")
    assert (recorded.actor, recorded.body["after"][0]["slug"]) == ("ada", "early"), "the second call changed nothing"
    bad = {"schedules": [{"cron": "0 6 * *"}, {"slug": "main", "cron": "0 6 * * *", "timezone": "Mars/Base"}]}
    assert paths_of(Caller(ada).put(path, bad)) == [
        "schedules.0.cron", "schedules.1.slug", "schedules.1.timezone",
    ]  # fmt: skip
    assert Caller(ada).put(path, {"schedules": []}).json()["items"] == [] == at_start()


@pytest.mark.usefixtures("database_url")
def test_the_form_previews_keeps_what_was_typed_and_removes(ada: User, client: Client) -> None:
    client.force_login(ada)
    address = reverse("dataplane:schedules", args=["handbook"])
    assert client.get(address).context["lines"][0].cron == "0 6 * * *"
    typed = {"slug-0": "main", "cron-0": "15 7 * * *", "timezone-0": "UTC", "active-0": "on"}
    shown = client.post(address, {**typed, "preview": "1"})
    assert shown.context["is_preview"] and not Row.objects.exists(), "a preview changes nothing"
    assert shown.context["planned"][0].next_times[0].strftime("%H:%M") == "07:15"
    wrong = client.post(address, {**typed, "cron-0": "soon"})
    assert wrong.status_code == 422 and 'value="soon"' in wrong.content.decode()
    drafts = {client.get(address).context["draft"], shown.context["draft"], wrong.context["draft"]}
    assert len(drafts) == 3, "the browser keeps what was typed by the number of a line, so for these lines only"
    assert client.post(address, typed).status_code == 302
    assert Row.objects.get().cron == "15 7 * * *"
    client.post(address, {**typed, "remove-0": "on"})
    assert not Row.objects.exists()


@pytest.mark.usefixtures("database_url")
def test_a_form_replaces_no_schedule_that_it_did_not_show(ada: User, client: Client) -> None:
    client.force_login(ada)
    address = reverse("dataplane:schedules", args=["handbook"])
    drawn = client.get(address).context
    others = [{"slug": "main", "cron": "0 6 * * *"}, {"slug": "night", "cron": "0 1 * * *"}]
    assert Caller(ada).put("datasets/handbook/schedules", {"schedules": others}).status_code == 200
    typed = {"base": drawn["digest"], "slug-0": "main", "cron-0": "15 7 * * *", "timezone-0": "UTC", "active-0": "on"}
    assert client.post(address, typed | {"preview": "1"}).context["digest"] == drawn["digest"]
    refused = client.post(address, typed)
    page = refused.content.decode()
    assert refused.status_code == 409 and "Somebody else has changed these schedules" in page
    assert "daily at 01:00 UTC" in page and 'value="15 7 * * *"' in page, "what is there, and what was typed"
    assert {row.slug for row in Row.objects.all()} == {"main", "night"}
    assert client.post(address, typed | {"base": refused.context["digest"]}).status_code == 302
    assert [row.cron for row in Row.objects.all()] == ["15 7 * * *"]
    assert client.post(address, typed).status_code == 302, "a second click changes nothing, so it is no conflict"


ORDERS = """
[datasets.orders]
deployment = "load_orders/nightly"
[datasets.orders.parameters]
fixed = { region = "eu" }
"""
NIGHTLY = {"slug": "nightly", "schedule": {"cron": "0 1 * * *", "timezone": "Europe/Berlin"}, "active": True}
HOURLY = {"slug": "hourly", "schedule": {"interval": 3600.0, "timezone": "UTC"}, "active": True}
TYPED = {"slug": "nightly", "cron": "0 1 * * *", "timezone": "Europe/Berlin"}
KEPT = ScheduleEntry("nightly", "0 1 * * *", "Europe/Berlin")


class TheirPrefect:
    """A Prefect with one deployment of somebody else's, and the schedules that they gave it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.is_away = False
        self.door = PrefectDeployments(
            HttpPrefectGateway("http://p.example/api", transport=httpx.MockTransport(self._answer))
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if self.is_away:
            raise httpx.ConnectError("refused")
        if request.method == "POST":
            self.rows += [{**one, "id": str(uuid4())} for one in json.loads(request.content)]
        if request.method == "DELETE":
            self.rows = [one for one in self.rows if not request.url.path.endswith(one["id"])]
        if request.url.path.endswith("/schedules"):
            return httpx.Response(200, json=self.rows)
        return httpx.Response(200, json={"id": str(uuid4()), "name": "nightly", "schedules": self.rows})

    def has(self, *schedules: dict[str, Any]) -> None:
        self.rows = [{"id": str(uuid4()), "parameters": {}, **one} for one in schedules]


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str) -> TheirPrefect:
    """The registration of a deployment whose schedules nobody has kept here yet, and its Prefect."""
    (tmp_path / "data.toml").write_text(ORDERS)
    monkeypatch.setenv("SIGNALBOX_HOME", str(tmp_path))
    environment.cache_clear()
    theirs = TheirPrefect()
    monkeypatch.setattr(scheduling, "deployments", lambda: theirs.door)
    return theirs


def put(user: User, *schedules: dict[str, Any], **more: Any) -> Any:
    return Caller(user).put("datasets/orders/schedules", {"schedules": list(schedules), **more})


def test_schedules_that_stand_in_prefect_are_shown_until_some_are_kept_here(
    theirs: TheirPrefect, ada: User, client: Client
) -> None:
    theirs.has(NIGHTLY, HOURLY)
    nightly, hourly = Caller(ada).get("datasets/orders/schedules").json()["items"]
    assert (nightly["slug"], nightly["cron"], len(nightly["next"]), nightly["note"]) == (
        "nightly",
        "0 1 * * *",
        10,
        None,
    )
    assert (hourly["words"], hourly["next"], hourly["fault"]) == ("every 3600 s (UTC)", [], None) and hourly["note"]
    client.force_login(ada)
    shown = client.get(reverse("dataplane:schedules", args=["orders"]))
    assert [one.cron for one in shown.context["lines"]] == ["0 1 * * *", ""], "an interval is no line to be typed"
    page = shown.content.decode()
    assert "every 3600 s" in page and "only when somebody asks" not in page and "Not followed" not in page


def test_keeping_what_stands_in_prefect_removes_nothing_there_and_says_what_was(
    theirs: TheirPrefect, ada: User, client: Client
) -> None:
    theirs.has(NIGHTLY | {"parameters": {"region": "eu"}})
    client.force_login(ada)
    typed = {"slug-0": "nightly", "cron-0": "0 1 * * *", "timezone-0": "Europe/Berlin", "active-0": "on"}
    assert client.post(reverse("dataplane:schedules", args=["orders"]), typed).status_code == 302
    body = AuditEvent.objects.get(kind="dataset.schedules_changed").body
    assert body["before"] == body["after"] == [asdict(KEPT)]
    found = theirs.door.find("load_orders", "nightly")
    assert not theirs.door.set_schedules(found, selectors.schedules_of(catalogue.entry("orders")), {"region": "eu"})


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ([NIGHTLY, HOURLY], "hourly: every 3600 s (UTC)"),
        ([NIGHTLY, {"slug": "rule", "schedule": {"rrule": "FREQ=DAILY"}}], "rule: rule FREQ=DAILY (UTC)"),
        ([NIGHTLY | {"parameters": {"region": "us"}}], "nightly: daily at 01:00 Europe/Berlin, with parameters"),
        (
            [NIGHTLY, {"slug": "both", "schedule": {"cron": "0 6 1 * 1", "timezone": "UTC", "day_or": False}}],
            "both: 0 6 1 * 1 (where day and weekday both fit)",
        ),
        ([NIGHTLY | {"active": False}], "nightly: daily at 01:00 Europe/Berlin"),
    ],
)
def test_what_prefect_has_besides_goes_only_when_somebody_says_so(
    there: list[dict[str, Any]], words: str, theirs: TheirPrefect, ada: User, client: Client
) -> None:
    theirs.has(*there)
    refused = put(ada, TYPED)
    assert paths_of(refused) == ["take_over"] and words in refused.content.decode()
    client.force_login(ada)
    address = reverse("dataplane:schedules", args=["orders"])
    typed = {"slug-0": "nightly", "cron-0": "0 1 * * *", "timezone-0": "Europe/Berlin", "active-0": "on"}
    asked = client.post(address, typed)
    page = asked.content.decode()
    assert asked.status_code == 422 and words in page and 'name="take_over"' in page and 'value="0 1 * * *"' in page
    assert selectors.is_left_to_prefect(catalogue.entry("orders")) and not AuditEvent.objects.exists()
    assert client.post(address, {**typed, "take_over": "on"}).status_code == 302
    assert selectors.schedules_of(catalogue.entry("orders")) == [KEPT]
    body = AuditEvent.objects.get(kind="dataset.schedules_changed").body
    assert (len(body["before"]), body["after"]) == (len(there), [asdict(KEPT)])
    assert put(ada, TYPED | {"cron": "0 2 * * *"}).status_code == 200, "from now on the rows are the truth"


def test_without_prefect_nobody_takes_its_schedules_for_none(theirs: TheirPrefect, ada: User, client: Client) -> None:
    theirs.is_away = True
    assert Caller(ada).get("datasets/orders/schedules").status_code == put(ada, TYPED).status_code == 503
    client.force_login(ada)
    address = reverse("dataplane:schedules", args=["orders"])
    shown = client.get(address)
    assert shown.status_code == 503 and "only when somebody asks" not in shown.content.decode()
    kept = client.post(address, {"slug-0": "mine", "cron-0": "15 7 * * *", "timezone-0": "UTC"})
    assert kept.status_code == 503 and 'value="15 7 * * *"' in kept.content.decode()
    assert selectors.is_left_to_prefect(catalogue.entry("orders"))


class Schedules:
    """The schedules of one deployment in Prefect, and how many of its runs are late."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.late = 0

    def door(self) -> PrefectDeployments:
        transport = httpx.MockTransport(self._answer)
        return PrefectDeployments(HttpPrefectGateway("http://p.example/api", transport=transport))

    def active(self) -> list[tuple[str, dict[str, Any]]]:
        return [(one["schedule"]["cron"], one["parameters"]) for one in self.rows if one["active"]]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        told, last = json.loads(request.content or b"{}"), request.url.path.rpartition("/")[2]
        if last == "filter":
            return httpx.Response(200, json=[{"id": str(uuid4())}] * self.late)
        if request.method == "POST":
            self.rows += [{**one, "id": str(uuid4())} for one in told]
        if request.method == "PATCH":
            next(one for one in self.rows if one["id"] == last).update(told)
        if request.method == "DELETE":
            self.rows = [one for one in self.rows if one["id"] != last]
            self.late = 0  # as Prefect does
        return httpx.Response(200, json=self.rows)


THEIR_NIGHTLY = Deployment(str(uuid4()), "load", "nightly", {}, {}, True, False, None, "", "", None, 0)


def test_a_schedules_runs_have_what_the_registration_fixes() -> None:
    """A registration that fixes another value has its schedules made anew; the same one changes nothing."""
    prefect = Schedules()
    door = prefect.door()
    wanted = [ScheduleEntry(cron="0 6 * * *"), ScheduleEntry("noon", "0 12 * * *", is_active=False)]
    changed = []
    for fixed in ({}, {"region": "eu"}, {"region": "eu"}, {"region": "us"}):
        changed.append(door.set_schedules(THEIR_NIGHTLY, wanted, fixed))
        assert prefect.active() == [("0 6 * * *", fixed)]
    assert changed == [True, True, False, True]
    door.set_schedules(THEIR_NIGHTLY, wanted, {"region": "us"})
    assert [(one["active"], one["parameters"]) for one in prefect.rows] == [
        (True, {"region": "us"}),
        (False, {"region": "us"}),
    ]
    assert door.set_schedules(THEIR_NIGHTLY, [], {"region": "us"}) and prefect.active() == []
    assert not door.set_schedules(THEIR_NIGHTLY, [], {"region": "us"}) and prefect.rows == []


def test_a_schedule_that_goes_leaves_runs_alone_that_are_late() -> None:
    prefect = Schedules()
    door, kept = prefect.door(), ScheduleEntry(cron="0 6 * * *")
    door.set_schedules(THEIR_NIGHTLY, [kept, ScheduleEntry("noon", "0 12 * * *")], {})
    prefect.late = 1
    for _ in range(3):
        door.set_schedules(THEIR_NIGHTLY, [kept], {})
        assert prefect.late == 1 and prefect.active() == [("0 6 * * *", {})], "it plans no more"
    prefect.late = 0  # somebody has run it
    door.set_schedules(THEIR_NIGHTLY, [kept], {})
    assert len(prefect.rows) == 1
