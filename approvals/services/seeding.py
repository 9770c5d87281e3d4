"""Tests of attention: harmless requests that should be rejected, put among the real ones to see whether people read.

They belong to no run: closing one tells no engine, and none is ever executed. On its own page, in lists and in the API
nothing tells one apart before it is decided; only the link to its run leads nowhere, and who follows that link reads.
Afterwards they are told, kindly.
"""

from __future__ import annotations

import secrets
from typing import Any
from uuid import uuid4

from django.contrib.auth.models import User
from ulid import ULID

from approvals.errors import InvalidChange, NotTheirs
from approvals.models import Approval
from approvals.policies import asking
from approvals.proposal.canonical import NotCanonical, canonicalise, digest_of
from approvals.proposal.terms import Facts
from approvals.services.opening import Proposal, open_approval
from console import ports, roles
from console.ports import ToolFacts


def seed_attention_check(
    *, agent: str, tool: str, arguments: dict[str, Any], summary: str, agent_words: str, requested_by: User, by: User
) -> Approval:
    """Open a test of attention that looks like a request of the agent for the tool. Each call opens another one.

    `summary` is used only for a tool that is not registered; a registered one tells its arguments itself. Nobody whom
    four eyes would exclude from a run of `requested_by` decides it. Raises NotTheirs for who is no admin, and
    InvalidChange for what no agent could ask or what the policy would decide without people.
    """
    if not roles.has_role(by, "admin"):
        raise NotTheirs("Tests of attention are made by admins.")
    known = _known(agent, tool, arguments)
    facts = Facts(source="agent", agent=agent, tool=tool, kind="action", risk=known.risk, arguments=known.arguments)
    terms = asking.terms_for(facts)
    if terms.outcome != "ask":
        raise InvalidChange("tool", f"By the rule “{terms.rule}” nobody would be asked.")
    if not (known.summary or summary):
        raise InvalidChange("summary", "The tool is not registered: say in a sentence what it would do.")
    try:
        canonical = canonicalise(tool, known.arguments)
    except NotCanonical as exc:
        raise InvalidChange("arguments", str(exc)) from exc
    run_id, interrupt_id = f"{agent}-{str(ULID()).lower()}", secrets.token_hex(16)
    return open_approval(
        Proposal(
            external_id=f"{run_id}:{interrupt_id}",
            kind=Approval.Kind.ACTION,
            canonical=canonical,
            digest=digest_of(canonical),
            summary=known.summary or summary,
            agent_words=agent_words,
            arguments_schema=known.arguments_schema,
            risk=known.risk,
            agent=agent,
            agent_owners=known.owners,
            run_id=run_id,
            interrupt_id=interrupt_id,
            checkpoint_id=str(uuid4()),
            requested_by_id=requested_by.pk,
            is_seeded=True,
            seeded_by=by.username,
        )
    )


def _known(agent: str, tool: str, arguments: dict[str, Any]) -> ToolFacts:
    known, fault = ports.agent_plane().tool_facts(agent, tool, arguments)
    if fault:
        raise InvalidChange("arguments", fault)
    return known or ToolFacts("medium", arguments, {}, "")
