"""Approvals in the JSON API, to the letter of what programs were promised."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from approvals import services
from approvals.models import Approval, Decision
from approvals.proposal.canonical import digest_of
from console.clock import database_now
from orchestration.models import Effect, Run
from tests.api_caller import Caller, paths_of, problem
from tests.approvals.conftest import REFUND

Opener = Callable[..., Approval]

PROMISED = {
    *("id", "status", "version", "digest", "canonical", "tool", "arguments", "arguments_schema", "summary"),
    *("agent_words", "risk", "verdicts", "run_id", "requested_by", "audience", "quorum", "opened_at", "due_at"),
    *("dataset_versions", "receipt", "decisions", "executed", "url"),
}


def verdict_on(shown: dict[str, Any], verdict: str = "approve", **more: Any) -> dict[str, Any]:
    return {"verdict": verdict, "version": shown["version"], "digest": shown["digest"], **more}


def post(caller: Caller, shown: dict[str, Any], verdict: str = "approve", *, key: str = "", **more: Any) -> Any:
    return caller.post(f"approvals/{shown['id']}/decision", verdict_on(shown, verdict, **more), key=key)


def is_instant(text: str) -> bool:
    return datetime.fromisoformat(text).tzinfo is not None


def test_an_approval_has_every_promised_field_in_its_promised_shape(open_one: Opener, alice: User, olga: User) -> None:
    opened = open_one(requested_by=olga, dataset_versions=[{"dataset": "handbook", "version": 3}])
    shown = Caller(alice).get(f"approvals/{opened.pk}").json()
    assert set(shown) >= PROMISED
    assert (shown["status"], shown["version"], shown["risk"]) == ("pending", 1, "high")
    assert digest_of(shown["canonical"].encode()) == shown["digest"]
    assert json.loads(shown["canonical"]) == {"tool": shown["tool"], "arguments": shown["arguments"]}
    assert shown["arguments"] == REFUND
    assert shown["verdicts"] == ["approve", "edit", "reject", "respond"]
    assert (shown["requested_by"], shown["audience"]) == ("olga", ["reviewer"])
    assert shown["quorum"] == {"needed": 1, "given": 0}
    assert is_instant(shown["opened_at"]) and is_instant(shown["due_at"])
    note = "no version of it is current"
    read = {"dataset": "handbook", "version": 3, "is_current": False, "is_fresh": False, "note": note}
    assert shown["dataset_versions"] == [read]
    assert (shown["receipt"], shown["decisions"], shown["executed"]) == ([], [], None)
    assert shown["url"].startswith("http://testserver/") and opened.pk in shown["url"]


def test_a_decision_answers_with_the_approval_and_itself(open_one: Opener, alice: User) -> None:
    caller = Caller(alice)
    shown = caller.get(f"approvals/{open_one().pk}").json()
    answer = post(caller, shown, note="Fair.")
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"approval", "decision"}
    decision = body["decision"]
    assert set(decision) == {"id", "by", "verdict", "note", "at", "channel"}
    assert (decision["by"], decision["verdict"], decision["note"], decision["channel"]) == (
        *("alice", "approve", "Fair.", "api"),
    )
    assert is_instant(decision["at"])
    assert body["approval"]["status"] == "decided"
    assert body["approval"]["quorum"] == {"needed": 1, "given": 1}
    assert body["approval"]["decisions"] == [decision]
    (step,) = body["approval"]["receipt"]
    assert (step["step"], step["detail"], is_instant(step["at"])) == ("recorded", "", True)
    again = caller.get(f"approvals/{shown['id']}").json()
    assert again.pop("shown") and again == body["approval"]


def test_whoever_is_second_is_told_who_was_first(open_one: Opener, alice: User, bob: User) -> None:
    shown = Caller(alice).get(f"approvals/{open_one().pk}").json()
    first = post(Caller(alice), shown, "reject", note="No.").json()["decision"]
    told = problem(post(Caller(bob), shown), 409)
    assert (told["decided_by"], told["decided_at"], told["verdict"]) == ("alice", first["at"], "reject")
    assert "rejected by alice" in told["detail"]
    told = problem(post(Caller(alice), shown), 409)  # also oneself, without a key
    assert told["decided_by"] == "alice"


def test_a_decision_about_another_version_names_the_current_one(open_one: Opener, alice: User) -> None:
    shown = Caller(alice).get(f"approvals/{open_one().pk}").json()
    for changed in ({"version": 2}, {"digest": "0" * 64}, {"version": 10**30}, {"version": -1}):
        told = problem(post(Caller(alice), shown | changed), 409)
        assert told["current_version"] == 1
    assert not Decision.objects.exists()


def test_the_same_key_gets_the_same_answer_and_another_body_409(open_one: Opener, alice: User) -> None:
    caller = Caller(alice)
    shown = caller.get(f"approvals/{open_one().pk}").json()
    first = post(caller, shown, key="k-1")
    again = post(caller, shown, key="k-1")
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert "key" in problem(post(caller, shown, "reject", note="no", key="k-1"), 409)["detail"].lower()
    other = caller.get(f"approvals/{open_one().pk}").json()
    problem(post(caller, other, key="k-1"), 409)
    assert Decision.objects.count() == 1


def test_one_persons_key_is_not_anothers(open_one: Opener, alice: User, bob: User) -> None:
    first, second = open_one(), open_one()
    for person, approval in ((alice, first), (bob, second)):
        caller = Caller(person)
        shown = caller.get(f"approvals/{approval.pk}").json()
        assert post(caller, shown, key="the same").json()["decision"]["by"] == person.username


def test_who_may_not_decide_is_told_the_rule(open_one: Opener, alice: User, ada: User, olga: User) -> None:
    shown = Caller(alice).get(f"approvals/{open_one(requested_by=alice).pk}").json()
    assert problem(post(Caller(alice), shown), 403)["rule"] == "four-eyes"
    assert problem(post(Caller(ada), shown), 403)["rule"] == "audience"
    assert problem(post(Caller(olga), shown), 403)["rule"] == "audience"
    assert not Decision.objects.exists()


def test_an_expired_or_withdrawn_approval_says_so(open_one: Opener, alice: User) -> None:
    late, gone = open_one(), open_one(run_id="run-2")
    Approval.objects.filter(pk=late.pk).update(due_at=database_now() - timedelta(seconds=1))
    services.withdraw(run_id="run-2", reason="it ended", actor="worker")
    for approval, status in ((late, "expired"), (gone, "withdrawn")):
        told = problem(post(Caller(alice), {"id": approval.pk, "version": 1, "digest": approval.digest}), 409)
        assert (told["approval_status"], told["decided_by"], told["verdict"]) == (status, None, None)


def test_whoever_the_policy_names_decides_whatever_their_role(open_one: Opener, terms: Any, olga: User) -> None:
    terms(groups=("reviewer",))
    approval = open_one()
    body = {"id": approval.pk, "version": 1, "digest": approval.digest}
    assert problem(post(Caller(olga), body), 403)["rule"] == "audience"
    terms(groups=(), people=("olga",))
    approval = open_one()
    body = {"id": approval.pk, "version": 1, "digest": approval.digest}
    assert post(Caller(olga), body).json()["decision"]["by"] == "olga"


def test_votes_that_were_too_few_decided_nothing(open_one: Opener, terms: Any, alice: User, bob: User) -> None:
    terms(needed=2)
    late, gone = open_one(), open_one(run_id="run-2")
    for approval in (late, gone):
        services.decide(approval_id=approval.pk, reviewer=bob, given=services.Answer("approve", 1, approval.digest))
    Approval.objects.filter(pk=late.pk).update(status="expired", closed_at=database_now())
    services.withdraw(run_id="run-2", reason="it ended", actor="worker")
    for approval, status in ((late, "expired"), (gone, "withdrawn")):
        told = problem(post(Caller(alice), {"id": approval.pk, "version": 1, "digest": approval.digest}), 409)
        assert (told["approval_status"], told["decided_by"], told["verdict"]) == (status, None, None)


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"verdict": "maybe"}, "verdict"),
        ({"verdict": None}, "verdict"),
        ({"verdict": "edit"}, "edited_arguments"),
        ({"verdict": "respond"}, "answer"),
        ({"answer": "yes"}, "answer"),
        ({"edited_arguments": {"amount": "1.00"}}, "edited_arguments"),
        ({"verdict": "reject"}, "note"),
        ({"note": "x" * 4001}, "note"),
        ({"note": "a\x00b"}, "note"),
        ({"note": 7}, "note"),
        ({"version": "one"}, "version"),
        ({"version": None}, "version"),
        ({"digest": "abc"}, "digest"),
        ({"digest": "0" * 64 + "\n"}, "digest"),
        ({"edited_arguments": [1]}, "edited_arguments"),
    ],
)
def test_wrong_input_names_its_field(changed: dict[str, Any], path: str, open_one: Opener, alice: User) -> None:
    opened = open_one()
    body = {"verdict": "approve", "version": 1, "digest": opened.digest} | changed
    assert paths_of(Caller(alice).post(f"approvals/{opened.pk}/decision", body)) == [path]
    assert not Decision.objects.exists()


@pytest.mark.parametrize("missing", ["verdict", "version", "digest"])
def test_missing_input_names_its_field(missing: str, open_one: Opener, alice: User) -> None:
    opened = open_one()
    body = {"verdict": "approve", "version": 1, "digest": opened.digest}
    del body[missing]
    assert paths_of(Caller(alice).post(f"approvals/{opened.pk}/decision", body)) == [missing]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("answer", ["a\x00b", "\ud800", {"deep": ["\x00"]}])
def test_what_no_column_can_hold_is_refused_whole(answer: Any, open_one: Opener, alice: User) -> None:
    opened = open_one()
    body = {"verdict": "approve", "version": 1, "digest": opened.digest, "answer": answer}
    problem(Caller(alice).post(f"approvals/{opened.pk}/decision", body), 422)
    opened.refresh_from_db()
    assert (opened.status, Decision.objects.count()) == ("pending", 0)


@pytest.mark.parametrize("body", ["{", "[]", '"approve"', "null", "", "[" * 50_000, " " * 3_000_000])
def test_a_body_that_is_no_object_is_refused(body: str, open_one: Opener, alice: User) -> None:
    assert paths_of(Caller(alice).post(f"approvals/{open_one().pk}/decision", body))


def test_an_unknown_approval_is_not_there(alice: User) -> None:
    caller = Caller(alice)
    problem(caller.get("approvals/apr_none"), 404)
    problem(post(caller, {"id": "apr_none", "version": 1, "digest": "0" * 64}), 404)


def test_pending_approvals_come_by_deadline_and_others_newest_first(open_one: Opener, alice: User) -> None:
    opened = [open_one() for _ in range(3)]
    for hours, approval in zip((3, 1, 2), opened, strict=True):
        Approval.objects.filter(pk=approval.pk).update(due_at=database_now() + timedelta(hours=hours))
    caller = Caller(alice)
    assert [one["id"] for one in caller.get("approvals", status="pending").json()["items"]] == [
        *(opened[1].pk, opened[2].pk, opened[0].pk),
    ]
    assert [one["id"] for one in caller.get("approvals").json()["items"]] == [one.pk for one in reversed(opened)]


def test_order_by_deadline_can_be_asked_for(open_one: Opener, alice: User) -> None:
    opened = [open_one() for _ in range(2)]
    Approval.objects.filter(pk=opened[0].pk).update(due_at=database_now() + timedelta(hours=1), status="withdrawn")
    caller = Caller(alice)
    for query, order in (({}, (1, 0)), ({"order": "due_at"}, (0, 1))):
        listed = caller.get("approvals", **query).json()["items"]
        assert [one["id"] for one in listed] == [opened[number].pk for number in order]
    assert [len(page) for page in caller.all("approvals", limit=1, order="due_at")] == [1, 1]


@pytest.mark.parametrize("status", ["pending", ""])
def test_pages_hold_every_row_once(status: str, open_one: Opener, alice: User) -> None:
    ids = [open_one().pk for _ in range(7)]
    Approval.objects.update(due_at=database_now() + timedelta(hours=1), opened_at=database_now())  # all alike
    pages = Caller(alice).all("approvals", limit=3, status=status)
    assert [len(page) for page in pages] == [3, 3, 1]
    assert sorted(one["id"] for page in pages for one in page) == sorted(ids)


def test_rows_that_close_between_pages_do_not_shift_the_rest(open_one: Opener, alice: User) -> None:
    ids = [open_one().pk for _ in range(6)]
    caller = Caller(alice)
    first = caller.get("approvals", status="pending", limit=3).json()
    Approval.objects.filter(pk__in=ids[:2]).update(status="withdrawn")
    rest = caller.get("approvals", status="pending", limit=3, cursor=first["next"]).json()
    assert [one["id"] for one in first["items"] + rest["items"]] == ids


@pytest.mark.parametrize(
    "cursor", ["x", "%%%", "bnVsbA", "W10", "WyIyMDI2IiwgMV0", "WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwgImEiXQ", "ü"]
)
def test_an_unreadable_cursor_begins_at_the_beginning(cursor: str, open_one: Opener, alice: User) -> None:
    opened = open_one()
    listed = Caller(alice).get("approvals", status="pending", cursor=cursor)
    assert listed.status_code == 200
    assert [one["id"] for one in listed.json()["items"]] == [opened.pk]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({"status": "open"}, "status"),
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"mine": "?"}, "mine"),
        ({"order": "x"}, "order"),
    ],
)
def test_a_wrong_query_names_its_parameter(query: dict[str, Any], path: str, alice: User) -> None:
    assert paths_of(Caller(alice).get("approvals", **query)) == [path]


def test_lists_can_be_narrowed(open_one: Opener, alice: User, bob: User) -> None:
    refund = open_one(requested_by=alice)
    email = open_one(tool="send_email", risk="medium", agent="other", summary="Write to Mara", run_id="run-9")
    caller = Caller(alice)

    def ids(**query: Any) -> list[str]:
        return [one["id"] for one in caller.get("approvals", **query).json()["items"]]

    assert ids(tool="send_email") == ids(risk="medium") == ids(agent="other") == [email.pk]
    assert (
        ids(search="mara") == ids(search="write MARA") == ids(search="run-9") == ids(search=email.pk[4:]) == [email.pk]
    )
    assert ids(search=email.external_id) == [email.pk]
    assert ids(search="mara refund") == []
    assert ids(mine="true") == [email.pk]  # four eyes: alice started the other one
    empty = dict.fromkeys(("status", "agent", "tool", "risk", "mine", "search", "order", "cursor"), "")
    assert set(ids()) == set(ids(**empty)) == {refund.pk, email.pk}
    assert ids(status="decided") == []
    services.decide(approval_id=email.pk, reviewer=bob, given=services.Answer("approve", 1, email.digest))
    assert ids(status="decided") == [email.pk]


def test_search_takes_wildcards_as_letters(open_one: Opener, alice: User) -> None:
    open_one()
    for words in ("%", "_____________________", "\\", "'; --"):
        assert Caller(alice).get("approvals", search=words).json()["items"] == []


def test_what_was_executed_is_shown_with_the_approval(open_one: Opener, alice: User) -> None:
    opened = open_one()
    run = Run.objects.create(id="run-1", agent="support", input={}, input_digest="")
    Effect.objects.create(
        approval_id=opened.pk,
        run=run,
        tool="issue_refund",
        digest=opened.digest,
        decision_id="d",
        is_idempotent=True,
        fence=1,
        status="done",
        result={"id": "re-1"},
        finished_at=database_now(),
    )
    executed = Caller(alice).get(f"approvals/{opened.pk}").json()["executed"]
    assert (executed["status"], executed["result"], executed["digest"]) == ("done", {"id": "re-1"}, opened.digest)


@pytest.mark.parametrize("status", ["pending", ""])
def test_the_list_asks_the_database_the_same_number_of_questions_for_any_length(
    status: str, open_one: Opener, alice: User, bob: User, olga: User, django_assert_num_queries: Any
) -> None:
    def add(count: int) -> None:
        for number in range(count):
            opened = open_one(requested_by=olga, dataset_versions=[{"dataset": "handbook", "version": 3}])
            if number % 2 and not status:
                given = services.Answer("approve", 1, opened.digest)
                services.decide(approval_id=opened.pk, reviewer=bob, given=given)

    caller = Caller(alice)
    caller.get("agents")  # a token's first use is noted
    for count in (5, 55):
        add(count)
        with django_assert_num_queries(12):
            listed = caller.get("approvals", limit=200, status=status)
        assert listed.status_code == 200
    assert len(listed.json()["items"]) == 60


def test_a_service_account_sees_no_approvals_of_agents(open_one: Opener, db: None) -> None:
    robot = User.objects.create_user("robot")
    robot.groups.add(Group.objects.get_or_create(name="service")[0])
    opened = open_one(requested_by=robot)
    for asked in ({}, {"mine": "1"}):
        assert Caller(robot).get("approvals", **asked).json() == {"items": [], "next": None}
    problem(Caller(robot).get(f"approvals/{opened.pk}"), 404)
