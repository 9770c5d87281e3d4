"""One request with all its parts, and those of its run that stand beside it: with it, before it, after it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db.models import OuterRef, Prefetch, QuerySet, Subquery, prefetch_related_objects
from django.db.models.functions import Substr

from approvals.errors import NoSuchApproval
from approvals.models import Approval, Decision, ProposalVersion, ReceiptStep, StandingApproval, Verdict
from approvals.people.permissions import AGREEING, STANDING, visible_to, wants_somebody
from approvals.proposal.terms import Terms
from console.clock import DatabaseNow
from console.text.diff import Change, diff


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


def whole_request(user: AbstractBaseUser | AnonymousUser, approval_id: str) -> Approval:
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


def agreed_names(approval: Approval, decisions: list[Decision], verdicts: Collection[str] = AGREEING) -> list[str]:
    """Return who agrees to the current version, a name for each vote that counts: "bob for alice" for a delegate.

    `decisions`: the approval's, from `with_parts`. What can never count again is left out, as in
    `permissions.agreeing_persons`; who may just now not decide is not, for that would cost queries. `verdicts`: those
    who gave one of them instead.
    """
    terms = approval.given_terms
    editor_counts = "editor" not in terms.four_eyes
    return [
        f"{decision.by_name} for {decision.on_behalf_of.username}" if decision.on_behalf_of else decision.by_name
        for decision in decisions
        if decision.for_version == approval.version
        and decision.verdict in verdicts
        and (editor_counts or decision.verdict != Verdict.EDIT)
        and not (decision.source.startswith(STANDING) and _is_void(approval, terms, decision))
    ]


def denied_names(approval: Approval, decisions: list[Decision]) -> list[str]:
    """Return in the same way who says that it did not happen; nobody where that is not the question."""
    return agreed_names(approval, decisions, (Verdict.REJECT,)) if approval.kind == Approval.Kind.OUTCOME else []


def given_votes(approval: Approval, decisions: list[Decision]) -> int:
    """Return how many agree to the current version; of whether something happened, how many say the same at most."""
    return max(len(agreed_names(approval, decisions)), len(denied_names(approval, decisions)))


def _is_void(approval: Approval, terms: Terms, decision: Any) -> bool:
    """Return whether a vote in advance is none: the terms want somebody, or it was taken back before it was decided."""
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


@dataclass(frozen=True)
class AskedBefore:
    """The request of before, and what this one asks for differently."""

    approval: Approval
    changes: list[Change]
    is_same: bool  # byte for byte
    new_reads: list[str]  # "handbook 2 instead of 1"


def asked_before(approval: Approval) -> AskedBefore | None:
    """Return the newest request of the run for the same tool that was withdrawn before this one was asked."""
    if approval.source != Approval.Source.AGENT:
        return None
    rows = Approval.objects.filter(run_id=approval.run_id, tool=approval.tool, kind=approval.kind)
    withdrawn = rows.filter(status=Approval.Status.WITHDRAWN, closed_at__lte=approval.opened_at)
    before = withdrawn.exclude(pk=approval.pk).order_by("-closed_at", "-pk").first()
    if before is None:
        return None
    old, new = before.arguments, approval.arguments
    return AskedBefore(before, diff(old, new), before.digest == approval.digest, _new_reads(before, approval))


def asked_after(approval: Approval) -> Approval | None:
    """Return the request that the run asked in place of this one, which was withdrawn."""
    if approval.status != Approval.Status.WITHDRAWN or approval.source != Approval.Source.AGENT:
        return None
    rows = Approval.objects.filter(run_id=approval.run_id, tool=approval.tool, kind=approval.kind)
    return rows.filter(opened_at__gte=approval.closed_at).exclude(pk=approval.pk).order_by("opened_at", "pk").first()


def _new_reads(before: Approval, after: Approval) -> list[str]:
    old: dict[str, set[int]] = {}
    for read in before.dataset_versions:
        old.setdefault(read["dataset"], set()).add(read["version"])
    told = []
    for read in after.dataset_versions:
        versions = old.get(read["dataset"], set())
        if versions and read["version"] not in versions:
            told.append(f"{read['dataset']} version {read['version']} instead of {max(versions)}")
    return told
