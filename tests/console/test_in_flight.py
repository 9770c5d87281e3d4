"""A limit on what one account has under way, at every door, exact also when many ask at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.urls import reverse

from approvals.models import Approval
from approvals.services.requesting import take_back
from console.environment import environment
from orchestration import services
from orchestration.models import Run
from tests.api_caller import Caller
from tests.at_once import at_once
from tests.orchestration.conftest import INPUT

ASKED: dict[str, Any] = {
    "title": "Delete the old index",
    "tool": "delete_index",
    "arguments": {"name": "orders-2019"},
    "deliver_to": {"temporal": {"workflow_id": "cleanup-17", "signal": "approved"}},
}


@pytest.fixture(autouse=True)
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "requests_in_flight", 3)


def service(name: str) -> User:
    user = User.objects.create_user(name)
    user.groups.add(Group.objects.get_or_create(name="service")[0])
    return user


@pytest.fixture
def robot(db: None) -> User:
    return service("robot")


def ask(caller: Caller, name: str) -> Any:
    return caller.post("approvals", {**ASKED, "external_id": name})


def begin(caller: Caller, key: str) -> Any:
    return caller.post("runs", {"agent": "support", "input": INPUT, "idempotency_key": key})


def test_one_request_too_many_is_told_what_to_do_and_a_repetition_is_answered(robot: User) -> None:
    caller = Caller(robot)
    first = [ask(caller, f"job-{number}") for number in range(3)]
    assert [told.status_code for told in first] == [201, 201, 201]
    refused = ask(caller, "job-3")
    assert (refused.status_code, refused["Content-Type"]) == (429, "application/problem+json")
    assert refused["Retry-After"] == "30"
    sentence = refused.json()["detail"]
    assert sentence.startswith("robot has 3 requests that are not decided")
    assert "take back what is no longer needed" in sentence and "SIGNALBOX_REQUESTS_IN_FLIGHT" in sentence
    assert [ask(caller, f"job-{number}").status_code for number in range(3)] == [200, 200, 200]
    assert ask(Caller(service("another")), "job-3").status_code == 201  # each account has its own
    take_back(approval_id=first[0].json()["id"], by=robot, reason="no longer needed")
    assert ask(caller, "job-3").status_code == 201
    assert ask(caller, "job-4").status_code == 429


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_exactly_as_many_get_in_as_may(robot: User) -> None:
    told = at_once(*(partial(ask, Caller(robot), f"job-{number}") for number in range(8)))
    assert sorted(one.status_code for one in told) == [201] * 3 + [429] * 5
    assert Approval.objects.filter(status="pending").count() == 3


@pytest.mark.django_db(transaction=True)
def test_one_request_sent_by_many_at_once_fills_one_place_and_refuses_nobody(
    robot: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment(), "requests_in_flight", 1)
    told = at_once(*(partial(ask, Caller(robot), "job") for _ in range(6)))
    assert sorted(one.status_code for one in told) == [200] * 5 + [201]


def test_open_runs_are_limited_too_through_the_api_and_the_page(olga: User) -> None:
    caller = Caller(olga)
    assert [begin(caller, f"k{number}").status_code for number in range(3)] == [201, 201, 201]
    refused = begin(caller, "k3")
    assert refused.status_code == 429
    assert refused.json()["detail"].startswith("olga has 3 runs that have not ended")
    assert begin(caller, "k2").status_code == 200
    client = Client()
    client.force_login(olga)
    sent = {"agent": "support", "key": "k4", "input.order_id": "8801", "input.message": "May I?"}
    page = client.post(reverse("orchestration:start"), sent)
    assert page.status_code == 429
    assert "olga has 3 runs that have not ended" in page.content.decode()
    assert "May I?" in page.content.decode()  # what was typed is not lost
    services.close_run(run_id=Run.objects.values_list("pk", flat=True)[0], status="failed", kind="x", message="y")
    assert begin(caller, "k3").status_code == 201


@pytest.mark.parametrize(
    ("model", "named_by", "closed", "condition"),
    [
        (Approval, "external_id", "decided", "status = 'pending' AND source = 'program'"),
        (Run, "idempotency_key", "finished", "status IN ('starting', 'running', 'waiting', 'paused')"),
    ],
)
def test_what_is_counted_has_an_index_of_its_own(
    model: Any, named_by: str, closed: str, condition: str, robot: User
) -> None:
    """Among many that are open and many that are its own, it finds the few that are both."""
    caller = Caller(robot)
    assert (ask(caller, "job-0").status_code, begin(caller, "k0").status_code) == (201, 201)
    one = model.objects.get()
    fields = {field.attname: getattr(one, field.attname) for field in one._meta.concrete_fields if not field.generated}
    for changed in ({"requested_by_id": None}, {"status": closed}):
        names = [{"id": name, named_by: name} for name in (f"{changed}-{number}" for number in range(1500))]
        model.objects.bulk_create(model(**fields | changed | name) for name in names)
    with connection.cursor() as cursor:
        table = model._meta.db_table
        cursor.execute(f"ANALYZE {table}")
        cursor.execute(f"EXPLAIN SELECT 1 FROM {table} WHERE requested_by_id = {robot.pk} AND {condition} LIMIT 1000")
        assert "_in_flight" in str(cursor.fetchall())
