"""Open the approval for a proposal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from approvals import audit
from approvals.digest import digest_of, read_canonical
from approvals.errors import NotAuthorised
from approvals.models import Approval
from approvals.policies import policy_for
from console.clock import database_now
from console.live import announce


@dataclass(frozen=True)
class Proposal:
    """What an agent asks to be decided, as its turn hands it over."""

    external_id: str  # run id + interrupt id
    kind: str  # action or outcome
    canonical: bytes
    digest: str
    summary: str
    agent_words: str
    arguments_schema: dict[str, Any]
    risk: str
    agent: str
    run_id: str
    interrupt_id: str
    checkpoint_id: str
    requested_by_id: int | None
    dataset_versions: list[dict[str, Any]] = field(default_factory=list)


def open_approval(proposal: Proposal) -> Approval:
    """Open the approval for one proposal; a second call with the same `external_id` returns the first one.

    The digest is computed again from the bytes. Raises NotAuthorised when it differs from the proposal's.
    """
    if digest_of(proposal.canonical) != proposal.digest:
        raise NotAuthorised("The proposal's bytes do not match its digest.")
    tool, _ = read_canonical(proposal.canonical)
    policy = policy_for(agent=proposal.agent, tool=tool, risk=proposal.risk)
    with transaction.atomic():
        now = database_now()
        due_at = now + policy.expire_after
        approval, created = Approval.objects.get_or_create(
            external_id=proposal.external_id,
            defaults={
                "kind": proposal.kind,
                "canonical": proposal.canonical,
                "digest": proposal.digest,
                "tool": tool,
                "summary": proposal.summary[:500],
                "agent_words": proposal.agent_words,
                "arguments_schema": proposal.arguments_schema,
                "risk": proposal.risk,
                "agent": proposal.agent,
                "run_id": proposal.run_id,
                "interrupt_id": proposal.interrupt_id,
                "checkpoint_id": proposal.checkpoint_id,
                "dataset_versions": proposal.dataset_versions,
                "requested_by_id": proposal.requested_by_id,
                "policy_version": policy.version,
                "audience": list(policy.audience),
                "verdicts": list(policy.verdicts),
                "needed": policy.needed,
                "ladder": [
                    {"step": step, "at": (now + after).isoformat()}
                    for step, after in (
                        ("remind", policy.remind_after),
                        ("escalate", policy.escalate_after),
                        ("expire", policy.expire_after),
                    )
                ],
                "opened_at": now,
                "due_at": due_at,
            },
        )
        if created:
            body = {"run": proposal.run_id, "tool": tool, "digest": proposal.digest, "policy": policy.version}
            audit.record(actor=f"agent {proposal.agent}", kind="approval.opened", subject=approval.id, body=body)
            announce("inbox", f"approval:{approval.id}", f"run:{approval.run_id}", "runs")
    return approval
