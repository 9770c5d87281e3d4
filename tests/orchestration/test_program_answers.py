"""Programs that fetch their answer and say what came of it: the answer, the outcome, the receipt and the lane."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from approvals import services
from approvals.errors import NothingToRedrive
from approvals.models import Approval, AuditEvent
from approvals.reading import receipt
from approvals.record import audit
from approvals.services.requesting import ProgramRequest
from console.clock import DatabaseNow
from console.live.held import LONGEST_SECONDS
from console.ports import Standstill
from orchestration import deliveries
from orchestration import services as running
from orchestration.models import AnswerDelivery, ReportedOutcome
from tests.api_caller import Caller, paths_of, problem
from tests.approvals.conftest import answer

BODY: dict[str, Any] = {
    "title": "Delete the old index",
    "tool": "delete_index",
    "arguments": {"name": "orders-2019"},
    "external_id": "job-17",
}
WEBHOOK = {"webhook": {"url": "https://program.example/answers"}}
pytestmark = pytest.mark.django_db


def account(name: str, role: str) -> User:
    user, _ = User.objects.get_or_create(username=name)
    user.groups.add(Group.objects.get_or_create(name=role)[0])
    return user


@pytest.fixture
def robot(db: None) -> User:
    return account("robot", "service")


@pytest.fixture
def alice(db: None) -> User:
    return account("alice", "reviewer")


def asked(user: User, **changes: Any) -> Approval:
    told = Caller(user).post("approvals", BODY | changes)
    assert told.status_code == 201, told.content
    return Approval.objects.get(pk=told.json()["id"])


def decided(approval: Approval, by: User, verdict: str = "approve", **given: Any) -> Approval:
    services.decide(approval_id=approval.pk, reviewer=by, given=answer(approval, verdict, **given))
    approval.refresh_from_db()
    return approval


def late(approval: Approval) -> Standstill | None:
    """Let the time of the next step pass, and return why it stands still."""
    Approval.objects.filter(pk=approval.pk, expected_by__isnull=False).update(expected_by=DatabaseNow())
    approval.refresh_from_db()
    return receipt.standstill(approval)


def steps(approval: Approval) -> list[str]:
    return list(approval.receipt.order_by("at", "id").values_list("step", flat=True))


def test_without_an_address_the_answer_is_fetched_as_it_would_be_delivered(robot: User, alice: User) -> None:
    approval, program = asked(robot), Caller(robot)
    waiting = program.get(f"approvals/{approval.pk}/answer")
    assert (waiting.status_code, waiting.json()) == (202, {"status": "pending"})
    decided(approval, alice, note="go on")
    told = program.get(f"approvals/{approval.pk}/answer", wait=30)
    assert told.status_code == 200
    assert told.json() == deliveries.body_of(approval)
    assert (told.json()["verdict"], told.json()["arguments"]) == ("approve", BODY["arguments"])
    assert program.get(f"approvals/{approval.pk}/answer").json() == told.json()


@pytest.mark.parametrize("status", ["expired", "withdrawn"])
def test_silence_and_taking_back_are_answers_too(robot: User, status: str) -> None:
    approval = asked(robot)
    Approval.objects.filter(pk=approval.pk).update(status=status, closed_at=DatabaseNow())
    told = Caller(robot).get(f"approvals/{approval.pk}/answer").json()
    assert (told["status"], told["verdict"], told["arguments"]) == (status, None, None)


def test_the_first_fetching_is_on_the_receipt_and_in_the_record_once(robot: User, alice: User) -> None:
    approval = decided(asked(robot), alice)
    assert steps(approval) == ["recorded"]
    for _ in range(3):
        Caller(robot).get(f"approvals/{approval.pk}/answer")
    assert steps(approval) == ["recorded", "resumed"]
    assert AuditEvent.objects.get(kind="approval.delivered").actor == "robot"
    assert audit.verify().ok


def test_what_is_sent_elsewhere_is_sent_although_somebody_looks(robot: User, alice: User) -> None:
    approval = decided(asked(robot, deliver_to=WEBHOOK), alice)
    assert Caller(robot).get(f"approvals/{approval.pk}/answer").status_code == 200
    assert deliveries.begin(approval.pk) is not None
    deliveries.give_up(approval.pk)
    assert Caller(robot).get(f"approvals/{approval.pk}/answer").status_code == 200
    assert AnswerDelivery.objects.get().state == "delivered"


def test_the_watch_sends_nothing_where_the_program_fetches(robot: User, alice: User) -> None:
    approval = decided(asked(robot), alice)
    assert deliveries.begin(approval.pk) is None
    assert AnswerDelivery.objects.get().state == "kept"
    with pytest.raises(NothingToRedrive, match="fetches"):
        running.redeliver(approval_id=approval.pk, by=account("olga", "operator"))
    Caller(robot).get(f"approvals/{approval.pk}/answer")
    assert AnswerDelivery.objects.get().state == "delivered"
    assert deliveries.begin(approval.pk) is None


def test_anothers_approval_is_not_there(robot: User, alice: User) -> None:
    approval = decided(asked(robot), alice)
    for other in (account("other", "service"), account("both", "service")):
        account("both", "reviewer")  # who may see it, but has not asked for it
        problem(Caller(other).get(f"approvals/{approval.pk}/answer"), 404)
        problem(Caller(other).post(f"approvals/{approval.pk}/outcome", {"status": "done"}), 404)
    problem(Caller(alice).get(f"approvals/{approval.pk}/answer"), 403)
    problem(Caller(robot).get("approvals/apr_none/answer"), 404)
    assert not ReportedOutcome.objects.exists()


@pytest.mark.parametrize("wait", ["-1", "60.5", "1e9", "nan", "inf", "soon", ""])
def test_a_wait_out_of_range_is_refused(robot: User, wait: str) -> None:
    approval = asked(robot)
    assert paths_of(Caller(robot).get(f"approvals/{approval.pk}/answer", wait=wait)) == ["wait"]
    assert Caller(robot).get(f"approvals/{approval.pk}/answer", wait=LONGEST_SECONDS).status_code == 202


def test_bytes_that_were_changed_since_are_not_handed_out(robot: User, alice: User) -> None:
    approval = decided(asked(robot), alice)
    changed = bytes(approval.canonical).replace(b"2019", b"2020")
    Approval.objects.filter(pk=approval.pk).update(canonical=changed)
    problem(Caller(robot).get(f"approvals/{approval.pk}/answer"), 409)
    problem(Caller(robot).post(f"approvals/{approval.pk}/outcome", {"status": "done"}), 409)


def test_a_service_lists_what_it_has_asked_for_and_nothing_else(robot: User) -> None:
    mine, other = asked(robot), account("other", "service")
    asked(other, external_id="theirs")
    for query in ({"mine": 1}, {}, {"mine": 1, "status": "pending"}):
        told = Caller(robot).get("approvals", **query)
        assert [one["id"] for one in told.json()["items"]] == [mine.pk]
    assert Caller(account("third", "service")).get("approvals", mine=1).json()["items"] == []


def test_an_outcome_is_on_the_approval_on_its_receipt_and_in_the_record(robot: User, alice: User) -> None:
    approval, program = decided(asked(robot), alice), Caller(robot)
    program.get(f"approvals/{approval.pk}/answer")
    approval.refresh_from_db()
    assert approval.took_effect_at is None  # it has the answer; what came of it is still to come
    told = program.post(f"approvals/{approval.pk}/outcome", {"status": "done", "result": {"deleted": 1}})
    assert told.status_code == 200
    executed = told.json()["executed"]
    assert (executed["status"], executed["result"], executed["reported_by"]) == ("done", {"deleted": 1}, "robot")
    assert executed["digest"] == approval.digest
    assert [step["step"] for step in told.json()["receipt"]] == ["recorded", "resumed", "effect_finished"]
    assert "says robot" in told.json()["receipt"][-1]["detail"]
    approval.refresh_from_db()
    assert approval.took_effect_at is not None and approval.expected_by is None
    assert AuditEvent.objects.get(kind="effect.finished").actor == "robot"
    assert audit.verify().ok


def test_the_same_outcome_again_changes_nothing_and_another_one_is_refused(robot: User, alice: User) -> None:
    approval, program = decided(asked(robot), alice), Caller(robot)
    first = {"status": "failed", "error": "the disk is full"}
    assert [program.post(f"approvals/{approval.pk}/outcome", first).status_code for _ in range(3)] == [200] * 3
    for other in ({"status": "done"}, {"status": "failed"}, first | {"result": 0}):
        assert problem(program.post(f"approvals/{approval.pk}/outcome", other), 409)["reported"] == "failed"
    assert AuditEvent.objects.filter(kind="effect.finished").count() == 1
    assert ReportedOutcome.objects.get().error == "the disk is full"


@pytest.mark.parametrize("verdict", ["reject", "respond"])
def test_of_what_nobody_approved_nothing_can_be_reported(robot: User, alice: User, verdict: str) -> None:
    approval, program = asked(robot), Caller(robot)
    problem(program.post(f"approvals/{approval.pk}/outcome", {"status": "done"}), 409)
    given = {"answer": "no need"} if verdict == "respond" else {}
    decided(approval, alice, verdict, note="no", **given)
    assert "nothing may" in problem(program.post(f"approvals/{approval.pk}/outcome", {"status": "done"}), 409)["detail"]
    assert not ReportedOutcome.objects.exists()


NUL, HALF = "a\x00b", "\ud800"
BAD_OUTCOMES: list[tuple[Any, str]] = [
    ({}, "status"),
    ({"status": "ok"}, "status"),
    ({"status": "done", "more": 1}, "more"),
    ({"status": "failed", "error": "x" * 2001}, "error"),
    ({"status": "failed", "error": NUL}, "error"),
    ({"status": "done", "result": {"a": [NUL]}}, "result"),
    ({"status": "done", "result": {NUL: 1}}, "result"),
    ({"status": "done", "result": "x" * 300_000}, "result"),
    ({"status": "done", "result": list(range(6000))}, "result"),
    ({"status": "done", "result": json.loads("[" * 70 + "]" * 70)}, "result"),
    ({"status": "done", "result": json.loads("[" * 100 + "]" * 100)}, ""),  # no body is read so deep
    ({"status": "done", "result": HALF}, "result"),
]


@pytest.mark.parametrize(("body", "path"), BAD_OUTCOMES, ids=[str(at) for at in range(len(BAD_OUTCOMES))])
def test_an_outcome_that_cannot_be_kept_is_refused_with_its_place(
    robot: User, alice: User, body: Any, path: str
) -> None:
    approval = decided(asked(robot), alice)
    assert paths_of(Caller(robot).post(f"approvals/{approval.pk}/outcome", json.dumps(body))) == [path]
    assert not ReportedOutcome.objects.exists()


def test_a_body_larger_than_is_read_is_refused(robot: User, alice: User) -> None:
    approval = decided(asked(robot), alice)
    huge = {"status": "done", "result": "x" * 5_000_000}
    assert Caller(robot).post(f"approvals/{approval.pk}/outcome", huge).status_code in (413, 422)
    digits = '{"status": "done", "result": 0.1234567890123456789012345}'
    problem(Caller(robot).post(f"approvals/{approval.pk}/outcome", digits), 422)


def test_an_answer_that_is_not_fetched_stands_in_the_lane_with_its_reason(robot: User, alice: User) -> None:
    approval = decided(asked(robot), alice)
    assert receipt.standstill(approval) is None  # not at once
    why = late(approval)
    assert why is not None and why.cause == "not_fetched" and not why.may_deliver
    Caller(robot).get(f"approvals/{approval.pk}/answer")
    approval.refresh_from_db()
    assert receipt.standstill(approval) is None


def test_what_was_approved_and_never_reported_stands_in_the_lane(robot: User, alice: User) -> None:
    approval = decided(asked(robot), alice)
    Caller(robot).get(f"approvals/{approval.pk}/answer")
    approval.refresh_from_db()
    assert receipt.standstill(approval) is None  # not at once
    why = late(approval)
    assert why is not None and why.cause == "not_reported" and "not said what came of it" in why.sentence
    page = Client()
    page.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    assert "not said what came of it" in page.get("/inbox/did-not-take-effect/").content.decode()
    assert "Reported by the program" in page.get(f"/approvals/{approval.pk}/").content.decode()
    Caller(robot).post(f"approvals/{approval.pk}/outcome", {"status": "done"})
    approval.refresh_from_db()
    assert receipt.standstill(approval) is None


def test_who_never_meant_to_report_is_not_missed(robot: User, alice: User) -> None:
    sent = decided(asked(robot, deliver_to=WEBHOOK, external_id="sent"), alice)
    silent = decided(asked(robot, reports_outcome=False, external_id="silent"), alice)
    telling = decided(asked(robot, deliver_to=WEBHOOK, reports_outcome=True, external_id="telling"), alice)
    for approval in (sent, telling):
        deliveries.begin(approval.pk)
        deliveries.delivered(approval.pk, "program.example answered with status 200")
    Caller(robot).get(f"approvals/{silent.pk}/answer")
    whys = [late(approval) for approval in (sent, silent, telling)]
    assert [why and why.cause for why in whys] == [None, None, "not_reported"]


@pytest.mark.parametrize(("status", "cause"), [("failed", "failed"), ("unknown", "unknown")])
@pytest.mark.parametrize("reports", [True, False])
def test_what_went_wrong_stands_in_the_lane_at_once(
    robot: User, alice: User, status: str, cause: str, reports: bool
) -> None:
    approval = decided(asked(robot, reports_outcome=reports), alice)
    Caller(robot).get(f"approvals/{approval.pk}/answer")
    words = "<b>the disk</b>"
    Caller(robot).post(f"approvals/{approval.pk}/outcome", {"status": status, "error": words})
    approval.refresh_from_db()
    why = receipt.standstill(approval)
    assert why is not None and (why.cause, why.words, why.is_final) == (cause, words, True)
    page = Client()
    page.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    told = page.get(f"/approvals/{approval.pk}/").content.decode()
    assert "The program says that it" in told and words not in told
    services.set_aside(approval_id=approval.pk, by=alice, reason="looked into it")
    approval.refresh_from_db()
    assert receipt.standstill(approval) is None


@pytest.mark.parametrize("status", ["failed", "unknown"])
def test_what_was_set_aside_comes_back_with_news_and_is_set_aside_again(robot: User, alice: User, status: str) -> None:
    approval = decided(asked(robot), alice)
    Caller(robot).get(f"approvals/{approval.pk}/answer")
    assert late(approval) is not None
    services.set_aside(approval_id=approval.pk, by=alice, reason="It never reports.")
    Caller(robot).post(f"approvals/{approval.pk}/outcome", {"status": status, "error": "the disk"})
    approval = Approval.objects.get(pk=approval.pk)
    why = receipt.standstill(approval)
    assert why is not None and why.cause == status
    lines = receipt.receipt_of(approval, approval.decisions.get())
    assert [line.step for line in lines if line.state == "stopped"] == ["effect_finished"]
    for reason in ("Paid by hand.", "A second click."):
        services.set_aside(approval_id=approval.pk, by=alice, reason=reason)
    approval.refresh_from_db()
    assert receipt.standstill(approval) is None
    assert approval.receipt.get(step="set_aside").detail == "alice: It never reports."
    told = AuditEvent.objects.filter(kind="approval.set_aside").order_by("pk")
    assert [event.body["reason"] for event in told] == ["It never reports.", "Paid by hand."]


def test_digests_of_requests_from_before_stay_the_same() -> None:
    fields: dict[str, Any] = {
        "title": "t", "tool": "x", "arguments": {}, "external_id": "1", "deliver_to": WEBHOOK, "arguments_schema": {},
        "verdicts": (), "risk": "high", "agent_words": "", "audience": (), "due_at": None,
    }  # fmt: skip
    assert ProgramRequest(**fields).body_digest() == "30a0047c920ee023e5dbde4f2534ba0dc7ac0c570fa268f7536a79c839ba222a"
    assert ProgramRequest(**fields, reports_outcome=True).body_digest() != ProgramRequest(**fields).body_digest()
