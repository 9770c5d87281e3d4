"""What becomes of other people's flow runs that end: whatever they say, whenever their events come."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from console.environment import environment
from dataplane import assets, catalogue, currency, scheduling, selectors
from dataplane.deployments import ASSETS, EVENTS_A_PAGE, MOST_PAGES, Event
from dataplane.errors import FlowRunNotFound, InvalidParameters, PrefectRefused
from dataplane.models import AssetEvent, Dataset, DatasetVersion, Refresh
from dataplane.prefect_gateway import FlowRun
from dataplane.refreshes.follow import Follower
from dataplane.secret_fields import MASK
from tests.dataplane.fakes import FakePrefect
from tests.dataplane.refreshes.test_missed_windows import FakeDeployments

pytestmark = pytest.mark.usefixtures("transactional_db")

FLOW, NAME = "load_orders", "nightly"
ASSET = "postgres://store/orders"
REGISTRATION = f"""
[datasets.orders]
deployment = "{FLOW}/{NAME}"
asset = "{ASSET}"
"""
LONG_AGO = timedelta(minutes=1)  # longer than events of assets take


class Deployments(FakeDeployments):
    """Tells events of assets, and what is secret in them."""

    def __init__(self, prefect: FakePrefect) -> None:
        super().__init__(prefect)
        self.told: list[Event] = []
        self.secrets: list[str] = []  # that are known
        self.perhaps: list[str] = []  # while nobody can say what else is

    def events(self, *, since: datetime, prefix: str = "", flow_run_id: str = "", **_: Any) -> list[Event]:
        run = f"prefect.flow-run.{flow_run_id}"
        told = [one for one in self.told if not flow_run_id or run in one.related_ids("flow-run")]
        found = sorted((one for one in told if one.at >= since), key=lambda one: one.at)
        return found[:EVENTS_A_PAGE] if prefix == ASSETS else []

    def secrets_of(self, flow_run_id: str, *, are_known: bool = False) -> list[str]:
        if flow_run_id not in self.prefect.runs:
            raise FlowRunNotFound(flow_run_id)
        return self.secrets if are_known else [*self.secrets, *self.perhaps]

    def began_at(self, flow_run_id: str) -> datetime | None:
        if flow_run_id not in self.prefect.runs:
            raise FlowRunNotFound(flow_run_id)
        return self.prefect.runs[flow_run_id].started_at


@dataclass
class Followed:
    """A registered deployment whose runs are followed."""

    prefect: FakePrefect
    others: Deployments
    file: Path  # of registrations
    events: int = field(default=0)

    def run(self, key: str, **parameters: Any) -> FlowRun:
        return self.prefect.create_flow_run(
            flow=FLOW, deployment=NAME, parameters=parameters, idempotency_key=key, name=key
        )

    def refreshed(self, key: str) -> FlowRun:
        """Return a run with an open refresh."""
        Dataset.objects.get_or_create(name="orders", defaults={"title": "O", "fresh_for": timedelta(days=1)})
        run = self.run(key)
        more = {"prefect_flow_run_id": run.id, "flow": FLOW, "deployment": NAME, "send_attempts": 1}
        Refresh.objects.create(id=f"rfr_{key}", dataset_id="orders", key=key, parameters={}, **more)
        return run

    def end(self, run: FlowRun, state: str, message: str = "") -> None:
        self.prefect._set(run.id, state, state.capitalize(), message)
        self.prefect.move(run.id, state, ago=LONG_AGO)

    def tell(self, run_id: str, *, asset: str = ASSET, upstream: Sequence[str] = (), **metadata: Any) -> None:
        """Let an event of the run's asset come, made from the assets `upstream`."""
        self.events += 1
        related = [{"prefect.resource.id": f"prefect.flow-run.{run_id}", "prefect.resource.role": "flow-run"}]
        related += [{"prefect.resource.id": one, "prefect.resource.role": "asset"} for one in upstream]
        name = "prefect.asset.materialization.succeeded"
        at = datetime.now(UTC)
        self.others.told = [Event(f"event-{self.events}", name, at, asset, metadata, related)]

    def register(self, asset: str) -> None:
        """Let the registration name another asset, or none."""
        self.file.write_text(REGISTRATION.replace(ASSET, asset))

    def look(self) -> None:
        """Look as a process does that has just begun."""
        others: Any = self.others
        Follower(self.prefect, others).look()


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Followed]:
    monkeypatch.setenv("SIGNALBOX_HOME", str(tmp_path))
    environment.cache_clear()
    (tmp_path / "data.toml").write_text(REGISTRATION)
    prefect = FakePrefect()
    prefect.add_deployment(FLOW, NAME, {"properties": {"mode": {"type": "string"}}})
    yield Followed(prefect, Deployments(prefect), tmp_path / "data.toml")
    environment.cache_clear()


def row(key: str) -> Refresh:
    return Refresh.objects.get(key=key)


def test_what_a_run_says_that_cannot_be_kept_stops_nobody(followed: Followed) -> None:
    for key, message in (("a", "bro\x00ken"), ("b", "half \ud83d"), ("c", "closed")):
        followed.end(followed.refreshed(key), "FAILED", message)
    followed.look()
    assert [(row(key).status, row(key).error) for key in "abc"] == [
        ("failed", "bro␀ken"),
        ("failed", "half �"),
        ("failed", "closed"),
    ]


def test_a_run_that_cannot_be_followed_stops_no_other_and_is_said_once(
    followed: Followed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused, other = followed.refreshed("a"), followed.refreshed("b")
    followed.end(other, "FAILED", "closed")
    found = followed.prefect.flow_run

    def flow_run(flow_run_id: str) -> FlowRun:
        if flow_run_id == refused.id:
            raise PrefectRefused("Prefect refused (422): no")
        return found(flow_run_id)

    monkeypatch.setattr(followed.prefect, "flow_run", flow_run)
    others: Any = followed.others
    follower = Follower(followed.prefect, others)
    with caplog.at_level(logging.WARNING, "dataplane.refreshes.follow"):
        assert [follower.look(), follower.look()] == [2, 1]
        follower.look_at_flow_run(refused.id)
    assert (row("a").status, row("b").status) == ("scheduled", "failed")
    assert [one.getMessage() for one in caplog.records] == ["rfr_a: Prefect refused (422): no"]


def test_a_scheduled_runs_parameters_are_kept_as_they_can_be(followed: Followed) -> None:
    followed.run("scheduled d 1", mode="fu\x00ll", rows=[{"half": "\ud83d"}])
    followed.look()
    assert Refresh.objects.get().parameters == {"mode": "fu␀ll", "rows": [{"half": "�"}]}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"digest": "a", "note": "x" * 70_000}, "metadata: must take 65,536 bytes at most"),
    ({"digest": "größe"}, "digest: must be 1 to 64 characters, for instance a SHA-256 in hex"),
    ({"digest": "a", "rows": 3_000_000_000}, "rows: must be a number from 0 to 2,147,483,647"),
]


@pytest.mark.parametrize(("metadata", "why"), REFUSED)
@pytest.mark.parametrize("comes", ["before the end", "with the end", "after the end"])
def test_a_version_that_is_refused_fails_its_refresh_and_confirms_nothing(
    followed: Followed, metadata: dict[str, Any], why: str, comes: str
) -> None:
    first = followed.refreshed("first")
    followed.tell(first.id, digest="first", rows=5)
    followed.end(first, "COMPLETED")
    followed.look()
    confirmed_at = Dataset.objects.get().confirmed_at
    assert row("first").status == "published" and confirmed_at is not None

    second = followed.refreshed("second")
    if comes == "before the end":
        followed.tell(second.id, **metadata)
        followed.look()
        assert row("second").is_open
    elif comes == "with the end":
        followed.tell(second.id, **metadata)
    followed.end(second, "COMPLETED")
    followed.look()
    if comes == "after the end":
        assert row("second").status == "finished" and Dataset.objects.get().confirmed_at != confirmed_at
        followed.tell(second.id, **metadata)
        followed.look()
    followed.look()
    assert (row("second").status, row("second").error) == (
        "failed",
        f"The version of orders that its flow told of is refused: {why}",
    )
    assert Dataset.objects.get().confirmed_at == confirmed_at, "as the version before it"
    assert DatasetVersion.objects.count() == 1


def test_what_a_later_refresh_has_confirmed_stays_so(followed: Followed) -> None:
    refused, later = followed.refreshed("a"), followed.refreshed("b")
    followed.end(refused, "COMPLETED")
    followed.look()
    followed.tell(later.id, digest="later")
    followed.look()
    confirmed_at = Dataset.objects.get().confirmed_at
    followed.tell(refused.id, digest="größe")
    followed.look()
    assert (row("a").status, row("b").status) == ("failed", "published")
    assert Dataset.objects.get().confirmed_at == confirmed_at
    assert currency.told([{"dataset": "orders", "version": 1}])[0]["is_fresh"]


def test_nothing_is_confirmed_where_nobody_knows_what_was_confirmed_before(followed: Followed) -> None:
    run = followed.refreshed("a")
    followed.end(run, "COMPLETED")
    followed.look()
    assert Dataset.objects.get().confirmed_at is not None
    followed.tell(run.id, digest="größe")
    followed.look()
    assert Dataset.objects.get().confirmed_at is None


def test_a_run_that_is_tried_again_and_makes_its_asset_anew_has_told_of_the_newest(followed: Followed) -> None:
    run = followed.refreshed("a")
    followed.tell(run.id, digest="first", rows=1)
    first = followed.others.told[0]
    followed.look()
    followed.tell(run.id, digest="second", rows=2)
    followed.others.told.append(first)
    followed.end(run, "COMPLETED")
    for _ in range(2):  # the first one's word is read again, too
        followed.look()
    current = Dataset.objects.get(name="orders").current_version
    assert current is not None and (current.digest, current.rows) == ("second", 2)
    done = row("a")
    assert done.version == current and done.status == "published" and done.error == ""
    assert DatasetVersion.objects.count() == 2


def test_what_was_told_while_its_registration_was_faulty_is_taken_once_it_is_mended(followed: Followed) -> None:
    others: Any = followed.others
    follower = Follower(followed.prefect, others)
    run = followed.refreshed("a")
    follower.look()
    followed.file.write_text(REGISTRATION.replace("asset", "aset"))
    followed.tell(run.id, digest="first", rows=1)
    assets.catch_up(others)
    follower.look()
    assert not DatasetVersion.objects.exists()
    followed.others.told = []  # its event is read again no more
    followed.file.write_text(REGISTRATION)
    for _ in range(2):
        follower.look()
    current = Dataset.objects.get(name="orders").current_version
    assert current is not None and current.digest == "first" and row("a").version == current


def test_of_two_runs_whose_begin_nobody_has_seen_the_one_that_began_later_tells_what_is_current(
    followed: Followed,
) -> None:
    now = datetime.now(UTC)
    for key, began in (("later", now - timedelta(minutes=5)), ("earlier", now - timedelta(minutes=50))):
        run = followed.run(key)
        followed.prefect.runs[run.id] = replace(followed.prefect.runs[run.id], started_at=began)
        followed.tell(run.id, digest=key, rows=1)
        followed.look()
    current = Dataset.objects.get(name="orders").current_version
    assert current is not None and current.digest == "later"
    kept = DatasetVersion.objects.get(digest="earlier")
    assert "a run that began later" in Refresh.objects.get(version=kept).note


def test_another_asset_of_the_run_is_not_taken_for_the_newest_one(followed: Followed) -> None:
    followed.register("")
    run = followed.refreshed("a")
    followed.tell(run.id, digest="first", rows=1)
    followed.look()
    followed.tell(run.id, asset="postgres://store/customers", digest="second", rows=2)
    followed.look()
    current = Dataset.objects.get(name="orders").current_version
    assert current is not None and current.digest == "first"


def test_a_scheduled_run_whose_word_comes_first_uses_its_window_up(followed: Followed) -> None:
    run = followed.run("scheduled d 1")
    followed.prefect.runs[run.id] = replace(run, expected_start_at=datetime.now(UTC))
    followed.end(followed.prefect.runs[run.id], "COMPLETED")
    followed.tell(run.id, digest="first", rows=1)
    followed.look()
    key = catalogue.others()["orders"].key(datetime.now(UTC))
    assert [(one.key, one.prefect_flow_run_id, one.status) for one in Refresh.objects.all()] == [
        (key, run.id, "published")
    ]
    followed.look()
    assert Refresh.objects.count() == 1


TWO = (
    REGISTRATION
    + f"""
[jobs.tidy]
deployment = "{FLOW}/{NAME}"
window = {{ every = "hour", missed = "each" }}
"""
)


def test_of_two_registrations_of_one_deployment_the_first_keeps_its_times(followed: Followed) -> None:
    followed.file.write_text(TWO)
    told: list[Any] = []
    followed.others.set_schedules = lambda deployment, wanted, fixed: told.append(wanted)  # type: ignore[attr-defined]
    for name, cron in (("orders", "0 3 * * *"), ("tidy", "0 4 * * *")):
        dataset = Dataset.objects.create(
            name=name, title=name, fresh_for=timedelta(days=1), scheduled_at=datetime.now(UTC)
        )
        dataset.schedules.create(slug="main", cron=cron, timezone="UTC", is_active=True)
    run = followed.run("scheduled d 1")
    followed.prefect.runs[run.id] = replace(run, expected_start_at=datetime.now(UTC) - timedelta(hours=3))
    late = followed.run("scheduled d 2")
    followed.prefect.runs[late.id] = replace(late, expected_start_at=datetime.now(UTC))
    for _ in range(2):
        followed.look()
    assert {one.cron for wanted in told for one in wanted} == {"0 3 * * *"}
    assert set(Refresh.objects.values_list("dataset_id", flat=True)) == {"orders"}
    assert selectors.dataset("tidy").scheduled == "with orders, which runs the same deployment"
    assert [one.schedule.cron for one in scheduling.planned("tidy")] == ["0 3 * * *"]
    ada = User.objects.create(username="ada")
    ada.groups.add(Group.objects.get_or_create(name="admin")[0])
    with pytest.raises(InvalidParameters, match="orders runs the same deployment"):
        scheduling.replace_schedules(dataset="tidy", schedules=[{"cron": "0 5 * * *"}], user=ada)


def test_what_a_flow_tells_of_an_asset_is_kept_without_its_secrets(followed: Followed) -> None:
    followed.others.secrets = ["hunter2", "4711"]
    run = followed.refreshed("a")
    told: dict[str, Any] = {
        "note": "opened with hunter2",
        "deep": [{"hunter2": "x"}],
        "rows": 4711,
        "code_version": "v1",
    }
    followed.tell(run.id, **told, digest="of hunter2")
    followed.look()
    version = DatasetVersion.objects.get()
    assert (version.rows, version.code_version, row("a").status) == (4711, "v1", "published")
    assert version.metadata["note"] == f"opened with {MASK}" and version.metadata["deep"] == [{MASK: "x"}]
    followed.tell("00000000-0000-4000-8000-00000000dead", digest="abc", rows=5, note="opened with hunter2")
    followed.look()
    assert [event.metadata for event in AssetEvent.objects.filter(pk="event-2")] == [{"digest": "abc", "rows": 5}]
    assert "hunter2" not in str([one.__dict__ for one in (*AssetEvent.objects.all(), *DatasetVersion.objects.all())])


def kept() -> str:
    return str([one.__dict__ for one in (*AssetEvent.objects.all(), *DatasetVersion.objects.all())])


def test_keys_of_assets_are_kept_without_credentials_and_without_the_runs_secrets(followed: Followed) -> None:
    followed.register("")
    followed.others.secrets = ["4711-abcd"]
    run = followed.refreshed("a")
    upstream = ["postgres://etl:hunter2@store/orders", "s3://raw/4711-abcd"]
    followed.tell(run.id, asset="postgres://etl:hunter2@store/4711-abcd", upstream=upstream)
    followed.look()
    version = DatasetVersion.objects.get()
    assert version.location == f"postgres://etl:{MASK}@store/{MASK}"
    assert version.inputs == [{"asset": f"postgres://etl:{MASK}@store/orders"}, {"asset": f"s3://raw/{MASK}"}]
    gone = "00000000-0000-4000-8000-00000000dead"
    followed.tell(gone, asset="s3://elsewhere", upstream=["s3://raw/4711-abcd"])
    followed.look()
    assert AssetEvent.objects.get(pk="event-2").upstream == [], "nobody can say what is secret in them"
    assert "hunter2" not in kept() and "4711-abcd" not in kept()


@pytest.mark.parametrize("key", ["postgres://etl:hunter2@store/orders", "s3://store/orders"])
def test_a_dataset_is_found_by_the_asset_that_its_registration_names(followed: Followed, key: str) -> None:
    followed.register(key)
    followed.others.secrets = ["store/orders"]  # what the file of registrations names is none
    followed.tell(followed.refreshed("a").id, asset=key)
    followed.look()
    assert row("a").status == "published" and "hunter2" not in kept()


def test_a_dataset_is_found_by_an_asset_whose_event_came_before_its_registration(followed: Followed) -> None:
    followed.register("s3://another")
    followed.others.perhaps = ["store"]  # nobody can say
    run = followed.refreshed("a")
    followed.tell(run.id, asset="postgres://etl:hunter2@store/orders")
    followed.look()
    followed.register("postgres://etl:hunter2@store/orders")
    followed.end(run, "COMPLETED")
    followed.look()
    assert row("a").status == "published" and "hunter2" not in kept()


def test_a_digest_is_the_same_while_nobody_can_say_what_is_secret(followed: Followed) -> None:
    for key in ("a", "b"):
        run = followed.refreshed(key)
        followed.tell(run.id, digest="full-1-10", rows=10, note="all of it, full")
        followed.look()
        followed.others.perhaps = ["full"]
    assert DatasetVersion.objects.get().digest == "full-1-10"
    assert AssetEvent.objects.get(pk="event-2").metadata["note"] == f"all of it, {MASK}"
    assert row("b").status == "unchanged"


def test_however_many_events_come_at_once_the_last_one_is_read(followed: Followed) -> None:
    now = datetime.now(UTC)
    made = "prefect.asset.materialization.succeeded"
    many = EVENTS_A_PAGE * MOST_PAGES + 10
    moments = [now - timedelta(seconds=90) + timedelta(milliseconds=50 * number) for number in range(many)]
    followed.others.told = [
        *(Event(f"of-others-{number}", made, at, "s3://raw/others", {}, []) for number, at in enumerate(moments)),
        Event("last", made, now, ASSET, {"digest": "sha256:1"}, []),
    ]
    others: Any = followed.others
    follower = Follower(followed.prefect, others)
    follower.look()
    assert not AssetEvent.objects.filter(pk="last").exists(), "one look reads a thousand"
    follower.look()
    assert AssetEvent.objects.filter(pk="last").exists()
    assert DatasetVersion.objects.get().dataset_id == "orders"


def test_a_run_that_has_ended_is_asked_for_events_that_came_late(followed: Followed) -> None:
    run = followed.refreshed("a")
    followed.tell(run.id, digest="sha256:1")
    late = followed.others.told
    followed.others.told = [replace(one, at=one.at - timedelta(hours=3)) for one in late]
    newer = {"at": datetime.now(UTC), "is_made": True, "asset": "s3://raw/others"}
    AssetEvent.objects.create(id="newer", metadata={}, upstream=[], **newer)
    followed.end(run, "COMPLETED")
    followed.look()
    assert AssetEvent.objects.filter(prefect_flow_run_id=run.id).exists()
    assert DatasetVersion.objects.get().dataset_id == "orders"
