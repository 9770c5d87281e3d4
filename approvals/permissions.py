"""Who may see and who may decide an approval, in one place; asked when shown, when decided and when executed."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import User

from approvals.models import Approval
from console import roles


@dataclass(frozen=True)
class Permit:
    """The answer with its reason: `rule` names it for programs, `sentence` tells a person."""

    allowed: bool
    rule: str
    sentence: str


def may_decide(user: User, approval: Approval) -> Permit:
    """Say whether the person may decide the approval, by its audience and the four-eyes rule.

    The answer depends on the person and the request only; whether it is still open is the decision's own check.
    """
    if not user.is_active:
        return Permit(False, "active-account", "This account is disabled.")
    if not roles.roles_of(user) & set(approval.audience):
        return Permit(False, "audience", f"This request can be decided by: {', '.join(approval.audience)}.")
    if approval.requested_by_id == user.pk:
        return Permit(False, "four-eyes", "You started this run, so somebody else has to decide it.")
    return Permit(True, "audience", "You may decide this request.")
