"""Who may have a run think again, and what is refused before anything is refreshed. See also the walk for real."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.urls import reverse

from approvals.errors import InvalidChange, NotTheirs
from approvals.models import Approval
from approvals.policies import asking
from approvals.policies.conditions import Condition
from approvals.policies.policy import Policy
from approvals.proposal.terms import Facts
from console import ports
from dataplane.models import Dataset, Refresh
from orchestration import checkpoint_gateway, thinking_again
from orchestration.actions import acting, reset
from orchestration.errors import ActionRefused
from orchestration.models import Rethinking, Run
from tests.api_caller import Caller, problem
from tests.orchestration.conftest import decide, make_run, open_for, reviewer
from tests.page_client import signed_in, text

pytestmark = pytest.mark.django_db
READ = [{"dataset": "handbook", "version": 1}]


def waiting_run() -> Run:
    run = make_run(status="waiting", dataset_versions=READ)
    open_for(run, dataset_versions=READ)
    return run


def operator() -> User:
    user = User.objects.create(username="otto")
    user.groups.add(Group.objects.get_or_create(name="operator")[0])
    return user


def test_without_a_reason_a_right_or_anything_open_nothing_is_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    run, stranger = waiting_run(), User.objects.create(username="eve")
    with pytest.raises(NotTheirs):
        thinking_again.ask(run_id=run.pk, by=stranger, reason="because")
    with pytest.raises(InvalidChange):
        thinking_again.ask(run_id=run.pk, by=reviewer(), reason=" ")
    with pytest.raises(ActionRefused, match="no checkpoint"):
        thinking_again.ask(run_id=run.pk, by=reviewer(), reason="because")
    idle = make_run(status="running", dataset_versions=READ)
    with pytest.raises(ActionRefused, match="asked nothing"):
        thinking_again.ask(run_id=idle.pk, by=operator(), reason="because")
    unread = make_run(status="waiting")
    open_for(unread)
    with pytest.raises(ActionRefused, match="read no dataset"):
        thinking_again.ask(run_id=unread.pk, by=reviewer(), reason="because")
    assert not Refresh.objects.exists() and not Rethinking.objects.exists()


def test_it_takes_back_neither_an_end_that_was_asked_for_nor_a_decision_beside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(thinking_again, "_point", lambda run, reads: None)
    monkeypatch.setattr(ports.data_plane(), "told", lambda reads: [{**READ[0], "is_current": False}])
    monkeypatch.setattr(acting, "is_told", lambda run: True)
    set_back: list[str] = []
    monkeypatch.setattr(reset, "set_back", lambda run, *_: set_back.append(run.pk))
    ended, decided, free = waiting_run(), waiting_run(), waiting_run()
    wishes = [thinking_again.ask(run_id=one.pk, by=reviewer(), reason="new terms") for one in (ended, decided, free)]
    Run.objects.filter(pk=ended.pk).update(ending={"by": "otto", "action": "cancel", "reason": "No more."})
    decide(open_for(decided))
    thinking_again.step()
    assert [Rethinking.objects.get(pk=one.pk).state for one in wishes] == ["dropped", "dropped", "done"]
    assert set_back == [free.pk]
    for run, words in ((ended, "otto has asked for the run's end"), (decided, "has decided a part")):
        with pytest.raises(ActionRefused, match=words):
            thinking_again.ask(run_id=run.pk, by=reviewer(), reason="again")


@pytest.mark.django_db(transaction=True)
def test_what_may_ask_prefect_is_asked_while_nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinking_again, "_point", lambda run, reads: None)
    held: list[bool] = []

    def refresh_for_run(dataset: str, by: User) -> str:
        held.append(connection.in_atomic_block)
        return f"rfr_{dataset}"

    monkeypatch.setattr(ports.data_plane(), "told", lambda reads: [{**READ[0], "is_current": True}])
    monkeypatch.setattr(ports.data_plane(), "refresh_for_run", refresh_for_run)
    wish = thinking_again.ask(run_id=waiting_run().pk, by=reviewer(), reason="new terms")
    assert held == [False] and wish.refreshes == ["rfr_handbook"]


def test_what_was_decided_while_prefect_was_asked_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinking_again, "_point", lambda run, reads: None)
    run = waiting_run()

    def refresh_for_run(dataset: str, by: User) -> str:
        Approval.objects.filter(run_id=run.pk).update(status="expired")
        return f"rfr_{dataset}"

    monkeypatch.setattr(ports.data_plane(), "told", lambda reads: [{**READ[0], "is_current": True}])
    monkeypatch.setattr(ports.data_plane(), "refresh_for_run", refresh_for_run)
    with pytest.raises(ActionRefused, match="asked nothing"):
        thinking_again.ask(run_id=run.pk, by=operator(), reason="new terms")
    assert not Rethinking.objects.exists()


def test_a_reason_that_came_too_late_is_shown_again() -> None:
    run = waiting_run()
    Approval.objects.filter(run_id=run.pk).update(status="expired")
    Run.objects.filter(pk=run.pk).update(status="finished")
    address = reverse("orchestration:think_again", args=[run.pk])
    late = signed_in(operator()).post(address, {"reason": "The terms are new."})
    assert late.status_code == 409 and "The terms are new." in text(late)


def again(who: User | None, approval: Approval, body: Any = None) -> Any:
    return Caller(who).post(f"approvals/{approval.pk}/refresh-and-ask-again", {} if body is None else body)


def test_the_api_has_the_data_refreshed_once_and_names_what_it_supersedes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinking_again, "_point", lambda run, reads: None)
    run = waiting_run()
    asked, alice = Approval.objects.get(run_id=run.pk), reviewer()
    monkeypatch.setattr(ports.data_plane(), "told", lambda reads: [{**READ[0], "is_current": True}])
    first = again(alice, asked, {"reason": "The rules have changed."})
    assert first.status_code == 202, first.content
    told, row = first.json(), Rethinking.objects.get()
    assert (told["superseded"], told["superseded_all"], told["state"]) == (asked.pk, [asked.pk], "waiting")
    assert told["refresh"]["dataset"] == "handbook" and told["refresh"]["status"] == "scheduled"
    assert told["refreshes"] == [told["refresh"]] and [told["refresh"]["id"]] == row.refreshes
    assert (told["asked_by"], told["reason"], told["run_id"]) == (alice.username, "The rules have changed.", run.pk)
    # Whoever asks again while it waits, by whatever door, has asked for the same.
    second = again(operator(), asked)
    assert second.status_code == 202 and second.json() == told
    assert Rethinking.objects.count() == 1 == Refresh.objects.count()


def test_the_api_says_in_words_who_may_and_why_not() -> None:
    run = waiting_run()
    asked = Approval.objects.get(run_id=run.pk)
    problem(again(None, asked), 401)
    problem(again(User.objects.create(username="eve"), asked), 403)
    assert "no checkpoint" in problem(again(reviewer(), asked), 409)["detail"]
    problem(again(reviewer(), asked, {"reason": "x" * 401}), 422)
    problem(again(reviewer(), asked, {"reason": " "}), 422)
    problem(again(reviewer(), asked, {"why": "x"}), 422)
    Approval.objects.filter(pk=asked.pk).update(audience=["admin"])
    barred = problem(again(reviewer(), asked), 403)
    assert "may decide what the run asks" in barred["detail"]
    Approval.objects.filter(pk=asked.pk).update(status="expired")
    assert "is closed" in problem(again(operator(), asked), 409)["detail"]
    assert not Refresh.objects.exists() and not Rethinking.objects.exists()


def test_it_goes_back_to_just_before_the_first_read(monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["a", "b", "c", "d", "e"]
    found: list[str] = []
    monkeypatch.setattr(checkpoint_gateway, "newest_of", lambda run_id: "e")
    monkeypatch.setattr(checkpoint_gateway, "line_to", lambda run_id, last: line)
    monkeypatch.setattr(thinking_again, "point_of", lambda run, where: found.append(where.checkpoint_id))
    read = {**READ[0], "is_current": False, "is_fresh": False, "note": ""}
    for first_read, expected in (("b", "a"), ("c", "b"), ("e", "d"), ("z", "a")):
        monkeypatch.setattr(thinking_again, "_has_read", lambda run, one, reads, first=first_read: one >= first)
        thinking_again._point(make_run(), [read])  # type: ignore[list-item]
        assert found.pop() == expected
    monkeypatch.setattr(thinking_again, "_has_read", lambda run, one, reads: True)
    with pytest.raises(ActionRefused, match="before it was forked"):
        thinking_again._point(make_run(), [read])  # type: ignore[list-item]


def test_a_rule_can_ask_whether_data_is_stale_and_it_is_looked_up_only_then() -> None:
    asked: list[bool] = []

    def is_stale() -> bool:
        asked.append(True)
        return True

    facts = Facts(
        source="agent", agent="a", tool="t", kind="action", risk="high", arguments={"stale": 1}, is_stale=is_stale
    )
    rules: list[dict[str, Any]] = [
        {"name": "old", "match": {"agents": ["*"], "tools": ["*"]}, "condition": "stale", "needed": 2},
        {"name": "rest", "match": {"agents": ["*"], "tools": ["*"]}},
    ]
    assert Policy("1", rules, {}).terms_for(facts).rule == "old"
    assert asked == [True]
    plain = [{**rules[1], "condition": 'risk == "high"'}]
    assert Policy("1", plain, {}).terms_for(facts).rule == "rest" and asked == [True]
    assert not Condition('args.amount == "stal"').asks_for_age


def test_what_was_read_is_stale_unless_it_is_current_and_confirmed() -> None:
    assert not asking.is_stale([])
    assert asking.is_stale(READ), "nobody knows the dataset"
    assert not Dataset.objects.exists()
