"""A program names which workflow gets its answer; the signal is sent under Signalbox's own credentials."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from console.environment import environment
from orchestration import deliveries, signal_rules
from orchestration.errors import SignalRefused
from orchestration.signal_rules import Grant, read_grants
from tests.api_caller import Caller, paths_of
from tests.approvals.test_request_api import BODY
from tests.orchestration.conftest import make_run
from tests.orchestration.test_deliveries import answer, asked

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def robot(transactional_db: None) -> User:
    user, _ = User.objects.get_or_create(username="robot")
    user.groups.add(Group.objects.get_or_create(name="service")[0])
    return user


def ask(robot: User, **temporal: str) -> Any:
    to = {"temporal": {"workflow_id": "cleanup-17", "signal": "approved"} | temporal}
    return Caller(robot).post("approvals", BODY | {"deliver_to": to, "external_id": repr(temporal)})


def test_no_program_has_our_own_workflows_signalled(robot: User) -> None:
    run = make_run()
    watch = ask(robot).json()["run_id"]
    for named in (run.pk, watch, "watch-anything", "batch_anything"):
        for namespace in ({}, {"namespace": environment().temporal_namespace}):
            told = ask(robot, workflow_id=named, signal="decided", **namespace)
            assert paths_of(told) == ["deliver_to.temporal"]
    assert ask(robot, workflow_id=run.pk, namespace="theirs").status_code == 201, "another server's workflow"


def test_a_run_that_takes_the_id_later_is_not_signalled_either(robot: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "signals", "*")
    approval = answer(asked({"temporal": {"workflow_id": "support-late", "signal": "x"}}))
    make_run(id="support-late")
    with pytest.raises(SignalRefused, match="Signalbox's own"):
        deliveries.begin(approval.pk)


@pytest.mark.parametrize(
    ("temporal", "allowed"),
    [
        ({}, True),
        ({"workflow_id": "payroll-1"}, False),
        ({"signal": "terminate"}, False),
        ({"namespace": "theirs"}, False),
    ],
)
def test_an_account_names_what_is_listed_for_it_and_nothing_else(
    temporal: dict[str, str], allowed: bool, robot: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = f"robot={environment().temporal_namespace}/approved/cleanup-"
    monkeypatch.setattr(environment(), "signals", listed)
    told = ask(robot, **temporal)
    assert told.status_code == (201 if allowed else 422)
    if not allowed:
        assert "SIGNALBOX_SIGNALS" in told.json()["errors"][0]["message"]


def test_what_is_taken_off_the_list_is_not_signalled_any_more(robot: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "signals", "*")
    approval = answer(asked())
    monkeypatch.setattr(environment(), "signals", "another=default/approved, robot=default/approved")
    with pytest.raises(SignalRefused, match="an admin adds it"):
        deliveries.begin(approval.pk)


def test_the_setting_is_read_in_words() -> None:
    assert read_grants("a=n/s, b=n/s/p/q,") == (Grant("a", "n", "s"), Grant("b", "n", "s", "p/q"))
    assert read_grants("") == ()
    assert read_grants("a=n/s, *") == (Grant("a", "n", "s"), Grant("*", "", ""))
    for text in ("robot", "robot=default", "=default/approved", "robot=/x"):
        with pytest.raises(ValueError, match="SIGNALBOX_SIGNALS"):
            signal_rules.read_grants(text)
