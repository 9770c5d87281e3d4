"""Approvals in the JSON API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from ninja import Field, Header, Query, Router, Schema
from pydantic import BeforeValidator

from approvals import services
from approvals.models import Approval, Decision, ReceiptStep
from approvals.people.programs import external_id_of
from approvals.proposal.canonical import digest_of, read_canonical
from approvals.reading import listing, reach, requests
from approvals.reading.done_before import done_before
from approvals.reading.first_shown import note_shown, shown_at
from approvals.record.closings import withdrawals_of
from approvals.services.deciding import ClosedApproval
from console import ports, roles
from console.api_access import require
from console.http import signed_in_at
from console.ports import Executed, Read

router = Router(tags=["approvals"])


class DecisionIn(Schema):
    """A verdict on exactly what was shown: `version` and `digest` are the shown ones."""

    verdict: Literal["approve", "edit", "reject", "respond"]
    version: int
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    note: str = ""
    edited_arguments: dict[str, Any] | None = None
    answer: Any = None
    shown: Annotated[str, Field(max_length=500)] = ""  # as `GET approvals/{id}` gave it, where a least look is asked


@router.get("/approvals")
def list_approvals(
    request: HttpRequest,
    status: Literal["pending", "decided", "expired", "withdrawn", ""] = "",
    agent: str = "",
    tool: str = "",
    risk: str = "",
    mine: Annotated[bool, BeforeValidator(lambda given: given or False)] = False,  # empty: not narrowed, as all are
    search: str = "",
    batch: str = "",
    order: Literal["", "risk", "due_at", "opened_at"] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str = "",
) -> dict[str, Any]:
    """List approvals. By themselves pending ones go by deadline, others newest first; `risk`: risk, deadline, age.

    `batch`: those that a batch's runs ask. `mine`: those that one may decide. A service account gets what it has
    asked for, with `mine` and without.
    """
    user = require(request, "see_approvals")
    mine = mine and roles.may(user, "see")  # nobody else decides, and what they see is theirs
    filters = listing.Filters(
        status=status, agent=agent, tool=tool, risk=risk, search=search, mine=mine, order=order, batch=batch
    )
    page = listing.approvals_page(user, filters, cursor=cursor, limit=limit, with_everything=True)
    return {"items": approvals_json(request, page.rows), "next": page.next_cursor}


@router.get("/approvals/{approval_id}")
def get_approval(request: HttpRequest, approval_id: str) -> dict[str, Any]:
    """Return one approval.

    With what helps to decide one that is open: `done_before`, what its run did with the tool before it was set back,
    and what stands.
    """
    user = require(request, "see_approvals")
    found = requests.approval_for(user, approval_id)
    told = approval_json(request, found) | {"shown": note_shown(found, user)}
    if found.is_open:
        told["done_before"] = [
            {"approval_id": one.approval.pk, "is_certain": one.is_certain, "is_same": one.is_same, "at": one.at}
            for one in done_before(found)
        ]
    return told


@router.post("/approvals/{approval_id}/decision")
def post_decision(
    request: HttpRequest,
    response: HttpResponse,
    approval_id: str,
    body: DecisionIn,
    idempotency_key: Annotated[str, Header(alias="Idempotency-Key", max_length=200)] = "",
) -> dict[str, Any]:
    """Decide one approval; the same Idempotency-Key gets the same answer."""
    user = require(request, "see")  # whoever the policy names decides: `may_decide` says
    answer = services.Answer(**body.dict(exclude={"shown"}), idempotency_key=idempotency_key)
    recorded = services.decide_for_sure(
        approval_id=approval_id,
        reviewer=user,
        given=answer,
        circumstances=services.Circumstances(
            channel="api",
            signed_in_at=signed_in_at(request),
            shown_at=shown_at(body.shown, approval_id, body.version, user),
        ),
    )
    if recorded.closed is not None:
        told = _closed_json(request, recorded.closed)
    else:
        told = approval_json(request, requests.approval_for(user, approval_id))
    return {"approval": told, "decision": decision_json(recorded.decision)}


def _closed_json(request: HttpRequest, closed: ClosedApproval) -> dict[str, Any]:
    """Return the public shape of an approval that was just decided. Reads what concerns other rows only.

    Relay and worker want the processor now, and nothing can have been executed yet.
    """
    return _all(request, [closed.approval], [closed.decisions], [closed.receipt], executed={})[0]


def decision_json(decision: Decision) -> dict[str, Any]:
    return {
        "id": decision.pk,
        "by": decision.by_name,
        "verdict": decision.verdict,
        "note": decision.note,
        "at": decision.at,
        "channel": decision.channel,
    }


def approval_json(request: HttpRequest, approval: Approval) -> dict[str, Any]:
    """Return the public shape of one approval."""
    return approvals_json(request, [approval])[0]


def approvals_json(request: HttpRequest, approvals: list[Approval]) -> list[dict[str, Any]]:
    """Return the public shape of approvals whose decisions and receipts are loaded.

    What was executed and which dataset versions are current belong to other apps, which are asked once for all rows.
    """
    executed = ports.agent_plane().effects_of([approval.pk for approval in approvals])
    decisions = [list(approval.decisions.all()) for approval in approvals]
    receipts = [list(approval.receipt.all()) for approval in approvals]
    return _all(request, approvals, decisions, receipts, executed=executed)


def _all(
    request: HttpRequest,
    approvals: list[Approval],
    decisions: list[list[Decision]],
    receipts: list[list[ReceiptStep]],
    *,
    executed: Mapping[str, Executed],
) -> list[dict[str, Any]]:
    """Return the public shape of approvals, each with its decisions and receipt in their order."""
    reads = ports.data_plane().told_of_all([approval.dataset_versions for approval in approvals])
    withdrawn = {
        approval_id: {"by": one.by, "reason": one.reason} for approval_id, one in withdrawals_of(approvals).items()
    }
    siblings = requests.siblings_of(approvals)
    nobody = {approval_id: one.sentence for approval_id, one in reach.stranded(approvals, with_parts=True).items()}
    return [
        _one(request, approval, votes, receipt, read, executed.get(approval.pk))
        | {"withdrawal": withdrawn.get(approval.pk), "nobody_can_decide": nobody.get(approval.pk)}
        | {"decided_with": [{"id": one.approval_id, "status": one.status} for one in siblings.get(approval.pk, [])]}
        for approval, votes, receipt, read in zip(approvals, decisions, receipts, reads, strict=True)
    ]


def _one(
    request: HttpRequest,
    approval: Approval,
    decisions: list[Decision],
    receipt: list[ReceiptStep],
    reads: list[Read],
    executed: Executed | None,
) -> dict[str, Any]:
    canonical = bytes(approval.canonical)
    tool, arguments = read_canonical(canonical)
    return {
        "id": approval.pk,
        "status": approval.status,
        "kind": approval.kind,
        "version": approval.version,
        "digest": digest_of(canonical),
        "canonical": canonical.decode(),
        "tool": tool,
        "arguments": arguments,
        "arguments_schema": approval.arguments_schema,
        "answer_schema": approval.answer_schema,
        "summary": approval.summary,
        "agent_words": approval.agent_words,
        "agent": approval.agent,
        "risk": approval.risk,
        "verdicts": approval.verdicts,
        "run_id": approval.run_id,
        "source": approval.source,
        "external_id": external_id_of(approval),
        "requested_by": approval.requested_by.username if approval.requested_by else None,
        "audience": approval.audience,
        "quorum": {"needed": approval.needed, "given": requests.given_votes(approval, decisions)},
        "opened_at": approval.opened_at,
        "due_at": approval.due_at,
        "closed_at": approval.closed_at,
        "dataset_versions": reads,
        "receipt": [{"step": step.step, "at": step.at, "detail": step.detail} for step in receipt],
        "decisions": [decision_json(decision) for decision in decisions],
        "executed": executed or requests.untracked(approval, decisions),
        "effect_tracked": approval.is_tracked,
        "dialect": approval.dialect,
        "url": request.build_absolute_uri(reverse("approvals:approval", args=[approval.pk])),
    }
