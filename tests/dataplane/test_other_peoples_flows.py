"""A foreign ETL, registered by configuration alone, on the real Prefect server: started, followed, ended, read."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import psycopg
import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from approvals.models import AuditEvent
from console.environment import environment
from dataplane import currency
from dataplane.catalogue import others
from dataplane.deployments import deployments
from dataplane.errors import DeploymentNotFound, PrefectAway
from dataplane.models import AssetEvent, Dataset, DatasetVersion, Refresh
from dataplane.prefect_gateway import gateway
from dataplane.refreshes import dispatch, follow, standing
from dataplane.refreshes.follow import LATER_IS_DUE, Follower
from orchestration.diagnosis import diagnosing
from stack.prefect import Prefect
from tests.api_caller import Caller, paths_of, problem
from tests.dataplane.foreign import serving
from tests.dataplane.foreign.serving import REGISTRATION, SECRET, kill
from tests.orchestration.conftest import make_run, open_for
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.engines

BERLIN = ZoneInfo("Europe/Berlin")  # of the registration's schedule
TRIALS, EVERY_TRIAL = 20, 1000  # kills, where so many examples are asked for: `make nightly` does
REGISTRATIONS = f"""{REGISTRATION}
[jobs.orders-again]
deployment = "load_orders/nightly"

[jobs.orders-again.parameters]
shown = ["mode", "dsn"]
fixed = {{ level = 2 }}

[jobs.gone]
deployment = "load_orders/moved-away"
"""

Serve = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def store(tmp_path: Path, prefect_server: Prefect, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The foreign flow's folder; the environment is told of the server and of the registrations."""
    (tmp_path / "data.toml").write_text(REGISTRATIONS)
    monkeypatch.setenv("SIGNALBOX_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", prefect_server.api_url)
    environment.cache_clear()
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def serve(store: Path, tmp_path: Path, prefect_server: Prefect) -> Iterator[Serve]:
    """Start the foreign flow's own process; at the end all of them and their runs are gone."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(serving.serve(store, tmp_path, prefect_server.api_url))
        eventually(lambda: is_served(), "the foreign deployment is there")
        return started[-1]

    yield start
    for process in started:
        kill(process)


def is_served() -> bool:
    try:
        return deployments().find("load_orders", "nightly").is_ready
    except (DeploymentNotFound, PrefectAway):
        return False


@pytest.fixture
def follower() -> Follower:
    return Follower(gateway(), deployments())


def person(name: str, role: str) -> User:
    user = User.objects.create_user(name)
    user.groups.add(Group.objects.get_or_create(name=role)[0])
    return user


def followed(follower: Follower, key: str, *status: str) -> Refresh:
    """Send and follow, as the flow process does, until the refresh has come to one of the states."""

    def come() -> Refresh | None:
        try:
            dispatch.dispatch_all(follower.prefect)
            follower.look()
        except PrefectAway:  # a server busy with its own start
            return None
        row = Refresh.objects.get(key=key)
        assert row.is_open or row.status in status, f"{row.status}: {row.error}"
        return row if row.status in status else None

    found = eventually(come, f"the refresh {key} is {' or '.join(status)}", every=1.0)
    assert found is not None
    return found


def given(**more: Any) -> dict[str, Any]:
    return {"dsn": f"postgresql://loader:{SECRET}@store/orders", **more}


def everything_kept() -> str:
    """Return all that our database holds, as text."""
    with psycopg.connect(environment().database_url, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            " AND has_schema_privilege(schemaname, 'USAGE')"
        ).fetchall()
        return "\n".join(
            str(row) for (table,) in tables for row in connection.execute(f"SELECT t::text FROM {table} t").fetchall()
        )


def test_a_foreign_etl_from_its_registration_to_a_version_that_an_agent_reads(
    store: Path, serve: Serve, follower: Follower, tmp_path: Path, client: Client
) -> None:
    serve()
    ada, olga, alice = person("ada", "admin"), person("olga", "operator"), person("alice", "reviewer")
    api = Caller(olga)
    listed = {one["name"]: one for one in api.get("datasets").json()["items"]}
    schema = listed["orders"]["parameters_schema"]
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {"dsn", "window", "mode", "level", "sources", "limit"}

    # What Prefect would take and crash on is refused here.
    refused = api.post("datasets/orders/refresh", {"parameters": given(window={"start": "tomorrow"}, colour="red")})
    assert set(paths_of(refused)) == {"parameters.colour", "parameters.window.start"}
    assert paths_of(api.post("datasets/orders/refresh", {"parameters": {}})) == ["parameters.dsn"]
    deep = given(sources=[{"name": "shop", "rows": 1, "unknown": 2}], mode="most")
    assert set(paths_of(api.post("datasets/orders/refresh", {"parameters": deep}))) == {
        "parameters.sources.0.unknown",
        "parameters.mode",
    }
    huge = given(sources=[{"name": "x" * 600_000}])
    assert paths_of(api.post("datasets/orders/refresh", {"parameters": huge})) == ["parameters"]
    assert not Refresh.objects.exists()
    problem(Caller(alice).post("datasets/orders/refresh", {"parameters": given()}), 403)

    # Started twice under one key, by the page and by the API.
    client.force_login(olga)
    page = reverse("dataplane:start", args=["orders"])
    drawn = client.get(page)
    assert 'type="password"' in drawn.content.decode()
    typed = {
        "key": "orders:2026-11-01",
        "schema_digest": drawn.context["form"].digest,
        "parameters.dsn": given()["dsn"],
        "parameters.mode": next(
            one.token for one in drawn.context["form"].typed.root.children["mode"].choices if one.value == "changed"
        ),
    }
    other = client.post(page, {**typed, "schema_digest": "0" * 16})
    assert other.status_code == 422 and SECRET not in other.content.decode(), "the schema has changed meanwhile"
    assert client.post(page, typed).status_code == 302
    again = api.post("datasets/orders/refresh", {"key": "orders:2026-11-01", "parameters": given(mode="changed")})
    assert again.status_code == 200, again.content
    taken = api.post("datasets/orders/refresh", {"key": "orders:2026-11-01", "parameters": given(mode="full")})
    assert problem(taken, 409)["refresh_id"] == again.json()["refresh"]["id"]

    done = followed(follower, "orders:2026-11-01", "published")
    version = DatasetVersion.objects.get()
    assert (version.digest, version.rows, version.location) == ("changed-1-10", 10, "postgres://store/orders")
    assert version.inputs == [{"asset": "s3://raw/orders"}] and version.code_version == "e1f2"
    assert done.version == version and AssetEvent.objects.filter(is_made=True).count() == 1
    told = currency.told([{"dataset": "orders", "version": 1}])
    assert (told[0]["is_current"], told[0]["is_fresh"]) == (True, True)

    # Unchanged content publishes nothing.
    api.post("datasets/orders/refresh", {"key": "same", "parameters": given(mode="changed")})
    assert followed(follower, "same", "unchanged").version == version
    assert DatasetVersion.objects.count() == 1

    # What it left, inert and without the secret.
    run_id = done.prefect_flow_run_id
    left = {one["key"]: one for one in api.get(f"flow-runs/{run_id}/artifacts").json()["items"]}
    assert {one["kind"] for one in left.values()} == {"progress", "table", "markdown"}
    work = client.get(reverse("dataplane:flow_run_work", args=[run_id])).content.decode()
    assert "<script>alert" not in work and "<img src=x" not in work and 'href="javascript' not in work
    assert "&lt;script&gt;" in work and "tracker.invalid/pixel.png" in work and 'src="https://tracker' not in work
    assert [one["name"].split("-")[0] for one in api.get(f"flow-runs/{run_id}/tasks").json()["items"]] == [
        "extract",
        "load",
    ]
    eventually(
        lambda: "connecting" in str(api.get(f"flow-runs/{run_id}/logs").json()), "the log has come to the server"
    )
    searched = api.get(f"flow-runs/{run_id}/logs", search="connecting").json()["items"]
    assert len(searched) == 1 and searched[0]["message"].startswith("connecting with •••")
    file = b"".join(client.get(reverse("dataplane:flow_run_log", args=[run_id])).streaming_content)  # type: ignore[attr-defined]
    assert b"connecting with" in file and SECRET.encode() not in file

    # It fails, is run again, and a run that completed is not.
    (store / "fail").touch()
    Caller(ada).post("datasets/orders/refresh", {"key": "fails", "parameters": given(mode="full")})
    failed = followed(follower, "fails", "failed")
    assert "The store is closed." in failed.error
    act = f"flow-runs/{failed.prefect_flow_run_id}/actions"
    problem(api.post(act, {"action": "retry", "reason": "the store is open"}), 403)
    assert paths_of(Caller(ada).post(act, {"action": "retry", "reason": " "})) == ["reason"]
    (store / "fail").unlink()
    assert Caller(ada).post(act, {"action": "retry", "reason": "the store is open"}).status_code == 202
    assert Refresh.objects.get(key="fails").started_at is None, "what it has read before counts no more"
    assert str(followed(follower, "fails", "published").version) == "orders version 2"
    completed = f"flow-runs/{run_id}/actions"
    assert "completed" in problem(Caller(ada).post(completed, {"action": "retry", "reason": "again"}), 409)["detail"]
    assert "has ended" in problem(Caller(ada).post(completed, {"action": "cancel", "reason": "no"}), 409)["detail"]

    # A job of the same deployment, with what its registration fixes.
    job = Caller(ada).post("jobs/orders-again/start", {"key": "once", "parameters": given(mode="full")})
    assert job.status_code == 201, job.content
    followed(follower, "once", "published", "unchanged", "finished")
    run = gateway().flow_run(Refresh.objects.get(key="once").prefect_flow_run_id)
    assert run.parameters["level"] == 2
    assert paths_of(Caller(ada).post("jobs/orders-again/start", {"parameters": given(level=1)})) == ["parameters.level"]
    problem(Caller(ada).post("jobs/gone/start", {}), 409)

    # No page, row, log or record of ours holds the secret.
    assert SECRET not in everything_kept()
    client.force_login(ada)
    for path in (
        reverse("dataplane:data"),
        reverse("dataplane:start", args=["orders"]),
        reverse("dataplane:work_pools"),
        reverse("dataplane:flow_run", args=[run_id]),
        reverse("dataplane:flow_run_work", args=[run_id]),
        reverse("dataplane:version", args=["orders", 1]),
    ):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert SECRET not in answer.content.decode(), path
    for path in ("datasets", "refreshes", "flow-runs", f"flow-runs/{run_id}", f"flow-runs/{run_id}/artifacts", "jobs"):
        assert SECRET not in Caller(ada).get(path).content.decode(), path


def test_a_run_whose_processes_were_killed_ends_by_itself_and_its_slot_is_free(
    how_many_examples: int,
    store: Path,
    serve: Serve,
    follower: Follower,
    record_property: Callable[[str, object], None],
) -> None:
    ada = person("ada", "admin")
    (store / "wait").touch()
    took = []  # seconds from the kill to the true state
    for trial in range(TRIALS if how_many_examples >= EVERY_TRIAL else 1):
        process, key = serve(), f"killed-{trial}"
        Caller(ada).post("datasets/orders/refresh", {"key": key, "parameters": given()})
        running = followed(follower, key, "running")
        slots = deployments().find("load_orders", "nightly")
        assert (slots.slots, slots.slots_taken) == (1, 1)
        kill(process)
        killed_at = time.monotonic()
        assert gateway().flow_run(running.prefect_flow_run_id).state_type == "RUNNING", "Prefect alone believes in it"
        failed = followed(follower, key, "failed", "cancelled")
        took.append(round(time.monotonic() - killed_at))
        assert failed.error.startswith("Crashed. ")
        assert deployments().find("load_orders", "nightly").slots_taken == 0
    record_property("seconds to the true state", sorted(took))

    # The same for one that is told to cancel when nobody is left to hear it.
    process = serve()
    Caller(ada).post("datasets/orders/refresh", {"key": "cancelled", "parameters": given()})
    running = followed(follower, "cancelled", "running")
    kill(process)
    path = f"flow-runs/{running.prefect_flow_run_id}/actions"
    assert (
        Caller(ada).post(path, {"action": "cancel", "reason": "not needed"}).json()["flow_run"]["state"] == "cancelling"
    )
    assert Caller(ada).post(path, {"action": "cancel", "reason": "not needed"}).status_code == 202, "again is the same"
    assert followed(follower, "cancelled", "cancelled", "failed").status == "cancelled"
    assert deployments().find("load_orders", "nightly").slots_taken == 0

    # And one that is alive is stopped by who runs it.
    serve()
    Caller(ada).post("datasets/orders/refresh", {"key": "stopped", "parameters": given()})
    running = followed(follower, "stopped", "running")
    assert (
        Caller(ada)
        .post(f"flow-runs/{running.prefect_flow_run_id}/actions", {"action": "cancel", "reason": "not needed"})
        .status_code
        == 202
    )
    followed(follower, "stopped", "cancelled")


def test_a_late_run_and_a_dead_ones_slot_are_told_on_a_runs_page_and_the_slot_is_given_back(
    store: Path, serve: Serve, follower: Follower, prefect_server: Prefect
) -> None:
    process = serve()
    ada, olga = person("ada", "admin"), person("olga", "operator")
    open_for(reads := make_run(status="waiting", dataset_versions=[{"dataset": "orders", "version": 1}]))

    def told(cause: str) -> str:
        """Return what the run's page says of that, once it does, as whoever looks at the refreshes has kept it."""

        def look() -> str:
            try:
                dispatch.dispatch_all(follower.prefect)
                follower.look()
            except PrefectAway:  # a server busy with its own start
                return ""
            (found,) = diagnosing.diagnose_many([reads])
            return next((one.sentence for one in found.also if one.cause == cause and one.since and one.links), "")

        return eventually(look, f"{cause} is told", every=1.0)

    (store / "wait").touch()
    Caller(ada).post("datasets/orders/refresh", {"key": "holds", "parameters": given()})
    holder = followed(follower, "holds", "running").prefect_flow_run_id
    Caller(ada).post("datasets/orders/refresh", {"key": "waits", "parameters": given()})
    sentence = told("slot_held")
    assert f"flow run {holder} (Running) holds it" in sentence and "an admin gives it back" in sentence

    # The processes die, and only once somebody says so in Prefect may the slot be given back.
    kill(process)
    path, body = f"flow-runs/{holder}/actions", {"action": "release_slot", "reason": "its process is gone"}
    assert "cancel it first" in problem(Caller(ada).post(path, body), 409)["detail"]
    state = {"state": {"type": "CRASHED", "name": "Crashed"}, "force": True}
    httpx.post(
        f"{prefect_server.api_url}/flow_runs/{holder}/set_state", json=state, timeout=PATIENCE
    ).raise_for_status()
    problem(Caller(olga).post(path, body), 403)
    for _ in range(2):  # again is the same
        assert Caller(ada).post(path, body).status_code == 202
        assert deployments().find("load_orders", "nightly").slots_taken == 0
    recorded = AuditEvent.objects.filter(kind="flow_run.release_slot", subject=f"flow-run:{holder}").first()
    assert recorded is not None and (recorded.actor, recorded.body["reason"]) == ("ada", "its process is gone")

    # Nobody is there who would take up the next one.
    Caller(ada).post("datasets/orders/refresh", {"key": "late", "parameters": given()})
    assert "The refresh of orders is late since" in told("flow_late")
    (store / "wait").unlink()
    serve()
    # The one before it comes due too, and either may be the first to publish.
    followed(follower, "late", "published", "unchanged", "failed", "cancelled")
    (found,) = diagnosing.diagnose_many([reads])
    assert not {"flow_late", "slot_held"} & {one.cause for one in found.also}


def test_a_run_that_nobody_can_say_lives_is_told_and_ends_once_an_admin_cancels_it(
    store: Path, serve: Serve, follower: Follower, prefect_server: Prefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As left by a process of another machine that died in its first seconds, while a second one serves on."""
    monkeypatch.setattr(standing, "UNHEARD", timedelta(0))
    monkeypatch.setattr(follow, "CANCELLING", timedelta(0))
    serve()
    ada = person("ada", "admin")
    Dataset.objects.create(name="orders", title="Orders", fresh_for=timedelta(hours=26))
    deployment = deployments().find("load_orders", "nightly")
    made = httpx.post(
        f"{prefect_server.api_url}/deployments/{deployment.id}/create_flow_run",
        json={"state": {"type": "RUNNING"}, "enforce_parameter_schema": False},
        timeout=PATIENCE,
    )
    made.raise_for_status()
    mute: str = made.json()["id"]
    Refresh.objects.create(
        id="rfr_mute",
        dataset_id="orders",
        key="mute",
        parameters={},
        flow="load_orders",
        deployment="nightly",
        prefect_flow_run_id=mute,
    )

    def kind() -> str:
        with suppress(PrefectAway):
            follower.look()
        return str((Refresh.objects.get(pk="rfr_mute").stand or {}).get("kind"))

    eventually(lambda: kind() == "flow_unheard", "it is told", every=1.0)
    assert gateway().flow_run(mute).state_type == "RUNNING", "nobody ends by force what may live"
    path = f"flow-runs/{mute}/actions"
    assert Caller(ada).post(path, {"action": "cancel", "reason": "its machine is gone"}).status_code == 202
    assert followed(follower, "mute", "cancelled").status == "cancelled"
    assert deployments().find("load_orders", "nightly").slots_taken == 0


def test_an_edited_schedule_is_served_and_its_run_is_a_refresh_of_its_window(
    store: Path, serve: Serve, follower: Follower
) -> None:
    serve()
    ada = person("ada", "admin")
    body = {"schedules": [{"slug": "often", "cron": "*/1 * * * *", "timezone": "Europe/Berlin"}]}
    assert len(Caller(ada).put("datasets/orders/schedules", body).json()["items"][0]["next"]) == 10
    eventually(lambda: served_by(follower) == [("*/1 * * * *", "Europe/Berlin")], "the schedule is served")
    # Its own process may register anew meanwhile, which takes the schedules away as well.
    eventually(lambda: served_by(follower) and without_schedules(), "somebody changed it in Prefect")
    eventually(lambda: served_by(follower), "what stands here is served again")
    assert Caller(ada).put("datasets/orders/schedules", {"schedules": []}).status_code == 200
    eventually(lambda: not served_by(follower), "no schedule is served")


def test_of_windows_that_nobody_served_the_latest_is_run(
    store: Path, serve: Serve, follower: Follower, prefect_server: Prefect
) -> None:
    kill(serve())
    deployment = deployments().find("load_orders", "nightly")
    runs = []
    noon = datetime.now(BERLIN).replace(hour=12, minute=0)  # by the calendar: a day may have 25 hours
    for days in (3, 2, 1):  # as Prefect's schedule makes them
        due = (noon - timedelta(days=days)).astimezone(UTC).isoformat()
        body = {
            "idempotency_key": f"scheduled {deployment.id} {due}",
            "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": due}},
            "parameters": given(),
        }
        path = f"{prefect_server.api_url}/deployments/{deployment.id}/create_flow_run"
        answer = httpx.post(path, json=body, timeout=PATIENCE)
        answer.raise_for_status()
        runs.append(answer.json()["id"])
        follower.look()
    assert [gateway().flow_run(run).state_type for run in runs] == ["CANCELLED", "CANCELLED", "SCHEDULED"]
    taken = Refresh.objects.get(prefect_flow_run_id=runs[-1])
    assert taken.status == "scheduled"
    assert [row.error for row in Refresh.objects.filter(status="cancelled")] == [LATER_IS_DUE] * 2
    serve()
    followed(follower, taken.key, "published", "unchanged", "finished")


def without_schedules() -> bool:
    """Take the schedules away in Prefect; return whether there were any."""
    return deployments().set_schedules(deployments().find("load_orders", "nightly"), [], {})


def served_by(follower: Follower) -> list[tuple[str, str]]:
    """Look once, and return what Prefect plans by; the flow's own process, which registers anew, may come between."""
    follower.look()
    found = deployments().find("load_orders", "nightly").schedules
    return [(one.entry.cron, one.entry.timezone) for one in found if one.entry.is_active]


def test_what_is_registered_wrongly_is_told_and_left_out(store: Path) -> None:
    (store.parent / "data.toml").write_text(
        '[datasets.orders]\ndeployment = "no-slash"\n[jobs.fine]\ndeployment = "a/b"\n'
    )
    assert set(others()) == {"fine"}
    assert PATIENCE
