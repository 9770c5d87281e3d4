"""The second example agent: a graph inside, two questions at once, and a guarded tool."""

from __future__ import annotations

from typing import Any

import pytest

from approvals.models import Approval
from orchestration.agents.graphs import graph_from
from orchestration.agents.hazards import hazards_of
from orchestration.agents.publishing.agent import AGENT
from orchestration.agents.publishing.graph import build
from orchestration.agents.registry import _checked
from orchestration.models import Effect, Run
from orchestration.turns import activity as module
from orchestration.turns import drive
from tests.fakes import FakeWorld
from tests.orchestration.conftest import make_run
from tests.orchestration.test_foreign_graphs import close, give, go_on, result_of, waiting
from tests.orchestration.test_run_turn import published, speak, start, take

__all__ = ("published", "speak")
pytestmark = pytest.mark.django_db(transaction=True)

GIVEN = {"question": "What do we pay for damaged goods?", "to": "team@shop.example"}


@pytest.fixture
def run(transactional_db: None, speak: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(drive, "graph_of", lambda name: graph_from(AGENT, build))
    monkeypatch.setattr(module, "agent_named", lambda name: AGENT)
    return make_run(agent="publishing", input=GIVEN)


def test_two_people_look_at_once_and_the_note_goes_out_when_it_is_approved(run: Run, world: FakeWorld) -> None:
    asked = take(start(run), world).waiting_for
    assert sorted(one.summary for one in waiting(run)) == [
        "Is everything in this note true?",
        "Would you send it like this?",
    ]
    for approval in waiting(run):
        assert "Refund share: 50 %" in bytes(approval.canonical).decode()
        assert "no language model was used" in bytes(approval.canonical).decode()
        give(approval, "respond", answer={"is_fine": True})
    (publish,) = go_on(run, world, 2, *asked).waiting_for
    approval = Approval.objects.get(pk=publish)
    assert (approval.tool, approval.is_tracked) == ("send_note", True)
    assert approval.summary == "Send “What do we pay for damaged goods?” to team@shop.example"
    give(approval, "approve")
    assert go_on(run, world, 3, publish).outcome == "finished"
    assert [mail[0] for mail in world.mails] == ["team@shop.example"]
    assert Effect.objects.get(run=run).status == "done"
    assert result_of(run)["is_sent"] is True


def test_a_remark_or_silence_keeps_the_note_back(run: Run, world: FakeWorld) -> None:
    asked = take(start(run), world).waiting_for
    first, second = waiting(run)
    give(first, "respond", answer={"is_fine": False, "remark": "The share is 40 %."})
    close(second)
    assert go_on(run, world, 2, *asked).outcome == "finished"
    assert world.mails == []
    result = result_of(run)
    assert result["is_sent"] is False
    assert sorted(result["remarks"]) == ["Nobody looked in time.", "The share is 40 %."]


def test_it_can_be_registered_and_nothing_is_warned_of() -> None:
    assert _checked(AGENT, "orchestration.agents.publishing.agent:AGENT") == AGENT
    assert hazards_of(AGENT, graph_from(AGENT, build)) == []
