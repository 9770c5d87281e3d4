"""Versions that a program tells of, going back to one, and windows of the past; no engine is needed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from approvals.models import AuditEvent
from console.environment import environment
from dataplane import changes, currency, lineage, selectors
from dataplane.api import shapes
from dataplane.catalogue import CATALOGUE, HANDBOOK
from dataplane.errors import DeploymentNotFound, PrefectAway
from dataplane.management.commands import check_data
from dataplane.models import Dataset, DatasetVersion, Refresh
from dataplane.pages import versions as versions_page
from dataplane.windows import Days, Hours, WindowPolicy
from tests.api_caller import Caller, paths_of, problem
from tests.orchestration.conftest import make_run

from .conftest import FLOW_RUN, content, publish

pytestmark = pytest.mark.usefixtures("database_url", "orders")
FILE = """
[datasets.orders]
title = "Orders"
deployment = "load_orders/nightly"
publishers = ["etl-bot"]
[jobs.reindex]
deployment = "reindex/manual"
"""
MORE = """
[jobs.vacuum]
deployment = "vacuum/manual"
[datasets.returns]
deployment = "load_returns/nightly"
"""


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    (tmp_path / "data.toml").write_text(FILE)
    monkeypatch.setenv("SIGNALBOX_HOME", str(tmp_path))
    environment.cache_clear()


def service(name: str) -> Caller:
    user = User.objects.create_user(name)
    user.groups.add(Group.objects.get_or_create(name="service")[0])
    return Caller(user)


def told(key: str = "2026-11-24", digest: str = "abc", **more: Any) -> dict[str, Any]:
    return {"key": key, "digest": digest, "rows": 5, "location": "s3://store/orders", **more}


def test_one_key_is_one_version_and_one_digest_is_one_version() -> None:
    bot = service("etl-bot")
    first = bot.post("datasets/orders/versions", told(inputs=[{"asset": "s3://raw"}]))
    assert (first.status_code, first.json()["version"]) == (201, 1), first.content
    again = bot.post("datasets/orders/versions", told(inputs=[{"asset": "s3://raw"}]))
    assert (again.status_code, again.json()) == (200, first.json())
    assert problem(bot.post("datasets/orders/versions", told(digest="other")), 409)["version"] == 1
    same = bot.post("datasets/orders/versions", told(key="2026-11-25"))
    assert (same.status_code, same.json()["version"]) == (200, 1), "the same content again"
    assert Refresh.objects.get(key="2026-11-25").status == "unchanged"
    assert bot.post("datasets/orders/versions", told("2026-11-26", "def")).json()["version"] == 2
    back = bot.post("datasets/orders/versions", told("2026-11-27"))
    assert (back.status_code, back.json()["version"]) == (200, 1), "an earlier content is current again"
    assert Dataset.objects.get(name="orders").current_version.version == 1  # type: ignore[union-attr]
    assert DatasetVersion.objects.count() == 2
    assert AuditEvent.objects.filter(kind="dataset.version_told", actor="etl-bot").count() == 4


def test_a_run_that_began_earlier_and_tells_later_does_not_make_its_version_current() -> None:
    bot = service("etl-bot")
    bot.post("datasets/orders/versions", told())  # begun nobody knows when
    for number, minute in ((1, 0), (2, 10), (3, 5)):
        run = f"{FLOW_RUN[:-1]}{number}"
        Refresh.objects.create(
            id=f"rfr_{number}",
            dataset_id="orders",
            key=str(number),
            parameters={},
            status="running",
            prefect_flow_run_id=run,
            started_at=datetime(2026, 11, 24, 6, minute, tzinfo=UTC),
        )
        answer = bot.post("datasets/orders/versions", told(str(number), f"of run {number}", flow_run_id=run))
        assert answer.status_code == 201, answer.content
    assert selectors.current_versions(["orders"]) == {"orders": 3}
    late = Refresh.objects.select_related("version").get(pk="rfr_3")
    assert late.version is not None and (late.status, late.version.version) == ("published", 4)
    assert late.note == "It is kept, and version 3 stays current: a run that began later has told of one."
    bot.post("datasets/orders/versions", told("by-hand", "by-hand"))
    assert selectors.current_versions(["orders"]) == {"orders": 5}, "nobody knows of a later one"


def test_who_may_not_tell_and_what_cannot_be_told() -> None:
    problem(service("another-bot").post("datasets/orders/versions", told()), 403)
    bot = service("etl-bot")
    problem(bot.post("datasets/handbook/versions", told()), 409)
    problem(bot.post("datasets/reindex/versions", told()), 404)
    problem(bot.post("datasets/nothing/versions", told()), 404)
    wrong = told("", "x" * 65, rows=-1, inputs=[{"dataset": "orders", "version": 9}, {"x": 1}])
    assert paths_of(bot.post("datasets/orders/versions", wrong)) == ["key", "digest", "rows", "inputs.0", "inputs.1"]
    secret = told(location="postgresql://u:hunter2@h/d", metadata={"password": "hunter2"})
    assert "hunter2" not in bot.post("datasets/orders/versions", secret).content.decode()
    assert not DatasetVersion.objects.exclude(location__contains="•••").exists()


def test_no_credentials_of_an_assets_key_are_kept_or_shown(ada: User) -> None:
    key, shown = "postgres://etl:hunter2@store/raw", "postgres://etl:•••@store/raw"
    bot = service("etl-bot")
    answer = bot.post(
        "datasets/orders/versions", told(inputs=[{"asset": key}], code_version="https://ci:hunter2@git/1")
    )
    assert answer.json()["inputs"] == [{"asset": shown}], answer.content
    kept = DatasetVersion.objects.get()
    assert (kept.inputs, kept.code_version) == ([{"asset": shown}], "https://ci:•••@git/1")
    common: dict[str, Any] = {"dataset_id": "orders", "rows": 1, "kind": "external", "parameters": {}}
    DatasetVersion.objects.create(version=2, digest="of an earlier release", inputs=[{"asset": key}], **common)
    for path in ("datasets/orders/versions/2", "datasets/orders/versions/2/lineage"):
        said = Caller(ada).get(path).content.decode()
        assert "hunter2" not in said and "postgres://etl:" in said


def test_versions_that_cannot_be_compared_are_refused_in_words(ada: User) -> None:
    bot = service("etl-bot")
    bot.post("datasets/orders/versions", told())
    bot.post("datasets/orders/versions", told("2026-11-25", "def"))
    common: dict[str, Any] = {"dataset_id": "orders", "rows": 1, "parameters": {}}
    for number, kind in ((3, "features"), (4, "of a later release"), (5, "of a later release")):
        DatasetVersion.objects.create(version=number, digest=str(number), kind=kind, **common)
    said = {
        number: problem(Caller(ada).get(f"datasets/orders/versions/{number}/diff"), 409)["detail"]
        for number in (2, 3, 5)
    }
    assert said == {
        2: "The rows stand in another store, so they cannot be compared here.",
        3: "Version 2 holds external, version 3 features.",
        5: "No dataset here holds content of the kind of a later release, so its rows cannot be read.",
    }


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"flow_run_id": "scheduled__2026-11-24T06:00:00+00:00"}, "flow_run_id"),
        ({"flow_run_id": FLOW_RUN[:8]}, "flow_run_id"),
        ({"metadata": {"note": "a\x00b"}}, "metadata"),
        ({"inputs": [{"asset": "a\x00b"}]}, "inputs.0"),
    ],
)
def test_what_no_page_could_show_is_not_taken(more: dict[str, Any], path: str) -> None:
    refused = service("etl-bot").post("datasets/orders/versions", told(**more))
    assert paths_of(refused) == [path], refused.content
    assert not DatasetVersion.objects.exists()


@pytest.mark.parametrize(("path", "registered"), [("datasets", ["orders", "returns"]), ("jobs", ["reindex", "vacuum"])])
def test_a_list_waits_once_for_a_prefect_that_does_not_answer(
    ada: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, registered: list[str]
) -> None:
    (tmp_path / "data.toml").write_text(FILE + MORE)
    asked: list[str] = []

    def find(flow: str, deployment: str) -> Any:
        asked.append(flow)
        raise PrefectAway("Prefect does not answer.")

    monkeypatch.setattr(shapes, "deployments", lambda: SimpleNamespace(find=find))
    listed = {one["name"]: one["parameters_schema"] for one in Caller(ada).get(path).json()["items"]}
    assert len(asked) == 1
    assert [listed[name] for name in registered] == [{}, {}]


def test_a_deployment_that_prefect_does_not_know_hides_no_other_schema(
    ada: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data.toml").write_text(FILE + MORE)

    def find(flow: str, deployment: str) -> Any:
        if flow == "reindex":
            raise DeploymentNotFound(f"{flow}/{deployment}")
        return SimpleNamespace(schema={"properties": {"day": {"type": "string"}}}, defaults={})

    monkeypatch.setattr(shapes, "deployments", lambda: SimpleNamespace(find=find))
    listed = {one["name"]: one["parameters_schema"] for one in Caller(ada).get("jobs").json()["items"]}
    assert listed["reindex"] == {} and "day" in listed["vacuum"]["properties"]


def test_a_version_that_no_flow_run_made_is_shown_with_what_read_it(ada: User, client: Client) -> None:
    service("etl-bot").post("datasets/orders/versions", told())
    Refresh.objects.create(id="rfr_unsent", dataset_id="orders", key="unsent", parameters={})
    run = make_run(status="waiting", dataset_versions=[{"dataset": "orders", "version": 1}])
    client.force_login(ada)
    pages = (reverse("orchestration:run", args=[run.pk]), reverse("dataplane:data"))
    assert [client.get(page).status_code for page in pages] == [200, 200]
    (made,) = [one for one in Caller(ada).get(f"runs/{run.pk}/timeline").json()["items"] if one["layer"] == "prefect"]
    assert made["reference"] == "orders@1"


def test_every_dataset_shows_its_versions_though_another_has_many(ada: User) -> None:
    publish("k1", content("Thirty days."))
    handbook = DatasetVersion.objects.get()
    bot = service("etl-bot")
    for number in range(12):
        bot.post("datasets/orders/versions", told(str(number), str(number)))
    for wanted in (1, 2):
        with pytest.MonkeyPatch.context() as few:
            few.setattr(selectors, "VERSIONS_SHOWN", wanted)
            shown = {one.name: [version.version for version in one.versions] for one in selectors.datasets()}
        assert shown["handbook"] == [handbook.version]
        assert shown["orders"] == [12, 11][:wanted]


def test_a_version_says_where_it_comes_from_and_what_was_made_of_it(ada: User, client: Client) -> None:
    bot = service("etl-bot")
    bot.post("datasets/orders/versions", told(inputs=[{"asset": "s3://raw/orders"}], flow_run_id=FLOW_RUN))
    bot.post("datasets/orders/versions", told("next", "def", inputs=[{"dataset": "orders", "version": 1}]))
    said = Caller(ada).get("datasets/orders/versions/1/lineage").json()
    kinds = {one["id"]: one["kind"] for one in said["nodes"]}
    assert kinds == {
        "version:orders:1": "version",
        f"flow_run:{FLOW_RUN}": "flow_run",
        "source:s3://raw/orders": "source",
        "version:orders:2": "version",
    }
    assert {(one["from"], one["to"]) for one in said["edges"]} == {
        ("source:s3://raw/orders", f"flow_run:{FLOW_RUN}"),
        (f"flow_run:{FLOW_RUN}", "version:orders:1"),
        ("version:orders:1", "version:orders:2"),
    }
    client.force_login(ada)
    for name in ("version", "version_origin", "version_difference"):
        assert client.get(reverse(f"dataplane:{name}", args=["orders", 1])).status_code == 200


def made_of_five_before(versions: int) -> None:
    """Make versions of the orders, each from the five before it."""
    Dataset.objects.create(name="orders", title="Orders", fresh_for=timedelta(days=1))
    common: dict[str, Any] = {"dataset_id": "orders", "rows": 1, "kind": "external", "parameters": {}}
    for number in range(1, versions + 1):
        inputs = [{"dataset": "orders", "version": before} for before in range(max(1, number - 5), number)]
        DatasetVersion.objects.create(version=number, digest=str(number), inputs=inputs, **common)


def test_a_window_over_windows_over_windows_is_read_level_by_level() -> None:
    made_of_five_before(40)
    version = selectors.version("orders", 40)
    with CaptureQueriesContext(connection) as queries:
        found = lineage.of(version)
    assert len(queries) <= lineage.DEEPEST + 4, [one["sql"] for one in queries]
    assert list(found.nodes)[:3] == ["version:orders:40", "version:orders:35", "version:orders:36"]
    assert len(found.nodes) == 1 + 5 * lineage.DEEPEST and len(found.edges) == 5 * (1 + 5 * (lineage.DEEPEST - 1))
    headings = [heading for heading, _ in found.columns]
    assert headings[-3:] == ["Made from, 2 steps back", "Made from", "This version"]
    assert found.is_cut, "there are versions beyond the sixth level"


def test_what_does_not_fit_a_lineage_is_said_to_be_left_out(
    ada: User, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_of_five_before(12)
    client.force_login(ada)
    origin = reverse("dataplane:version_origin", args=["orders", 12])
    assert not Caller(ada).get("datasets/orders/versions/12/lineage").json()["is_cut"]
    assert "left out" not in client.get(origin).content.decode()
    monkeypatch.setattr(lineage, "MOST_ORIGINS", 8)
    said = Caller(ada).get("datasets/orders/versions/12/lineage").json()
    assert said["is_cut"] and len(said["nodes"]) == 8
    assert {one["from"] for one in said["edges"]} | {one["to"] for one in said["edges"]} == {
        one["id"] for one in said["nodes"]
    }
    assert "There is more than fits here: what is farthest away is left out." in client.get(origin).content.decode()
    monkeypatch.setattr(lineage, "MOST_EDGES", 6)
    assert len(lineage.of(selectors.version("orders", 12)).edges) == 6


def test_going_back_says_first_who_is_affected(ada: User, client: Client) -> None:
    publish("k1", content("Thirty days."))
    publish("k2", content("Fourteen days.", "Unused."))
    diff = Caller(ada).get("datasets/handbook/versions/2/diff").json()
    assert (diff["added"], diff["removed"]) != (0, 0) or diff["changed"]
    dry = Caller(ada).post("datasets/handbook/rollback", {"version": 1, "dry_run": True}).json()
    assert (dry["current"], dry["version"], dry["agents"]) == (2, 1, ["support"])
    assert currency.told([{"dataset": "handbook", "version": 2}])[0]["is_current"], "nothing was done"
    assert paths_of(Caller(ada).post("datasets/handbook/rollback", {"version": 1})) == ["reason"]
    done = Caller(ada).post("datasets/handbook/rollback", {"version": 1, "reason": "two was wrong"})
    assert done.status_code == 202, done.content
    read = currency.told([{"dataset": "handbook", "version": 2}])[0]
    assert (read["is_current"], read["note"]) == (False, "another version is current: 1")
    older = currency.told([{"dataset": "handbook", "version": 1}])[0]
    words = "current, but not confirmed since it was made current"
    assert (older["is_current"], older["is_fresh"], older["note"]) == (True, False, words)
    assert Caller(ada).get("datasets/handbook").json()["fresh_until"] is None
    client.force_login(ada)
    assert "Not since this version was made current" in client.get("/data/").content.decode()
    problem(Caller(ada).post("datasets/handbook/rollback", {"version": 1, "reason": "again"}), 409)
    assert AuditEvent.objects.get(kind="dataset.rolled_back").body["reason"] == "two was wrong"
    client.force_login(ada)
    page = reverse("dataplane:make_current", args=["handbook", 2])
    assert "support" in client.get(page).content.decode()
    assert client.post(page, {"reason": ""}).status_code == 422
    assert client.post(page, {"reason": "mended"}).status_code == 302
    assert currency.told([{"dataset": "handbook", "version": 2}])[0]["is_current"]


def test_a_deployment_that_nobody_serves_is_a_warning_and_a_wrong_parameter_a_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = SimpleNamespace(schema={"properties": {"day": {}}}, is_ready=False)
    monkeypatch.setattr(check_data, "deployments", lambda: SimpleNamespace(find=lambda *names: found))
    monkeypatch.setattr(environment(), "prefect_api_url", "http://127.0.0.1:1/api")
    call_command("check_data")
    assert capsys.readouterr().out.count("nobody serves it now") == 2
    (tmp_path / "data.toml").write_text(FILE + '[jobs.reindex.parameters]\nsecret = ["dsn"]\n')
    with pytest.raises(CommandError, match=r"reindex: parameters\.secret: the deployment has no parameter dsn") as told:
        call_command("check_data")
    assert "nobody serves" not in str(told.value)


def test_windows_of_the_past_are_previewed_limited_and_asked_for_once(ada: User, client: Client) -> None:
    asked = {"from": "2026-11-01", "to": "2026-11-05", "limit": 3}
    dry = Caller(ada).post("datasets/handbook/backfill", {**asked, "dry_run": True}).json()
    assert ([one["key"] for one in dry["windows"]], dry["left"]) == (["2026-11-01", "2026-11-02", "2026-11-03"], 2)
    assert not Refresh.objects.exists()
    assert Caller(ada).post("datasets/handbook/backfill", asked).status_code == 202
    assert Refresh.objects.count() == 3
    then = Caller(ada).post("datasets/handbook/backfill", asked).json()
    assert (Refresh.objects.count(), then["left"]) == (5, 0), "the same again asks for the next ones"
    for wrong, path in (
        ({**asked, "to": "2026-10-01"}, "to"),
        ({**asked, "from": "yesterday"}, "from"),
        ({**asked, "limit": 1000}, "limit"),
        ({**asked, "to": "2036-01-01"}, "from"),
    ):
        assert path in paths_of(Caller(ada).post("datasets/handbook/backfill", wrong)), wrong
    client.force_login(ada)
    page = reverse("dataplane:backfill", args=["handbook"])
    assert client.get(page, {"from": "2026-11-01", "to": "2026-11-02"}).context["found"].missing == []
    assert client.post(page, {"from": "2026-11-06", "to": "2026-11-06", "limit": "5"}).status_code == 302
    assert Refresh.objects.filter(key="2026-11-06").exists()


def test_a_window_that_has_not_begun_is_not_used_up(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "database_now", lambda: datetime(2026, 11, 4, 12, tzinfo=UTC))
    asked = {"from": "2026-11-03", "to": "2026-11-05T11:00:00Z"}
    done = Caller(ada).post("datasets/handbook/backfill", asked).json()
    assert [one["key"] for one in done["windows"]] == ["2026-11-03", "2026-11-04"]
    nothing = Caller(ada).post("datasets/handbook/backfill", {**asked, "from": "2026-11-05"}).json()
    assert nothing["windows"] == [] and Refresh.objects.count() == 2


@pytest.mark.parametrize(
    ("window", "begin", "end", "first", "last", "count"),
    [
        (Days("America/New_York"), "2026-11-01", "2026-11-03", "2026-11-01", "2026-11-03", 3),
        (Days("Asia/Tokyo"), "2026-11-01", "2026-11-05", "2026-11-01", "2026-11-05", 5),
        (Days("Asia/Tokyo"), "2026-11-03T15:00Z", "2026-11-04T14:00Z", "2026-11-04", "2026-11-04", 1),
        (Hours(), "2026-11-03", "2026-11-03", "2026-11-03T00:00+00:00", "2026-11-03T23:00+00:00", 24),
        (Hours(1, "Europe/Berlin"), "2026-10-25", "2026-10-25", "2026-10-25T00:00+02:00", "2026-10-25T23:00+01:00", 25),
        (Hours(6), "2026-11-03", "2026-11-04", "2026-11-03T00:00+00:00", "2026-11-04T12:00+00:00", 7),
        (Hours(), "2026-11-04T10:45Z", "2026-11-04T11:05Z", "2026-11-04T10:00+00:00", "2026-11-04T11:00+00:00", 2),
        (Hours(), "2026-11-04", "2026-11-05", "2026-11-04T00:00+00:00", "2026-11-04T15:00+00:00", 16),
    ],
)
def test_a_day_is_one_of_the_windows_own_zone_with_all_its_windows_up_to_now(
    window: WindowPolicy, begin: str, end: str, first: str, last: str, count: int, ada: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(CATALOGUE, "handbook", replace(HANDBOOK, window=window))
    monkeypatch.setattr(changes, "database_now", lambda: datetime(2026, 11, 4, 15, 10, tzinfo=UTC))
    asked = {"from": begin, "to": end, "limit": 100, "dry_run": True}
    keys = [one["key"] for one in Caller(ada).post("datasets/handbook/backfill", asked).json()["windows"]]
    assert (keys[0], keys[-1], len(keys)) == (first, last, count)


def test_the_page_ends_with_today_by_the_clock_of_the_windows(
    ada: User, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CATALOGUE, "handbook", replace(HANDBOOK, window=Days("Asia/Tokyo")))
    for module in (changes, versions_page):
        monkeypatch.setattr(module, "database_now", lambda: datetime(2026, 11, 4, 20, tzinfo=UTC))
    client.force_login(ada)
    shown = client.get(reverse("dataplane:backfill", args=["handbook"]))
    assert shown.context["typed"]["end"] == shown.context["found"].windows[-1].key == "2026-11-05"
    assert "by the clock of Asia/Tokyo" in shown.content.decode()


def test_a_refresh_is_asked_for_from_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("refresh", "handbook", "--key", "by-hand")
    call_command("refresh", "handbook", "--key", "by-hand")
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("by-hand: asked for") and second.endswith("by-hand: exists already, scheduled")
