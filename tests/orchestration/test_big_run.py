"""A run of 2,700 checkpoints, 450 requests and three histories: small pages, few queries, and nothing left out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from approvals.models import Approval
from bench.run_page import BIG, CHECKPOINTS, REQUESTS, SMALL, seed
from tests.api_caller import Caller

pytestmark = pytest.mark.django_db(transaction=True)

LARGEST = 120_000  # bytes


@pytest.fixture
def client_of_olga(transactional_db: None) -> Iterator[Client]:
    seed()
    client = Client()
    client.force_login(User.objects.get(username="olga"))
    yield client
    with connection.cursor() as cursor:  # LangGraph's tables are not emptied between tests
        for table in ("checkpoints", "checkpoint_writes"):
            cursor.execute(f"DELETE FROM agent.{table} WHERE thread_id = %s", [BIG])


def opened(client: Client, address: str) -> tuple[bytes, int]:
    """Return the page and how many queries it took."""
    with CaptureQueriesContext(connection) as caught:
        answer = client.get(address)
    assert answer.status_code == 200, address
    return answer.content, len(caught)


@pytest.mark.parametrize("page", ["", "timeline/", "state/"])
def test_a_page_of_a_big_run_is_small_and_costs_what_a_small_runs_does(page: str, client_of_olga: Client) -> None:
    opened(client_of_olga, f"/runs/{SMALL}/{page}")  # the first request of a process asks more
    _, few = opened(client_of_olga, f"/runs/{SMALL}/{page}")
    content, many = opened(client_of_olga, f"/runs/{BIG}/{page}")
    assert len(content) < LARGEST
    assert many <= 64 and few <= 64
    Approval.objects.filter(run_id=BIG, pk__in=Approval.objects.filter(run_id=BIG)[: REQUESTS // 2]).update(run_id="x")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM agent.checkpoints WHERE thread_id = %s AND random() < 0.5", [BIG])
    assert opened(client_of_olga, f"/runs/{BIG}/{page}")[1] <= many, "half of it costs no less"


def test_its_timeline_holds_each_request_and_each_checkpoint_once(client_of_olga: Client) -> None:
    olga = User.objects.get(username="olga")
    found: dict[str, list[str]] = {"console": [], "langgraph": []}
    asked = {"limit": "200"}
    for _ in range(100):
        with CaptureQueriesContext(connection) as caught:
            answer = Caller(olga).get(f"runs/{BIG}/timeline", **asked).json()
        assert len(caught) <= 40
        for item in answer["items"]:
            if item["kind"] in ("request", "checkpoint", "interrupt"):
                found[item["layer"]].append(item["reference"])
        if answer["next"] is None:
            break
        asked["cursor"] = answer["next"]
    assert answer["next"] is None
    assert [len(one) for one in found.values()] == [len(set(one)) for one in found.values()] == [REQUESTS, CHECKPOINTS]
