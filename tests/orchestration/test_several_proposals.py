"""Several calls in one message of the model's, by our own nodes: asked at once, decided in any order, done together."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from approvals.models import Approval
from orchestration.models import Effect, Run
from tests.fakes import FakeWorld, ScriptedModel
from tests.orchestration.conftest import EMAIL, REFUND, decide
from tests.orchestration.test_foreign_graphs import messages_of
from tests.orchestration.test_run_turn import after, published, run, speak, start, take

__all__ = ("published", "run", "speak")
pytestmark = pytest.mark.django_db(transaction=True)

Speak = Callable[[Any], None]


def model(*arguments: tuple[str, dict[str, Any]]) -> ScriptedModel:
    from langchain_core.messages import AIMessage

    calls = [{"name": name, "args": given, "id": f"c{number}"} for number, (name, given) in enumerate(arguments)]
    return ScriptedModel.of(AIMessage("Both, please.", tool_calls=calls), AIMessage("All done."))


def both() -> ScriptedModel:
    return model(("issue_refund", REFUND), ("send_email", EMAIL))


@pytest.mark.parametrize("order", [*permutations(range(2))], ids=str)
def test_two_proposals_are_asked_at_once_and_done_when_both_are_decided(
    order: tuple[int, ...], run: Run, world: FakeWorld, speak: Speak
) -> None:
    speak(both())
    asked = take(start(run), world).waiting_for
    rows = [Approval.objects.get(pk=one) for one in asked]
    assert [(row.tool, row.interrupt_place, row.dialect) for row in rows] == [
        ("issue_refund", 0, "own"),
        ("send_email", 1, "own"),
    ]
    decide(rows[order[0]])
    assert take(after(run, 2, *asked), world).outcome == "still_waiting"
    assert not Effect.objects.exists()
    decide(rows[order[1]])
    assert take(after(run, 3, *asked), world).outcome == "finished"
    assert {(effect.tool, effect.status) for effect in Effect.objects.filter(run=run)} == {
        ("issue_refund", "done"),
        ("send_email", "done"),
    }
    assert len(world.shop.refunds) == len(world.mails) == 1


def test_each_call_gets_its_own_answer(run: Run, world: FakeWorld, speak: Speak) -> None:
    speak(both())
    asked = take(start(run), world).waiting_for
    decide(asked[0], "reject", "Too much.")
    decide(asked[1])
    assert take(after(run, 2, *asked), world).outcome == "finished"
    run.refresh_from_db()
    told = {one["tool_call_id"]: json.loads(one["content"]) for one in messages_of(run) if one["type"] == "tool"}
    assert (told["c0"]["outcome"], told["c0"]["reviewer_comment"]) == ("reject", "Too much.")
    assert told["c1"]["outcome"] == "done"
    assert world.shop.refunds == {} and len(world.mails) == 1


def test_a_call_that_does_not_fit_goes_back_and_the_others_are_asked(run: Run, world: FakeWorld, speak: Speak) -> None:
    speak(model(("issue_refund", {"amount": "much"}), ("send_email", EMAIL), ("list_refunds", {"order_id": "1"})))
    (asked,) = take(start(run), world).waiting_for
    assert Approval.objects.get(pk=asked).tool == "send_email"
    decide(asked)
    assert take(after(run, 2, asked), world).outcome == "finished"
    run.refresh_from_db()
    told = {one["tool_call_id"]: json.loads(one["content"]) for one in messages_of(run) if one["type"] == "tool"}
    assert "invalid_arguments" in told["c0"] and told["c1"]["outcome"] == "done" and "not_run" in told["c2"]
