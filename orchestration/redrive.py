"""Why a decision has not taken effect, and what a person can do about it.

What can be redriven is delivery: telling the run again is harmless, for Temporal and the workflow know a decision by
its id. An effect is not done again from here, not even one that has failed for certain: the ledger starts an effect at
most once per approval, and the agent, which was told that it failed, may have proposed another way since. Whoever
still wants it done lets the agent ask again; that is another approval. What is left is to say so and set it aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction

from approvals.errors import NothingToRedrive, NotTheirs
from approvals.models import Approval, Decision, ReceiptStep, Verdict
from approvals.people.permissions import agreeing_persons, may_decide
from approvals.people.persons import persons_of
from approvals.policies import asking
from approvals.policies.words import people_of
from approvals.proposal.terms import Terms
from approvals.record import audit
from approvals.record.closings import closing_decision
from approvals.services.receipts import check_late, checked_reason, locked_for_redrive
from console import health, outbox
from console.clock import DatabaseNow, database_now
from console.live.announce import announce
from console.models import OutboxEntry, PartHeartbeat
from console.outbox import Kind
from console.ports import Standstill
from orchestration.agents.runtime import OUTCOME_TOOL
from orchestration.effects import close_with_twins, hold_family
from orchestration.models import Effect, ReportedOutcome, Run, ThreadQuestion
from orchestration.selectors import AnswerProgress, delivery_of

Step = ReceiptStep.Step


@dataclass(frozen=True)
class _Facts:
    """What the rows say about one decision that stands still."""

    approval: Approval
    steps: dict[str, ReceiptStep]
    run: Run | None
    effect: Effect | None
    entry: OutboxEntry | None  # that tells the run of it and has not arrived
    questions: list[Approval]  # that asked whether its effect happened, newest last
    parts: dict[str, str]  # of our processes that are alive: what they say
    delivery: AnswerProgress | None  # of a program's answer
    reported: ReportedOutcome | None  # what the program says came of it


def standstill_of(approval_ids: Sequence[str]) -> dict[str, Standstill]:
    """Say of each decision why it stands still; those of which nothing is known here are left out.

    The caller has found out that they are late. Seven queries, however many are asked for, and six for programs'.
    """
    approvals = Approval.objects.filter(pk__in=approval_ids).defer("canonical", "arguments_schema", "agent_words")
    rows = {row.pk: row for row in approvals.prefetch_related("receipt")}
    run_ids = {row.run_id for row in rows.values()}
    runs = {run.pk: run for run in Run.objects.filter(pk__in=run_ids).defer("input", "result")}
    effects = {effect.pk: effect for effect in Effect.objects.filter(pk__in=rows)}
    entries = _undelivered(run_ids)
    unknown = [effect for effect in effects.values() if effect.status == Effect.Status.UNKNOWN]
    questions = _questions_about(unknown) if unknown else {}
    parts = _parts_alive()
    programs = [row.pk for row in rows.values() if row.source == Approval.Source.PROGRAM]
    deliveries = delivery_of(programs) if programs else {}
    reported = ReportedOutcome.objects.in_bulk(programs) if programs else {}
    return {
        pk: _standstill(
            _Facts(
                approval=row,
                steps={step.step: step for step in row.receipt.all()},
                run=runs.get(row.run_id),
                effect=effects.get(pk),
                entry=entries.get(pk),
                questions=questions.get(pk, []),
                parts=parts,
                delivery=deliveries.get(pk),
                reported=reported.get(pk),
            )
        )
        for pk, row in rows.items()
    }


def _undelivered(run_ids: set[str]) -> dict[str, OutboxEntry]:
    kinds = (Kind.DECIDED, Kind.ANSWER_THREAD)
    open_entries = OutboxEntry.objects.filter(delivered_at=None, kind__in=kinds, subject__in=run_ids)
    return {str(entry.payload.get("approval_id")): entry for entry in open_entries.order_by("id")}


def _questions_about(unknown: list[Effect]) -> dict[str, list[Approval]]:
    asked = Approval.objects.filter(kind=Approval.Kind.OUTCOME, run_id__in={effect.run_id for effect in unknown})
    found: dict[str, list[Approval]] = {}
    for question in asked.order_by("opened_at", "pk"):
        about = str(question.arguments.get("approval_id"))
        found.setdefault(about, []).append(question)
    return found


def _parts_alive() -> dict[str, str]:
    alive = PartHeartbeat.objects.filter(last_seen_at__gt=DatabaseNow() - health.SILENT_AFTER)
    return dict(alive.order_by("last_seen_at").values_list("part", "detail"))


def _standstill(facts: _Facts) -> Standstill:
    """Find the cause, nearest to the effect first."""
    if facts.reported is not None:
        return _of_report(facts.reported)
    refused = facts.steps.get(Step.REFUSED)
    if facts.delivery is not None:
        return _of_refused_answer(refused, facts.delivery) if refused else _of_answer(facts.delivery)
    if facts.effect is not None:
        return _of_effect(facts, facts.effect)
    if refused is not None:
        return Standstill("refused", _not_done(refused), refused.at, is_final=True)
    if facts.approval.agent_server:
        return _of_thread(facts)
    if facts.run is not None and facts.run.status not in Run.OPEN:
        return _of_ended_run(facts, facts.run)  # whatever is still on its way to it: telling it helps nobody
    if facts.run is not None and facts.run.paused and facts.run.status == Run.Status.PAUSED:
        return _of_paused_run(facts, facts.run.paused)
    if facts.entry is not None:
        return _of_delivery(facts, facts.entry)
    if facts.run is None:
        return _unheard(facts)
    if (resumed := facts.steps.get(Step.RESUMED)) is not None:
        return _of_turn(facts.run, resumed)
    return _unheard(facts)


def _of_effect(facts: _Facts, effect: Effect) -> Standstill:
    if effect.status == Effect.Status.FAILED:
        sentence = "The tool said no, and nothing happened. The agent was told."
        return Standstill("failed", sentence, effect.finished_at or effect.started_at, effect.error, is_final=True)
    if effect.status == Effect.Status.UNKNOWN:
        return _of_unknown(facts, effect)
    if facts.run is not None and facts.run.status not in Run.OPEN:
        sentence = f"The run {_ended(facts.run)} while the effect was under way. Nobody has seen its end."
        return Standstill("slow", sentence, effect.started_at, _error_of(facts.run), may_settle=True)
    attempts = f"{effect.attempts} attempts, under one key" if effect.attempts > 1 else "one attempt"
    sentence = f"The effect has been under way for longer than the tool may take ({attempts})."
    if "worker" not in facts.parts:
        sentence += " No worker is alive."
    elif effect.is_idempotent:
        sentence += " It is asked again by itself until there is an answer."
    return Standstill("slow", sentence, effect.started_at, _failure_of(facts.run))


def _of_unknown(facts: _Facts, effect: Effect) -> Standstill:
    last = facts.questions[-1] if facts.questions else None
    may_settle = _may_settle(facts.run, last)
    question_id = last.pk if last is not None and last.is_open else ""
    if question_id:
        then = "A person has to say whether it happened."
    elif last is None:
        then = "The run ended before it could ask a person." if may_settle else "The run is about to ask a person."
    elif last.status == Approval.Status.DECIDED:
        then = "A person has said whether it happened, but the run ended first." if may_settle else _SAID
    else:
        then = "The question whether it happened got no answer."
    return Standstill(
        "unknown",
        f"The attempt was cut off and nobody saw its end. {then}",
        effect.started_at,
        effect.error,
        may_settle=may_settle,
        question_id=question_id,
        is_final=may_settle,
    )


_SAID = "A person has said whether it happened; the run is taking that up."


def _may_settle(run: Run | None, question: Approval | None) -> bool:
    """Return whether nobody else will settle an unknown effect: its question is closed, or nobody asks or hears it."""
    is_over = run is None or run.status not in Run.OPEN
    if question is None or question.status == Approval.Status.DECIDED:
        return is_over
    return not question.is_open


def _of_delivery(facts: _Facts, entry: OutboxEntry) -> Standstill:
    since = entry.created_at
    if "relay" not in facts.parts:
        sentence = "The run has not been told: no relay is alive to do it. It is told as soon as one is."
    elif facts.parts["relay"].startswith("waiting"):
        sentence = f"The run has not been told: Temporal is away{_attempts(entry)}. It is told once Temporal is back."
    elif entry.attempts:
        sentence = f"The run could not be told{_attempts(entry)}; it is tried again at least every minute."
    else:
        sentence = "The run has not been told yet: the relay has much to do."
    return Standstill("undelivered", sentence, since, entry.last_error, may_deliver=True)


def _of_thread(facts: _Facts) -> Standstill:
    """Say why a thread on an agent server has not gone on with the decision. One query."""
    server = facts.approval.agent_server
    if facts.entry is not None:
        if "relay" not in facts.parts:
            sentence = f"{server} has not been told: no relay is alive to do it. It is told as soon as one is."
        else:
            sentence = f"{server} has not taken the answer yet{_attempts(facts.entry)}; it is sent again by itself."
        return Standstill("undelivered", sentence, facts.entry.created_at, facts.entry.last_error, may_deliver=True)
    question = ThreadQuestion.objects.filter(run_id=facts.approval.run_id, asked_as=facts.approval.interrupt_id).first()
    told = facts.steps.get(Step.SIGNALLED)
    since = told.at if told else facts.approval.closed_at or facts.approval.opened_at
    if told is None:
        others = "The thread goes on when all parts of its question are decided."
        return Standstill("not_taken", others, since, may_deliver=True)
    words = question.detail if question is not None else ""
    sentence = f"{server} was told, and its thread has not gone on."
    return Standstill("not_taken", sentence, since, words, may_deliver=True)


def _attempts(entry: OutboxEntry) -> str:
    return f" ({entry.attempts} attempt{'s' if entry.attempts > 1 else ''})" if entry.attempts else ""


def _of_report(reported: ReportedOutcome) -> Standstill:
    if reported.status == ReportedOutcome.Status.FAILED:
        sentence = "The program says that it failed, and that nothing happened."
        return Standstill("failed", sentence, reported.at, reported.error, is_final=True)
    if reported.status == ReportedOutcome.Status.UNKNOWN:
        sentence = "The program says that it does not know whether it happened. Find out where it would have happened."
        return Standstill("unknown", sentence, reported.at, reported.error, is_final=True)
    return Standstill("not_known", "The program says that it was done.", reported.at, is_final=True)


def _not_done(refused: ReceiptStep) -> str:
    return f"Not done. {refused.detail}" if refused.detail else "Not done: no reason was recorded."


def _of_refused_answer(refused: ReceiptStep, delivery: AnswerProgress) -> Standstill:
    if delivery.state == "delivered":
        return Standstill("refused", f"{_not_done(refused)} The program was told so.", refused.at, is_final=True)
    told = _of_answer(delivery)
    return replace(told, cause="refused", sentence=f"{_not_done(refused)} {told.sentence}", since=refused.at)


def _of_answer(delivery: AnswerProgress) -> Standstill:
    if delivery.state == "kept":
        sentence = "The program has not fetched its answer, which is there for it. It may not be running."
        return Standstill("not_fetched", sentence, delivery.since)
    if delivery.state == "delivered":
        sentence = "The program has the answer, and has not said what came of it. It may have been done or not."
        return Standstill("not_reported", sentence, delivery.since)
    times = f"{delivery.attempts} attempt{'' if delivery.attempts == 1 else 's'}"
    if delivery.state == "held":
        return Standstill("undelivered", delivery.cause, delivery.since, is_final=True)
    if delivery.state == "undelivered":
        sentence = f"The program did not take the answer for as long as was promised ({times}); nobody sends it now."
        return Standstill("undelivered", sentence, delivery.since, delivery.cause, may_deliver=True, is_final=True)
    if not delivery.attempts:
        sentence = "The program has not been sent the answer yet; that happens by itself."
        return Standstill("undelivered", sentence, delivery.since, delivery.cause, may_deliver=True)
    sentence = f"The program has not taken the answer yet ({times}); it is sent again by itself."
    return Standstill("undelivered", sentence, delivery.since, delivery.cause, may_deliver=True)


def _of_ended_run(facts: _Facts, run: Run) -> Standstill:
    since = run.closed_at or facts.approval.closed_at or run.created_at
    cause, sentence = _CAUSES.get(str((run.error or {}).get("kind")), ("", ""))
    if cause:
        return Standstill(cause, f"{sentence} Nothing was done.", since, _error_of(run), is_final=True)
    if Step.RESUMED in facts.steps:
        sentence = f"The run took the decision up, but {_ended(run)} before the effect began. Nothing was done."
    else:
        sentence = f"The run {_ended(run)} before the decision reached it. Nothing was done."
    return Standstill("run_ended", sentence, since, _error_of(run), is_final=True)


def _of_paused_run(facts: _Facts, paused: dict[str, Any]) -> Standstill:
    since = max(datetime.fromisoformat(paused["at"]), facts.approval.closed_at or facts.approval.opened_at)
    sentence = f"{paused['by']} has paused the run. It takes the decision up once somebody resumes it."
    return Standstill("not_taken", sentence, since, str(paused["reason"]))


#: kind of a run's error -> why a decision of it did not take effect
_CAUSES = {
    "AgentCodeChanged": ("code_changed", "The agent's code changed while the run was open, so the run failed."),
    "CheckpointsGone": ("checkpoints_gone", "What the run had reached is not kept any more, so the run failed."),
    "NotCarriedOut": ("passed_over", "The agent took the decision up and came to its end without doing it."),
}


def _of_turn(run: Run, resumed: ReceiptStep) -> Standstill:
    if run.status != Run.Status.RUNNING or resumed.detail != f"turn {run.turn}":
        sentence = "The run took the decision up and went on without having the effect done."
        return Standstill("passed_over", sentence, resumed.at, is_final=True)
    if failure := _failure_of(run):
        attempt = run.failure["attempt"] if run.failure else 1
        sentence = f"The run took the decision up, but its turn fails (attempt {attempt}); it is tried again by itself."
        return Standstill("turn_fails", sentence, resumed.at, failure)
    sentence = "The run took the decision up, and its turn has not come to the effect yet."
    return Standstill("turn_fails", sentence, resumed.at)


def _unheard(facts: _Facts) -> Standstill:
    told = facts.steps.get(Step.SIGNALLED)
    since = told.at if told else facts.approval.closed_at or facts.approval.opened_at
    if "worker" not in facts.parts:
        sentence = "The run was told, but no worker is alive to take it up."
    else:
        sentence = "The run was told, but has not taken the decision up."
    return Standstill("not_taken", sentence, since, _failure_of(facts.run), may_deliver=True)


def _ended(run: Run) -> str:
    return {"failed": "failed", "cancelled": "was cancelled"}.get(run.status, "finished")


def _error_of(run: Run) -> str:
    return str(run.error.get("message", "")) if run.error else ""


def _failure_of(run: Run | None) -> str:
    """Return why the newest attempt of the turn under way failed, "" when none did."""
    failure: dict[str, Any] = (run.failure or {}) if run else {}
    return str(failure["message"]) if run and failure.get("turn") == run.turn else ""


def deliver_again(*, approval_id: str, by: User) -> None:
    """Have the relay tell the run of the decision now. A second click while it is on its way changes nothing.

    Telling again is harmless: Temporal drops a signal with a request id that it knows, and the workflow a decision
    that it has seen. Raises NoSuchApproval, NotTheirs, NothingToRedrive where telling cannot help.
    """
    with transaction.atomic():
        approval = locked_for_redrive(approval_id, by)
        check_late(approval)
        found = standstill_of([approval_id]).get(approval_id)
        if found is not None and found.cause in ("run_ended", "code_changed", "checkpoints_gone"):
            raise NothingToRedrive(found.sentence)
        if found is None or not found.may_deliver:
            raise NothingToRedrive("The run has been told; telling it again would not help.")
        if not _make_due(approval):
            return
        announce("inbox", f"approval:{approval_id}")
        audit.record(actor=by.username, kind="approval.redelivered", subject=approval_id, body={"cause": found.cause})


def _make_due(approval: Approval) -> bool:
    """Make the open entry due, or make a new one; return False when one is due already."""
    decision = closing_decision(approval)
    assert decision is not None
    entry = _undelivered({approval.run_id}).get(approval.pk)
    if entry is None:
        payload: dict[str, Any] = {
            "run_id": approval.run_id,
            "approval_id": approval.pk,
            "decision_id": decision.pk,
        }
        if approval.agent_server:
            payload["again"] = True  # also where its server has taken it before
        outbox.enqueue(
            kind=Kind.ANSWER_THREAD if approval.agent_server else Kind.DECIDED, subject=approval.run_id, payload=payload
        )
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [outbox.CHANNEL])
    waiting = OutboxEntry.objects.filter(pk=entry.pk, delivered_at=None, due_at__gt=DatabaseNow())
    return bool(waiting.update(due_at=DatabaseNow()))


def settle_unknown(
    *, approval_id: str, by: User, happened: bool, reason: str, signed_in_at: datetime | None = None
) -> None:
    """Take a person's word for an effect whose end nobody saw, where no open question can take it.

    While the run's own question is open, that is where it is answered. Where it was never asked, the rule that would
    hold for it says who may. Where the policy wants several people to say the same, one person's word is not enough
    here either. The same answer again changes nothing. `signed_in_at`: as for a decision. Raises NoSuchApproval,
    NotTheirs, InvalidChange without a reason, NothingToRedrive.
    """
    reason = checked_reason(reason)
    with transaction.atomic():
        run_id = Effect.objects.filter(pk=approval_id).values_list("run_id", flat=True).first()
        held = hold_family(run_id, approval_id) if run_id is not None else None
        approval = locked_for_redrive(approval_id, by)
        if held is None:
            raise NothingToRedrive("No effect was started, so there is nothing to say of it.")
        effect, family = held
        wanted = Effect.Status.DONE if happened else Effect.Status.FAILED
        if effect.status == wanted:
            return
        if effect.status not in (Effect.Status.UNKNOWN, Effect.Status.EXECUTING):
            raise NothingToRedrive(f"It is known meanwhile: the effect is {effect.status}.")
        if effect.status == Effect.Status.EXECUTING:
            check_late(approval)  # the tool may still be at it, and the first word stands
        questions = _questions_about([effect]).get(approval_id, [])
        question = questions[-1] if questions else None
        if not _may_settle(effect.run, question):
            raise NothingToRedrive("The run asks this itself: answer its question, or wait until it is there.")
        right = _check_may_settle(by, question or _question_never_asked(approval), signed_in_at)
        _check_enough_say_so(right, approval, question, happened=happened)
        said = f"{by.username} says that it {'happened' if happened else 'did not happen'}: {reason}"
        if happened:
            result = {"confirmed_by": by.username, "reason": reason}
            close_with_twins(effect, family, wanted, result=result, actor=by.username)
        else:
            close_with_twins(effect, family, wanted, error=said, actor=by.username)


def _check_may_settle(by: User, question: Approval, signed_in_at: datetime | None) -> User:
    """Refuse who may not answer the question; return whose right it is, where somebody stands in."""
    permit = may_decide(by, question)
    if not permit.allowed:
        raise NotTheirs(permit.sentence)
    if fault := question.given_terms.sign_in_fault(signed_in_at, database_now()):
        raise NotTheirs(fault)
    return permit.on_behalf_of or by


def _question_never_asked(approval: Approval) -> Approval:
    """Return the question that nobody came to ask about the effect, unsaved, as it would stand now.

    Whom its ladder would have asked besides may answer it too.
    """
    terms = _terms_of_a_question(approval)
    return Approval(
        kind=Approval.Kind.OUTCOME,
        terms=terms.to_json(),
        audience=sorted({*terms.groups, *terms.escalate_to}),
        people=list(terms.people),
        requested_by=approval.requested_by,
        agent_owners=approval.agent_owners,
    )


def _check_enough_say_so(by: User, approval: Approval, question: Approval | None, *, happened: bool) -> None:
    """Refuse one person's word where the policy, as it is now, wants several who say the same.

    Those who have said the same in the question count, whether or not they were enough then.
    """
    terms = asking.terms_now(question) if question else _terms_of_a_question(approval)
    if terms.needed == 1:
        return
    said = Decision(verdict=Verdict.APPROVE if happened else Verdict.REJECT)
    persons = agreeing_persons(question, terms, answer=said) if question else set()
    count = len(persons | {persons_of([by])[by.pk]})
    if count < terms.needed:
        who = people_of(terms.groups, terms.people)
        raise NothingToRedrive(
            f"By the rule “{terms.rule}” {terms.needed} different people of {who} must say the same of this; with you "
            f"it is {count}, and no open question takes another word. For fewer an admin has to change the rule."
        )


def _terms_of_a_question(approval: Approval) -> Terms:
    """Return the terms of a question that nobody came to ask; of its possible risks, those that want more people."""
    asked = {"approval_id": approval.pk, "tool": approval.tool, "arguments": approval.arguments}
    facts = replace(asking.facts_of(approval, asked), tool=OUTCOME_TOOL, kind=Approval.Kind.OUTCOME, is_known=True)
    possible = [asking.terms_for(replace(facts, risk=risk)) for risk in ("high", approval.tool_risk)]
    return max(possible, key=lambda terms: terms.needed)
