"""Who may call what: every endpoint of the JSON API against every role, and the two ways to prove who is asking."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import OperationalError, transaction
from django.test import Client

from approvals.reading import listing
from console import roles, tokens
from console.api import api
from console.environment import environment
from console.models import ApiToken
from dataplane import api as dataplane_api
from dataplane import flow_run_actions
from tests.api_caller import Caller, problem
from tests.dataplane.fakes import FakePrefect, NoDeployments

SEE = {"reviewer", "operator", "admin"}
RUNS = SEE | {"service"}
ANYBODY = RUNS | {"", "stranger"}
SIGNED_IN = RUNS | {""}
REQUEST = {
    "title": "Delete the old index",
    "tool": "delete_index",
    "arguments": {"name": "old"},
    "external_id": "1",
    "deliver_to": {"webhook": {"url": "https://program.example/answers"}},
}
VERDICT = {"verdict": "approve", "version": 1, "digest": "0" * 64}

#: each endpoint with who may call it and a body that could be meant; a new endpoint needs a line here
ENDPOINTS: dict[str, tuple[set[str], Any]] = {
    "GET /health": (ANYBODY, None),
    "GET /contracts": (SIGNED_IN, None),
    "GET /agents": (SEE, None),
    "GET /runs": (RUNS, None),
    "POST /runs": ({"operator", "admin", "service"}, {"agent": "support", "input": {"order_id": "1", "message": "m"}}),
    "GET /runs/{run_id}": (RUNS, None),
    "GET /runs/{run_id}/diagnosis": (RUNS, None),
    "GET /storage": ({"operator", "admin"}, None),
    "GET /stuck": (SEE, None),
    "GET /runs/{run_id}/checkpoints": (RUNS, None),
    "GET /runs/{run_id}/timeline": (RUNS, None),
    "POST /runs/{run_id}/actions": ({"operator", "admin"}, {"action": "end", "reason": "no longer needed"}),
    "POST /runs/actions": ({"operator", "admin"}, {"action": "end", "reason": "no longer needed", "ids": ["r"]}),
    "GET /runs/actions/{bulk_id}": ({"operator", "admin"}, None),
    "POST /runs/actions/{bulk_id}/stop": ({"operator", "admin"}, {}),
    "GET /runs/{run_id}/checkpoints/{checkpoint_id}": (RUNS, None),
    "GET /runs/{run_id}/checkpoints/{checkpoint_id}/diff": (RUNS, None),
    "POST /workflows/messages": (
        {"operator", "admin"},
        {"kind": "signal", "workflow_id": "w", "namespace": "theirs", "name": "go", "reason": "it waits for this"},
    ),
    "GET /workflows/messages/{message_id}": ({"operator", "admin"}, None),
    "GET /signals": (SEE, None),
    "POST /signals/{pair_id}": ({"admin"}, {"confirmed": True}),
    "GET /usage": (SEE, None),
    "GET /agent-servers": (SEE, None),
    "GET /webhook-secrets": ({"admin"}, None),
    "POST /webhook-secrets": ({"admin"}, {"account": "robot"}),
    "POST /webhook-secrets/{secret_id}/retire": ({"admin"}, {}),
    "GET /approvals": (RUNS, None),
    "POST /batches": (
        {"operator", "admin", "service"},
        {"agent": "support", "inputs": [{"order_id": "1", "message": "m"}], "key": "k"},
    ),
    "GET /batches": (RUNS, None),
    "GET /batches/{batch_id}": (RUNS, None),
    "GET /batches/{batch_id}/items": (RUNS, None),
    "POST /batches/{batch_id}/actions": ({"operator", "admin"}, {"action": "pause"}),
    "GET /approvals/{approval_id}": (RUNS, None),
    "POST /approvals": ({"service"}, REQUEST),
    "GET /approvals/{approval_id}/answer": ({"service"}, None),
    "POST /approvals/{approval_id}/outcome": ({"service"}, {"status": "done"}),
    "POST /approvals/{approval_id}/withdraw": ({"service"}, {"reason": "no longer needed"}),
    "POST /approvals/{approval_id}/decision": (SEE, VERDICT),
    "POST /approvals/{approval_id}/refresh-and-ask-again": (SEE, {}),  # narrowed to those who may decide, and operators
    "POST /approvals/decisions": (SEE, {"items": [{"id": "a", **VERDICT}]}),
    "GET /audit": ({"admin"}, None),
    "GET /audit/verify": ({"admin"}, None),
    "GET /datasets": (SEE, None),
    "GET /datasets/{name}": (SEE, None),
    "POST /datasets/{name}/refresh": ({"admin"}, {}),
    "GET /datasets/{name}/schedules": (SEE, None),
    "PUT /datasets/{name}/schedules": ({"admin"}, {"schedules": []}),
    "GET /features/{view}": ({"operator", "admin", "service"}, None),
    "POST /datasets/{name}/versions": ({"service"}, {"key": "k", "digest": "d", "rows": 1}),
    "GET /datasets/{name}/versions/{number}": (SEE, None),
    "GET /datasets/{name}/versions/{number}/diff": (SEE, None),
    "GET /datasets/{name}/versions/{number}/lineage": (SEE, None),
    "POST /datasets/{name}/rollback": ({"admin"}, {"version": 1, "reason": "it was better"}),
    "POST /datasets/{name}/backfill": ({"admin"}, {"from": "2026-11-01", "to": "2026-11-02"}),
    "GET /jobs": (SEE, None),
    "POST /jobs/{name}/start": (SEE, {}),  # narrowed by each job's registration
    "GET /flow-runs/{flow_run_id}/artifacts": ({"operator", "admin"}, None),
    "GET /flow-runs/{flow_run_id}/tasks": ({"operator", "admin"}, None),
    "POST /flow-runs/{flow_run_id}/actions": ({"admin"}, {"action": "cancel", "reason": "no longer needed"}),
    "GET /refreshes": (SEE, None),
    "GET /refreshes/{refresh_id}": (SEE, None),
    "GET /flow-runs": (SEE, None),
    "GET /flow-runs/{flow_run_id}": (SEE, None),
    "GET /flow-runs/{flow_run_id}/logs": (SEE, None),
}
WHO = ("stranger", "", "reviewer", "operator", "admin", "service")


def endpoints() -> Iterator[str]:
    for prefix, router in api._routers:
        for path, view in router.path_operations.items():
            for operation in view.operations:
                for method in operation.methods:
                    yield f"{method} {prefix}{path}".replace("//", "/")


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataplane_api, "gateway", FakePrefect)
    monkeypatch.setattr(flow_run_actions, "gateway", FakePrefect)
    monkeypatch.setattr("dataplane.api.flow_runs.deployments", NoDeployments)
    monkeypatch.setattr(environment(), "workflows", "theirs")


def person(role: str) -> User:
    user = User.objects.create_user(f"somebody-{role}")
    if role:
        user.groups.add(Group.objects.get_or_create(name=role)[0])
    return user


def test_every_endpoint_has_been_given_a_line() -> None:
    assert sorted(endpoints()) == sorted(ENDPOINTS)


@pytest.mark.parametrize("role", WHO)
def test_each_role_gets_what_is_meant_for_it_and_nothing_else(role: str, db: None) -> None:
    caller = Caller(None if role == "stranger" else person(role))
    faults: list[str] = []
    for endpoint, (allowed, body) in ENDPOINTS.items():
        method, path = endpoint.split(" /")
        path = path.format_map(
            {"run_id": "r", "checkpoint_id": "c", "approval_id": "a", "batch_id": "b", "name": "n", "pair_id": "1"}
            | _IDS
        )
        with transaction.atomic():  # what one call makes, another must not find
            put_or_post = caller.put if method == "PUT" else caller.post
            answer = caller.get(path) if method == "GET" else put_or_post(path, body)
            transaction.set_rollback(True)
        try:
            if role in allowed:
                assert answer.status_code in (200, 201, 202, 404), answer.content
            else:
                problem(answer, 401 if role == "stranger" else 403)
        except AssertionError as fault:
            faults.append(f"{endpoint}: {fault}")
    assert faults == []


_IDS = {
    "message_id": "m",
    "bulk_id": "u",
    "view": "v?entity=e",
    "number": "1",
    "secret_id": "1",
    "refresh_id": "ref",
    "flow_run_id": "00000000-0000-4000-8000-000000000009",
}


def test_a_new_account_without_a_role_is_told_which_roles_help(eve: User) -> None:
    told = problem(Caller(eve).get("approvals"), 403)
    assert told["rule"] == "see_approvals"
    assert "admin, operator, reviewer, service" in told["detail"]


def test_only_the_hash_of_a_token_is_kept(alice: User) -> None:
    token = tokens.create_token(owner=alice, label="laptop")
    kept = ApiToken.objects.get()
    assert token.startswith("sb_") and len(token) >= 43
    assert token not in str(vars(kept))
    assert kept.digest != token and len(kept.digest) == 64
    assert tokens.create_token(owner=alice) != token


def test_a_revoked_unknown_or_disabled_token_is_unknown(alice: User) -> None:
    token = tokens.create_token(owner=alice)
    caller = Caller(token=token)
    assert caller.get("approvals").status_code == 200
    assert tokens.revoke_tokens(owner=alice) == 1
    problem(caller.get("approvals"), 401)
    problem(Caller(token="sb_made_up").get("approvals"), 401)
    problem(Caller(token="\x7f").get("approvals"), 401)
    fresh = Caller(alice)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    problem(fresh.get("approvals"), 401)


def test_a_token_loses_with_its_owner_what_the_owner_loses(alice: User) -> None:
    caller = Caller(alice)
    assert caller.get("approvals").status_code == 200
    alice.groups.clear()
    problem(caller.get("approvals"), 403)


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Basic YTpi", "bearer x", "Token x"])
def test_a_strange_authorization_header_is_unknown(header: str, db: None) -> None:
    answer = Client().get("/api/v1/approvals", headers={"Authorization": header})
    problem(answer, 401)


def test_a_stranger_who_writes_is_unknown_and_not_merely_unprotected(db: None) -> None:
    for endpoint, (_, body) in ENDPOINTS.items():
        method, path = endpoint.split(" /")
        if method == "POST":
            problem(Caller().post(path.format_map(_ANY), body), 401)
            problem(Caller(token="sb_made_up").post(path.format_map(_ANY), body), 401)


_ANY = {
    **{"flow_run_id": "f", "approval_id": "a", "name": "handbook", "run_id": "x", "bulk_id": "u", "batch_id": "b"},
    **{"pair_id": "1", "secret_id": "1", "message_id": "m"},
}


def test_a_browsers_session_reads_and_needs_the_csrf_token_to_write(olga: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(olga)
    assert browser.get("/api/v1/runs").status_code == 200
    body = {"agent": "support", "input": {"order_id": "1", "message": "m"}}
    problem(browser.post("/api/v1/runs", body, content_type="application/json"), 403)
    browser.get("/accounts/login/")
    browser.cookies["csrftoken"] = "a" * 32
    answer = browser.post("/api/v1/runs", body, content_type="application/json", headers={"X-CSRFToken": "a" * 32})
    assert answer.status_code == 201, answer.content
    told = browser.post("/api/v1/runs", {"agent": "support"}, headers={"X-CSRFToken": "a" * 32})  # a form with parts
    assert "as JSON" in problem(told, 415)["detail"]


def test_a_token_needs_no_csrf_token(olga: User) -> None:
    body = {"agent": "support", "input": {"order_id": "1", "message": "m"}}
    assert Caller(olga).post("runs", body).status_code == 201


def test_no_answer_is_kept_by_a_cache(alice: User) -> None:
    for answer in (Caller(alice).get("approvals"), Caller().get("approvals"), Caller(alice).get("approvals/none")):
        assert answer["Cache-Control"] == "no-store"


def test_an_address_that_is_not_there_is_a_problem_too(alice: User) -> None:
    problem(Caller(alice).get("no-such-thing"), 404)


def test_the_wrong_method_is_a_problem_too(ada: User) -> None:
    wrong = Caller(ada).post("approvals/a", {})
    problem(wrong, 405)
    assert wrong["Allow"] == "GET"


@pytest.mark.parametrize(
    "path", ["approvals/a%00b", "runs/a%00b", "runs/a/checkpoints/%00", "refreshes/%00", "datasets/%00"]
)
def test_a_nul_in_an_address_is_not_found(path: str, ada: User) -> None:
    problem(Caller(ada).get(path), 404)


@pytest.mark.parametrize("path", ["approvals", "runs"])
@pytest.mark.parametrize("name", ["search", "agent", "cursor"])
def test_a_nul_in_a_query_harms_nothing(path: str, name: str, ada: User) -> None:
    answer = Caller(ada).get(path, **{name: "a\x00b"})
    assert answer.status_code in (200, 422), answer.content


def test_the_description_of_the_api_is_there(alice: User) -> None:
    described = Client().get("/api/v1/openapi.json").json()
    listed = {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, methods in described["paths"].items()
        for method in methods
    }
    assert listed == set(ENDPOINTS)
    assert Client().get("/api/v1/docs").status_code == 200


def test_contracts_show_boundaries_steps_and_failure_tests(eve: User) -> None:
    body = Caller(eve).get("contracts").json()
    assert set(body) == {"boundaries", "steps", "failure_tests"}
    assert {"console -> durable: start", "agent -> world: perform"} <= {one["name"] for one in body["boundaries"]}
    assert all(set(step) == {"step", "layer"} and step["step"] for step in body["steps"])
    assert {step["layer"] for step in body["steps"]} == {"agent", "durable", "data", "console"}
    assert len(body["failure_tests"]) >= 5
    for test in body["failure_tests"]:
        assert {"name", "invariant", "last_run_at", "trials", "failures"} <= set(test)


def test_an_error_of_ours_is_a_problem_without_a_trace(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("the secret is 42")

    monkeypatch.setattr(listing, "approvals_page", broken)
    caller = Caller(alice)
    caller.raise_errors(False)
    assert "42" not in str(problem(caller.get("approvals"), 500))


def test_an_absent_database_is_told_with_what_to_do(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(listing, "approvals_page", away)
    answer = Caller(alice).get("approvals")
    told = problem(answer, 503)
    assert (told["engine"], told["retry_after_seconds"], answer["Retry-After"]) == ("postgres", 5, "5")


def test_a_superuser_has_every_role_of_people_and_a_disabled_account_none(db: None) -> None:
    root = User.objects.create(username="root", is_superuser=True)
    assert roles.roles_of(root) == {"reviewer", "operator", "admin"}
    problem(Caller(root).post("approvals", REQUEST), 403)
    gone = User.objects.create(username="gone", is_superuser=True, is_active=False)
    assert roles.roles_of(gone) == frozenset()
