"""What one decision costs: statements that PostgreSQL is asked, counted, for each of them slows every click."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from approvals.models import Approval
from tests.api_caller import Caller
from tests.approvals.conftest import REFUND

Opener = Callable[..., Approval]

TOKEN = 1  # its owner, with the roles
TRANSACTION = 2  # begin and commit; savepoints in a test
ASKED = 4  # approval, policy, votes, persons
WRITTEN = 5  # decision, approval, receipt, outbox with its NOTIFY, announcement
RECORDED = 3  # the chain's lock, its head, the entry


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
        assert told == read
        assert told["quorum"] == {"needed": 2, "given": number} and len(told["decisions"]) == number
    assert told["status"] == "decided"
