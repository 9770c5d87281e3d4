"""What pages and other layers read about approvals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db.models import Count, Exists, F, OuterRef, Prefetch, Q, QuerySet, Subquery, prefetch_related_objects
from django.db.models.functions import Substr

from approvals.errors import NoSuchApproval
from approvals.models import Approval, Decision, ProposalVersion, ReceiptStep, StandingApproval, Verdict
from approvals.people.permissions import AGREEING, STANDING, visible_to, wants_somebody
from approvals.proposal.terms import Terms
from console.clock import DatabaseNow


def approval_for(user: AbstractBaseUser | AnonymousUser, approval_id: str) -> Approval:
    """Return one approval with its decisions and receipt. Raises NoSuchApproval, also for what may not be seen."""
    found = with_parts(visible_to(user)).annotate(read_at=DatabaseNow()).filter(pk=approval_id).first()
    if found is None:
        raise NoSuchApproval
    return found


def own_of(program: User, approval_id: str) -> Approval:
    """Return what this program has asked for itself. Raises NoSuchApproval, also for what somebody else asked for."""
    mine = Approval.objects.filter(source=Approval.Source.PROGRAM, requested_by=program, pk=approval_id)
    found = mine.select_related("requested_by").first()
    if found is None:
        raise NoSuchApproval
    return found


def approval_and_versions_for(user: AbstractBaseUser | AnonymousUser, approval_id: str) -> Approval:
    """Return one approval as `approval_for` does, with the versions of its proposal besides."""
    found = approval_for(user, approval_id)
    versions = Prefetch("versions", ProposalVersion.objects.select_related("made_by").order_by("version"))
    prefetch_related_objects([found], versions)
    return found


def with_parts(rows: QuerySet[Approval]) -> QuerySet[Approval]:
    decisions = Decision.objects.select_related("by", "on_behalf_of").annotate(taken_back_at=_TAKEN_BACK_AT)
    return rows.select_related("requested_by", "claimed_by").prefetch_related(
        Prefetch("decisions", decisions.order_by("number")),
        Prefetch("receipt", ReceiptStep.objects.order_by("at", "id")),
    )


#: when the standing approval that a decision was made by was taken back
_TAKEN_BACK_AT = Subquery(
    StandingApproval.objects.filter(pk=Substr(OuterRef("source"), len(STANDING) + 1)).values("revoked_at")[:1]
)


def proposed_digest(approval: Approval) -> str:
    """Return the digest of what was proposed at first. A query only where there is a later version."""
    if approval.version == 1:
        return approval.digest
    digest: str = approval.versions.values_list("digest", flat=True).get(version=1)
    return digest


def outcome_of(approval: Approval, decision: Decision, proposed: str) -> str:
    """Return what the closing decision comes to for who asked; `proposed`: the digest of what they asked for.

    Agreement to arguments that are not the proposed ones is an edit, whoever agreed last.
    """
    if decision.verdict not in AGREEING:
        return decision.verdict
    return str(Verdict.APPROVE if approval.digest == proposed else Verdict.EDIT)


def note_of(decisions: Sequence[Decision]) -> str:
    """Return the comment for who asked: that of the closing decision, else of whoever changed the proposal before it.

    `decisions`: all of the approval's in their order; the last one has closed it.
    """
    closing = decisions[-1]
    if closing.note or closing.verdict not in AGREEING:
        return closing.note
    edits = (one for one in reversed(decisions) if (one.verdict, one.for_digest) == (Verdict.EDIT, closing.for_digest))
    return next((edit.note for edit in edits), "")


@dataclass(frozen=True)
class Ending:
    """How an approval ended, for who asked."""

    verdict: str  # that of the closing decision; `expired` or `withdrawn` when nobody decided
    proposed_digest: str  # of the bytes that the agent had proposed
    digest: str  # of what may be executed
    decision_id: str | None = None
    note: str = ""
    answer: Any = None  # in the tool's place, for the verdict `respond`
    arguments: dict[str, Any] | None = None  # those of the current version, for the verdict `edit`
    decided_by: str | None = None


@dataclass(frozen=True)
class Settled:
    """What the rows say of one approval, which is one place of an interrupt; `ending` is `None` while it is pending."""

    approval_id: str
    interrupt_id: str
    place: int  # among those that the interrupt asks, from 0
    tool: str
    checkpoint_id: str  # where the agent had asked
    next_step_at: datetime | None  # of its ladder
    ending: Ending | None


def settled(approval_ids: list[str]) -> list[Settled]:
    """Read what became of the approvals, in the order asked; unknown ids are left out."""
    decisions = Decision.objects.select_related("by").order_by("number")
    rows = Approval.objects.filter(pk__in=approval_ids).prefetch_related(Prefetch("decisions", decisions))
    found = {row.pk: _settled(row) for row in rows.defer("arguments_schema", "agent_words", "canonical")}
    return [found[approval_id] for approval_id in approval_ids if approval_id in found]


def _settled(approval: Approval) -> Settled:
    ending, next_step_at = None, None
    if approval.is_open:
        rung = approval.ladder[min(approval.steps_climbed, len(approval.ladder) - 1)]
        next_step_at = datetime.fromisoformat(rung["at"])
    else:
        ending = _ending_of(approval)
    return Settled(
        approval_id=approval.pk,
        interrupt_id=approval.interrupt_id,
        place=approval.interrupt_place,
        tool=approval.tool,
        checkpoint_id=approval.checkpoint_id,
        next_step_at=next_step_at,
        ending=ending,
    )


def _ending_of(approval: Approval) -> Ending:
    proposed = proposed_digest(approval)
    if approval.status != Approval.Status.DECIDED:
        return Ending(approval.status, proposed, approval.digest)
    decisions = list(approval.decisions.all())
    decision = decisions[-1]
    verdict = outcome_of(approval, decision, proposed)
    return Ending(
        verdict=verdict,
        proposed_digest=proposed,
        digest=approval.digest,
        decision_id=decision.pk,
        note=note_of(decisions),
        answer=decision.answer,
        arguments=approval.arguments if verdict == Verdict.EDIT else None,
        decided_by=decision.by_name,
    )


def agreed_names(approval: Approval, decisions: list[Decision]) -> list[str]:
    """Return who agrees to the current version, a name for each vote that counts: "bob for alice" for a delegate.

    `decisions`: the approval's, from `with_parts`. What can never count again is left out, as in
    `permissions.agreeing_persons`; who may just now not decide is not, for that would cost queries.
    """
    terms = approval.given_terms
    editor_counts = "editor" not in terms.four_eyes
    return [
        f"{decision.by_name} for {decision.on_behalf_of.username}" if decision.on_behalf_of else decision.by_name
        for decision in decisions
        if decision.for_version == approval.version
        and decision.verdict in AGREEING
        and (editor_counts or decision.verdict != Verdict.EDIT)
        and not (decision.source.startswith(STANDING) and _is_void(approval, terms, decision))
    ]


def _is_void(approval: Approval, terms: Terms, decision: Any) -> bool:
    """Say whether a vote in advance is none: the terms want somebody, or it was taken back before it was decided."""
    taken_back_at: datetime | None = decision.taken_back_at  # annotated in `with_parts`
    is_taken_back = taken_back_at is not None and (approval.closed_at is None or taken_back_at <= approval.closed_at)
    return is_taken_back or wants_somebody(terms)


def untracked(approval: Approval, decisions: Sequence[Decision]) -> dict[str, Any] | None:
    """Return what stands in the place of the effect where the agent's own tool ran it, outside the ledger; else None.

    `decisions`: the approval's in their order.
    """
    is_decided = approval.status == Approval.Status.DECIDED and approval.kind == Approval.Kind.ACTION
    if approval.is_tracked or not is_decided or decisions[-1].verdict not in AGREEING:
        return None
    nothing = dict.fromkeys(("arguments", "result", "started_at", "finished_at"))
    return {"status": "not_tracked", "tool": approval.tool, "digest": None, "error": "", "attempts": 0, **nothing}


def answer_form_of(approval_id: str) -> dict[str, Any] | None:
    """Return the schema of an answer that may be any JSON, None where answers are text. One query."""
    row = Approval.objects.filter(pk=approval_id).values_list("kind", "answer_schema").first()
    return row[1] if row is not None and (row[0] == Approval.Kind.QUESTION or row[1]) else None


@dataclass(frozen=True)
class Sibling:
    """Another request of the same interrupt: the agent goes on when all of them are decided."""

    approval_id: str
    place: int  # from 0
    summary: str
    status: str


def siblings_of(approvals: Sequence[Approval]) -> dict[str, list[Sibling]]:
    """Return for each approval the other requests of its interrupt, in their order. One query, none where none are."""
    shared = [approval for approval in approvals if approval.asked.get("places", 1) > 1]
    if not shared:
        return {}
    rows = Approval.objects.filter(
        run_id__in={one.run_id for one in shared}, interrupt_id__in={one.interrupt_id for one in shared}
    ).order_by("interrupt_place")
    found: dict[tuple[str, str], list[Sibling]] = {}
    for row in rows.values("pk", "run_id", "interrupt_id", "interrupt_place", "summary", "status"):
        sibling = Sibling(row["pk"], row["interrupt_place"], row["summary"], row["status"])
        found.setdefault((row["run_id"], row["interrupt_id"]), []).append(sibling)
    return {
        one.pk: [sibling for sibling in found[one.run_id, one.interrupt_id] if sibling.approval_id != one.pk]
        for one in shared
    }


def call_approvals_of(run_id: str) -> dict[str, tuple[str, str]]:
    """Return what was approved of the run's model's tool calls: call id -> approval id and approved digest.

    But for what guarded tools asked by themselves: they get their own answers, in the order in which they had asked.
    """
    decided = Approval.objects.filter(
        run_id=run_id, status=Approval.Status.DECIDED, kind=Approval.Kind.ACTION, asked__has_key="call_id"
    )
    decided = decided.exclude(dialect="guard")
    refused = Decision.objects.filter(approval=OuterRef("pk")).exclude(verdict__in=AGREEING)
    rows = decided.exclude(Exists(refused)).order_by("opened_at", "pk").values_list("asked", "pk", "digest")
    return {asked["call_id"]: (approval_id, digest) for asked, approval_id, digest in rows}


def waiting_of_runs(run_ids: list[str]) -> dict[str, list[str]]:
    """Return the ids of the pending approvals of each run, oldest first; runs without any are left out."""
    waiting: dict[str, list[str]] = {}
    pending = Approval.objects.filter(run_id__in=run_ids, status=Approval.Status.PENDING).order_by("opened_at")
    for run_id, approval_id in pending.values_list("run_id", "id"):
        waiting.setdefault(run_id, []).append(approval_id)
    return waiting


def approved_of_run(run_id: str) -> QuerySet[Approval]:
    """Return what people, or the policy, have approved of a run's actions and what has neither been done nor refused.

    Who does it knows besides what has begun. Answers that cause no effect are left out: a rejection, silence, an answer
    in the tool's place, a question about an outcome.
    """
    approved = Approval.objects.filter(
        run_id=run_id,
        status=Approval.Status.DECIDED,
        kind=Approval.Kind.ACTION,
        source=Approval.Source.AGENT,
        is_tracked=True,
        is_seeded=False,
        took_effect_at=None,
    )
    no_effect = Decision.objects.filter(approval=OuterRef("pk")).exclude(verdict__in=AGREEING)
    refused = ReceiptStep.objects.filter(approval=OuterRef("pk"), step=ReceiptStep.Step.REFUSED)
    return approved.exclude(Exists(no_effect)).exclude(Exists(refused)).order_by("opened_at", "pk")


def asked_by_run(run_id: str, *, most: int, before: tuple[datetime, str] | None) -> list[Approval]:
    """Return requests of a run, newest first, with their decisions; `most` and one more. Two queries.

    `before`: a moment and an id, for those that are older.
    """
    rows = _of_run(run_id)
    if before is not None:
        moment, last_id = before
        rows = rows.filter(Q(opened_at__lt=moment) | Q(opened_at=moment, id__lt=last_id))
    return list(rows.order_by("-opened_at", "-id")[: most + 1])


def pending_of_run(run_id: str, *, most: int) -> list[Approval]:
    """Return what waits for people, the soonest to expire first. Two queries."""
    return list(_of_run(run_id).filter(status=Approval.Status.PENDING).order_by("due_at", "id")[:most])


def counted_of_run(run_id: str) -> dict[str, int]:
    """Return how many requests the run has in each state. One query."""
    rows = Approval.objects.filter(run_id=run_id).order_by().values_list("status").annotate(number=Count("id"))
    return dict(rows)


def _of_run(run_id: str) -> QuerySet[Approval]:
    return (
        Approval.objects.filter(run_id=run_id)
        .defer("canonical", "arguments_schema", "agent_words", "search_words")
        .prefetch_related(Prefetch("decisions", Decision.objects.select_related("by").order_by("number")))
        .annotate(requester=F("requested_by__username"))
    )
