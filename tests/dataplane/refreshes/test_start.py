"""Starting somebody else's deployment again under a key that is there: what is the same, and who can say so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from console.environment import environment
from dataplane.catalogue import others
from dataplane.deployments import Deployment
from dataplane.errors import NotStarted, PrefectAway, RefreshKeyTaken
from dataplane.models import Refresh
from dataplane.refreshes import dispatch, start
from dataplane.refreshes.follow import Follower
from dataplane.secret_fields import MASK
from tests.dataplane.fakes import FakePrefect
from tests.dataplane.refreshes.test_missed_windows import FakeDeployments

pytestmark = pytest.mark.django_db

FLOW, NAME = "load_orders", "nightly"
REGISTRATION = f"""
[datasets.orders]
deployment = "{FLOW}/{NAME}"
[datasets.orders.parameters]
fixed = {{ region = "eu" }}
secret = ["dsn"]
"""
SCHEMA = {"type": "object", "properties": {name: {"type": "string"} for name in ("dsn", "region", "mode")}}
STANDING = {"dsn": "the store's own", "mode": "full"}  # in the deployment


class Deployments(FakeDeployments):
    def find(self, flow: str, deployment: str) -> Deployment:
        self.prefect._called("find")
        return replace(super().find(flow, deployment), schema=SCHEMA, defaults=STANDING)


@pytest.fixture
def prefect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePrefect]:
    monkeypatch.setenv("SIGNALBOX_HOME", str(tmp_path))
    environment.cache_clear()
    (tmp_path / "data.toml").write_text(REGISTRATION)
    prefect = FakePrefect()
    prefect.add_deployment(FLOW, NAME, SCHEMA)
    monkeypatch.setattr(start, "gateway", lambda: prefect)
    monkeypatch.setattr(start, "deployments", lambda: Deployments(prefect))
    yield prefect
    environment.cache_clear()


def ask(key: str | None = "k", **parameters: Any) -> bool:
    """Start the deployment; return whether that made a refresh."""
    return start.start(others()["orders"], key=key, parameters=parameters, user=None)[1]


def test_one_key_has_one_secret_and_the_flow_run_alone_knows_it(prefect: FakePrefect) -> None:
    assert [ask(dsn="hunter2"), ask(dsn="hunter2")] == [True, False]
    with pytest.raises(RefreshKeyTaken):
        ask(dsn="hunter3")
    row = Refresh.objects.get()
    assert row.parameters == {"dsn": MASK, "region": "eu"}
    assert [run.parameters for run in prefect.runs.values()] == [{"dsn": "hunter2", "region": "eu"}]


def test_where_prefect_cannot_be_asked_about_a_secret_it_says_so(
    prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(dsn="hunter2")

    def away(_: str) -> Any:
        raise PrefectAway("Prefect does not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(prefect, "flow_run", away)
        with pytest.raises(NotStarted) as refused:
            ask(dsn="hunter2")
    assert "Nothing was started" in refused.value.detail and "kept and sent" not in refused.value.detail
    prefect.runs.clear()
    with pytest.raises(RefreshKeyTaken, match="Prefect no longer knows, so nobody can say"):
        ask(dsn="hunter2")
    prefect.is_away = True
    with pytest.raises(NotStarted):
        ask("other", dsn="hunter2")
    assert Refresh.objects.count() == 1
    assert ask("without"), "without parameters it is kept, and sent later"


def test_what_is_fixed_is_kept_while_prefect_is_away_only_where_it_is_known_to_be_no_secret(
    prefect: FakePrefect,
) -> None:
    prefect.is_away = True
    with pytest.raises(NotStarted):
        ask("first")  # its schema may call the region a secret
    assert not Refresh.objects.exists()
    prefect.is_away = False
    ask("known")
    prefect.is_away = True
    assert ask("later") and Refresh.objects.get(key="later").parameters == {"region": "eu"}


def test_a_window_that_the_schedule_has_begun_is_joined(prefect: FakePrefect, capsys: Any) -> None:
    prefect.create_flow_run(
        flow=FLOW, deployment=NAME, parameters=STANDING, idempotency_key="scheduled d 1", name="planned"
    )
    theirs: Any = Deployments(prefect)
    Follower(prefect, theirs).look()
    row = Refresh.objects.get()
    assert row.is_adopted and row.parameters == {"dsn": MASK, "mode": "full"}
    assert not ask(row.key)
    assert not ask(row.key, mode="full"), "the default, as the run has it"
    assert not ask(row.key, mode="full", dsn="the store's own")
    for other in ({"mode": "changed"}, {"dsn": "hunter2"}):
        with pytest.raises(RefreshKeyTaken):
            ask(row.key, **other)
    call_command("refresh", "orders")
    assert capsys.readouterr().out.strip().endswith("exists already, scheduled")
    assert Refresh.objects.count() == 1


def test_of_what_was_asked_for_here_everything_is_compared(prefect: FakePrefect) -> None:
    ask("sent", mode="changed")
    dispatch.dispatch_all(prefect)
    ask("secret", dsn="hunter2")
    assert not any(row.is_adopted for row in Refresh.objects.all())
    for key in ("sent", "secret"):
        with pytest.raises(RefreshKeyTaken):
            ask(key)
