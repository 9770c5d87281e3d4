"""The flows that make search better, against a real Prefect server, with the shipped handbook and its questions."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connection as django_connection

from dataplane import search_index, selectors
from dataplane.catalogue import HANDBOOK_INDEX, RETRIEVAL_ADAPTER
from dataplane.contents.base import Stored
from dataplane.contents.passages import PASSAGES
from dataplane.deployments import PrefectDeployments
from dataplane.embedding import embedder
from dataplane.models import DatasetVersion, Refresh, SearchIndex, SearchScore
from dataplane.plain_sql import connect
from dataplane.prefect_gateway import HttpPrefectGateway
from dataplane.questions import FILE, read_questions
from dataplane.refreshes.request import request_refresh
from tests.waiting import PATIENCE

from .test_flows_for_real import Start, arm, ended, home, prefect, start_flows, wait_until
from .test_search_quality import SHIPPED

__all__ = ["home", "prefect", "start_flows"]  # fixtures

pytestmark = pytest.mark.engines


@pytest.fixture
def version(home: Path, start_flows: Start) -> Iterator[Stored]:
    """The shipped handbook with its questions, published by the flow itself."""
    shutil.rmtree(home / "handbook")
    shutil.copytree(SHIPPED, home / "handbook")
    start_flows()
    wait_until(DatasetVersion.objects.exists)
    yield selectors.current_version("handbook").stored
    with connect() as connection:
        for row in SearchIndex.objects.all():
            connection.execute(f'DROP TABLE IF EXISTS signalbox_index."{row.relation}"')


@contextmanager
def asking(version: Stored) -> Iterator[list[str]]:
    """Ask the questions all the time inside the block, in a thread; what is yielded holds which ways were taken.

    An answer that is not five passages is a way of its own.
    """
    vectors = embedder().embed([one.ask for one in read_questions(SHIPPED)])
    stop, ways = threading.Event(), list[str]()

    def ask() -> None:
        with connect() as connection, connection.cursor() as cursor:
            number = 0
            while not stop.wait(0.02):  # often, and leaves the flows a processor
                number += 1
                found = PASSAGES.nearest(cursor, version, vectors[number % len(vectors)], limit=5)
                way = "index" if found.by_index else "exact"
                ways.append(way if len(found.hits) == 5 else f"{way}: {len(found.hits)} passages")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield ways
    finally:
        stop.set()
        thread.join(PATIENCE)


def scans(relation: str) -> int:
    """Return how often PostgreSQL has searched by the index: what its planner really did for the readers."""
    with django_connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = %s", [f"{relation}_hnsw"])
        (found,) = cursor.fetchone() or (0,)
    return int(found)


def test_a_flow_run_builds_an_index_beside_the_one_in_service_and_readers_change_over_at_the_swap(
    home: Path, version: Stored, prefect: HttpPrefectGateway
) -> None:
    with asking(version) as ways:
        wait_until(lambda: len(ways) > 20)
        request_refresh(dataset=HANDBOOK_INDEX.name, key="i1", parameters={"least_rows": 100}, user=None)
        wait_until(ended("i1"))
        asked = len(ways)
        wait_until(lambda: len(ways) > asked + 20)
        assert ways[0] == "exact" and set(ways[asked + 1 :]) == {"index"}, "searched exactly until the swap"
        first = SearchIndex.objects.get()
        assert (first.state, first.rows) == ("serving", version.rows) and (first.recall or 0) >= 0.95
        wait_until(lambda: scans(first.relation) > 0)

        # The next one stands complete beside it, in a flow run that was stopped just before the swap.
        arm(home, "index.before_swap", "freeze")
        again = {"least_rows": 100, "again": True}
        request_refresh(dataset=HANDBOOK_INDEX.name, key="i2", parameters=again, user=None)
        frozen = home / "faults" / "index.before_swap.fired"
        wait_until(frozen.exists)
        second = SearchIndex.objects.exclude(pk=first.pk).get()
        assert (second.state, SearchIndex.objects.get(pk=first.pk).state) == ("checked", "serving")
        before, beside = scans(first.relation), scans(second.relation)
        wait_until(lambda: scans(first.relation) > before)
        assert scans(second.relation) == beside, "nobody but its own check has read the new one"
        os.kill(int(frozen.read_text().split()[1]), signal.SIGCONT)
        wait_until(ended("i2"))
        wait_until(lambda: scans(second.relation) > beside)
        assert set(ways) == {"exact", "index"}, "and every answer was whole"

    states = list(SearchIndex.objects.order_by("pk").values_list("state", flat=True))
    assert states == ["replaced", "serving"]
    with connect() as connection:
        vector = embedder().embed(["broken bowls"])[0]
        assert search_index.is_used(connection, second.relation, vector), "by EXPLAIN"
    told = Refresh.objects.get(key="i2")
    assert told.status == "published" and prefect.flow_run(told.prefect_flow_run_id).state_type in (
        "COMPLETED",
        "RUNNING",
    )
    assert set(SearchScore.objects.values_list("method", flat=True)) == {"exact", "index"}


def test_an_adapter_is_trained_and_withheld_in_a_flow_run_that_ends_well(
    home: Path, version: Stored, prefect: HttpPrefectGateway
) -> None:
    request_refresh(dataset=RETRIEVAL_ADAPTER.name, key="a1", user=None)
    wait_until(ended("a1"))
    row = Refresh.objects.get(key="a1")
    assert (row.status, row.version, row.error) == ("finished", None, "")
    assert "is not published" in row.note and "that it had not seen" in row.note
    scores = {one.method: one for one in SearchScore.objects.filter(version_id=version.id)}
    assert scores["adapter"].questions == scores["exact"].questions == len(read_questions(SHIPPED))
    wait_until(lambda: prefect.flow_run(row.prefect_flow_run_id).state_type == "COMPLETED")
    shown = {one.key for one in PrefectDeployments(prefect).artifacts(row.prefect_flow_run_id).items}
    assert {"recall-at-5", "adapter-card"} <= shown

    # Without questions there is nothing to learn from, and that is no failure either.
    (home / "handbook" / FILE).unlink()
    request_refresh(dataset=RETRIEVAL_ADAPTER.name, key="a2", user=None)
    wait_until(ended("a2"))
    assert Refresh.objects.get(key="a2").note.startswith("There are 0 questions whose passages are in version 1")
