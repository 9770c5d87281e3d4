"""Requests to decide, what people decided, and the record that cannot be changed quietly."""

from __future__ import annotations

from approvals.models.decisions import Decision, ReceiptStep, new_decision_id
from approvals.models.record import AuditEvent
from approvals.models.requests import Approval, Risk, Verdict, new_approval_id

__all__ = [
    "Approval",
    "AuditEvent",
    "Decision",
    "ReceiptStep",
    "Risk",
    "Verdict",
    "new_approval_id",
    "new_decision_id",
]
