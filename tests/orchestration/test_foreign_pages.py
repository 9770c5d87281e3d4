"""What a reviewer sees of a graph that was not written for us: the page, a typed answer, and the JSON API."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from approvals.models import Approval
from orchestration.models import Run
from tests.api_caller import Caller
from tests.fakes import FakeWorld
from tests.orchestration import foreign_graphs as foreign
from tests.orchestration.conftest import reviewer
from tests.orchestration.test_foreign_graphs import Use, give, go_on, result_of, use, waiting
from tests.orchestration.test_run_turn import start, take

__all__ = ("use",)
pytestmark = pytest.mark.django_db(transaction=True)


def page(client: Client, approval: Approval) -> str:
    text = client.get(f"/approvals/{approval.pk}/").content.decode()
    return re.sub(r"\s+", " ", text)


def send(client: Client, approval: Approval, **fields: Any) -> int:
    sent = {"version": approval.version, "digest": approval.digest, **fields}
    return client.post(f"/approvals/{approval.pk}/decision", sent).status_code


@pytest.fixture
def alice(transactional_db: None) -> User:
    return reviewer()


def test_a_card_says_which_of_its_siblings_is_open_and_that_the_effect_is_not_tracked(
    use: Use, world: FakeWorld, client: Client, alice: User
) -> None:
    run = use(foreign.hitl())
    asked = take(start(run), world).waiting_for
    mail, file = waiting(run)
    client.force_login(alice)
    shown = page(client, mail)
    assert "This is 1 of 2 that the agent asked at once. It goes on when all are decided; 1 of the others" in shown
    assert "Effect not tracked" in shown and file.pk in shown
    give(file, "approve")
    assert "The others are decided." in page(client, mail)
    give(mail, "approve")
    assert go_on(run, world, 2, *asked).outcome == "finished"
    told = Caller(alice).get(f"approvals/{mail.pk}").json()
    assert told["executed"]["status"] == "not_tracked" and told["effect_tracked"] is False
    assert told["decided_with"] == [{"id": file.pk, "status": "decided"}]
    assert [step["step"] for step in told["receipt"]] == ["recorded", "resumed"]
    assert "Effect started" not in page(client, mail)


@pytest.mark.parametrize(
    ("typed", "answer"), [("yes", "yes"), ("true", True), ('"true"', "true"), ('{"a": 1}', {"a": 1}), ("12", 12)]
)
def test_a_typed_answer_to_a_question_is_text_or_the_json_that_it_says(
    typed: str, answer: Any, use: Use, world: FakeWorld, client: Client, alice: User
) -> None:
    run: Run = use(foreign.asking("Shall I?"), {})
    asked = take(start(run), world).waiting_for
    (approval,) = waiting(run)
    client.force_login(alice)
    shown = page(client, approval)
    assert "What the agent asks" in shown and 'name="answer"' in shown and 'value="approve"' not in shown
    assert send(client, approval, verdict="respond", answer=typed) == 302
    assert go_on(run, world, 2, *asked).outcome == "finished"
    assert result_of(run) == {"lines": [answer]}


def test_a_typed_answer_that_does_not_fit_comes_back_with_what_was_typed(
    use: Use, world: FakeWorld, client: Client, alice: User
) -> None:
    run = use(foreign.asking("How much?", schema=foreign.Amount), {})
    take(start(run), world)
    (approval,) = waiting(run)
    client.force_login(alice)
    assert "The answer has this form" in page(client, approval)
    sent = {"version": approval.version, "digest": approval.digest, "verdict": "respond", "answer": '{"amount": 700}'}
    refused = client.post(f"/approvals/{approval.pk}/decision", sent)
    assert refused.status_code == 422
    told = refused.content.decode()
    assert "700" in told and "100" in told.split("data-fault>")[1].split("<")[0]
    assert send(client, approval, verdict="respond", answer='{"amount": 70}') == 302


def test_a_stop_is_let_go_on_or_ended(use: Use, world: FakeWorld, client: Client, alice: User) -> None:
    run = use(foreign.stopped(interrupt_before=["second"]), {})
    take(start(run), world)
    (approval,) = waiting(run)
    client.force_login(alice)
    shown = page(client, approval)
    assert "Let it go on" in shown and "Stop it here" in shown and "“second”" in shown
