"""Open the approval for a proposal, and put it under the terms that the policy gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction

from approvals.errors import NotAuthorised
from approvals.models import Approval, ProposalVersion, new_approval_id
from approvals.policies import asking
from approvals.proposal.canonical import digest_of, read_canonical
from approvals.proposal.summary import summary_of
from approvals.proposal.terms import Facts
from approvals.record import audit
from approvals.services.closing import close_by_policy
from approvals.services.standing import fitting_standing, use_standing
from console.clock import database_now
from console.live.announce import announce


@dataclass(frozen=True)
class Proposal:
    """What an agent or a program asks to be decided."""

    external_id: str  # run id + interrupt id and place, or the program's own id
    kind: str  # action, outcome, question or go_on
    canonical: bytes
    digest: str
    summary: str
    agent_words: str
    arguments_schema: dict[str, Any]
    risk: str  # as the tool declares it
    agent: str
    run_id: str
    interrupt_id: str
    checkpoint_id: str
    requested_by_id: int | None
    dataset_versions: list[dict[str, Any]] = field(default_factory=list)
    source: str = Approval.Source.AGENT
    agent_owners: tuple[str, ...] = ()  # user names
    tool_is_known: bool = True
    verdicts: tuple[str, ...] = ()  # narrows what the policy allows; empty narrows nothing
    deliver_to: dict[str, Any] | None = None
    approval_id: str = ""  # known beforehand to a program's watch; "" makes a new one
    audience: tuple[str, ...] = ()  # roles and user names, of whom the policy names; empty narrows nothing
    due_at: datetime | None = None  # earlier than the policy's deadline
    is_seeded: bool = False  # a test of attention, see approvals.services.seeding
    seeded_by: str = ""  # the user name of whoever made it
    interrupt_place: int = 0  # among those that the interrupt asks
    batch: str | None = None  # what started the run among others
    body_digest: str = ""  # of what a program sent, to tell a repetition from another request
    reports_outcome: bool = False  # the program will say what came of it
    answer_schema: Mapping[str, Any] = field(default_factory=dict)  # of an answer in the tool's place
    dialect: str = "own"  # the form in which the agent asked
    is_tracked: bool = True  # what is approved goes through the effect ledger
    call_id: str = ""  # of the model's tool call
    places: int = 1  # that the interrupt asks about
    model: str = ""  # that had the agent ask; "" where nobody knows
    server: str = ""  # the agent server on which the agent runs; "" is a worker of ours
    thread_id: str = ""  # there


def open_approval(proposal: Proposal) -> Approval:
    """Open the approval for one proposal; a second call with the same `external_id` returns the first one.

    Where the policy needs nobody, or denies, the approval is decided at once and on the record; else the standing
    approvals that cover it have their say. The digest is computed again from the bytes. Raises NotAuthorised when it
    differs from the proposal's.
    """
    if digest_of(proposal.canonical) != proposal.digest:
        raise NotAuthorised("The proposal's bytes do not match its digest.")
    with transaction.atomic(savepoint=False):
        approval, created = Approval.objects.get_or_create(
            external_id=proposal.external_id, defaults=_fields(proposal, database_now())
        )
        if created:
            _first_version(approval)
            announce("inbox", f"approval:{approval.pk}", f"run:{approval.run_id}", "runs")
            body = {
                "run": proposal.run_id,
                "tool": approval.tool,
                "digest": proposal.digest,
                "policy": approval.policy_version,
                "rule": approval.terms["rule"],
            }
            if approval.is_seeded:
                body |= {"seeded": True, "seeded_by": proposal.seeded_by}  # the record is for admins
            fitting = fitting_standing(approval)
            audit.record(actor=_actor(approval), kind="approval.opened", subject=approval.pk, body=body)
            if close_by_policy(approval) is None:
                use_standing(approval, fitting)
    return approval


def _fields(proposal: Proposal, now: datetime) -> dict[str, Any]:
    tool, arguments = read_canonical(proposal.canonical)
    facts = Facts(
        source=proposal.source,
        agent=proposal.agent,
        tool=tool,
        kind=asking.policy_kind(proposal.kind),
        risk=proposal.risk,
        arguments=arguments,
        is_known=proposal.tool_is_known,
        is_stale=partial(asking.is_stale, proposal.dataset_versions),
    )
    terms = asking.terms_for(facts)
    ladder = asking.until(proposal.due_at, asking.ladder_from(terms, now))
    audience = asking.narrow(terms, proposal.audience)
    return {
        "id": proposal.approval_id or new_approval_id(),
        "kind": proposal.kind,
        "source": proposal.source,
        "canonical": proposal.canonical,
        "digest": proposal.digest,
        "tool": tool,
        "tool_is_known": proposal.tool_is_known,
        "tool_risk": proposal.risk,
        "risk": terms.risk,
        "summary": summary_of(proposal.summary),
        "agent_words": proposal.agent_words,
        "arguments_schema": proposal.arguments_schema,
        "agent": proposal.agent,
        "agent_owners": list(proposal.agent_owners),
        "run_id": proposal.run_id,
        "batch": proposal.batch,
        "interrupt_id": proposal.interrupt_id,
        "interrupt_place": proposal.interrupt_place,
        "checkpoint_id": proposal.checkpoint_id,
        "dataset_versions": proposal.dataset_versions,
        "requested_by_id": proposal.requested_by_id,
        "deliver_to": proposal.deliver_to,
        "is_seeded": proposal.is_seeded,
        "policy_version": terms.policy_version,
        "terms": terms.to_json(),
        "asked": _asked(proposal),
        "answer_schema": dict(proposal.answer_schema),
        "dialect": proposal.dialect,
        "is_tracked": proposal.is_tracked,
        "audience": list(audience.groups),
        "people": list(audience.people),
        "verdicts": asking.verdicts_under(terms, proposal.verdicts),
        "needed": terms.needed,
        "ladder": [{"step": step, "at": at.isoformat()} for step, at in ladder],
        "opened_at": now,
        "due_at": ladder[-1][1],
    }


def _asked(proposal: Proposal) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "audience": list(proposal.audience),
        "body_digest": proposal.body_digest,
        "reports": proposal.reports_outcome,
    }
    if proposal.source == Approval.Source.PROGRAM or proposal.verdicts:
        asked["verdicts"] = list(proposal.verdicts)
    if proposal.call_id:
        asked["call_id"] = proposal.call_id
    if proposal.places > 1:
        asked["places"] = proposal.places
    if proposal.model:
        asked["model"] = proposal.model[:200]
    if proposal.server:
        asked |= {"server": proposal.server, "thread": proposal.thread_id}
    return asked


def _first_version(approval: Approval) -> None:
    ProposalVersion.objects.create(
        approval=approval,
        version=1,
        canonical=approval.canonical,
        digest=approval.digest,
        summary=approval.summary,
    )


def _actor(approval: Approval) -> str:
    return f"{approval.source} {approval.agent}"
