from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from dataplane.catalogue import HANDBOOK
from dataplane.models import Dataset
from dataplane.models import Schedule as Row
from dataplane.plain_sql import connect
from dataplane.schedules import Schedule, in_words, seeded

from .conftest import content, publish
from .fakes import FakePrefect


def at_start() -> list[Schedule]:
    """What a flow process that starts now serves."""
    with connect() as connection:
        return seeded(connection, HANDBOOK)


@pytest.mark.usefixtures("database_url")
def test_the_catalogue_begins_a_schedule_and_the_row_goes_on() -> None:
    assert at_start() == [HANDBOOK.schedule] == at_start()
    Row.objects.update(cron="30 5 * * 1", timezone="Europe/Berlin")
    edited = Schedule("main", "30 5 * * 1", "Europe/Berlin")
    assert at_start() == [edited]
    Row.objects.create(dataset_id="handbook", slug="noon", cron="0 12 * * *", is_active=False)
    assert at_start() == [edited, Schedule("noon", "0 12 * * *", is_active=False)]
    Row.objects.all().delete()
    assert at_start() == [] == at_start(), "whoever deleted it has the last word"


@pytest.mark.usefixtures("database_url")
def test_a_dataset_from_before_there_were_schedules_gets_its_own() -> None:
    Dataset.objects.create(name="handbook", title="Handbook", fresh_for=HANDBOOK.fresh_for)
    assert at_start() == [HANDBOOK.schedule]


@pytest.mark.parametrize(
    ("schedules", "words"),
    [
        ([Schedule(cron="0 6 * * *")], "daily at 06:00 UTC"),
        ([Schedule(cron="5 18 * * *", timezone="Asia/Kolkata")], "daily at 18:05 Asia/Kolkata"),
        ([Schedule(cron="0 * * * 1-5"), Schedule("b", "0 6 * * *")], "at 0 * * * 1-5 (UTC) and daily at 06:00 UTC"),
        ([Schedule(cron="0 6 * * *", is_active=False)], "only when somebody asks"),
        ([], "only when somebody asks"),
    ],
)
def test_a_schedule_is_told_in_words(schedules: list[Schedule], words: str) -> None:
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
