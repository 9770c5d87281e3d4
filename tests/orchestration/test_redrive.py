"""Why a decision stands still, said from the rows, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection

from approvals.errors import InvalidChange, NothingToRedrive, NotTheirs
from approvals.models import AccountPerson, Approval, AuditEvent, PolicyVersion
from approvals.proposal.canonical import canonicalise, digest_of
from approvals.reading import receipt
from approvals.services import note_effect, note_receipt
from approvals.services.receipts import set_aside
from console.clock import database_now
from console.models import OutboxEntry, PartHeartbeat
from console.ports import Standstill
from orchestration import failing
from orchestration.contracts import Turn
from orchestration.failing import Failed
from orchestration.models import AnswerDelivery, Effect, Run
from orchestration.redrive import deliver_again, settle_unknown, standstill_of
from tests.orchestration.conftest import decide, make_run, open_for, reviewer

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def parts_alive(db: None) -> None:
    for part, says in (("relay", "delivering"), ("worker", "alive")):
        PartHeartbeat.objects.create(part=part, instance=f"here:{part}", detail=says)


def late(verdict: str = "approve", **run: Any) -> Approval:
    """Return a decision that is late and was not told to its run yet."""
    approval = decide(open_for(make_run(**{"status": "waiting"} | run)), verdict)
    let_pass()
    return approval


def let_pass() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE approvals_approval SET expected_by = expected_by - interval '1 hour'")


def run_of(approval: Approval, **changes: Any) -> Run:
    Run.objects.filter(pk=approval.run_id).update(**changes)
    return Run.objects.get(pk=approval.run_id)


def told(approval: Approval) -> Approval:
    OutboxEntry.objects.update(delivered_at=database_now())
    note_receipt(approval_ids=[approval.pk], step="signalled")
    let_pass()
    return approval


def resumed(approval: Approval, turn: int = 2) -> Approval:
    told(approval)
    run_of(approval, status="running", turn=turn, fence=1)
    note_receipt(approval_ids=[approval.pk], step="resumed", detail=f"turn {turn}")
    let_pass()
    return approval


def started(approval: Approval, status: str = "executing", **changes: Any) -> Approval:
    resumed(approval)
    fields: dict[str, Any] = {"tool": approval.tool, "digest": approval.digest, "decision_id": "dec_1", "fence": 1}
    fields |= {"is_idempotent": True, "status": status}
    Effect.objects.create(approval_id=approval.pk, run_id=approval.run_id, **fields | changes)
    note_effect(approval_id=approval.pk, event="started")
    if status in ("failed", "unknown"):
        note_effect(approval_id=approval.pk, event=status, detail=changes.get("error", ""))
    let_pass()
    return approval


def ask_whether_it_happened(approval: Approval) -> Approval:
    arguments = {"approval_id": approval.pk, "tool": approval.tool, "arguments": {}}
    canonical = canonicalise("confirm_outcome", arguments)
    run = Run.objects.get(pk=approval.run_id)
    return open_for(run, "confirm_outcome", kind="outcome", canonical=canonical, digest=digest_of(canonical))


def why(approval: Approval) -> Standstill:
    found = standstill_of([approval.pk])[approval.pk]
    assert receipt.standstill(Approval.objects.get(pk=approval.pk)) == found
    return found


def test_while_temporal_is_away_it_says_so_with_the_attempts_and_the_last_error() -> None:
    approval = late()
    PartHeartbeat.objects.filter(part="relay").update(detail="waiting for Temporal")
    OutboxEntry.objects.update(attempts=3, last_error="Temporal cannot be reached: connection refused")
    found = why(approval)
    assert found.cause == "undelivered" and found.may_deliver and not found.is_final
    assert found.sentence == (
        "The run has not been told: Temporal is away (3 attempts). It is told once Temporal is back."
    )
    assert found.words == "Temporal cannot be reached: connection refused"
    assert found.since == OutboxEntry.objects.get().created_at


def test_without_a_relay_it_says_that_nobody_is_there_to_tell_the_run() -> None:
    PartHeartbeat.objects.filter(part="relay").update(last_seen_at=database_now() - timedelta(minutes=5))
    assert "no relay is alive" in why(late()).sentence


def test_an_entry_that_can_never_be_delivered_names_its_attempts_and_its_cause() -> None:
    approval = late()
    OutboxEntry.objects.update(attempts=14, last_error="KeyError: 'run_id'")
    found = why(approval)
    assert found.sentence == "The run could not be told (14 attempts); it is tried again at least every minute."
    assert found.words == "KeyError: 'run_id'"


@pytest.mark.parametrize(
    ("status", "word"), [("failed", "failed"), ("cancelled", "was cancelled"), ("finished", "finished")]
)
def test_a_run_that_ended_first_is_named_with_its_error(status: str, word: str) -> None:
    approval = told(late())
    run_of(approval, status=status, closed_at=database_now(), error={"kind": "x", "message": "The agent broke."})
    found = why(approval)
    assert found.cause == "run_ended" and found.is_final and not found.may_deliver
    assert found.sentence == f"The run {word} before the decision reached it. Nothing was done."
    assert found.words == "The agent broke."
    with pytest.raises(NothingToRedrive):
        deliver_again(approval_id=approval.pk, by=reviewer())


def test_a_run_that_was_told_and_does_not_move_says_whether_a_worker_is_there() -> None:
    approval = told(late())
    assert (why(approval).cause, why(approval).may_deliver) == ("not_taken", True)
    PartHeartbeat.objects.filter(part="worker").delete()
    assert "no worker is alive" in why(approval).sentence


def test_a_turn_that_fails_again_and_again_tells_its_newest_error() -> None:
    approval = resumed(late())
    assert "has not come to the effect yet" in why(approval).sentence
    turn = Turn(approval.run_id, "support", 2)
    run_of(approval, fence=14)
    failing.note(turn, 13, 13, Failed(("ConnectError",), "an older attempt"))
    assert why(approval).words == ""
    failing.note(turn, 14, 14, Failed(("ConnectError",), "ConnectError: no route to the \x00 model"))
    found = why(approval)
    assert "its turn fails (attempt 14)" in found.sentence
    assert found.words == "ConnectError: no route to the ␀ model"
    run_of(approval, turn=3)  # it went on
    assert (why(approval).cause, why(approval).is_final) == ("passed_over", True)


def test_a_run_that_failed_between_resuming_and_the_effect_says_that_nothing_was_done() -> None:
    approval = resumed(late())
    run_of(approval, status="failed", closed_at=database_now(), error={"kind": "x", "message": "KeyError: 'order'"})
    found = why(approval)
    assert "took the decision up, but failed before the effect began" in found.sentence
    assert found.words == "KeyError: 'order'" and found.is_final


@pytest.mark.parametrize("reason", ["alice may no longer decide this.", "The agent support has no tool 'x'.", ""])
def test_a_refusal_tells_the_ledgers_reason_and_nothing_made_up(reason: str) -> None:
    approval = resumed(late())
    note_effect(approval_id=approval.pk, event="refused", detail=reason)
    found = why(approval)
    assert (found.cause, found.is_final) == ("refused", True)
    assert found.sentence == (f"Not done. {reason}" if reason else "Not done: no reason was recorded.")


def test_a_failed_effect_tells_the_tools_words_and_offers_no_second_try() -> None:
    approval = started(late(), "failed", error="The card is closed.")
    found = why(approval)
    assert (found.cause, found.words, found.is_final, found.may_deliver) == (
        "failed",
        "The card is closed.",
        True,
        False,
    )
    with pytest.raises(NothingToRedrive):
        deliver_again(approval_id=approval.pk, by=reviewer())
    assert Effect.objects.get().status == "failed" and not OutboxEntry.objects.filter(delivered_at=None).exists()


def test_an_effect_that_takes_too_long_tells_its_attempts_and_the_last_error() -> None:
    approval = started(late(), attempts=3)
    run_of(approval, fence=3)
    failing.note(
        Turn(approval.run_id, "support", 2), 3, 3, Failed(("EffectUnclear",), "issue_refund gave no clear answer")
    )
    found = why(approval)
    assert found.cause == "slow" and "(3 attempts, under one key)" in found.sentence
    assert found.words == "issue_refund gave no clear answer"


def test_an_unknown_effect_leads_to_the_question_that_is_open() -> None:
    approval = started(late(), "unknown", is_idempotent=False)
    assert "about to ask" in why(approval).sentence and not why(approval).may_settle
    question = ask_whether_it_happened(approval)
    found = why(approval)
    assert (found.cause, found.question_id, found.may_settle) == ("unknown", question.pk, False)
    with pytest.raises(NothingToRedrive, match="answer its question"):
        settle_unknown(approval_id=approval.pk, by=reviewer(), happened=True, reason="I saw it.")


@pytest.mark.parametrize(("happened", "status"), [(True, "done"), (False, "failed")])
def test_when_the_question_expired_a_person_can_still_say_it_on_the_record(happened: bool, status: str) -> None:
    approval = started(late(), "unknown", is_idempotent=False)
    question = ask_whether_it_happened(approval)
    Approval.objects.filter(pk=question.pk).update(status="expired")
    assert why(approval).may_settle
    entries = AuditEvent.objects.count()
    alice = reviewer()
    for _ in range(2):
        settle_unknown(approval_id=approval.pk, by=alice, happened=happened, reason="I asked the post office.")
    assert AuditEvent.objects.count() == entries + 1
    told = AuditEvent.objects.latest("seq")
    assert (told.actor, told.kind, told.subject) == ("alice", "effect.finished", approval.pk)
    assert Effect.objects.get().status == status
    approval.refresh_from_db()
    assert (approval.took_effect_at is not None) == happened
    if not happened:
        assert "alice says that it did not happen: I asked the post office." in why(approval).words


def several_must_say_so(needed: int = 2) -> None:
    rules = [{"name": "outcomes", "match": {"kinds": ["outcome"]}, "needed": needed}, {"name": "everything"}]
    version = PolicyVersion.objects.count() + 1
    PolicyVersion.objects.filter(state="active").update(state="replaced")
    PolicyVersion.objects.create(version=version, rules=rules, state="active", made_by=reviewer())


@pytest.mark.parametrize("happened", [True, False])
def test_where_several_must_say_whether_it_happened_one_word_in_the_lane_is_not_enough(happened: bool) -> None:
    several_must_say_so()
    approval = started(late(), "unknown", is_idempotent=False)
    question = ask_whether_it_happened(approval)
    decide(question, "approve" if happened else "reject", by=reviewer("carol"))
    Approval.objects.filter(pk=question.pk).update(status="expired")
    words = r"2 different people of the reviewers must say the same of this; with you it is 1"
    with pytest.raises(NothingToRedrive, match=words):
        settle_unknown(approval_id=approval.pk, by=operator("dora"), happened=not happened, reason="I guess.")
    assert Effect.objects.get().status == "unknown"
    with pytest.raises(NotTheirs, match="decided this version already"):
        settle_unknown(approval_id=approval.pk, by=operator("carol"), happened=happened, reason="Once more.")
    settle_unknown(approval_id=approval.pk, by=operator("dora"), happened=happened, reason="I asked them, too.")
    assert Effect.objects.get().status == ("done" if happened else "failed")


def test_where_several_must_say_so_and_nobody_was_asked_an_admin_has_to_change_the_rule() -> None:
    several_must_say_so()
    approval = started(late(), "unknown", is_idempotent=False)
    run_of(approval, status="cancelled", closed_at=database_now())
    for _ in range(2):
        with pytest.raises(NothingToRedrive, match="an admin has to change the rule"):
            settle_unknown(approval_id=approval.pk, by=operator("dora"), happened=False, reason="I asked them.")
    assert Effect.objects.get().status == "unknown"
    several_must_say_so(needed=1)
    settle_unknown(approval_id=approval.pk, by=operator("dora"), happened=False, reason="I asked them.")
    assert Effect.objects.get().status == "failed"


@pytest.mark.parametrize("is_asked", [True, False])
def test_the_rule_says_who_may_say_it_whether_or_not_the_question_was_asked(is_asked: bool) -> None:
    outcomes = {"name": "outcomes", "match": {"kinds": ["outcome"]}, "fresh_sign_in_minutes": 5}
    rule = outcomes | {
        "groups": [],
        "people": ["carol", "owen"],
        "escalate_to": ["admin"],
        "four_eyes": ["requester", "owner"],
    }
    PolicyVersion.objects.create(version=1, rules=[rule, {"name": "everything"}], state="active", made_by=reviewer())
    approval = started(late(), "unknown", is_idempotent=False)
    Approval.objects.filter(pk=approval.pk).update(agent_owners=["owen"])
    if is_asked:
        question = ask_whether_it_happened(approval)
        Approval.objects.filter(pk=question.pk).update(status="expired", agent_owners=["owen"])
    else:
        run_of(approval, status="cancelled", closed_at=database_now())
    asked: dict[str, Any] = {"approval_id": approval.pk, "happened": False, "reason": "I asked the post office."}
    now = database_now()
    with pytest.raises(NotTheirs, match="can be decided by"):
        settle_unknown(**asked, by=operator("dora"), signed_in_at=now)
    with pytest.raises(NotTheirs, match="You own this agent"):
        settle_unknown(**asked, by=operator("owen"), signed_in_at=now)
    for since in (None, now - timedelta(minutes=6)):
        with pytest.raises(NotTheirs, match="a sign-in in the last 5 minutes"):
            settle_unknown(**asked, by=operator("carol"), signed_in_at=since)
    assert Effect.objects.get().status == "unknown"
    settle_unknown(**asked, by=operator("carol"), signed_in_at=now)
    assert Effect.objects.get().status == "failed"


def operator(name: str) -> User:
    """Return a reviewer who may act in the lane on what others have decided."""
    user = reviewer(name)
    user.groups.add(Group.objects.get_or_create(name="operator")[0])
    return User.objects.get(pk=user.pk)


def test_nobody_says_how_an_effect_ended_while_the_tool_may_still_be_at_it() -> None:
    approval = started(late(), is_idempotent=False)
    run_of(approval, status="cancelled", closed_at=database_now())
    Approval.objects.filter(pk=approval.pk).update(expected_by=database_now() + timedelta(seconds=80))
    with pytest.raises(NothingToRedrive, match="not late"):
        settle_unknown(approval_id=approval.pk, by=reviewer(), happened=False, reason="The run was cancelled.")
    assert Effect.objects.get().status == "executing"
    let_pass()
    settle_unknown(approval_id=approval.pk, by=reviewer(), happened=False, reason="I asked the post office.")
    assert Effect.objects.get().status == "failed"


def test_who_started_the_run_or_may_not_decide_says_nothing_of_an_unknown_effect() -> None:
    olga = User.objects.create_user("olga")
    olga.groups.add(Group.objects.get_or_create(name="operator")[0])
    approval = started(late(status="waiting"), "unknown", is_idempotent=False)
    run_of(approval, status="cancelled", closed_at=database_now())
    assert why(approval).may_settle  # nobody will ask any more
    with pytest.raises(NotTheirs, match="can be decided by: admin or reviewer"):
        settle_unknown(approval_id=approval.pk, by=olga, happened=True, reason="I saw it.")
    starter = reviewer("bob")
    starter.groups.add(Group.objects.get_or_create(name="operator")[0])
    Approval.objects.filter(pk=approval.pk).update(requested_by=starter)
    with pytest.raises(NotTheirs, match="You started this run"):
        settle_unknown(approval_id=approval.pk, by=starter, happened=True, reason="I saw it.")
    twin = reviewer("bob-too")
    twin.groups.add(Group.objects.get(name="operator"))
    for account in (starter, twin):
        AccountPerson.objects.create(user=account, person="bob")
    with pytest.raises(NotTheirs, match="You started this run"):
        settle_unknown(approval_id=approval.pk, by=twin, happened=True, reason="I saw it.")
    with pytest.raises(InvalidChange):
        settle_unknown(approval_id=approval.pk, by=reviewer(), happened=True, reason=" ")
    assert Effect.objects.get().status == "unknown"


def test_delivering_again_makes_a_waiting_entry_due_once_and_is_on_the_record() -> None:
    approval = late()
    OutboxEntry.objects.update(due_at=database_now() + timedelta(seconds=50), attempts=7)
    entries = AuditEvent.objects.count()
    for _ in range(2):
        deliver_again(approval_id=approval.pk, by=reviewer())
    entry = OutboxEntry.objects.get()
    assert entry.due_at <= database_now() and entry.delivered_at is None
    assert AuditEvent.objects.count() == entries + 1
    told = AuditEvent.objects.latest("seq")
    assert (told.actor, told.kind, told.body) == ("alice", "approval.redelivered", {"cause": "undelivered"})


def test_a_run_that_was_told_is_told_once_more_under_the_same_ids() -> None:
    approval = told(late())
    for _ in range(2):
        deliver_again(approval_id=approval.pk, by=reviewer())
    first, second = OutboxEntry.objects.order_by("id")
    assert second.delivered_at is None
    assert (first.kind, first.subject, first.payload) == (second.kind, second.subject, second.payload)


def test_what_is_on_its_way_is_not_delivered_again() -> None:
    approval = decide(open_for(make_run(status="waiting")))
    with pytest.raises(NothingToRedrive, match="on its way"):
        deliver_again(approval_id=approval.pk, by=reviewer())


def test_only_who_took_part_operators_and_admins_deliver_again() -> None:
    approval = late()
    with pytest.raises(NotTheirs):
        deliver_again(approval_id=approval.pk, by=reviewer("bob"))


def test_a_rejection_that_the_run_did_not_hear_stands_in_the_lane_too() -> None:
    approval = late("reject")
    assert why(approval).cause == "undelivered"
    OutboxEntry.objects.update(delivered_at=database_now())
    note_receipt(approval_ids=[approval.pk], step="resumed")
    approval.refresh_from_db()
    assert receipt.standstill(approval) is None


@pytest.mark.parametrize(("state", "word"), [("trying", "has not taken"), ("undelivered", "as long as was promised")])
def test_a_programs_answer_that_is_not_taken_tells_the_attempts_and_the_last_error(state: str, word: str) -> None:
    approval = decide(open_for(make_run(), source="program", deliver_to={"webhook": {"url": "https://p.example/"}}))
    AnswerDelivery.objects.create(approval_id=approval.pk, attempts=9, state=state, last_error="it answered 500")
    let_pass()
    found = why(approval)
    assert (found.cause, found.words, found.may_deliver) == ("undelivered", "it answered 500", True)
    assert word in found.sentence and "9 attempts" in found.sentence
    assert found.is_final == (state == "undelivered")
    note_receipt(approval_ids=[approval.pk], step="resumed")
    approval.refresh_from_db()
    assert receipt.standstill(approval) is None and approval.took_effect_at is not None


def test_a_programs_answer_that_was_never_sent_counts_no_attempts() -> None:
    approval = decide(open_for(make_run(), source="program", deliver_to={"webhook": {"url": "https://p.example/"}}))
    AnswerDelivery.objects.create(approval_id=approval.pk, attempts=0, state="trying")
    let_pass()
    assert why(approval).sentence == "The program has not been sent the answer yet; that happens by itself."


def test_each_cause_costs_the_same_number_of_queries(django_assert_max_num_queries: Any) -> None:
    makers: list[Callable[[], Approval]] = [
        late,
        lambda: told(late()),
        lambda: resumed(late()),
        lambda: started(late()),
        lambda: started(late(), "failed"),
        lambda: started(late(), "unknown"),
    ]
    made = [make().pk for make in makers for _ in range(3)]
    with django_assert_max_num_queries(7):
        assert len(standstill_of(made)) == 18


def test_an_answer_to_the_question_is_told_until_the_run_has_heard_it() -> None:
    approval = started(late(), "unknown", is_idempotent=False)
    question = decide(ask_whether_it_happened(approval), by=reviewer("bob"))
    note_receipt(approval_ids=[question.pk], step="resumed")
    question.refresh_from_db()
    assert question.took_effect_at is not None
    found = why(approval)  # until the run has heard it and the ledger has closed the effect
    assert "the run is taking that up" in found.sentence and not found.may_settle
    set_aside(approval_id=approval.pk, by=reviewer(), reason="It arrived; I have the receipt.")
    approval.refresh_from_db()
    assert receipt.standstill(approval) is None
