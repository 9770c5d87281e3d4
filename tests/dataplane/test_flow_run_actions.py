"""What admins do to a flow run while Prefect hears it and does not answer in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User

from approvals.models import AuditEvent
from dataplane import flow_run_actions
from dataplane.errors import PrefectAway
from dataplane.models import Dataset, Refresh
from dataplane.prefect_gateway import FlowRun
from dataplane.refreshes.follow import Follower
from tests.api_caller import Caller, problem
from tests.dataplane.fakes import FakePrefect
from tests.dataplane.refreshes.test_missed_windows import FakeDeployments
from tests.page_client import signed_in, text

pytestmark = pytest.mark.django_db


class SlowPrefect(FakePrefect):
    """Does what it is asked, and answers too late where a call is named in `late`; `meanwhile` goes on before that."""

    def __init__(self) -> None:
        super().__init__()
        self.late: set[str] = set()
        self.meanwhile: Callable[[], Any] = lambda: None

    def run_again(self, flow_run_id: str, message: str, *, after: timedelta) -> None:
        self.meanwhile()
        super().run_again(flow_run_id, message, after=after)
        self._answer("run_again")

    def cancel(self, flow_run_id: str, message: str) -> None:
        super().cancel(flow_run_id, message)
        self._answer("cancel")

    def flow_run(self, flow_run_id: str) -> FlowRun:
        if "run_again" in self.calls:
            self._answer("flow_run")
        return super().flow_run(flow_run_id)

    def _answer(self, name: str) -> None:
        if name in self.late:
            raise PrefectAway("Prefect does not answer: ReadTimeout.")


@pytest.fixture
def prefect(fake_prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch) -> SlowPrefect:
    slow = SlowPrefect()
    slow.add_deployment("load_orders", "nightly")
    monkeypatch.setattr(flow_run_actions, "gateway", lambda: slow)
    monkeypatch.setattr("dataplane.views.gateway", lambda: slow)
    return slow


@pytest.fixture
def follower(prefect: SlowPrefect) -> Follower:
    return Follower(prefect, FakeDeployments(prefect))  # type: ignore[arg-type]


@pytest.fixture
def run(prefect: SlowPrefect) -> FlowRun:
    """A registered deployment's run that has failed, as its refresh has."""
    made = prefect.create_flow_run(
        flow="load_orders", deployment="nightly", parameters={}, idempotency_key="k", name="orders"
    )
    prefect.runs[made.id] = replace(made, run_count=1)
    prefect.move(made.id, "FAILED")
    Dataset.objects.create(name="orders", title="Orders", fresh_for=timedelta(days=1))
    Refresh.objects.create(
        id="rfr_1", dataset_id="orders", key="k", parameters={}, status="failed", error="The store is closed.",
        flow="load_orders", deployment="nightly", prefect_flow_run_id=made.id,
    )  # fmt: skip
    return made


def act(user: User, run: FlowRun, action: str = "retry") -> Any:
    return Caller(user).post(f"flow-runs/{run.id}/actions", {"action": action, "reason": "The store is open."})


def status() -> str:
    return Refresh.objects.get().status


def test_a_retry_that_was_heard_and_not_answered_is_followed_and_the_same_again_is_the_same(
    ada: User, prefect: SlowPrefect, run: FlowRun, follower: Follower
) -> None:
    prefect.late = {"run_again"}
    told = problem(act(ada, run), 503)
    assert "not known whether Prefect has heard it" in told["detail"] and "on the record" in told["detail"]
    assert (status(), AuditEvent.objects.filter(kind="flow_run.retry").count()) == ("scheduled", 1)
    again = act(ada, run)
    assert (again.status_code, again.json()["flow_run"]["state_name"]) == (202, "AwaitingRetry"), again.content
    assert prefect.calls.count("run_again") == 1, "it was heard, so it is not asked for twice"
    prefect.move(run.id, "COMPLETED", ago=timedelta(minutes=1))
    follower.look()
    assert status() == "finished"


@pytest.mark.parametrize(("state", "run_count"), [("PENDING", 1), ("RUNNING", 2)])
def test_a_run_that_runs_again_has_its_refresh_opened(
    state: str, run_count: int, ada: User, prefect: SlowPrefect, run: FlowRun
) -> None:
    prefect.move(run.id, state)
    prefect.runs[run.id] = replace(prefect.runs[run.id], run_count=run_count)
    assert (act(ada, run).status_code, status()) == (202, "scheduled")
    Refresh.objects.update(status="running", error="")
    assert (act(ada, run).status_code, status()) == (202, "running"), "it is followed already"
    assert "run_again" not in prefect.calls


@pytest.mark.parametrize(("state", "run_count"), [("SCHEDULED", 0), ("PENDING", 0), ("RUNNING", 1), ("PAUSED", 1)])
def test_a_run_of_the_first_attempt_has_not_ended_yet(
    state: str, run_count: int, ada: User, prefect: SlowPrefect, run: FlowRun
) -> None:
    prefect.move(run.id, state)
    prefect.runs[run.id] = replace(prefect.runs[run.id], run_count=run_count)
    assert problem(act(ada, run), 409)["detail"] == "It has not ended yet."


def test_a_look_between_the_record_and_prefects_answer_does_not_close_the_refresh_for_good(
    ada: User, prefect: SlowPrefect, run: FlowRun, follower: Follower
) -> None:
    prefect.meanwhile = follower.look  # which sees the run failed, and its refresh open
    assert act(ada, run).status_code == 202
    assert status() == "scheduled"


def test_what_is_done_is_answered_as_done_where_the_last_look_at_the_run_fails(
    ada: User, prefect: SlowPrefect, run: FlowRun
) -> None:
    prefect.late = {"flow_run"}
    answer = act(ada, run)
    assert (answer.status_code, answer.json()["flow_run"]["state"]) == (202, "failed"), "as it was known last"
    assert (status(), prefect.runs[run.id].state_name) == ("scheduled", "AwaitingRetry")


def test_the_page_says_that_nobody_knows_and_a_cancel_is_on_the_record_too(
    ada: User, prefect: SlowPrefect, run: FlowRun
) -> None:
    prefect.move(run.id, "SCHEDULED")
    prefect.late = {"cancel"}
    answer = signed_in(ada).post(f"/data/flow-runs/{run.id}/actions/", {"action": "cancel", "reason": "Not needed."})
    assert answer.status_code == 503 and "not known whether Prefect has heard it" in text(answer)
    assert AuditEvent.objects.filter(kind="flow_run.cancel").count() == 1


def test_nothing_is_recorded_where_prefect_is_away_from_the_beginning(
    ada: User, prefect: SlowPrefect, run: FlowRun
) -> None:
    prefect.is_away = True
    assert "not known" not in problem(act(ada, run), 503)["detail"]
    assert (status(), AuditEvent.objects.filter(kind__startswith="flow_run.").count()) == ("failed", 0)
