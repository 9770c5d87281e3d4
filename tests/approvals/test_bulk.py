"""Deciding several approvals together: what fits, what differs, one result for each; as pages and through the API."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from approvals import services
from approvals.models import Approval, Decision
from approvals.reading import bulk
from approvals.reading.mine import may_be_decided_by
from console.clock import database_now
from tests.api_caller import Caller, paths_of, problem
from tests.page_client import signed_in, text

from .conftest import answer

Open = Callable[..., Approval]
REVIEW, TOGETHER = reverse("approvals:review"), reverse("approvals:decide_together")


@pytest.fixture
def emails(open_one: Open) -> list[Approval]:
    """Four e-mails of medium risk that differ in one argument of three."""
    return [
        open_one(tool="send_email", risk="medium", arguments={"to": f"p{n}@example.org", "text": "Hello", "copy": None})
        for n in range(4)
    ]


def item_of(approval: Approval) -> str:
    return f"{approval.pk}:{approval.version}:{approval.digest}"


def send(client: Client, approvals: list[Approval], verdict: str = "approve", **more: Any) -> Any:
    sent = {"item": [item_of(one) for one in approvals], "verdict": verdict, "note": "", "key": ""}
    return client.post(TOGETHER, sent | more)


def statuses(user: User, approvals: list[Approval], key: str = "") -> list[int]:
    items = [bulk.Item(one.pk, "approve", one.version, one.digest) for one in approvals]
    return [result.status for result in bulk.decide_each(user, items, key=key)]


def test_what_differs_stands_in_columns_and_what_all_share_once(alice: User, emails: list[Approval]) -> None:
    group = bulk.review(alice, [one.pk for one in emails]).groups[0]
    assert group.paths == ["to"]
    assert dict(group.common) == {"copy": "null", "text": '"Hello"'}
    assert [line.cells[0].exact for line in group.lines] == [f'"p{n}@example.org"' for n in range(4)]


def test_an_argument_that_only_some_have_differs(alice: User, open_one: Open) -> None:
    some = [open_one(risk="low", arguments=one) for one in ({"a": 1, "b": {"c": [1]}}, {"a": 1}, {"a": 1, "b": None})]
    group = bulk.review(alice, [one.pk for one in some]).groups[0]
    assert dict(group.common) == {"a": "1"}
    cells = [{cell.path: cell.exact for cell in line.cells} for line in group.lines]
    assert cells == [{"b.c[0]": "1", "b": None}, {"b.c[0]": None, "b": None}, {"b.c[0]": None, "b": "null"}]


def test_other_tools_risks_and_rules_are_groups_of_their_own(alice: User, open_one: Open) -> None:
    one = open_one(risk="low", arguments={"n": 1})
    fits = open_one(risk="low", arguments={"n": 2})
    tool = open_one(risk="low", tool="send_email")
    risk = open_one(risk="medium", arguments={"n": 3})
    rule = open_one(risk="low", arguments={"n": 4})
    Approval.objects.filter(pk=rule.pk).update(terms=rule.terms | {"rule": "another"})
    found = bulk.review(alice, [one.pk, tool.pk, risk.pk, rule.pk, fits.pk])
    assert [group.ids for group in found.groups] == [[one.pk, fits.pk], [tool.pk], [risk.pk], [rule.pk]]
    shown = text(signed_in(alice).get(REVIEW, {"id": [one.pk, tool.pk, fits.pk]}))
    assert "These do not go together" in shown and "<h3>2 " in shown and 'name="verdict"' not in shown


def test_a_note_is_shown_again_where_nothing_is_left_to_decide(alice: User) -> None:
    gone = {"item": ["apr_gone:1:" + "0" * 64], "shown": ["apr_gone"], "verdict": "reject", "note": ""}
    told = signed_in(alice).post(TOGETHER, gone | {"verdict": "neither", "note": "The sum is wrong."})
    assert told.status_code == 422 and "The sum is wrong." in text(told)


def test_what_cannot_be_decided_together_is_left_out_with_the_reason(
    alice: User, bob: User, open_one: Open, emails: list[Approval]
) -> None:
    high = open_one(risk="high")
    alone = open_one(risk="low", kind="outcome")
    mine = open_one(risk="low", requested_by=alice)
    decided = emails[0]
    services.decide(
        approval_id=decided.pk, reviewer=bob, given=answer(decided), circumstances=services.Circumstances("page")
    )
    chosen = [emails[1].pk, high.pk, alone.pk, mine.pk, decided.pk, "apr_none", emails[1].pk]
    found = bulk.review(alice, chosen)
    assert [group.ids for group in found.groups] == [[emails[1].pk]]
    reasons = {one.approval_id: one.reason for one in found.left_out}
    assert "High risk" in reasons[high.pk]
    assert "own page" in reasons[alone.pk]
    assert "You started this run" in reasons[mine.pk]
    assert "by bob" in reasons[decided.pk]
    assert "no such request" in reasons["apr_none"]
    assert text(signed_in(alice).get(REVIEW, {"id": chosen})).count("<li>") >= 5


def test_what_wants_a_look_is_looked_at_alone(alice: User, terms: Any, open_one: Open) -> None:
    terms(dwell_seconds=30)
    approval = open_one(tool="send_email", risk="medium")
    found = bulk.review(alice, [approval.pk])
    assert [one.reason for one in found.left_out] == ["The rule “test” wants each decided on its own page."]
    assert statuses(alice, [approval]) == [403]


def test_a_review_changes_nothing_and_costs_the_same_for_few_and_many(
    alice: User, open_one: Open, django_assert_max_num_queries: Any
) -> None:
    few = [open_one(risk="low", arguments={"n": n}).pk for n in range(3)]
    many = few + [open_one(risk="low", arguments={"n": n}).pk for n in range(3, 40)]
    client, costs = signed_in(alice), []
    for ids in (few, many):
        with CaptureQueriesContext(connection) as captured:
            assert client.get(REVIEW, {"id": ids}).status_code == 200
        costs.append(len(captured))
    assert costs[0] == costs[1] <= 20
    assert not Decision.objects.exists()


def test_a_group_of_repeats_is_reviewed_as_a_whole(alice: User, open_one: Open) -> None:
    same = [open_one(risk="low") for _ in range(3)]
    other = open_one(risk="low", arguments={"n": 1})
    shown = text(signed_in(alice).get(REVIEW, {"same": same[0].pk}))
    assert all(item_of(one) in shown for one in same) and other.pk not in shown
    assert "identical arguments" in shown


def test_the_ticked_are_decided_and_the_others_wait(alice: User, emails: list[Approval]) -> None:
    response = send(signed_in(alice), emails[:3], note="")
    assert response.status_code == 200 and "All 3 decisions are recorded" in text(response)
    assert "no role" not in text(response) and 'class="muted mono">reviewer<' in text(response)
    assert [Approval.objects.get(pk=one.pk).status for one in emails] == ["decided"] * 3 + ["pending"]
    assert set(Decision.objects.values_list("channel", flat=True)) == {"bulk"}


def test_one_note_goes_with_each_rejection(alice: User, emails: list[Approval]) -> None:
    send(signed_in(alice), emails, "reject", note="Not\r\ntoday.")
    assert list(Decision.objects.values_list("verdict", "note")) == [("reject", "Not\ntoday.")] * 4


def test_a_rejection_without_a_reason_decides_nothing_and_keeps_the_ticks(alice: User, emails: list[Approval]) -> None:
    response = send(signed_in(alice), emails[:2], "reject", shown=[one.pk for one in emails])
    assert response.status_code == 422 and "Say why" in text(response)
    ticks = re.findall(r'name="item" value="([^":]+):[^"]*" (checked)?', text(response))
    assert [(pk, bool(on)) for pk, on in ticks] == [(one.pk, n < 2) for n, one in enumerate(emails)]
    assert not Decision.objects.exists()


def test_each_refusal_comes_back_in_words_and_stops_no_other(
    alice: User, bob: User, open_one: Open, emails: list[Approval]
) -> None:
    late, stale, theirs, fine = emails
    services.decide(approval_id=late.pk, reviewer=bob, given=answer(late), circumstances=services.Circumstances("page"))
    Approval.objects.filter(pk=theirs.pk).update(requested_by=alice)
    sent = [item_of(late), f"{stale.pk}:{stale.version}:{'0' * 64}", item_of(theirs), item_of(fine)]
    gone = f"apr_none:1:{'0' * 64}"
    response = signed_in(alice).post(
        TOGETHER, {"item": [*sent, gone], "verdict": "approve", "note": "kept words", "key": "k"}
    )
    shown = text(response)
    assert response.status_code == 200 and "1 recorded, 4 not" in shown
    assert "Approved by bob" in shown or "approved by bob" in shown
    assert "not the current proposal" in shown and "You started this run" in shown and "no such request" in shown
    again = re.search(r"<footer>.*?</footer>", shown, re.DOTALL)
    assert again and f'value="{stale.pk}"' in again[0] and late.pk not in again[0] and 'value="kept words"' in again[0]
    assert Decision.objects.filter(by=alice).count() == 1


def test_the_same_form_sent_twice_gets_the_same_answer(alice: User, emails: list[Approval]) -> None:
    client = signed_in(alice)
    first, second = (send(client, emails, key="one") for _ in range(2))
    assert text(first).count("Recorded: 4") == text(second).count("Recorded: 4") == 1
    assert Decision.objects.count() == 4
    assert "0 recorded" not in text(send(client, emails, key="other")) and Decision.objects.count() == 4


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"item": []}, "Tick at least one"),
        ({"item": ["apr_1"]}, "incomplete"),
        ({"item": [f"a:{'9' * 30}:{'0' * 64}"]}, "incomplete"),
        ({"item": [f"\0:1:{'0' * 64}"]}, "incomplete"),
        ({"verdict": "edit"}, "approved or rejected"),
        ({"verdict": ""}, "approved or rejected"),
        ({"note": "x" * 4001}, "4,000"),
    ],
)
def test_a_broken_form_decides_nothing(sent: dict[str, Any], words: str, alice: User, emails: list[Approval]) -> None:
    response = send(signed_in(alice), emails, **({"verdict": "approve"} | sent))
    assert response.status_code == 422 and words in text(response)
    assert not Decision.objects.exists()


def test_two_kinds_in_one_form_are_refused(alice: User, open_one: Open, emails: list[Approval]) -> None:
    response = send(signed_in(alice), [*emails, open_one(risk="low")])
    assert response.status_code == 422 and "2 different kinds" in text(response)
    assert not Decision.objects.exists()


def test_more_than_the_cap_is_refused_as_a_whole(alice: User, open_one: Open) -> None:
    many = [open_one(risk="low", arguments={"n": n}) for n in range(3)]
    bulk_items = [item_of(one) for one in many] + [f"apr_{n}:1:{'0' * 64}" for n in range(98)]
    response = signed_in(alice).post(TOGETHER, {"item": bulk_items, "verdict": "approve"})
    assert response.status_code == 422 and "At most 100" in text(response)
    assert not Decision.objects.exists()


def test_high_risk_and_what_a_rule_keeps_out_is_refused_whoever_asks(alice: User, open_one: Open) -> None:
    assert statuses(alice, [open_one(risk="high"), open_one(risk="low", kind="outcome"), open_one(risk="low")]) == [
        403,
        403,
        200,
    ]


def test_a_recent_sign_in_counts_for_each_of_them(alice: User, open_one: Open, terms: Any) -> None:
    terms(fresh_sign_in_minutes=5)
    some = [open_one(risk="low", arguments={"n": n}) for n in range(2)]
    items = [bulk.Item(one.pk, "approve", one.version, one.digest) for one in some]
    for signed_in_at, status in ((None, 403), (database_now() - timedelta(minutes=6), 403), (database_now(), 200)):
        results = bulk.decide_each(alice, items, signed_in_at=signed_in_at)
        assert [one.status for one in results] == [status] * 2


def test_only_verdicts_that_all_of_them_allow_are_offered(alice: User, emails: list[Approval]) -> None:
    Approval.objects.filter(pk=emails[0].pk).update(verdicts=["reject"])
    assert bulk.review(alice, [one.pk for one in emails]).groups[0].verdicts == ["reject"]
    assert bulk.review(alice, [one.pk for one in emails[1:]]).groups[0].verdicts == ["approve", "reject"]


def test_a_vote_that_is_not_the_last_says_so(alice: User, emails: list[Approval]) -> None:
    for one in emails:
        Approval.objects.filter(pk=one.pk).update(needed=2, terms=one.terms | {"needed": 2})
    items = [bulk.Item(one.pk, "approve", one.version, one.digest) for one in emails]
    results = bulk.with_approvals(alice, bulk.decide_each(alice, items))
    if all(result.status == 200 for result in results):  # the policy may have put them under its own terms again
        assert {result.words for result in results} == {"Your vote is recorded; it needs other people too"}
    assert Approval.objects.filter(status="pending").count() == 4


def test_agents_words_and_arguments_are_inert_in_the_review(alice: User, open_one: Open) -> None:
    evil = '<img src=x onerror="1">\u202e'
    some = [
        open_one(risk="low", arguments={"x": f"{evil}{n}", "y": evil}, agent_words=evil, summary=evil) for n in (1, 2)
    ]
    shown = text(signed_in(alice).get(REVIEW, {"id": [one.pk for one in some]}))
    assert "<img src=x" not in shown and "\u202e" not in shown and "⟨U+202E⟩" in shown


def test_strangers_roles_and_methods(db: None, eve: User, olga: User, alice: User, emails: list[Approval]) -> None:
    assert Client().get(REVIEW).status_code == 302
    assert signed_in(eve).get(REVIEW).status_code == 403
    assert signed_in(eve).post(TOGETHER).status_code == 403
    assert signed_in(alice).get(TOGETHER).status_code == 405
    assert "The request" not in text(signed_in(alice).get(REVIEW)) and "Choose requests" in text(
        signed_in(alice).get(REVIEW)
    )
    response = send(signed_in(olga), emails)
    assert response.status_code == 200 and "Nothing was decided" in text(response)
    assert Approval.objects.filter(may_be_decided_by(olga)).count() == 0


def body_of(approval: Approval, verdict: str = "approve", **more: Any) -> dict[str, Any]:
    return {"id": approval.pk, "verdict": verdict, "version": approval.version, "digest": approval.digest, **more}


def test_the_api_answers_for_each_item_in_the_order_asked(
    alice: User, bob: User, open_one: Open, emails: list[Approval]
) -> None:
    late, fine, stale, theirs = emails
    services.decide(approval_id=late.pk, reviewer=bob, given=answer(late), circumstances=services.Circumstances("page"))
    Approval.objects.filter(pk=theirs.pk).update(requested_by=alice)
    high, reasonless = open_one(risk="high"), open_one(risk="low")
    items = [
        body_of(late),
        body_of(fine, note="Fine."),
        body_of(stale) | {"digest": "0" * 64},
        body_of(theirs),
        body_of(high),
        body_of(reasonless, "reject"),
        body_of(fine) | {"id": "apr_none"},
        body_of(reasonless, "edit"),
    ]
    response = Caller(alice).post("approvals/decisions", {"items": items})
    assert response.status_code == 200
    told = response.json()["items"]
    assert [one["id"] for one in told] == [one["id"] for one in items]
    assert [one["status"] for one in told] == [409, 200, 409, 403, 403, 422, 404, 422]
    assert (told[0]["decided_by"], told[0]["verdict"]) == ("bob", "approve") and told[0]["decided_at"]
    assert told[1]["approval"]["status"] == "decided" and told[1]["decision"]["channel"] == "bulk"
    assert told[1]["decision"]["note"] == "Fine." and told[1]["approval"]["id"] == fine.pk
    assert told[2]["current_version"] == 1
    assert (told[3]["rule"], told[4]["rule"]) == ("four-eyes", "no-bulk")
    assert told[5]["errors"][0]["path"] == "note"
    assert all(one["detail"] for one in told if one["status"] != 200)


def test_the_same_key_gets_the_same_answer_from_the_api(alice: User, emails: list[Approval]) -> None:
    caller, body = Caller(alice), {"items": [body_of(one) for one in emails]}
    first = caller.post("approvals/decisions", body, key="k1").json()
    second = caller.post("approvals/decisions", body, key="k1").json()
    assert [one["decision"]["id"] for one in first["items"]] == [one["decision"]["id"] for one in second["items"]]
    changed = {"items": [body_of(emails[0], "reject", note="no")]}
    assert caller.post("approvals/decisions", changed, key="k1").json()["items"][0]["status"] == 409
    assert {one["status"] for one in caller.post("approvals/decisions", body, key="k2").json()["items"]} == {409}


@pytest.mark.parametrize(
    ("items", "path"),
    [
        ([], "items"),
        ([{"id": "a", "verdict": "approve", "version": 1, "digest": "0" * 64}] * 101, "items"),
        ([{"id": "a", "verdict": "perhaps", "version": 1, "digest": "0" * 64}], "items.0.verdict"),
        ([{"id": "a", "verdict": "approve", "version": 1, "digest": "short"}], "items.0.digest"),
        ([{"id": "a", "verdict": "approve", "digest": "0" * 64}], "items.0.version"),
    ],
)
def test_a_call_that_cannot_be_read_decides_nothing(items: list[Any], path: str, alice: User) -> None:
    assert paths_of(Caller(alice).post("approvals/decisions", {"items": items})) == [path]


def test_the_path_of_many_decisions_is_no_approval(alice: User, ada: User) -> None:
    problem(Caller(ada).get("approvals/decisions"), 405)
    for odd in ("a\0b", "x" * 41):
        item = {"id": odd, "verdict": "approve", "version": 1, "digest": "0" * 64}
        response = Caller(alice).post("approvals/decisions", {"items": [item]})
        assert response.status_code == 422 or response.json()["items"][0]["status"] == 404, response.content
