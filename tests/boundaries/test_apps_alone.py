"""Each app beside doubles of those that it asks: what they say is shown, what is to be done reaches them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from approvals import services
from approvals.errors import InvalidChange, InvalidRequest, InvalidVerdict
from approvals.models import Approval
from approvals.reading.evidence import pack
from approvals.services import requesting
from approvals.services.seeding import seed_attention_check
from console import context, ports, tries
from console.clock import database_now
from console.ports import AgentFault, Standstill, Stranded, ToolFacts
from dataplane import catalogue, selectors
from tests.api_caller import Caller
from tests.approvals.conftest import REFUND, answer
from tests.approvals.conftest import open_one as open_one
from tests.fake_ports import (
    Doubles,
    FakeAgentPlane,
    FakeDataPlane,
    FakeDatasetReaders,
    FakeFinder,
    FakeRecord,
    FakeRequests,
    FakeRunHistories,
    FakeRuns,
    nobody_but,
)
from tests.page_client import signed_in

Opener = Callable[..., Approval]

READ = [{"dataset": "handbook", "version": 3}]
CHANGED = {**REFUND, "amount": "50.00"}


@pytest.fixture
def agents() -> FakeAgentPlane:
    return FakeAgentPlane()


@pytest.fixture
def others(agents: FakeAgentPlane) -> Iterator[Doubles]:
    """Every port answered by a double."""
    doubles = Doubles(agent_plane=agents)
    with nobody_but(doubles):
        yield doubles


def stuck(open_one: Opener, by: User) -> Approval:
    """Return a decided approval whose next step is late."""
    approval = open_one(dataset_versions=READ)
    services.decide(
        approval_id=approval.pk,
        reviewer=by,
        given=answer(approval, "reject", note="no"),
        circumstances=services.Circumstances("page"),
    )
    Approval.objects.filter(pk=approval.pk).update(expected_by=database_now() - timedelta(seconds=1))
    return approval


def test_a_request_shows_what_the_planes_say(
    others: Doubles, agents: FakeAgentPlane, open_one: Opener, alice: User
) -> None:
    approval = open_one(dataset_versions=READ)
    page = signed_in(alice).get(f"/approvals/{approval.pk}/").content.decode()
    assert "Not current" in page and "/runs/run-1/" not in page
    others.data_plane = FakeDataPlane({"handbook": 3})
    agents.runs = {"run-1"}
    with nobody_but(others):
        page = signed_in(alice).get(f"/approvals/{approval.pk}/").content.decode()
        [read] = Caller(alice).get(f"approvals/{approval.pk}").json()["dataset_versions"]
    assert "/runs/run-1/" in page
    assert read == {"dataset": "handbook", "version": 3, "is_current": True, "is_fresh": True, "note": "still current"}


def test_what_was_executed_is_told_as_the_ledger_has_it(
    others: Doubles, agents: FakeAgentPlane, open_one: Opener, alice: User
) -> None:
    approval = stuck(open_one, alice)
    now = database_now()
    agents.effects[approval.pk] = {
        "status": "done", "tool": "issue_refund", "digest": approval.digest, "arguments": CHANGED, "result": {"id": 7},
        "error": "", "attempts": 2, "started_at": now, "finished_at": None, "reported_by": None,
    }  # fmt: skip
    told = Caller(alice).get(f"approvals/{approval.pk}").json()["executed"]
    assert (told["arguments"], told["result"], told["attempts"]) == (CHANGED, {"id": 7}, 2)
    assert "50.00" in signed_in(alice).get(f"/approvals/{approval.pk}/compare").content.decode()


def test_a_change_is_checked_by_the_tool_that_the_agent_plane_knows(
    others: Doubles, agents: FakeAgentPlane, open_one: Opener, alice: User
) -> None:
    approval = open_one(risk="low")
    given = answer(approval, "edit", edited_arguments=CHANGED)
    with pytest.raises(InvalidVerdict, match="do not fit the tool"):
        services.decide(
            approval_id=approval.pk, reviewer=alice, given=given, circumstances=services.Circumstances("page")
        )
    agents.tools["support", "issue_refund"] = ToolFacts("low", CHANGED, {}, "Refund 50.00 EUR")
    services.decide(approval_id=approval.pk, reviewer=alice, given=given, circumstances=services.Circumstances("page"))
    approval.refresh_from_db()
    assert approval.summary == "Refund 50.00 EUR"


def test_an_attention_check_is_made_of_what_the_tool_says(others: Doubles, agents: FakeAgentPlane, ada: User) -> None:
    asked: dict[str, Any] = {"agent": "support", "tool": "send", "arguments": {"to": "x"}, "agent_words": "Please."}
    with pytest.raises(InvalidChange, match="is not registered"):
        seed_attention_check(**asked, summary="", requested_by=ada, by=ada)
    agents.tools["support", "send"] = ToolFacts("high", {"to": "x"}, {}, "Send it to x", ("owen",))
    seeded = seed_attention_check(**asked, summary="", requested_by=ada, by=ada)
    assert (seeded.summary, seeded.agent_owners) == ("Send it to x", ["owen"])


def test_the_lane_shows_the_cause_and_passes_on_what_is_to_be_done(
    others: Doubles, agents: FakeAgentPlane, open_one: Opener, alice: User
) -> None:
    approval = stuck(open_one, alice)
    client = signed_in(alice)
    assert "nothing here says why" in client.get("/inbox/did-not-take-effect/").content.decode()
    cause = Standstill("unknown", "Nobody knows whether it happened.", database_now(), may_settle=True)
    agents.standstills[approval.pk] = cause
    assert "Nobody knows whether it happened." in client.get("/inbox/did-not-take-effect/").content.decode()
    for action in ("deliver", "happened", "did_not"):
        client.post(f"/approvals/{approval.pk}/redrive", {"action": action, "reason": "I saw it."})
    assert agents.asked == [
        ("redeliver", approval.pk, "alice"),
        ("settle_unknown", approval.pk, "alice", True, "I saw it."),
        ("settle_unknown", approval.pk, "alice", False, "I saw it."),
    ]


@pytest.mark.parametrize(
    "deliver_to",
    [
        {"webhook": {"url": "https://shop.example/answers"}},
        {"temporal": {"workflow_id": "order-1", "signal": "answered"}},
    ],
)
def test_where_an_answer_may_go_is_asked(
    deliver_to: dict[str, Any], db: None, others: Doubles, agents: FakeAgentPlane
) -> None:
    program = User.objects.create_user("cleanup")
    asked = requesting.ProgramRequest(
        title="Clean up", tool="cleanup", arguments={}, external_id="c-1", deliver_to=deliver_to, arguments_schema={},
        verdicts=(), risk="low", agent_words="", audience=(), due_at=None,
    )  # fmt: skip
    agents.refused = "Not there."
    with pytest.raises(InvalidRequest) as refused:
        requesting.request_approval(asked=asked, requested_by=program)
    assert [error["message"] for error in refused.value.errors] == ["Not there."]
    agents.refused = ""
    approval, _ = requesting.request_approval(asked=asked, requested_by=program)
    first = ("note_first_use", "cleanup", deliver_to.get("temporal"), approval.pk)
    assert agents.asked == ([first] if "temporal" in deliver_to else [])


def test_evidence_names_the_engine_that_did_not_answer(others: Doubles, open_one: Opener, tmp_path: Path) -> None:
    approval = open_one()
    whole = pack.export(approval.pk, tmp_path / "whole.zip")
    assert whole.missing == []
    others.run_histories = FakeRunHistories(fault=RuntimeError("nobody listens"))
    with nobody_but(others):
        part = pack.export(approval.pk, tmp_path / "part.zip")
    assert [one["why"] for one in part.missing] == ["RuntimeError: nobody listens"] * 2
    with zipfile.ZipFile(tmp_path / "part.zip") as archive:
        assert json.loads(archive.read("run/run.json")) == {"id": "run-1"}


def test_the_frame_shows_what_the_apps_count_and_find(others: Doubles, alice: User) -> None:
    others.requests = FakeRequests(7, 2, [Stranded("apr_1", "Refund it", 1, 1, "One more is needed.")])
    fault = AgentFault("gone.agent", "There is no such module.", "Write another.")
    others.runs = FakeRuns(3, 4, [fault], [{"sentence": "It was restored.", "since": "2026-01-01T00:00:00Z"}])
    item: ports.Found = {"title": "A lamp", "hint": "run", "icon": "workflow", "url": "/runs/1/"}
    others.palette = finder = FakeFinder([item])
    with nobody_but(others):
        client = signed_in(alice)
        page = client.get("/system/").content.decode()
        assert client.get("/search/", {"q": "lamp"}).json() == {"items": [item]}
        assert client.get("/search/", {"q": "l"}).json() == {"items": []}
    for words in ("3 runs stuck", "4 signals to confirm", "One more is needed.", "There is no such module."):
        assert words in page
    assert finder.asked == [("alice", "lamp")]


def test_a_page_counts_through_the_port(others: Doubles, alice: User, rf: Any) -> None:
    others.requests = FakeRequests(pending=7, stopped=2)
    request = rf.get("/")
    request.user, request.resolver_match = alice, None
    with nobody_but(others):
        frame = context.frame_for(request)
    assert (frame.pending, frame.stopped) == (7, 2)


def test_a_refused_sign_in_reaches_the_record(others: Doubles, alice: User, rf: Any) -> None:
    others.record = record = FakeRecord()
    with nobody_but(others):
        tries.refuse(tries.begin(rf.post("/accounts/login/"), "alice"), "a wrong password")
    [entry] = record.entries
    assert (entry["kind"], entry["subject"]) == ("account.signin_refused", f"account:{alice.pk}")


def test_a_dataset_names_who_reads_it(others: Doubles, db: None) -> None:
    name = next(iter(catalogue.CATALOGUE))
    assert selectors.dataset(name).used_by == []
    others.dataset_readers = FakeDatasetReaders({name: ["support"]})
    with nobody_but(others):
        assert selectors.dataset(name).used_by == ["support"]
