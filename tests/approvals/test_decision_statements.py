"""What one decision costs: statements that PostgreSQL is asked, counted, for each of them slows every click."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from approvals.models import Approval
from approvals.services import Answer, Circumstances, decide
from console.clock import database_now
from tests.api_caller import Caller
from tests.approvals.conftest import REFUND

Opener = Callable[..., Approval]

TOKEN = 1  # its owner, with the roles
TRANSACTION = 2  # begin and commit; savepoints in a test
ASKED = 3  # the approval under its row's lock; the policy; votes and people
WRITTEN = 1  # decision, approval, receipt, outbox, what pages and the relay are told; the record's chain is held
RECORDED = 1  # the entry


def _decide(caller: Caller, opened: Approval, verdict: str, **more: Any) -> Any:
    body = {"verdict": verdict, "version": opened.version, "digest": opened.digest} | more
    answer = caller.post(f"approvals/{opened.pk}/decision", body)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_a_decision_asks_the_database_no_more_than_it_did(
    open_one: Opener, alice: User, olga: User, django_assert_num_queries: Any
) -> None:
    caller = Caller(alice)
    caller.get("agents")  # a token's first use is noted
    opened = open_one(requested_by=olga)
    with django_assert_num_queries(TOKEN + TRANSACTION + ASKED + WRITTEN + RECORDED):
        _decide(caller, opened, "approve")


def test_the_last_of_several_votes_costs_no_more(
    open_one: Opener, terms: Callable[..., None], alice: User, ada: User, olga: User, django_assert_num_queries: Any
) -> None:
    terms(needed=2, groups=("reviewer", "admin"), four_eyes=("requester", "editor", "owner"))
    opened = open_one(requested_by=olga, agent_owners=("bob",))
    _decide(Caller(alice), opened, "approve")
    caller = Caller(ada)
    caller.get("agents")
    policy = 1  # which is replaced here
    with django_assert_num_queries(TOKEN + TRANSACTION + ASKED - policy + WRITTEN + RECORDED):
        assert _decide(caller, opened, "approve")["approval"]["status"] == "decided"


def test_a_decision_by_page_or_with_a_key_asks_once_more(
    open_one: Opener, alice: User, olga: User, django_assert_num_queries: Any
) -> None:
    opened = open_one(requested_by=olga)
    given = Answer("approve", opened.version, opened.digest, idempotency_key="k")
    shown_at, is_repetition = database_now(), 1
    with django_assert_num_queries(is_repetition + TRANSACTION + ASKED + WRITTEN + RECORDED):
        decide(
            approval_id=opened.pk, reviewer=alice, given=given, circumstances=Circumstances("page", shown_at=shown_at)
        )


@pytest.mark.parametrize(
    ("verdict", "more"),
    [
        ("approve", {}),
        ("approve", {"note": "it is fine"}),
        ("edit", {"edited_arguments": REFUND | {"amount": "12.00"}}),
        ("reject", {"note": "not this one"}),
        ("respond", {"answer": {"amount": 1.5, "why": ["so"]}}),
    ],
)
def test_the_answer_to_a_decision_is_what_is_read_afterwards(
    verdict: str, more: dict[str, Any], open_one: Opener, terms: Callable[..., None], alice: User, olga: User
) -> None:
    terms(four_eyes=("requester",))  # so that who edits may agree to it as well
    opened = open_one(requested_by=olga, dataset_versions=[{"dataset": "handbook", "version": 3}])
    told = _decide(Caller(alice), opened, verdict, **more)["approval"]
    read = Caller(alice).get(f"approvals/{opened.pk}").json()
    del read["shown"]
    assert told == read and told["status"] == "decided" and told["receipt"] and told["closed_at"]


def test_the_answer_to_each_vote_of_several_is_what_is_read_afterwards(
    open_one: Opener, terms: Callable[..., None], alice: User, ada: User, olga: User
) -> None:
    terms(needed=2, groups=("reviewer", "admin"))
    opened = open_one(requested_by=olga)
    for number, person in enumerate((alice, ada), start=1):
        told = _decide(Caller(person), opened, "approve")["approval"]
        read = Caller(person).get(f"approvals/{opened.pk}").json()
        del read["shown"]
        read.pop("done_before", None)  # for who decides next
        assert told == read
        assert told["quorum"] == {"needed": 2, "given": number} and len(told["decisions"]) == number
    assert told["status"] == "decided"
