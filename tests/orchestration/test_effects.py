"""The effect ledger: whatever is asked, and in whatever state, an approved effect happens at most once."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from threading import Event
from typing import Any

import pytest
from django.db import connection
from pydantic import BaseModel, Field

from approvals import services as approvals
from approvals.models import Approval, AuditEvent
from approvals.reading import four_records, requests
from approvals.record import audit
from console.clock import database_now
from orchestration import effects, services
from orchestration.agents.arguments import read_asked
from orchestration.agents.runtime import Outcome, ToolFailed
from orchestration.agents.support.agent import AGENT
from orchestration.agents.support.tools import ISSUE_REFUND, IssueRefund
from orchestration.contracts import Turn
from orchestration.effects import EffectLedger
from orchestration.errors import EffectLeftOpen, EffectUnclear, Fenced
from orchestration.models import Effect, Run
from orchestration.port import check_arguments
from orchestration.redrive import settle_unknown, standstill_of
from orchestration.services import TurnEnd
from orchestration.threads import in_database
from orchestration.turns.failure import failed_of
from tests.fakes import FakeWorld
from tests.orchestration.conftest import decide, go, make_run, open_for, reviewer
from tests.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)

FENCE = 1_000_001


@pytest.fixture
def run(transactional_db: None) -> Run:
    return make_run(fence=FENCE, status="running")


@pytest.fixture
def ledger(run: Run, world: FakeWorld) -> EffectLedger:
    return EffectLedger(run.pk, FENCE, AGENT, world)


def executing(run: Run, approval: Approval, *, is_idempotent: bool) -> None:
    """Leave behind what an attempt leaves that was killed inside its tool."""
    Effect.objects.create(
        approval_id=approval.pk,
        run=run,
        tool=approval.tool,
        digest=approval.digest,
        decision_id=approval.decisions.get().pk,
        is_idempotent=is_idempotent,
        fence=FENCE - 1,
    )


def test_an_approved_refund_happens_and_is_told_everywhere(run: Run, ledger: EffectLedger, world: FakeWorld) -> None:
    approval = decide(open_for(run))
    outcome = go(ledger.perform(approval.pk, approval.digest))
    assert (outcome["status"], outcome["reason"]) == ("done", "")
    assert world.shop.refunds == {approval.pk: outcome["result"]}
    effect = Effect.objects.get()
    assert (effect.status, effect.digest, effect.attempts, effect.fence) == ("done", approval.digest, 1, FENCE)
    assert effect.decision_id == approval.decisions.get().pk
    assert effect.arguments == json.loads(bytes(approval.canonical))["arguments"]
    assert effect.finished_at is not None
    assert [step.step for step in approval.receipt.order_by("id")] == ["recorded", "effect_started", "effect_finished"]
    kinds = AuditEvent.objects.filter(subject=approval.pk).order_by("seq").values_list("kind", flat=True)
    assert list(kinds) == ["approval.opened", "approval.decided", "effect.started", "effect.finished"]
    assert audit.verify().ok


def test_a_finished_effect_is_told_again_and_not_done_again(run: Run, ledger: EffectLedger, world: FakeWorld) -> None:
    approval = decide(open_for(run, "send_email"))
    first = go(ledger.perform(approval.pk, approval.digest))
    assert go(ledger.perform(approval.pk, approval.digest)) == first
    assert len(world.mails) == 1
    assert AuditEvent.objects.filter(subject=approval.pk, kind="effect.started").count() == 1


def test_a_cut_off_effect_with_a_key_is_asked_again_with_the_same_key(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    approval = decide(open_for(run))
    world.shop.lose_answers = 1
    with pytest.raises(EffectUnclear) as told:
        go(ledger.perform(approval.pk, approval.digest))
    assert not told.value.permanent
    assert Effect.objects.get().status == "executing"
    outcome = go(ledger.perform(approval.pk, approval.digest))
    assert outcome["status"] == "done"
    assert list(world.shop.refunds) == [approval.pk]
    assert world.shop.requests == ["POST /refunds"] * 2
    assert Effect.objects.get().attempts == 2


def test_what_changed_between_two_attempts_is_not_asked_again_and_its_outcome_is_unknown(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    approval = decide(open_for(run))
    world.shop.lose_answers = 1
    with pytest.raises(EffectUnclear):
        go(ledger.perform(approval.pk, approval.digest))
    Approval.objects.filter(pk=approval.pk).update(canonical=bytes(approval.canonical).replace(b"50.00", b"99.00"))
    outcome = go(ledger.perform(approval.pk, approval.digest))
    assert (outcome["status"], Effect.objects.get().status) == ("unknown", "unknown")
    assert "digest differs" in outcome["reason"]
    assert [refund["amount"] for refund in world.shop.refunds.values()] == ["50.00"]
    assert world.shop.requests == ["POST /refunds"]


def test_a_cut_off_effect_without_a_key_becomes_unknown_and_is_not_tried(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    approval = decide(open_for(run, "send_email"))
    executing(run, approval, is_idempotent=False)
    outcome = go(ledger.perform(approval.pk, approval.digest))
    assert outcome["status"] == "unknown"
    assert world.mails == []
    assert (go(ledger.perform(approval.pk, approval.digest)))["status"] == "unknown"
    assert AuditEvent.objects.filter(subject=approval.pk, kind="effect.unknown").count() == 1
    assert not approval.receipt.filter(step="effect_finished").exists()


def test_a_tool_that_says_no_has_failed_and_is_not_asked_again(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    approval = decide(open_for(run))
    world.shop.refuse = "already refunded in full"
    outcome = go(ledger.perform(approval.pk, approval.digest))
    assert outcome["status"] == "failed"
    assert "already refunded in full" in outcome["reason"]
    world.shop.refuse = ""
    assert (go(ledger.perform(approval.pk, approval.digest)))["status"] == "failed"
    assert world.shop.refunds == {}
    assert approval.receipt.get(step="effect_finished").detail.startswith("failed: ")


def test_an_error_of_a_tool_without_a_key_leaves_the_outcome_unknown(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    approval = decide(open_for(run, "send_email"))
    world.mail_error = ConnectionResetError("the mail server hung up")
    outcome = go(ledger.perform(approval.pk, approval.digest))
    assert outcome["status"] == "unknown"
    assert "ConnectionResetError" in outcome["reason"]
    world.mail_error = None
    assert (go(ledger.perform(approval.pk, approval.digest)))["status"] == "unknown"
    assert len(world.mails) == 1


@pytest.mark.parametrize("told", ["\x00", "\ud800"], ids=["NUL", "half a character"])
@pytest.mark.parametrize(("end", "status"), [("answer", "done"), ("refusal", "failed"), ("error", "unknown")])
def test_how_an_effect_ended_is_kept_whatever_the_tool_told(
    told: str, end: str, status: str, run: Run, world: FakeWorld
) -> None:
    async def tells(*_: object) -> dict[str, object]:
        if end == "answer":
            return {"id": f"re-{told}1", f"{told}": [told, float("nan"), 9]}
        raise (ToolFailed if end == "refusal" else ConnectionResetError)(f"no {told}")

    email = AGENT.tool("send_email")
    assert email is not None
    agent = replace(AGENT, tools=(replace(email, call=tells),))
    approval = decide(open_for(run, "send_email"))
    outcome = go(EffectLedger(run.pk, FENCE, agent, world).perform(approval.pk, approval.digest))
    effect = Effect.objects.get()
    assert (outcome["status"], effect.status) == (status, status)
    shown = "\N{SYMBOL FOR NULL}" if told == "\x00" else "\N{REPLACEMENT CHARACTER}"
    assert outcome["result"] == effect.result
    if end == "answer":
        assert effect.result == {"id": f"re-{shown}1", shown: [shown, "nan", 9]}
    else:
        assert f"no {shown}" in outcome["reason"]
    assert audit.verify().ok


def test_a_tool_that_does_not_answer_in_time_is_not_waited_for(run: Run, world: FakeWorld) -> None:
    async def never(*_: object) -> dict[str, object]:
        await asyncio.Event().wait()
        raise AssertionError

    email = AGENT.tool("send_email")
    assert email is not None
    agent = replace(AGENT, tools=(replace(email, call=never, timeout_seconds=0),))
    approval = decide(open_for(run, "send_email"))
    outcome = go(EffectLedger(run.pk, FENCE, agent, world).perform(approval.pk, approval.digest))
    assert outcome["status"] == "unknown"
    assert "TimeoutError" in outcome["reason"]


def _pending(run: Run) -> Approval:
    return open_for(run)


def _rejected(run: Run) -> Approval:
    return decide(open_for(run), "reject")


def _expired(run: Run) -> Approval:
    approval = open_for(run)
    past = (database_now() - timedelta(seconds=1)).isoformat()
    Approval.objects.filter(pk=approval.pk).update(ladder=[{"step": "expire", "at": past}])
    approvals.climb([approval.pk])
    return approval


def _withdrawn(run: Run) -> Approval:
    approval = open_for(run)
    approvals.withdraw(run_id=run.pk, reason="the run ended", actor="worker")
    return approval


def _by_somebody_who_lost_the_role(run: Run) -> Approval:
    approval = decide(open_for(run))
    reviewer().groups.clear()
    return approval


def _by_somebody_disabled(run: Run) -> Approval:
    approval = decide(open_for(run))
    type(reviewer()).objects.filter(username="alice").update(is_active=False)
    return approval


def _tampered(run: Run) -> Approval:
    approval = decide(open_for(run))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE approvals_approval SET canonical = convert_to(replace(convert_from(canonical, 'UTF8'),"
            " '50.00', '99.00'), 'UTF8') WHERE id = %s",
            [approval.pk],
        )
        assert cursor.rowcount == 1
    return approval


def _tampered_with_its_digest(run: Run) -> Approval:
    from approvals.proposal.canonical import canonicalise, digest_of

    approval = decide(open_for(run))
    forged = canonicalise("issue_refund", {"order_id": "8801", "amount": "99.00", "currency": "EUR", "reason": "mine"})
    Approval.objects.filter(pk=approval.pk).update(canonical=forged, digest=digest_of(forged))
    approval.refresh_from_db()
    return approval


def _for_a_tool_that_the_agent_lacks(run: Run) -> Approval:
    return decide(open_for(run, "drop_tables", {"all": True}))


@pytest.mark.parametrize(
    "made",
    [
        _pending,
        _rejected,
        _expired,
        _withdrawn,
        _by_somebody_who_lost_the_role,
        _by_somebody_disabled,
        _tampered,
        _tampered_with_its_digest,
        _for_a_tool_that_the_agent_lacks,
    ],
)
def test_what_nobody_approved_is_refused_and_leaves_no_effect(
    made: object, run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    assert callable(made)
    approval = made(run)
    outcome = go(ledger.perform(approval.pk, approval.digest))
    assert outcome["status"] == "refused", outcome
    assert outcome["reason"]
    assert (world.shop.requests, world.mails) == ([], [])
    assert not Effect.objects.exists()
    told = AuditEvent.objects.get(kind__startswith="effect.")
    assert (told.kind, told.subject, told.body) == ("effect.refused", approval.pk, {"detail": outcome["reason"]})


def test_another_digest_or_an_unknown_approval_is_refused(run: Run, ledger: EffectLedger, world: FakeWorld) -> None:
    approval = decide(open_for(run))
    for approval_id, digest in ((approval.pk, "0" * 64), ("apr_none", approval.digest)):
        assert (go(ledger.perform(approval_id, digest)))["status"] == "refused"
    assert world.shop.requests == []


@pytest.mark.parametrize("change", ["a new default", "a stricter field"])
def test_a_tool_that_reads_the_approved_arguments_differently_does_not_run(
    change: str, run: Run, world: FakeWorld
) -> None:
    class Wider(IssueRefund):
        to_account: str = "the one that paid"

    class Stricter(IssueRefund):
        order_id: str = Field(pattern="^R-")

    tool = replace(ISSUE_REFUND, arguments=Wider if change == "a new default" else Stricter)
    approval = decide(open_for(run))
    outcome = go(
        EffectLedger(run.pk, FENCE, replace(AGENT, tools=(tool,)), world).perform(approval.pk, approval.digest)
    )
    assert outcome["status"] == "refused"
    assert (world.shop.refunds, Effect.objects.count()) == ({}, 0)


def test_an_approval_of_another_run_is_refused(run: Run, ledger: EffectLedger, world: FakeWorld) -> None:
    approval = decide(open_for(make_run(fence=FENCE)))
    assert (go(ledger.perform(approval.pk, approval.digest)))["status"] == "refused"
    assert world.shop.requests == []


def test_an_older_attempt_starts_nothing(run: Run, ledger: EffectLedger, world: FakeWorld) -> None:
    approval = decide(open_for(run))
    Run.objects.filter(pk=run.pk).update(fence=FENCE + 1)
    with pytest.raises(Fenced):
        go(ledger.perform(approval.pk, approval.digest))
    assert (world.shop.requests, Effect.objects.count()) == ([], 0)


@pytest.mark.parametrize("status", ["cancelled", "failed", "finished"])
def test_a_closed_run_starts_nothing_even_with_the_newest_fence(
    status: str, run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    approval = decide(open_for(run))
    Run.objects.filter(pk=run.pk).update(status=status)
    with pytest.raises(Fenced):
        go(ledger.perform(approval.pk, approval.digest))
    assert (world.shop.requests, Effect.objects.count()) == ([], 0)


@pytest.mark.parametrize("is_one_process", [True, False])
def test_many_attempts_at_once_make_one_effect(
    is_one_process: bool, run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    approval = decide(open_for(run, "send_email"))

    async def attempt() -> Outcome:
        if is_one_process:
            return await ledger.perform(approval.pk, approval.digest)
        return await ledger._begin_and_call(approval.pk, approval.digest, None)  # knows of no other

    async def all_at_once() -> list[Outcome]:
        return await asyncio.gather(*(attempt() for _ in range(8)))

    outcomes = go(all_at_once())
    assert len(world.mails) == 1
    # Who meets another process's `executing` cannot know how it ends; the one that did it knows, and its word stands.
    assert {outcome["status"] for outcome in outcomes} <= ({"done"} if is_one_process else {"done", "unknown"})
    assert Effect.objects.get().status == "done"


@pytest.mark.parametrize(("verdict", "status"), [("approve", "done"), ("reject", "failed")])
def test_a_person_settles_what_nobody_saw(
    verdict: str, status: str, run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    approval = decide(open_for(run, "send_email"))
    executing(run, approval, is_idempotent=False)
    go(ledger.perform(approval.pk, approval.digest))
    asked = {"approval_id": approval.pk, "tool": "send_email", "arguments": {}}
    question = open_for(run, "confirm_outcome", asked, kind="outcome")
    assert (go(ledger.settle(approval.pk, question.pk)))["status"] == "unknown"  # nobody has answered
    decide(question, verdict)
    outcome = go(ledger.settle(approval.pk, question.pk))
    assert outcome["status"] == status
    assert "alice" in (outcome["reason"] or str(outcome["result"]))
    assert go(ledger.settle(approval.pk, question.pk)) == outcome
    assert world.mails == []
    assert approval.receipt.filter(step="effect_finished").count() == 1


def test_an_answer_about_another_effect_settles_nothing(run: Run, ledger: EffectLedger) -> None:
    approval = decide(open_for(run, "send_email"))
    executing(run, approval, is_idempotent=False)
    go(ledger.perform(approval.pk, approval.digest))
    about_another = decide(open_for(run, "confirm_outcome", {"approval_id": "apr_other"}, kind="outcome"))
    ordinary = decide(open_for(run, "issue_refund"))
    # An agent can name any arguments; only the question whether it happened is one.
    posing = decide(open_for(run, "issue_refund", {"approval_id": approval.pk}))
    for question in (about_another, ordinary, posing):
        assert (go(ledger.settle(approval.pk, question.pk)))["status"] == "unknown"


def test_an_older_attempt_settles_nothing(run: Run, ledger: EffectLedger) -> None:
    approval = decide(open_for(run, "send_email"))
    executing(run, approval, is_idempotent=False)
    go(ledger.perform(approval.pk, approval.digest))
    question = decide(open_for(run, "confirm_outcome", {"approval_id": approval.pk}, kind="outcome"))
    Run.objects.filter(pk=run.pk).update(fence=FENCE + 1)
    with pytest.raises(Fenced):
        go(ledger.settle(approval.pk, question.pk))
    assert Effect.objects.get().status == "unknown"


def slowed(world: FakeWorld) -> tuple[asyncio.Event, asyncio.Event]:
    """Let the mail system be slow: return that a mail was handed over, and what it waits for to answer."""
    handed_over, answers, send = asyncio.Event(), asyncio.Event(), world.send_mail

    async def slowly(to: str, subject: str, body: str) -> None:
        await send(to, subject, body)
        handed_over.set()
        await answers.wait()

    world.send_mail = slowly  # type: ignore[method-assign]
    return handed_over, answers


async def cancelled(performing: asyncio.Task[Outcome]) -> None:
    performing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await performing


def status_of_the_effect() -> str:
    return str(Effect.objects.get().status)


def test_a_cancelled_turn_still_writes_how_its_call_ended_and_the_next_attempt_hears_it(
    run: Run, ledger: EffectLedger, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval = decide(open_for(run, "send_email"))
    begun, begin = list[str](), EffectLedger._begin

    def counted(ledger: EffectLedger, approval_id: str, *given: Any) -> Any:
        begun.append(approval_id)
        return begin(ledger, approval_id, *given)

    monkeypatch.setattr(EffectLedger, "_begin", counted)

    async def cancel_in_the_middle() -> Outcome:
        handed_over, answers = slowed(world)
        performing = asyncio.create_task(ledger.perform(approval.pk, approval.digest))
        await handed_over.wait()
        await cancelled(performing)
        await in_database(lambda: Run.objects.filter(pk=run.pk).update(fence=FENCE + 1))
        newer = asyncio.create_task(replace(ledger, fence=FENCE + 1).perform(approval.pk, approval.digest))
        assert await in_database(status_of_the_effect) == "executing"
        answers.set()
        async with asyncio.timeout(PATIENCE):
            return await newer

    assert go(cancel_in_the_middle())["status"] == "done"
    assert (status_of_the_effect(), len(world.mails)) == ("done", 1)
    assert begun == [approval.pk], "the living call is not taken for one that was cut off"


def test_what_an_older_attempt_did_not_come_to_begin_the_newer_one_begins(
    run: Run, ledger: EffectLedger, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval = decide(open_for(run, "send_email"))
    asked, may_begin, begin = Event(), Event(), EffectLedger._begin

    def late(ledger: EffectLedger, *given: Any) -> Any:
        asked.set()
        may_begin.wait(PATIENCE)
        return begin(ledger, *given)

    async def two_attempts() -> Outcome:
        older = asyncio.create_task(ledger.perform(approval.pk, approval.digest))
        await asyncio.to_thread(asked.wait, PATIENCE)
        await in_database(lambda: Run.objects.filter(pk=run.pk).update(fence=FENCE + 1))
        newer = asyncio.create_task(replace(ledger, fence=FENCE + 1).perform(approval.pk, approval.digest))
        await in_database(may_begin.set)  # by then the newer one waits for the older one
        with pytest.raises(Fenced):
            await older
        return await newer

    monkeypatch.setattr(EffectLedger, "_begin", late)
    assert go(two_attempts())["status"] == "done"
    assert (status_of_the_effect(), len(world.mails)) == ("done", 1)


def test_what_has_begun_as_its_turn_is_cancelled_is_called(
    run: Run, ledger: EffectLedger, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval = decide(open_for(run, "send_email"))
    begun, may_go_on, begin = Event(), Event(), EffectLedger._begin

    def slowly(*given: Any) -> Any:
        found = begin(*given)
        begun.set()
        may_go_on.wait(PATIENCE)
        return found

    async def cancel_as_it_begins() -> None:
        performing = asyncio.create_task(ledger.perform(approval.pk, approval.digest))
        await asyncio.to_thread(begun.wait, PATIENCE)
        await cancelled(performing)
        may_go_on.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*effects._under_way)

    monkeypatch.setattr(EffectLedger, "_begin", slowly)
    go(cancel_as_it_begins())
    assert (status_of_the_effect(), len(world.mails)) == ("done", 1)


@pytest.mark.parametrize("error", [None, ConnectionError("the branch beside it failed")], ids=str)
def test_a_turn_is_over_once_what_it_has_begun_has_ended_and_begins_nothing_afterwards(
    error: Exception | None, run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    first, second = (decide(open_for(run, "send_email")) for _ in range(2))

    async def take_turn() -> str:
        handed_over, answers = slowed(world)

        async def turn() -> None:
            async with ledger.seen_through():
                beside = asyncio.create_task(ledger.perform(first.pk, first.digest))
                await handed_over.wait()
                if error is not None:
                    await cancelled(beside)  # as LangGraph does
                    raise error

        ending = asyncio.create_task(turn())
        await handed_over.wait()
        assert await in_database(status_of_the_effect) == "executing"
        assert not ending.done()
        answers.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([ending])
        assert ending.exception() is error
        return await in_database(status_of_the_effect)

    assert go(take_turn()) == "done"
    with pytest.raises(Fenced):
        go(ledger.perform(second.pk, second.digest))
    assert len(world.mails) == 1


class Sending(BaseModel):
    from_: str = Field(alias="from")
    weight: float
    parts: list[Decimal] = []


def sending_ledger(ledger: EffectLedger, got: list[Any]) -> EffectLedger:
    async def call(arguments: Sending, world: Any, key: str) -> dict[str, Any]:
        got.append(arguments)
        return {}

    tool = replace(ISSUE_REFUND, name="send", arguments=Sending, render=lambda one: f"Send from {one.from_}", call=call)
    return replace(ledger, agent=replace(AGENT, tools=(tool,)))


def test_the_tool_gets_what_was_approved_by_its_alias_and_every_record_agrees(run: Run, ledger: EffectLedger) -> None:
    """1e21 comes back from PostgreSQL's JSON as a whole number; the record of what was executed could not be shown."""
    got: list[Any] = []
    read = read_asked(Sending, "send", {"from": "ana", "weight": 1e21, "parts": ["1.50", 2]})
    approval = decide(open_for(run, "send", read.arguments))
    assert go(sending_ledger(ledger, got).perform(approval.pk, approval.digest))["status"] == "done"
    assert got == [Sending(**{"from": "ana", "weight": 1e21, "parts": [Decimal("1.50"), Decimal(2)]})]
    approval = requests.approval_for(reviewer(), approval.pk)
    records = {record.name.partition("-")[0]: record.digest for record in four_records.records_of(approval)}
    assert records.keys() >= {"proposed", "shown", "decided", "executed"}
    assert set(records.values()) == {approval.digest}


def test_a_person_edits_an_argument_by_its_alias(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_asked(Sending, "send", {"from": "ana", "weight": 1})
    approval = open_for(run, "send", read.arguments)
    tool = replace(ISSUE_REFUND, name="send", arguments=Sending, render=lambda one: one.nothing)
    monkeypatch.setattr("orchestration.port.agents", lambda: {AGENT.name: replace(AGENT, tools=(tool,))})
    checked = check_arguments(approval.agent, approval.tool, {"from": "bob", "weight": 2.0})
    assert checked.errors == [] and checked.arguments == {"from": "bob", "weight": 2, "parts": []}
    assert checked.summary == ISSUE_REFUND.title, "a sentence that fails is replaced, nothing breaks"
    [error] = check_arguments(approval.agent, approval.tool, {"weight": 1}).errors
    assert error["path"] == "from"


class Changed(BaseModel):
    from_: str = Field(alias="from")
    weight: int
    parts: list[str] = []


def test_a_tool_that_reads_otherwise_after_a_release_is_not_called(run: Run, ledger: EffectLedger) -> None:
    got: list[Any] = []
    read = read_asked(Sending, "send", {"from": "ana", "weight": 1.5})
    approval = decide(open_for(run, "send", read.arguments))
    released = sending_ledger(ledger, got)
    tool = replace(released.agent.tools[0], arguments=Changed)
    outcome = go(replace(released, agent=replace(AGENT, tools=(tool,))).perform(approval.pk, approval.digest))
    assert outcome["status"] == "refused" and "weight" in outcome["reason"] and got == []


def begun_without_an_end(run: Run, ledger: EffectLedger, world: FakeWorld) -> Approval:
    """Return an approval whose effect has begun, and whose answer was lost."""
    approval = decide(open_for(run))
    world.shop.lose_answers = 1
    with pytest.raises(EffectUnclear):
        go(ledger.perform(approval.pk, approval.digest))
    return approval


def test_a_run_does_not_finish_while_nobody_has_seen_the_end_of_what_it_has_begun(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    """The graph has swallowed that there was no clear answer, and goes to its end."""
    approval = begun_without_an_end(run, ledger, world)
    turn, end = Turn(run.pk, "support", 1), TurnEnd("c")
    with pytest.raises(EffectLeftOpen, match=approval.pk) as told:
        services.finish_turn(turn, FENCE, end)
    assert not failed_of(told.value).is_permanent, "its tool may still be at it"
    Approval.objects.filter(pk=approval.pk).update(expected_by=database_now() - timedelta(seconds=1))
    with pytest.raises(EffectLeftOpen, match=approval.pk) as told:
        services.finish_turn(turn, FENCE, end)
    failed = failed_of(told.value)
    assert failed.is_permanent and "nobody knows whether" in failed.message
    services.close_run(run_id=run.pk, status="failed", kind=failed.kind, message=failed.message)
    found = standstill_of([approval.pk])[approval.pk]
    assert found.may_settle and "Nobody has seen its end" in found.sentence
    settle_unknown(approval_id=approval.pk, by=reviewer(), happened=True, reason="The shop shows it")
    assert Effect.objects.get().status == "done"


def test_a_run_finishes_once_the_end_of_what_it_has_begun_is_seen(
    run: Run, ledger: EffectLedger, world: FakeWorld
) -> None:
    approval = begun_without_an_end(run, ledger, world)
    turn, end = Turn(run.pk, "support", 1), TurnEnd("c")
    with pytest.raises(EffectLeftOpen):
        services.finish_turn(turn, FENCE, end)
    ledger._end(approval.pk, "done", {"id": "r1"}, "")  # its tool was still at it
    services.finish_turn(turn, FENCE, end)
    run.refresh_from_db()
    assert run.status == "finished"


def test_an_effect_of_before_the_run_was_set_back_keeps_it_from_no_end(run: Run) -> None:
    approval = decide(open_for(run))
    executing(run, approval, is_idempotent=True)
    Effect.objects.update(is_set_back=True)
    services.finish_turn(Turn(run.pk, "support", 1), FENCE, TurnEnd("c"))
    run.refresh_from_db()
    assert run.status == "finished"
