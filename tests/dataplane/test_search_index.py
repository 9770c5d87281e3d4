"""An index is built beside what is in service, checked, and put into service in one commit; whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection as django_connection
from django.urls import reverse

from console.clock import database_now
from console.environment import PROJECT
from dataplane import search_index, selectors
from dataplane.catalogue import HANDBOOK_INDEX
from dataplane.contents.base import Stored
from dataplane.contents.passages import INDEX_FROM_ROWS, PASSAGES
from dataplane.errors import IndexRefused
from dataplane.models import DatasetVersion, Refresh, SearchIndex
from dataplane.plain_sql import connect
from dataplane.refreshes.claim import fail
from tests.waiting import PATIENCE, eventually

from .conftest import publish
from .fakes import FakePrefect
from .indexing import many, rebuild
from .test_views import page

pytestmark = pytest.mark.usefixtures("database_url")
ROWS = 1200  # enough for an index that is really one; the tests ask for it from 1,000 on


@pytest.fixture(autouse=True)
def _own_schema(database_url: str) -> Iterator[None]:
    yield
    with connect() as connection:
        for relation in tables(connection):
            connection.execute(f'DROP TABLE signalbox_index."{relation}"')


def tables(connection: psycopg.Connection[Any]) -> list[str]:
    found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'signalbox_index' ORDER BY 1")
    return [row[0] for row in found.fetchall()]


def invalid(connection: psycopg.Connection[Any]) -> list[str]:
    return [
        row[0] for row in connection.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
    ]


def states() -> list[str]:
    return list(SearchIndex.objects.order_by("id").values_list("state", flat=True))


def current() -> Stored:
    return selectors.current_version("handbook").stored


def test_below_the_threshold_search_is_exact_and_says_so(ada: User, fake_prefect: FakePrefect) -> None:
    publish("k1", many(40))
    outcome = rebuild("i1")
    assert (outcome.status, states()) == ("published", [])
    (plan,) = selectors.read("handbook_index", {}).items
    assert plan["method"] == "exact"
    assert plan["sentence"].startswith("Version 1 has 40 passages: an exact search reads them all")
    assert rebuild("i2").status == "unchanged"
    shown = page(ada, reverse("dataplane:data"))
    assert f"exactly: an index is built from {INDEX_FROM_ROWS:,} passages on" in shown


def test_an_index_is_built_checked_and_used_by_the_very_next_search(ada: User, fake_prefect: FakePrefect) -> None:
    made = many(ROWS)
    publish("k1", made)
    with django_connection.cursor() as cursor:
        before = PASSAGES.nearest(cursor, current(), made.vectors[7], limit=5)
        assert rebuild("i1", least_rows=1000).status == "published"
        after = PASSAGES.nearest(cursor, current(), made.vectors[7], limit=5)
        exact = PASSAGES.nearest(cursor, current(), made.vectors[7], limit=5, exactly=True)
    assert (before.by_index, after.by_index, exact.by_index) == (False, True, False)
    assert before.hits == exact.hits and after.hits[0] == exact.hits[0] and after.hits[0].document == "7.md"
    row = SearchIndex.objects.get()
    assert (row.state, row.rows, row.note) == ("serving", ROWS, "") and row.recall is not None and row.recall > 0.95
    with connect() as connection:
        assert tables(connection) == [row.relation] and invalid(connection) == []
        assert search_index.is_used(connection, row.relation, made.vectors[7]), "by EXPLAIN, an index scan"
    assert f"by an HNSW index over {ROWS:,} passages, and finds" in page(ada, reverse("dataplane:data"))
    # The same again finds the index that is there, and a wish for a new one is granted beside it.
    assert (rebuild("i2", least_rows=1000).status, states()) == ("unchanged", ["serving"])
    assert (rebuild("i3", least_rows=1000, again=True).status, states()) == ("published", ["replaced", "serving"])


def test_as_many_rows_as_are_asked_for_come_and_questions_without_words_too() -> None:
    publish("k1", many(ROWS))
    rebuild("i1", least_rows=1000)
    with django_connection.cursor() as cursor:
        for limit, by_index in ((1, True), (150, True), (200, True), (201, False), (ROWS, False)):
            found = PASSAGES.nearest(cursor, current(), many(1, seed=9).vectors[0], limit=limit)
            assert (len(found.hits), found.by_index) == (limit, by_index)
            assert [hit.score for hit in found.hits] == sorted((hit.score for hit in found.hits), reverse=True)
        assert len(PASSAGES.nearest(cursor, current(), np.zeros(256), limit=5).hits) == 5


def test_a_new_version_is_searched_exactly_until_its_index_is_in_service_and_going_back_finds_the_old_one() -> None:
    publish("k1", many(ROWS))
    rebuild("i1", least_rows=1000)
    newer = many(ROWS, seed=2)
    publish("k2", newer)
    with django_connection.cursor() as cursor:
        found = PASSAGES.nearest(cursor, current(), newer.vectors[3], limit=1)
        assert (found.by_index, found.hits[0].text) == (False, "Passage 3 of 2")
        rebuild("i2", least_rows=1000)
        assert PASSAGES.nearest(cursor, current(), newer.vectors[3], limit=1).by_index
        publish("k3", many(ROWS))
        found = PASSAGES.nearest(cursor, current(), many(ROWS).vectors[3], limit=1)
        assert (current().number, found.by_index, found.hits[0].text) == (1, True, "Passage 3 of 1")


def test_one_that_finds_too_little_is_refused_in_words_and_nothing_changes(
    ada: User, fake_prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("k1", many(ROWS))
    rebuild("i1", least_rows=1000)
    monkeypatch.setattr(search_index, "recall_of", lambda *_: 0.71)
    with pytest.raises(
        IndexRefused, match=r"finds 71.0% of the 5 nearest .* 95.0% are needed\. It was not put"
    ) as told:
        rebuild("i2", least_rows=1000, again=True)
    fail(Refresh.objects.get(key="i2").pk, str(told.value))
    assert states() == ["serving", "refused"]
    with connect() as connection:
        assert tables(connection) == [SearchIndex.objects.get(state="serving").relation]
    shown = page(ada, reverse("dataplane:data"))
    assert "The last refresh failed: The new index finds 71.0%" in shown and "by an HNSW index" in shown


def test_recall_is_what_is_missing_from_an_exact_search() -> None:
    made = many(ROWS)
    publish("k1", made)
    rebuild("i1", least_rows=1000)
    relation = SearchIndex.objects.get().relation
    with connect() as connection:
        assert search_index.recall_of(connection, current(), relation, made.vectors[:50]) > 0.95
        connection.execute(f'DELETE FROM signalbox_index."{relation}" WHERE position %% 2 = 0', [])
        assert 0.3 < search_index.recall_of(connection, current(), relation, made.vectors[:50]) < 0.8


def test_a_plan_without_an_index_is_refused() -> None:
    publish("k1", many(ROWS))
    rebuild("i1", least_rows=1000)
    relation = SearchIndex.objects.get().relation
    with connect() as connection:
        connection.execute(f'DROP INDEX signalbox_index."{relation}_hnsw"')
        assert not search_index.is_used(connection, relation, many(1).vectors[0])
        assert search_index.usable(connection, current()) is None
    assert rebuild("i2", least_rows=1000).status == "published", "so another one is built"
    assert states() == ["replaced", "serving"]


def test_a_table_dropped_under_a_search_costs_speed_and_no_row() -> None:
    made = many(ROWS)
    publish("k1", made)
    rebuild("i1", least_rows=1000)
    with connect() as connection:
        connection.execute(f'DROP TABLE signalbox_index."{SearchIndex.objects.get().relation}"')
    with django_connection.cursor() as cursor:
        found = PASSAGES.nearest(cursor, current(), made.vectors[7], limit=5)
    assert (len(found.hits), found.hits[0].document, found.by_index) == (5, "7.md", False)


def test_a_higher_threshold_takes_the_index_out_of_service() -> None:
    publish("k1", many(ROWS))
    rebuild("i1", least_rows=1000)
    assert rebuild("i2", least_rows=2000).status == "published"
    assert states() == ["replaced"]
    with django_connection.cursor() as cursor:
        assert not PASSAGES.nearest(cursor, current(), many(1).vectors[0], limit=5).by_index


def test_an_index_that_was_asked_for_with_fewer_rows_stays_until_other_rows_are_asked_for() -> None:
    publish("k1", many(ROWS))
    rebuild("i1", least_rows=1000)
    assert (rebuild("daily").status, states()) == ("unchanged", ["serving"])
    usual = HANDBOOK_INDEX.clean({"least_rows": INDEX_FROM_ROWS})
    assert usual == {"least_rows": INDEX_FROM_ROWS}, "what was typed is kept"
    assert (rebuild("i2", **usual).status, states()) == ("published", ["replaced"])


def test_what_was_replaced_is_dropped_later_and_old_versions_keep_no_index() -> None:
    for number in (1, 2, 3):
        publish(f"k{number}", many(ROWS, seed=number))
        rebuild(f"i{number}", least_rows=1000)
    rebuild("i4", least_rows=1000, again=True)
    with connect() as connection:
        assert states() == ["dropped", "serving", "replaced", "serving"]
        assert len(tables(connection)) == 3, "what was replaced just now may still be read"
        SearchIndex.objects.filter(state="replaced").update(
            ended_at=database_now() - timedelta(minutes=search_index.KEPT_MINUTES + 1)
        )
        rebuild("i5", least_rows=1000)
        assert states() == ["dropped", "serving", "dropped", "serving"]
        kept = SearchIndex.objects.filter(state="serving").values_list("relation", flat=True)
        assert tables(connection) == sorted(kept)


def test_many_rows_ask_for_their_index_by_themselves_once_and_few_do_not() -> None:
    publish("k1", many(40))
    assert not Refresh.objects.filter(dataset_id="handbook_index").exists()
    publish("k2", many(INDEX_FROM_ROWS, seed=2))
    publish("k3", many(INDEX_FROM_ROWS, seed=2))
    keys = Refresh.objects.filter(dataset_id="handbook_index").order_by("id").values_list("key", flat=True)
    first = f"after.handbook.2.{Refresh.objects.get(key='k2').pk}"
    assert list(keys) == [first]
    publish("k4", many(40))
    publish("k5", many(INDEX_FROM_ROWS, seed=2))
    again = f"after.handbook.2.{Refresh.objects.get(key='k5').pk}"
    assert list(keys.all()) == [first, again], "its index may be gone by then"


@contextmanager
def reading(version: Stored, vectors: Any) -> Iterator[list[str]]:
    """Search all the time inside the block, in a thread of its own; what is yielded holds what went wrong."""
    stop, wrong, asked = threading.Event(), list[str](), list[bool]()

    def read() -> None:
        with connect() as connection, connection.cursor() as cursor:
            number = 0
            while not stop.is_set():
                number = (number + 37) % len(vectors)
                found = PASSAGES.nearest(cursor, version, vectors[number], limit=5)
                asked.append(found.by_index)
                if len(found.hits) != 5 or found.hits[0].document != f"{number}.md":
                    wrong.append(f"{number}: {[hit.document for hit in found.hits]}, by index {found.by_index}")

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield wrong
    finally:
        eventually(lambda: len(asked) > 20, "searches")
        stop.set()
        thread.join(PATIENCE)


@pytest.mark.parametrize(
    "point",
    [
        "index.before_build",
        "index.during_build",
        "create index",  # inside of CREATE INDEX CONCURRENTLY itself
        "index.before_check",
        "index.before_swap",
        "flow.before_publish",
        "flow.after_publish",
        "index.before_drop",
    ],
)
def test_killed_anywhere_a_reader_notices_nothing_and_the_next_run_ends_in_a_true_state(
    point: str, tmp_path: Path, database_url: str
) -> None:
    rows = 6000 if point == "create index" else ROWS
    made = many(rows)
    publish("k1", made)
    if point == "index.before_drop":
        rebuild("before", least_rows=1000)
        rebuild("again", least_rows=1000, again=True)
        SearchIndex.objects.filter(state="replaced").update(ended_at=database_now() - timedelta(hours=1))
    with reading(current(), made.vectors) as wrong:
        killed_at(point, tmp_path, database_url)
        with connect() as connection:
            half = invalid(connection)
        assert bool(half) == (point == "create index"), "CREATE INDEX CONCURRENTLY leaves one that is not valid"
        outcome = rebuild("i1", least_rows=1000, again=point == "index.before_drop")
        assert outcome.status in ("published", "unchanged")
    assert wrong == []
    with connect() as connection:
        kept = SearchIndex.objects.exclude(state__in=("dropped", "refused")).values_list("relation", flat=True)
        assert tables(connection) == sorted(kept) and invalid(connection) == []
        (row,) = SearchIndex.objects.filter(state="serving")
        assert search_index.is_used(connection, row.relation, made.vectors[0])
    assert "building" not in states()
    assert DatasetVersion.objects.filter(dataset="handbook_index").count() == (3 if point == "index.before_drop" else 1)


def killed_at(point: str, home: Path, database_url: str) -> None:
    """Rebuild in another process, which dies by SIGKILL at the point; return once PostgreSQL has noticed."""
    (home / "faults").mkdir()
    given = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url,
        "SIGNALBOX_HOME": str(home),
        "SIGNALBOX_FAULTS": "true",
    }
    if point != "create index":
        (home / "faults" / point).write_text("kill")
    again = ["again"] if point == "index.before_drop" else []
    command = [sys.executable, "-m", "tests.dataplane.indexing", "i1", "1000", *again]
    process = subprocess.Popen(command, cwd=PROJECT, env=given, stderr=subprocess.PIPE)
    with connect() as connection:
        if point == "create index":
            under_way = "SELECT 1 FROM pg_stat_progress_create_index WHERE command = 'CREATE INDEX CONCURRENTLY'"
            eventually(lambda: connection.execute(under_way).fetchone() is not None, "the build")
            os.kill(process.pid, signal.SIGKILL)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == -signal.SIGKILL, said.decode()
        still = "SELECT 1 FROM pg_stat_progress_create_index"
        eventually(lambda: connection.execute(still).fetchone() is None, "PostgreSQL's notice of the killed client")


def test_two_builders_take_turns_and_the_second_waits_without_a_snapshot() -> None:
    """CREATE INDEX CONCURRENTLY waits for every statement under way: a waiting one would wait for ever with it."""
    publish("k1", many(ROWS))
    done: list[str] = []
    threads = [
        threading.Thread(target=lambda: done.append(rebuild("i1", least_rows=1000).status)),
        threading.Thread(target=lambda: done.append(rebuild("i1", least_rows=1000).status)),
        threading.Thread(target=lambda: done.append(rebuild("i2", least_rows=1000).status)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(done) == 3 and {*done} == {"published", "unchanged"}, "the same refresh answers the same twice"
    assert states() == ["serving"] and DatasetVersion.objects.filter(dataset="handbook_index").count() == 1
