"""Put an open request under what the policy says of it now: a new version of the same bytes, where that differs."""

from __future__ import annotations

import logging
from typing import Final

from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, connection, transaction

from approvals.errors import NoSuchApproval, StaleTerms
from approvals.models import Approval, ProposalVersion
from approvals.policies import asking
from approvals.proposal.terms import WORDS, Terms
from approvals.record import audit
from approvals.services import decision_sql
from approvals.services.closing import close_by_policy
from console.live.announce import announce

logger = logging.getLogger(__name__)

AT_ONCE: Final = 50  # requests in one step after another policy came to hold
_BECAUSE: Final = "The policy changed: "

_UNDER_ANOTHER_POLICY = """
SELECT id FROM approvals_approval
WHERE status = 'pending' AND policy_version <> %s AND NOT id = ANY(%s) ORDER BY due_at, id LIMIT %s
"""


def policy_in_force() -> str:
    """Return the name of the policy version that is active now."""
    return asking.active_policy().label


def renew_under_active_policy(failed: set[str]) -> bool:
    """Put open requests under the policy that is active now, at most AT_ONCE of them; return whether there was any.

    Those that expire first come first. Each is one transaction, and a repetition looks at none again: what the new
    policy says the same of keeps its version and its votes. Call it again while it returns True. `failed`: those that
    could not be renewed are passed over, and kept in it.
    """
    with connection.cursor() as cursor:
        cursor.execute(_UNDER_ANOTHER_POLICY, [policy_in_force(), list(failed), AT_ONCE])
        found = [row[0] for row in cursor.fetchall()]
    failed.update(approval_id for approval_id in found if not _is_renewed(approval_id))
    return bool(found)


def _is_renewed(approval_id: str) -> bool:
    """Renew one; return whether it needs it no more. One that cannot be renewed must not hold up the others."""
    try:
        with transaction.atomic():
            held = decision_sql.hold(approval_id)
            if held is None or not held.approval.is_open:
                return True
            before, now = held.approval.policy_version, asking.terms_now(held.approval)
            if _put_under(held.approval, now) is None and now.policy_version != before:
                _keep(held.approval, now)
            return held.approval.policy_version != before
    except (OperationalError, InterfaceError):
        raise  # the database is away, for all of them
    except Exception:
        logger.exception("the terms of %s cannot be renewed", approval_id)
        return False


def _keep(approval: Approval, now: Terms) -> None:
    """Keep terms that differ from the approval's in no substance, such as by the rule's name: its version stays."""
    approval.terms, approval.policy_version = now.to_json(), now.policy_version
    approval.save(update_fields=["terms", "policy_version"])
    announce(f"approval:{approval.pk}")


def renew_terms(approval_id: str) -> None:
    """Ask the policy again about an open request, for the data that the agent had read is older or newer than before.

    Part of a caller's transaction. Nothing happens where the terms are the same, or the request is closed.
    """
    with transaction.atomic():
        held = decision_sql.hold(approval_id)
        if held is None:
            raise NoSuchApproval
        if held.approval.is_open:
            renewed(held.approval)


def renewed(approval: Approval) -> StaleTerms | None:
    """Put the approval under the policy's present terms if they differ; say so, because nobody has seen them."""
    return _put_under(approval, asking.terms_now(approval))


def _put_under(approval: Approval, now: Terms) -> StaleTerms | None:
    different = approval.given_terms.differences(now, is_escalated="escalate" in approval.climbed)
    if not different:
        return None
    changed = ", ".join(WORDS[name] for name in different)
    asking.under_terms(approval, now)
    next_version(approval, ProposalVersion.Reason.TERMS, detail=f"{_BECAUSE}{changed}.")
    announce("inbox", f"approval:{approval.pk}", f"run:{approval.run_id}")
    body = {"version": approval.version, "policy": now.policy_version, "rule": now.rule, "changed": different}
    audit.record(actor="policy", kind="approval.terms_changed", subject=approval.pk, body=body)
    close_by_policy(approval)
    return StaleTerms(approval.version, changed)


def changed_since(approval: Approval, version: int) -> str:
    """Return in words which terms changed since a version, "" where there is none since or the proposal changed too."""
    since = approval.versions.filter(version__gt=version).order_by("version").values_list("reason", "detail")
    if any(reason != ProposalVersion.Reason.TERMS for reason, _ in since):
        return ""
    changed = [words for _, detail in since for words in detail.removeprefix(_BECAUSE).removesuffix(".").split(", ")]
    return ", ".join(dict.fromkeys(changed))


def next_version(approval: Approval, reason: str, *, made_by: User | None = None, detail: str = "") -> None:
    """Save the approval as its next version, with the bytes and terms that were put into it."""
    approval.version += 1
    approval.save(
        update_fields=[
            "version",
            "canonical",
            "digest",
            "summary",
            "terms",
            "policy_version",
            "audience",
            "people",
            "verdicts",
            "needed",
            "risk",
        ]
    )
    ProposalVersion.objects.create(
        approval=approval,
        version=approval.version,
        reason=reason,
        canonical=approval.canonical,
        digest=approval.digest,
        summary=approval.summary,
        made_by=made_by,
        detail=detail[:500],
    )
