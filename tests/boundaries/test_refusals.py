"""Each error of the apps says for itself with which status and title it is told, to people and to programs alike."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

import approvals.policies.errors as policy
from approvals import errors
from approvals.models import Approval
from approvals.people.standing_conditions import InvalidCondition
from approvals.record.closings import RequestClosing
from console import in_flight, problems
from console.refusals import EngineAway, Invalid, NotFound, Refused
from dataplane import errors as data
from orchestration import errors as runs
from tests.api_caller import Caller
from tests.boundaries.test_imports import OUR_CODE, PROJECT

#: each kind is told with its base's status; what stands directly below Refused with 409, or as named here
BASES: dict[type[Refused], int] = {NotFound: 404, Invalid: 422, EngineAway: 503}
NAMED: dict[type[Refused], int] = {
    errors.MayNotDecide: 403,
    errors.NotTheirs: 403,
    policy.NotYours: 403,
    in_flight.TooManyInFlight: 429,
    errors.NotRecorded: 503,
    errors.NotKnown: 503,
    runs.AgentsLoading: 503,
}
TOLD = {404, 422, 503, *NAMED.values()}  # other than 409


def kinds(of: type[Refused] = Refused) -> set[type[Refused]]:
    """Return every kind of refusal that the apps have."""
    found = {of} | {kind for below in of.__subclasses__() for kind in kinds(below)}
    return {kind for kind in found if kind.__module__.split(".")[0] in ("approvals", "orchestration", "dataplane")} | (
        {in_flight.TooManyInFlight} if of is Refused else set()
    )


def test_each_kind_has_its_status() -> None:
    for kind in kinds():
        expected = [status for base, status in BASES.items() if issubclass(kind, base)] or [NAMED.get(kind, 409)]
        assert [kind.http_status] == expected, kind
    some = {errors.AlreadyClosed, errors.NoSuchApproval, runs.RunKeyReused, runs.InvalidInput, data.PrefectAway}
    assert some | {InvalidCondition, policy.InvalidPolicy, *NAMED} <= kinds()


def test_what_programs_are_told_beside_the_reason_does_not_replace_it() -> None:
    examples: list[Refused] = [
        errors.MayNotDecide("four eyes", "You asked for it yourself."),
        errors.AlreadyClosed(RequestClosing("decided", "bob", None, "approve")),
        errors.StaleVersion(3),
        errors.InvalidChange("reason", "Say why."),
        errors.NotKnown("gone"),
        data.RefreshKeyTaken("handbook", "k", "r1"),
    ]
    for example in examples:
        problem = problems.of(example)
        assert (problem.status, problem.title) == (example.http_status, example.title)
        assert not problem.extra.keys() & {"status", "title", "detail", "type"}
    assert problems.of(examples[3]).detail == "reason: Say why."
    assert problems.of(examples[3]).extra == {"errors": [{"path": "reason", "message": "Say why."}]}
    assert problems.of(examples[4]).extra == {"engine": "postgres", "retry_after_seconds": 5}
    assert [NotFound.http_status, Invalid.http_status, EngineAway.http_status] == [404, 422, 503]


def _refuses(refused: Exception) -> Any:
    def fails(*args: Any, **known: Any) -> Any:
        raise refused

    return fails


@pytest.mark.parametrize("by_script", [False, True])
def test_what_no_view_catches_is_told_in_words(
    by_script: bool, alice: User, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.force_login(alice)
    headers = {"HX-Request": "true"} if by_script else {}
    monkeypatch.setattr("console.views.health.report", _refuses(errors.NotTheirs("Only admins <may> look.")))
    response = client.get("/system/", headers=headers)
    assert response.status_code == 403
    assert ("Only admins <may> look." if by_script else "Only admins &lt;may&gt; look.") in response.content.decode()
    assert (response.get("HX-Reswap") == "none") is by_script
    monkeypatch.setattr("console.views.health.report", _refuses(runs.NoSuchRun("r1")))
    assert client.get("/system/", headers=headers).status_code == 404


def test_what_no_endpoint_catches_is_told_as_a_problem(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = errors.AlreadyClosed(RequestClosing(Approval.Status.EXPIRED))
    monkeypatch.setattr("console.api.contracts_page", _refuses(refused))
    answer = Caller(alice).get("contracts")
    assert (answer.status_code, answer.json()["title"]) == (409, "Already closed")
    assert answer.json()["approval_status"] == "expired"


def test_no_module_maps_refusals_by_hand() -> None:
    """Whoever catches one asks it for its status: no `raise Http404` or `Problem` with a number in the handler."""
    named = {kind.__name__ for kind in kinds()}
    found = []
    for path in OUR_CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ExceptHandler) or node.type is None:
                continue
            caught = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}
            numbers = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
            if caught & named and any(number in TOLD or number == 409 for number in numbers):
                found.append(f"{path.relative_to(PROJECT)}:{node.lineno}")
    assert found == []
