"""Numbers that many readers of JSON would read as others: carried exactly or refused in words, at every door."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from pydantic import BaseModel, ConfigDict

from approvals.models import Approval, Decision
from dataplane import catalogue
from dataplane.models import Refresh
from orchestration.agents.registry import agents
from orchestration.models import Run
from tests.api_caller import Caller, problem

pytestmark = pytest.mark.django_db

REFUSED = (
    "9007199254740992",
    "-9007199254740993",
    "9007199254740993.0",
    "1e400",
    "-1e400",
    "1e-400",
    "0.12345678901234567891",
    "NaN",
    "-Infinity",
    "1" + "0" * 400,
)
#: exact as a canonical text, and in digits as PostgreSQL's JSON gives them back
POWERS = ("1e21", "-1e23", "1.7976931348623157e308")
TAKEN = ("9007199254740991", "-9007199254740991", "0.1", "1e-7", "-0", "2.5e3", "5e-324")


class Whatever(BaseModel):
    """Takes any JSON at all."""

    model_config = ConfigDict(extra="allow")


@pytest.fixture(autouse=True)
def doors_that_take_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = replace(agents()["support"], input=Whatever)
    monkeypatch.setattr("orchestration.services.agent_named", {"support": agent}.__getitem__)
    monkeypatch.setitem(catalogue.CATALOGUE, "handbook", replace(catalogue.HANDBOOK, parameters=Whatever))


def as_text(number: str, body: dict[str, Any]) -> str:
    """Return the body as it travels, with the number exactly as it is written in the place of "HERE"."""
    return json.dumps(body).replace('"HERE"', number)


def ask_for_approval(caller: Caller, number: str, external_id: str = "job") -> Any:
    body = {
        "title": "Pay",
        "tool": "pay",
        "arguments": {"a": {"b": ["HERE"]}},
        "external_id": external_id,
        "deliver_to": {"temporal": {"workflow_id": "w", "signal": "s"}},
    }
    return caller.post("approvals", as_text(number, body))


def start_run(caller: Caller, number: str) -> Any:
    return caller.post("runs", as_text(number, {"agent": "support", "input": {"a": {"b": ["HERE"]}}}))


def refresh(caller: Caller, number: str) -> Any:
    return caller.post("datasets/handbook/refresh", as_text(number, {"key": "k", "parameters": {"a": {"b": ["HERE"]}}}))


@pytest.fixture
def robot(db: None) -> User:
    user = User.objects.create_user("robot")
    user.groups.add(Group.objects.get_or_create(name="service")[0])
    return user


@pytest.mark.parametrize("number", REFUSED)
def test_a_number_that_may_be_read_as_another_is_refused_in_words(
    number: str, robot: User, alice: User, olga: User, ada: User
) -> None:
    approval = Approval.objects.get(pk=ask_for_approval(Caller(robot), "5", "earlier").json()["id"])
    edit = {"verdict": "edit", "version": 1, "digest": approval.digest, "edited_arguments": {"a": {"b": ["HERE"]}}}
    answers = [
        ask_for_approval(Caller(robot), number),
        Caller(alice).post(f"approvals/{approval.pk}/decision", as_text(number, edit)),
        start_run(Caller(olga), number),
        refresh(Caller(ada), number),
    ]
    for answer in answers:
        (error,) = problem(answer, 422)["errors"]
        assert len(error["message"]) > 20, error
    assert (Approval.objects.count(), Decision.objects.count()) == (1, 0)
    assert not Run.objects.exists() and not Refresh.objects.exists()


@pytest.mark.parametrize("number", TAKEN)
def test_every_other_number_comes_back_as_the_same(number: str, robot: User, olga: User, ada: User) -> None:
    asked, began, wanted = (
        ask_for_approval(Caller(robot), number),
        start_run(Caller(olga), number),
        refresh(Caller(ada), number),
    )
    assert [one.status_code for one in (asked, began, wanted)] == [201, 201, 201]
    found = [
        json.loads(bytes(Approval.objects.get().canonical))["arguments"],
        Run.objects.get().input,
        Refresh.objects.get().parameters,
    ]
    assert found == [{"a": {"b": [json.loads(number)]}}] * 3
    assert refresh(Caller(ada), number).status_code == 200  # the same key with the same parameters


@pytest.mark.parametrize("number", POWERS)
def test_a_large_power_is_carried_as_text_or_refused(number: str, robot: User, olga: User, ada: User) -> None:
    assert ask_for_approval(Caller(robot), number).status_code == 201
    kept = json.loads(bytes(Approval.objects.get().canonical))["arguments"]
    assert repr(kept) == repr({"a": {"b": [float(number)]}})
    for answer in (start_run(Caller(olga), number), refresh(Caller(ada), number)):
        (error,) = problem(answer, 422)["errors"]
        assert error["path"].endswith("a.b.0") and "2^53" in error["message"]
