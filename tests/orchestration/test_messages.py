"""Signals, queries and updates by hand: shown first, on the record, by role, and never what carries an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from pydantic import BaseModel

from approvals.models import AuditEvent
from approvals.record import audit
from console.environment import environment
from console.models import OutboxEntry
from orchestration.contracts import StartRun
from orchestration.errors import NotAnswered, TemporalRefused
from orchestration.messages import known, rules, sending
from orchestration.messages.known import KnownMessage
from orchestration.models import Run, SignalPair, WorkflowMessage
from orchestration.relay.loop import Relay
from tests.api_caller import Caller, paths_of, problem
from tests.fakes import FakeTemporal
from tests.orchestration.conftest import go, make_run
from tests.orchestration.test_deliveries import asked
from tests.orchestration.test_relay import everything_delivered, relaying
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)
OURS = environment().temporal_namespace
NO_SCHEMA_HERE = {"kind": "signal", "namespace": "billing", "workflow_id": "invoice-7", "reason": "it waits"}


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "workflows", f"billing/invoice-, {OURS}/job-")


def send(by: User, **changes: Any) -> Any:
    return Caller(by).post("workflows/messages", NO_SCHEMA_HERE | {"name": "nudge"} | changes)


def carried(door: FakeTemporal) -> None:
    async def scene() -> None:
        await until(everything_delivered)

    relaying(scene, Relay(door, chores=()))


def standing(workflow_id: str) -> FakeTemporal:
    """Return a Temporal in which the workflow runs."""
    door = FakeTemporal()
    go(door.start_run(StartRun(workflow_id, "anything")))
    door.calls.clear()
    return door


def test_a_signal_is_shown_first_then_sent_once_and_is_on_the_record(olga: User) -> None:
    told = send(olga, dry_run=True, arguments=[{"hurry": True}])
    assert "cannot be taken back" in told.json()["warnings"][0] and told.status_code == 200
    assert not WorkflowMessage.objects.exists() and not OutboxEntry.objects.exists()
    assert problem(send(olga, reason=" "), 422)
    first = send(olga, arguments=[{"hurry": True}])
    assert first.status_code == 202 and first.json()["state"] == "waiting"
    assert send(olga, arguments=[{"hurry": True}]).json()["id"] == first.json()["id"], "the same click"
    assert send(olga, arguments=[{"hurry": True}], key="2").json()["id"] != first.json()["id"]
    door = standing("invoice-7")
    carried(door)
    assert [(one.namespace, one.name, one.arguments) for one in door.sent] == [
        ("billing", "nudge", [{"hurry": True}])
    ] * 2
    assert Caller(olga).get(f"workflows/messages/{first.json()['id']}").json()["state"] == "sent"
    kept = AuditEvent.objects.filter(kind="workflow.signal").order_by("seq").first()
    assert kept is not None and (kept.actor, kept.body["workflow_id"]) == ("olga", "invoice-7")


@pytest.mark.parametrize("number", [0.5, 10**20, -1.5e-7])
def test_an_argument_may_be_any_number_and_the_record_holds_it_as_text(olga: User, number: float) -> None:
    run = make_run(status="running")
    arguments = [{"rate": number}]
    body = {"action": "signal", "name": "rate", "arguments": arguments, "reason": "x"}
    of_run = Caller(olga).post(f"runs/{run.pk}/actions", body)
    assert of_run.status_code == 202, of_run.content
    of_others = send(olga, arguments=arguments)
    assert of_others.status_code == 202, of_others.content
    assert [kept.arguments for kept in WorkflowMessage.objects.all()] == [arguments, arguments]
    told = AuditEvent.objects.get(kind="run.signal_sent").body["options"]
    assert json.loads(told) == {"name": "rate", "arguments": arguments}
    assert json.loads(AuditEvent.objects.get(kind="workflow.signal").body["arguments"]) == arguments
    assert audit.verify().ok


def test_a_query_has_its_answer_shown_as_text_and_a_long_one_cut(olga: User) -> None:
    run = make_run(status="running")
    body = {"action": "query", "name": "waiting_for", "reason": "what it waits for"}
    preview = Caller(olga).post(f"runs/{run.pk}/actions", body | {"dry_run": True}).json()
    assert "changes nothing" in preview["warnings"][0] and not WorkflowMessage.objects.exists()
    sent = Caller(olga).post(f"runs/{run.pk}/actions", body)
    assert sent.status_code == 202, sent.content
    door = standing(run.pk)
    door.answer = ["<script>alert(1)</script>", "x" * 30_000, "\x00"]
    carried(door)
    kept = sending.message_for(sent.json()["message"]["id"])
    assert (kept.state, kept.is_cut, len(kept.answer)) == ("answered", True, sending.ANSWER_LIMIT)
    client = Client()
    client.force_login(olga)
    page = client.get(reverse("orchestration:run", args=[run.pk])).content.decode()
    assert "&lt;script&gt;alert(1)" in page and "<script>alert(1)" not in page and "the first 20000 of" in page
    assert AuditEvent.objects.filter(kind="run.queried", subject=run.pk).count() == 1


@pytest.mark.parametrize("argument", ["a\x00b", "\ud800", {"\x00": 1}])
def test_arguments_that_no_database_keeps_are_refused_by_name(olga: User, argument: Any) -> None:
    assert paths_of(send(olga, arguments=[argument])) == ["arguments"]
    assert not WorkflowMessage.objects.exists()


def test_an_argument_may_write_about_nul(olga: User) -> None:
    assert send(olga, arguments=["\\u0000 is NUL"]).status_code == 202


@pytest.mark.parametrize("name", ["decided", "resumed", "look", "signalbox_answer", "__temporal_x"])
def test_no_signal_that_carries_answers_is_sent_by_hand_to_a_run_or_to_others(olga: User, name: str) -> None:
    run = make_run(status="waiting")
    answer = Caller(olga).post(
        f"runs/{run.pk}/actions",
        {"action": "signal", "name": name, "reason": "x", "arguments": [{"approval_id": "a", "decision_id": "d"}]},
    )
    problem(answer, 409)
    problem(send(olga, name=name), 409)
    problem(send(olga, name=name, dry_run=True), 409)
    assert not WorkflowMessage.objects.exists() and not OutboxEntry.objects.exists()


def test_what_a_program_has_named_for_its_answers_is_not_sent_by_hand(
    olga: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert send(olga, name="approved").status_code == 202
    asked({"temporal": {"workflow_id": "invoice-9", "signal": "approved", "namespace": "billing"}})
    problem(send(olga, name="approved", key="2"), 409)
    SignalPair.objects.create(account="robot", namespace="billing", signal="paired", asked_by="apr_1")
    problem(send(olga, name="paired"), 409)
    monkeypatch.setattr(environment(), "signals", "robot=billing/granted/invoice-")
    problem(send(olga, name="granted"), 409)
    assert send(olga, name="nudge").status_code == 202, "all else goes"


def test_what_was_on_its_way_when_a_program_named_it_is_refused_at_the_door(olga: User) -> None:
    sent = send(olga, name="approved").json()
    asked({"temporal": {"workflow_id": "invoice-7", "signal": "approved", "namespace": "billing"}})
    door = standing("invoice-7")
    carried(door)
    kept = sending.message_for(sent["id"])
    assert (kept.state, door.sent) == ("refused", []) and "nobody sends it by hand" in kept.detail


@pytest.mark.parametrize(
    ("namespace", "workflow_id"), [("billing", "payroll-1"), ("elsewhere", "invoice-7"), (OURS, "anything"), ("", "x")]
)
def test_only_workflows_that_the_setting_lists_are_open(olga: User, namespace: str, workflow_id: str) -> None:
    told = problem(send(olga, namespace=namespace, workflow_id=workflow_id), 409)
    assert "SIGNALBOX_WORKFLOWS" in told["detail"]
    client = Client()
    client.force_login(olga)
    shown = client.get(reverse("orchestration:workflow"), {"namespace": namespace, "id": workflow_id})
    assert shown.status_code == 403 and "SIGNALBOX_WORKFLOWS" in shown.content.decode()
    assert client.get(reverse("orchestration:send"), {"namespace": namespace, "id": workflow_id}).status_code == 403


def test_our_own_watches_and_batches_take_nothing_by_hand(olga: User) -> None:
    for workflow_id in ("watch-apr_1", asked().run_id):
        told = problem(send(olga, namespace=OURS, workflow_id=workflow_id), 409)
        assert "Signalbox's own" in told["detail"]


def test_who_may_not_act_on_runs_sends_nothing(olga: User, alice: User) -> None:
    run = make_run(status="running")
    assert send(alice).status_code == 403
    body = {"action": "signal", "name": "nudge", "reason": "x"}
    assert Caller(alice).post(f"runs/{run.pk}/actions", body).status_code == 403
    sent = send(olga).json()
    olga.groups.remove(Group.objects.get(name="operator"))
    door = standing("invoice-7")
    carried(door)
    assert (sending.message_for(sent["id"]).state, door.sent) == ("refused", [])


@pytest.mark.parametrize(
    ("fault", "state", "words"),
    [
        (TemporalRefused("The workflow said no: not now"), "refused", "said no: not now"),
        (NotAnswered("late"), "unanswered", "No worker has answered"),
    ],
)
def test_what_came_of_it_is_said(olga: User, fault: Exception, state: str, words: str) -> None:
    sent = send(olga, kind="query").json()
    door = standing("invoice-7")
    door.errors["invoice-7"] = fault
    carried(door)
    kept = sending.message_for(sent["id"])
    assert kept.state == state and words in kept.detail
    gone = send(olga, workflow_id="invoice-8").json()
    carried(FakeTemporal())
    assert "no such workflow" in sending.message_for(gone["id"]).detail


class Discount(BaseModel):
    """Of an invoice."""

    percent: int


def test_a_known_message_has_a_typed_form_and_refuses_what_does_not_fit(
    olga: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = KnownMessage("Invoice", "update", "discount", Discount, "Takes something off.")
    monkeypatch.setattr(known, "_theirs", lambda modules: (theirs,))
    typed = {"kind": "update", "name": "discount", "workflow_type": "Invoice"}
    assert paths_of(send(olga, **typed, arguments=[{"percent": "much"}])) == ["arguments"]
    assert paths_of(send(olga, **typed)) == ["arguments"]
    assert "Takes something off." in send(olga, **typed, arguments=[{"percent": 5}], dry_run=True).json()["warnings"]
    client = Client()
    client.force_login(olga)
    place = {"namespace": "billing", "id": "invoice-7", "kind": "update", "type": "Invoice", "known": "discount"}
    page = client.get(reverse("orchestration:send"), place).content.decode()
    assert 'name="options.percent"' in page and "What it is known to take" in page
    other = client.get(reverse("orchestration:send"), place | {"id": "invoice-8"}).content.decode()
    assert 'data-draft="billing invoice-7 update discount"' in page and 'data-draft="billing invoice-8 ' in other
    field = {"options.percent": "5", "options.percent.given": "1"}
    shown = client.post(reverse("orchestration:send"), place | field | {"show": "1"}).content.decode()
    assert "What this will do" in shown and "Takes something off." in shown
    done = client.post(reverse("orchestration:send"), place | field | {"reason": "a complaint"})
    assert done.status_code == 302, done.content.decode()
    assert WorkflowMessage.objects.get().arguments == [{"percent": 5}]


def test_a_page_keeps_what_was_typed(olga: User) -> None:
    client = Client()
    client.force_login(olga)
    place = {"namespace": "billing", "id": "invoice-7", "kind": "signal"}
    typed = {"options.name": "nudge", "options.arguments": "[1, oops", "reason": "why not"}
    told = client.post(reverse("orchestration:send"), place | typed)
    assert told.status_code == 422 and "[1, oops" in told.content.decode()
    assert not WorkflowMessage.objects.exists()


def test_who_has_typed_nothing_yet_is_told_of_no_fault(olga: User) -> None:
    client = Client()
    client.force_login(olga)
    address = reverse("orchestration:act", args=[make_run(status="waiting").pk, "signal"])
    assert "This is needed" not in client.get(address).content.decode()
    assert "This is needed" in client.post(address, {"show": "1", "options.name": ""}).content.decode()


def test_an_unknown_name_goes_to_a_run_with_a_warning(olga: User) -> None:
    run = make_run(status="waiting")
    body = {"action": "signal", "name": "nudge", "reason": "x"}
    told = Caller(olga).post(f"runs/{run.pk}/actions", body | {"dry_run": True}).json()
    assert any("not known to take this signal" in one for one in told["warnings"])
    assert Caller(olga).post(f"runs/{run.pk}/actions", body).status_code == 202
    assert Caller(olga).post(f"runs/{run.pk}/actions", body).status_code == 202
    assert WorkflowMessage.objects.count() == 1, "the same click"
    Run.objects.update(status="finished")
    problem(Caller(olga).post(f"runs/{run.pk}/actions", body | {"key": "2"}), 409)


def test_what_is_known_of_our_workflows_is_what_their_code_takes() -> None:
    from temporalio import workflow

    from orchestration.workflows.agent_run import AgentRun

    definition = workflow._Definition.must_from_class(AgentRun)
    queries = {one.name for one in known.OURS if one.kind == "query"} - set(known.BUILT_IN)
    assert queries == set(definition.queries) and not definition.updates
    assert {name for name in definition.signals if name} == set(), "its one signal handler takes any name"


@pytest.mark.parametrize("text", ["/x", "a,/"])
def test_a_setting_that_names_no_namespace_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="SIGNALBOX_WORKFLOWS"):
        rules.read_places(text)
