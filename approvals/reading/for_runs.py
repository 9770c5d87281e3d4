"""What a run learns of its requests: what became of them, which wait, which were approved and not done yet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import Count, Exists, F, OuterRef, Prefetch, QuerySet

from approvals.models import Approval, Decision, ReceiptStep, Verdict
from approvals.people.permissions import AGREEING
from approvals.record.closings import CLOSING_VERDICT, agreed_among
from console import planned_once
from console.lists.keyset import Order, page_after
from console.plain_rows import Rows


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
    call_id: str = ""  # of the model's call that it was about, "" where none in the state was the same
    is_tracked: bool = True  # the effect ledger asks once more before anything is done; nothing is done for a question


_ROWS: Final = Rows(Approval, but_for=("arguments_schema", "answer_schema", "agent_words", "search_words", "deciders"))
_DECISIONS: Final = Rows(Decision)

# By hand, for it stands in the path of every click, between the signal and the agent's next node.
_SETTLED = f"""
SELECT {_ROWS.columns("a")},
       (SELECT v.digest FROM approvals_proposalversion v WHERE v.approval_id = a.id AND v.version = 1),
       (SELECT json_agg(json_build_array({_DECISIONS.json("d")}, u.username) ORDER BY d.number)
        FROM approvals_decision d LEFT JOIN auth_user u ON u.id = d.by_id WHERE d.approval_id = a.id)::text
FROM approvals_approval a WHERE a.id = ANY(%s)
"""


def settled(approval_ids: list[str]) -> list[Settled]:
    """Read what became of the approvals, in the order asked; unknown ids are left out. One query, none for none."""
    if not approval_ids:
        return []
    with planned_once.cursor() as cursor:
        cursor.execute(_SETTLED, [approval_ids])
        rows = cursor.fetchall()
    found: dict[str, Settled] = {}
    for *row, proposed, votes in rows:
        approval = _ROWS.read(row)
        found[approval.pk] = _settled(approval, proposed, json.loads(votes or "[]"))
    return [found[approval_id] for approval_id in approval_ids if approval_id in found]


#: The same as one JSON value, for a statement that reads more; `asked` stands for the approvals.
SETTLED_JSON: Final = f"""
(SELECT json_agg(json_build_array(
    {_ROWS.json("a")},
    (SELECT v.digest FROM approvals_proposalversion v WHERE v.approval_id = a.id AND v.version = 1),
    (SELECT json_agg(json_build_array({_DECISIONS.json("d")}, u.username) ORDER BY d.number)
     FROM approvals_decision d LEFT JOIN auth_user u ON u.id = d.by_id WHERE d.approval_id = a.id)
)) FROM asked a)::text
"""


def read_settled(found: str | None, approval_ids: Sequence[str]) -> list[Settled]:
    """Return what SETTLED_JSON has found, in the order of the ids; unknown ids are left out."""
    rows = [(_ROWS.read_json(row), proposed, votes) for row, proposed, votes in json.loads(found or "[]")]
    by_id = {approval.pk: _settled(approval, proposed, votes or []) for approval, proposed, votes in rows}
    return [by_id[approval_id] for approval_id in approval_ids if approval_id in by_id]


def _settled(approval: Approval, proposed: str, votes: list[Any]) -> Settled:
    """Return what became of one approval. `votes`: each decision in its order, with the name of who made it."""
    return Settled(
        approval_id=approval.pk,
        interrupt_id=approval.interrupt_id,
        place=approval.interrupt_place,
        tool=approval.tool,
        checkpoint_id=approval.checkpoint_id,
        next_step_at=approval.next_step_at,
        ending=None if approval.is_open else _ending_of(approval, proposed, votes),
        call_id=approval.asked.get("call_id", ""),
        is_tracked=approval.is_tracked or approval.kind not in (Approval.Kind.ACTION, Approval.Kind.GO_ON),
    )


def _ending_of(approval: Approval, proposed: str, votes: list[Any]) -> Ending:
    if approval.status != Approval.Status.DECIDED:
        return Ending(approval.status, proposed, approval.digest)
    decisions = [_DECISIONS.read_json(vote) for vote, _ in votes]
    decision, name = decisions[-1], votes[-1][1]
    verdict = outcome_of(approval, decision, proposed)
    return Ending(
        verdict=verdict,
        proposed_digest=proposed,
        digest=approval.digest,
        decision_id=decision.pk,
        note=note_of(decisions),
        answer=decision.answer,
        arguments=approval.arguments if verdict == Verdict.EDIT else None,
        decided_by=name or decision.by_name,
    )


def call_approvals_of(run_id: str) -> dict[str, tuple[str, str]]:
    """Return what was approved of the run's model's tool calls: call id -> approval id and approved digest.

    But for what guarded tools asked by themselves: they get their own answers, in the order in which they had asked.
    """
    with planned_once.cursor() as cursor:
        cursor.execute(_CALL_APPROVALS.format(run="%s", agreed=_AGREED), [run_id])
        return {call_id: (approval_id, digest) for call_id, approval_id, digest in cursor.fetchall()}


_CALL_APPROVALS: Final = """
SELECT a.asked ->> 'call_id' AS call_id, a.id, a.digest FROM approvals_approval a
WHERE a.run_id = {run} AND a.status = 'decided' AND a.kind = 'action' AND a.asked ? 'call_id' AND a.dialect <> 'guard'
  AND {agreed}
ORDER BY a.opened_at, a.id
"""
_AGREED: Final = f"{CLOSING_VERDICT} IN ('approve', 'edit')"
#: The same as one JSON value, for a statement that reads more and takes `run`.
CALL_APPROVALS_JSON: Final = f"""
(SELECT json_agg(json_build_array(c.call_id, c.id, c.digest))
 FROM ({_CALL_APPROVALS.format(run="%(run)s", agreed=_AGREED)}) AS c)::text
"""


def read_call_approvals(found: str | None) -> dict[str, tuple[str, str]]:
    """Return what CALL_APPROVALS_JSON has found, as `call_approvals_of`."""
    return {call_id: (approval_id, digest) for call_id, approval_id, digest in json.loads(found or "[]")}


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
        kind=Approval.Kind.ACTION,
        source=Approval.Source.AGENT,
        is_tracked=True,
        is_seeded=False,
        took_effect_at=None,
    )
    refused = ReceiptStep.objects.filter(approval=OuterRef("pk"), step=ReceiptStep.Step.REFUSED)
    return agreed_among(approved).exclude(Exists(refused)).order_by("opened_at", "pk")


def taken_up_outside_the_ledger() -> QuerySet[Approval]:
    """Return what was approved, by people or the policy, and taken up by its run, which does it past the ledger.

    A call of an agent's own tool, or that the agent may go on past a stop: what came of it is in no row.
    """
    taken_up = Approval.objects.filter(
        kind__in=(Approval.Kind.ACTION, Approval.Kind.GO_ON),
        source=Approval.Source.AGENT,
        is_tracked=False,
        is_seeded=False,
        took_effect_at__isnull=False,
    )
    return agreed_among(taken_up)


NEWEST_ASKED_FIRST: Final = Order("asked", ("opened_at", "id"), (datetime, str), is_descending=True)


def asked_by_run(run_id: str, *, most: int, cursor: str) -> tuple[list[Approval], str | None]:
    """Return a page of a run's requests, newest first, with their decisions, and the next cursor. Two queries."""
    return page_after(_of_run(run_id), NEWEST_ASKED_FIRST, cursor, most)


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
