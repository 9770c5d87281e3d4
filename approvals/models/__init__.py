"""Requests to decide, what people decided, how they work together, and the record that cannot be changed quietly."""

from __future__ import annotations

from approvals.models.decisions import Decision, ReceiptStep, new_decision_id
from approvals.models.outlooks import Outlook
from approvals.models.policy import PolicyVersion
from approvals.models.record import AuditEvent
from approvals.models.requests import Approval, ProposalVersion, Risk, Verdict, new_approval_id
from approvals.models.team import (
    AccountPerson,
    Comment,
    Delegation,
    LinkChange,
    SavedView,
    StandingApproval,
    new_standing_id,
)

__all__ = [
    "AccountPerson",
    "Approval",
    "AuditEvent",
    "Comment",
    "Decision",
    "Delegation",
    "LinkChange",
    "Outlook",
    "PolicyVersion",
    "ProposalVersion",
    "ReceiptStep",
    "Risk",
    "SavedView",
    "StandingApproval",
    "Verdict",
    "new_approval_id",
    "new_decision_id",
    "new_standing_id",
]
