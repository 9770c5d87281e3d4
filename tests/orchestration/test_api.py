"""Agents and runs in the JSON API, to the letter of what programs were promised."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from approvals.reading import listing
from approvals.record import audit
from console.clock import database_now
from console.models import OutboxEntry
from orchestration import services
from orchestration.contracts import Turn
from orchestration.models import Run
from orchestration.state import secrets
from tests.api_caller import Caller, paths_of, problem
from tests.fakes import FakeWorld
from tests.orchestration import test_run_turn as turns
from tests.orchestration.conftest import INPUT, make_run, open_for

PROMISED = {
    *("id", "agent", "status", "input", "result", "error", "requested_by", "waiting_for", "temporal_workflow_id"),
    *("temporal_run_id", "thread_id", "dataset_versions", "started_at", "closed_at", "url"),
}
START = {"agent": "support", "input": INPUT}


@pytest.fixture
def robot(db: None) -> User:
    user = User.objects.create_user("robot")
    user.groups.add(Group.objects.get_or_create(name="service")[0])
    return user


def test_agents_are_listed_with_their_tools_and_schemas(alice: User) -> None:
    (agent,) = Caller(alice).get("agents").json()["items"]
    assert set(agent) >= {"name", "title", "input_schema", "tools"}
    assert agent["name"] == "support"
    assert set(agent["input_schema"]["required"]) == {"order_id", "message"}
    tools = {tool["name"]: tool for tool in agent["tools"]}
    assert all(
        set(tool) >= {"name", "risk", "needs_approval", "idempotent", "arguments_schema"} for tool in tools.values()
    )
    flags = {name: (tool["needs_approval"], tool["idempotent"]) for name, tool in tools.items()}
    assert flags == {"list_refunds": (False, True), "issue_refund": (True, True), "send_email": (True, False)}


def test_a_new_run_is_201_with_every_promised_field(olga: User) -> None:
    answer = Caller(olga).post("runs", START)
    assert answer.status_code == 201
    run = answer.json()
    assert set(run) >= PROMISED
    assert (run["agent"], run["status"], run["input"], run["requested_by"]) == ("support", "starting", INPUT, "olga")
    assert run["id"] == run["temporal_workflow_id"] == run["thread_id"]
    assert run["id"].startswith("support-")
    assert (run["result"], run["error"], run["temporal_run_id"], run["started_at"], run["closed_at"]) == (None,) * 5
    assert (run["waiting_for"], run["dataset_versions"]) == ([], [])
    assert run["url"].startswith("http://testserver/") and run["id"] in run["url"]
    given = services.workflow_input(OutboxEntry.objects.get().payload)
    assert (given.run_id, given.agent, given.turn_seconds) == (run["id"], "support", 600)
    assert audit.verify().ok
    assert Caller(olga).get(f"runs/{run['id']}").json() == run


def test_the_same_key_with_the_same_body_is_200_and_the_same_run(olga: User) -> None:
    caller = Caller(olga)
    first = caller.post("runs", START | {"idempotency_key": "k-1"})
    again = caller.post("runs", START | {"idempotency_key": "k-1"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    other = {"order_id": "8802", "message": "hello"}
    problem(caller.post("runs", {"agent": "support", "input": other, "idempotency_key": "k-1"}), 409)
    assert (Run.objects.count(), OutboxEntry.objects.count()) == (1, 1)


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"agent": "nobody"}, "agent"),
        ({"agent": None}, "agent"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": {"order_id": "1"}}, "input.message"),
        ({"input": {"order_id": 8801, "message": "m"}}, "input.order_id"),
        ({"input": {"order_id": "", "message": "m"}}, "input.order_id"),
        ({"input": {"order_id": "1", "message": "m" * 4001}}, "input.message"),
        ({"input": {"order_id": "1", "message": "m", "extra": 1}}, "input.extra"),
        ({"input": {"order_id": "1", "message": "a\x00b"}}, "input.message"),
        ({"input": {"order_id": "1", "message": "\ud800"}}, "input.message"),
        ({"idempotency_key": "k" * 201}, "idempotency_key"),
        ({"idempotency_key": "a\x00b"}, "idempotency_key"),
        ({"idempotency_key": 7}, "idempotency_key"),
    ],
)
def test_wrong_input_names_its_field(changed: dict[str, Any], path: str, olga: User) -> None:
    assert paths_of(Caller(olga).post("runs", START | changed)) == [path]
    assert not Run.objects.exists()


def test_text_that_only_looks_like_nul_is_kept(olga: User) -> None:
    words = r"the form said \u0000 and \\u0000"
    answer = Caller(olga).post("runs", {"agent": "support", "input": {"order_id": "1", "message": words}})
    assert answer.status_code == 201, answer.content
    assert Run.objects.get().input["message"] == words


def test_a_null_key_is_no_key(olga: User) -> None:
    assert Caller(olga).post("runs", START | {"idempotency_key": None}).status_code == 201


def test_a_run_shows_what_it_waits_for(alice: User, db: None) -> None:
    run = make_run(status="waiting", temporal_run_id="t-1", started_at=database_now())
    first, second = open_for(run), open_for(run)
    shown = Caller(alice).get(f"runs/{run.pk}").json()
    assert (shown["status"], shown["waiting_for"], shown["temporal_run_id"]) == (
        "waiting",
        [first.pk, second.pk],
        "t-1",
    )
    assert datetime.fromisoformat(shown["started_at"]).tzinfo is not None


def test_a_service_account_sees_its_own_runs_only(robot: User, olga: User) -> None:
    mine = Caller(robot).post("runs", START).json()
    others = Caller(olga).post("runs", START).json()
    caller = Caller(robot)
    assert [run["id"] for run in caller.get("runs").json()["items"]] == [mine["id"]]
    assert caller.get(f"runs/{mine['id']}").status_code == 200
    for path in (f"runs/{others['id']}", f"runs/{others['id']}/checkpoints", f"runs/{others['id']}/checkpoints/c"):
        problem(caller.get(path), 404)
    assert len(Caller(olga).get("runs").json()["items"]) == 2


def test_a_service_account_does_not_find_anothers_run_by_its_key(robot: User, olga: User) -> None:
    Caller(olga).post("runs", START | {"idempotency_key": "k-1"})
    problem(Caller(robot).post("runs", START | {"idempotency_key": "k-1"}), 409)


def test_runs_come_newest_first_page_by_page(alice: User, db: None) -> None:
    runs = [make_run() for _ in range(7)]
    Run.objects.update(created_at=database_now())  # all alike: the id decides
    pages = Caller(alice).all("runs", limit=3)
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [run["id"] for page in pages for run in page] == sorted((run.pk for run in runs), reverse=True)


def test_runs_can_be_narrowed(alice: User, db: None) -> None:
    waiting = make_run(status="waiting", input={"order_id": "8899", "message": "Where is it?"})
    finished = make_run(status="finished", agent="other")
    Run.objects.filter(pk=finished.pk).update(created_at=database_now() - timedelta(days=1))
    caller = Caller(alice)

    def ids(**query: Any) -> list[str]:
        return [run["id"] for run in caller.get("runs", **query).json()["items"]]

    assert ids(status="waiting") == ids(agent="support") == ids(search="8899") == [waiting.pk]
    assert ids(search=finished.pk) == ids(agent="other") == [finished.pk]
    assert ids() == [waiting.pk, finished.pk]
    assert ids(status="paused") == ids(search="nothing") == []


def test_a_search_does_not_guess_at_what_an_author_hides(
    alice: User, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"card": "4929", "note": "open", "people": [{"pin": {"now": "7711"}, "name": "Ann"}], "pin": "1188"}
    run = make_run(input=given)
    monkeypatch.setattr(secrets, "_marked_in", lambda _: ("card", "people.pin"))
    caller = Caller(alice)

    def is_found(words: str) -> bool:
        return [one["id"] for one in caller.get("runs", search=words).json()["items"]] == [run.pk]

    assert [words for words in ("4929", "7711", "492", "open 77") if is_found(words)] == []
    assert [words for words in ("open", "Ann", "1188", run.pk) if not is_found(words)] == []
    assert secrets.hidden_of("support").without(given)["people"][0]["name"] == "Ann"


@pytest.mark.parametrize(
    ("query", "path"), [({"status": "open"}, "status"), ({"limit": 0}, "limit"), ({"limit": 201}, "limit")]
)
def test_a_wrong_query_names_its_parameter(query: dict[str, Any], path: str, alice: User) -> None:
    assert paths_of(Caller(alice).get("runs", **query)) == [path]


def test_the_list_asks_the_database_the_same_number_of_questions_for_any_length(
    alice: User, olga: User, django_assert_num_queries: Any
) -> None:
    caller = Caller(alice)
    caller.get("agents")  # a token's first use is noted
    for count in (5, 55):
        for _ in range(count):
            open_for(make_run(status="waiting", requested_by=olga))
        with django_assert_num_queries(3):
            listed = caller.get("runs", limit=200)
        assert listed.status_code == 200
    assert len(listed.json()["items"]) == 60
    assert all(run["waiting_for"] for run in listed.json()["items"])


published, speak = turns.published, turns.speak


@pytest.mark.django_db(transaction=True)
def test_checkpoints_are_listed_newest_first_and_opened_one_by_one(alice: User, speak: Any, world: FakeWorld) -> None:
    run = make_run()
    turns.take(Turn(run.pk, "support", 1), world)
    caller = Caller(alice)
    listed = caller.get(f"runs/{run.pk}/checkpoints").json()
    assert set(listed) == {"items", "next"}
    newest = listed["items"][0]
    assert set(newest) >= {
        "checkpoint_id",
        "parent_checkpoint_id",
        "step",
        "source",
        "node",
        "next",
        "at",
        "interrupted",
    }
    assert (newest["next"], newest["interrupted"], newest["source"]) == (["gate"], True, "loop")
    assert datetime.fromisoformat(newest["at"]).tzinfo is not None
    steps = [line["step"] for line in listed["items"]]
    assert steps == sorted(steps, reverse=True)
    assert listed["items"][-1]["parent_checkpoint_id"] is None
    pages = caller.all(f"runs/{run.pk}/checkpoints", limit=2)
    assert [line for page in pages for line in page] == listed["items"]

    opened = caller.get(f"runs/{run.pk}/checkpoints/{newest['checkpoint_id']}").json()
    assert set(opened) == {"values", "by_changes", "next", "tasks", "metadata"}
    assert opened["next"] == ["gate"]
    assert opened["values"]["order_id"] == "8801"
    assert opened["values"]["messages"][0]["type"] == "system"
    assert opened["metadata"]["step"] == newest["step"]
    problem(caller.get(f"runs/{run.pk}/checkpoints/none"), 404)
    problem(caller.get(f"runs/{make_run().pk}/checkpoints/{newest['checkpoint_id']}"), 404)
    assert caller.get(f"runs/{make_run().pk}/checkpoints").json() == {"items": [], "next": None}


def test_an_unknown_run_is_not_there(alice: User) -> None:
    for path in ("runs/none", "runs/none/checkpoints", "runs/none/checkpoints/c"):
        problem(Caller(alice).get(path), 404)


def test_a_search_finds_all_that_fit_however_many_there_are(
    alice: User, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run(input={"order_id": f"{number}", "note": "a lamp"}) for number in range(5)]
    other = make_run(input={"order_id": "77", "note": "a lampshade of 日本語"})
    caller = Caller(alice)

    def found(words: str) -> set[str]:
        return {one["id"] for one in caller.get("runs", search=words).json()["items"]}

    for most in (2, 1000):
        monkeypatch.setattr(listing, "FEW_AT_MOST", most)
        assert found("LAMP") == {run.pk for run in [*runs, other]}
        assert found("lampsh 本語") == {other.pk}
        assert found("lamp 3") == {runs[3].pk}
        assert found("lamp nowhere") == found("...") == set()
