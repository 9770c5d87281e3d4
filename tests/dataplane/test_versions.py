from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.db import ProgrammingError, connection

from dataplane import selectors, versions
from dataplane.catalogue import CUSTOMER_FEATURES, HANDBOOK
from dataplane.contracts import RefreshOrder
from dataplane.embedding import embedder
from dataplane.errors import DatasetNotPublished, EmbedderChanged, RefreshHeldElsewhere
from dataplane.models import Dataset, DatasetVersion, Passage, Refresh
from dataplane.refreshes import watch
from dataplane.refreshes.claim import claim, fail
from dataplane.refreshes.request import request_refresh
from tests.waiting import eventually

from .conftest import FLOW_RUN, content, publish

pytestmark = pytest.mark.usefixtures("database_url")


def test_new_content_becomes_the_current_version_and_can_be_found() -> None:
    outcome = publish("k1", content("Damaged goods are paid back.", "Gift cards cannot be returned."))
    assert outcome.status == "published"
    hits = selectors.nearest_passages(query="are damaged goods paid back", limit=1)
    assert (hits.version, [hit.text for hit in hits.passages]) == (1, ["Damaged goods are paid back."])
    assert selectors.current_versions(["handbook", "nothing"]) == {"handbook": 1}


def test_the_same_content_publishes_nothing_but_confirms_the_dataset() -> None:
    publish("k1", content("Thirty days."))
    before = Dataset.objects.get().confirmed_at
    outcome = publish("k2", content("Thirty days."))
    assert (outcome.status, DatasetVersion.objects.count(), Passage.objects.count()) == ("unchanged", 1, 1)
    after = Dataset.objects.get().confirmed_at
    assert before is not None and after is not None and after > before
    row = Refresh.objects.get(key="k2")
    assert row.version is not None and (row.status, row.version.version) == ("unchanged", 1)


def test_content_that_returns_makes_its_version_current_again_and_no_number_is_used_twice() -> None:
    for key, words in (("k1", "Thirty days."), ("k2", "Fourteen days."), ("k3", "Thirty days.")):
        publish(key, content(words))
    assert selectors.current_versions(["handbook"]) == {"handbook": 1}
    assert publish("k4", content("Seven days.")).version is not None
    assert sorted(DatasetVersion.objects.values_list("version", flat=True)) == [1, 2, 3]


def test_a_finished_refresh_is_not_done_again() -> None:
    publish("k1", content("Thirty days."))
    again = publish("k1", content("Something else."))
    assert again.was_done and DatasetVersion.objects.count() == 1


def test_many_runs_of_one_refresh_write_one_version() -> None:
    made = content("Thirty days.", "By post.")
    gate = threading.Barrier(6)

    def run(number: int) -> bool:
        gate.wait()
        return publish("k1", made, flow_run_id=f"00000000-0000-4000-8000-00000000000{number}").was_done

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(run, range(6))) == [False] + [True] * 5
    assert (DatasetVersion.objects.count(), Passage.objects.count(), Refresh.objects.count()) == (1, 2, 1)


def test_many_refreshes_with_the_same_content_write_one_version() -> None:
    made = content("Thirty days.")
    gate = threading.Barrier(6)

    def run(number: int) -> str:
        gate.wait()
        return publish(f"k{number}", made).status

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(run, range(6))) == ["published"] + ["unchanged"] * 5
    assert DatasetVersion.objects.count() == 1


def test_a_publication_that_fails_halfway_leaves_nothing_and_can_be_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish("k1", content("Thirty days."))

    def lose_the_connection(connection: psycopg.Connection[object]) -> None:
        raise psycopg.OperationalError("gone")

    with claim(HANDBOOK, RefreshOrder("handbook", "k2"), flow_run_id=FLOW_RUN) as claimed:
        with monkeypatch.context() as patch, pytest.raises(psycopg.OperationalError):
            patch.setattr(versions, "announce", lose_the_connection)
            versions.publish(
                HANDBOOK, content("New."), refresh_id=claimed.refresh_id, parameters={}, flow_run_id=FLOW_RUN
            )
        assert selectors.current_versions(["handbook"]) == {"handbook": 1}
        assert Passage.objects.count() == 1
    assert publish("k2", content("New.")).status == "published"


def test_a_failed_refresh_keeps_the_current_version_and_says_why() -> None:
    publish("k1", content("Thirty days."))
    with claim(HANDBOOK, RefreshOrder("handbook", "k2"), flow_run_id=FLOW_RUN) as claimed:
        fail(claimed.refresh_id, "returns.md has no title.")
    row = Refresh.objects.get(key="k2")
    assert (row.status, row.error) == ("failed", "returns.md has no title.")
    assert selectors.current_versions(["handbook"]) == {"handbook": 1}
    fail(Refresh.objects.get(key="k1").pk, "too late")
    assert Refresh.objects.get(key="k1").status == "published"


def test_a_cancelled_refresh_publishes_nothing() -> None:
    with claim(HANDBOOK, RefreshOrder("handbook", "k1"), flow_run_id=FLOW_RUN) as claimed:
        Refresh.objects.update(status="cancelled")
        outcome = versions.publish(
            HANDBOOK, content("New."), refresh_id=claimed.refresh_id, parameters={}, flow_run_id=FLOW_RUN
        )
    assert outcome.status == "cancelled" and not DatasetVersion.objects.exists()


def test_what_was_read_earlier_is_kept_and_does_not_become_current() -> None:
    publish("k0", content("Thirty days."))
    with claim(HANDBOOK, RefreshOrder("handbook", "k1"), flow_run_id=FLOW_RUN) as slow:
        publish("k2", content("Fourteen days."))
        confirmed_at = Dataset.objects.get().confirmed_at
        for old in ("Thirty days.", "Sixty days."):  # a version of before, and one that is new
            Refresh.objects.filter(key="k1").update(status="running")
            outcome = versions.publish(
                HANDBOOK, content(old), refresh_id=slow.refresh_id, parameters={}, flow_run_id=FLOW_RUN
            )
            row = Refresh.objects.select_related("version").get(key="k1")
            assert (
                outcome.sentence
                == row.note
                == ("The content is kept, and version 2 stays current: a refresh that began later has published.")
            )
            assert outcome.status == row.status == "published" and outcome.version and row.version
            assert outcome.version.version == row.version.version == (1 if old == "Thirty days." else 3)
    assert selectors.current_versions(["handbook"]) == {"handbook": 2}
    assert Dataset.objects.get().confirmed_at == confirmed_at, "it says nothing of the version that is current"


def test_a_run_that_begins_again_reads_anew() -> None:
    with claim(HANDBOOK, RefreshOrder("handbook", "k1"), flow_run_id=FLOW_RUN):
        pass  # it died
    publish("k2", content("Fourteen days."))
    publish("k1", content("Sixty days."))
    assert selectors.current_versions(["handbook"]) == {"handbook": 2}
    assert DatasetVersion.objects.get(version=2).refreshes.get().key == "k1"


def test_what_builds_on_the_current_version_is_made_one_after_the_other() -> None:
    name = CUSTOMER_FEATURES.name
    row, _ = request_refresh(dataset=name, key="k2", user=None)
    entered = threading.Event()

    def second() -> None:
        with claim(CUSTOMER_FEATURES, RefreshOrder(name, "k2"), flow_run_id=FLOW_RUN):
            entered.set()

    with ThreadPoolExecutor(1) as pool:
        with claim(CUSTOMER_FEATURES, RefreshOrder(name, "k1"), flow_run_id=FLOW_RUN):
            waiting = pool.submit(second)
            eventually(lambda: watch._is_held(row.pk), "the second run's own lock")
            with (
                pytest.raises(RefreshHeldElsewhere, match="Another flow run"),
                claim(CUSTOMER_FEATURES, RefreshOrder(name, "k3"), flow_run_id=FLOW_RUN, wait_seconds=0.2),
            ):
                pass
            assert not entered.is_set() and Refresh.objects.get(key="k2").started_at is None
            request_refresh(dataset=name, key="dry", user=None, is_dry_run=True)
            with claim(CUSTOMER_FEATURES, RefreshOrder(name, "dry"), flow_run_id=FLOW_RUN, wait_seconds=0) as dry:
                assert dry.is_dry_run, "it publishes nothing, so it waits for nobody"
        waiting.result()
    assert entered.is_set()


def test_a_second_run_waits_for_the_first_and_gives_up_in_words() -> None:
    order = RefreshOrder("handbook", "k1")
    with (
        claim(HANDBOOK, order, flow_run_id=FLOW_RUN),
        pytest.raises(RefreshHeldElsewhere, match="Another flow run"),
        claim(HANDBOOK, order, flow_run_id=FLOW_RUN, wait_seconds=0.2),
    ):
        pass


def test_what_was_asked_for_first_decides_the_parameters() -> None:
    first = RefreshOrder("handbook", "k1", {"passage_characters": 400})
    with claim(HANDBOOK, first, flow_run_id=FLOW_RUN):
        pass
    with claim(HANDBOOK, RefreshOrder("handbook", "k1"), flow_run_id=FLOW_RUN) as claimed:
        assert claimed.parameters == {"passage_characters": 400}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE dataplane_passage SET text = 'other'",
        "DELETE FROM dataplane_passage",
        "UPDATE dataplane_datasetversion SET digest = 'other'",
        "DELETE FROM dataplane_datasetversion",
    ],
)
def test_the_database_refuses_to_change_a_version(statement: str) -> None:
    publish("k1", content("Thirty days."))
    with connection.cursor() as cursor, pytest.raises(ProgrammingError, match="Cannot update or delete"):
        cursor.execute(statement)


def test_reading_before_the_first_version_and_with_another_model_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(DatasetNotPublished, match="No version of the dataset handbook"):
        selectors.nearest_passages(query="returns")
    publish("k1", content("Thirty days."))
    monkeypatch.setattr(type(embedder()), "name", "another-model")
    with pytest.raises(EmbedderChanged, match="was embedded with wordllama"):
        selectors.nearest_passages(query="returns")
