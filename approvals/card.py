"""Everything that the page of one request shows, read from the canonical bytes and the rows."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User

from approvals.digest import read_canonical
from approvals.errors import AlreadyClosed
from approvals.models import Approval, Decision, ReceiptStep
from approvals.permissions import Permit, may_decide


@dataclass(frozen=True)
class ReceiptLine:
    """One step of a receipt; `at` is `None` while it lies ahead."""

    step: str
    title: str
    at: datetime | None
    detail: str


@dataclass(frozen=True)
class Card:
    """Everything that the approval page shows, read from the canonical bytes and the rows."""

    approval: Approval
    arguments: dict[str, Any]
    argument_rows: list[tuple[str, str]]  # path, exact JSON text of the value
    permit: Permit
    is_open: bool
    closing: str  # in words who or what closed it, "" while open
    decisions: list[Decision]
    receipt: list[ReceiptLine]
    approve_label: str
    reject_label: str
    deadline_words: str  # what happens at the deadline


_TITLES = {
    ReceiptStep.Step.RECORDED: "Recorded",
    ReceiptStep.Step.SIGNALLED: "Signalled to the run",
    ReceiptStep.Step.RESUMED: "Run resumed",
    ReceiptStep.Step.EFFECT_STARTED: "Effect started",
    ReceiptStep.Step.EFFECT_FINISHED: "Effect finished",
}


def card_for(user: User, approval: Approval) -> Card:
    """Return what the page shows of an approval that came from `approval_for`; no further query for its parts."""
    _, arguments = read_canonical(bytes(approval.canonical))
    decisions = list(approval.decisions.all())
    is_open = approval.status == Approval.Status.PENDING
    last = decisions[-1] if decisions else None
    closed = AlreadyClosed(
        approval.status,
        last.by_name if last else None,
        approval.closed_at,
        last.verdict if last else None,
    )
    is_outcome = approval.kind == Approval.Kind.OUTCOME
    return Card(
        approval=approval,
        arguments=arguments,
        argument_rows=list(_flat(arguments)),
        permit=may_decide(user, approval),
        is_open=is_open,
        closing="" if is_open else closed.fact(),
        decisions=decisions,
        receipt=_receipt(approval, last),
        approve_label="It happened" if is_outcome else "Approve",
        reject_label="It did not" if is_outcome else "Reject",
        deadline_words="expires without a decision, and the agent is told so",
    )


def _receipt(approval: Approval, decision: Decision | None) -> list[ReceiptLine]:
    """Return the steps in order; a rejection ends at `resumed`, for nothing is to be done."""
    if decision is None:
        return []
    reached = {step.step: step for step in approval.receipt.all()}
    has_effect = decision.verdict in ("approve", "edit") and approval.kind == Approval.Kind.ACTION
    ahead = [step for step in _TITLES if has_effect or step not in ("effect_started", "effect_finished")]
    return [
        ReceiptLine(step, _TITLES[step], reached[step].at, reached[step].detail)
        if step in reached
        else ReceiptLine(step, _TITLES[step], None, "")
        for step in ahead
    ]


_SIMPLE_KEY = re.compile(r"[^\W\d][\w-]*")


def _step(key: str, path: str) -> str:
    """Return one step of a path. A key with a dot, a bracket or a blank is quoted, so that no path means two things."""
    if not _SIMPLE_KEY.fullmatch(key):
        return f"[{json.dumps(key, ensure_ascii=False)}]"
    return f".{key}" if path else key


def _flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Return each leaf with its path and its exact JSON text; empty lists and objects are leaves."""
    if isinstance(value, dict) and value:
        return [row for key in value for row in _flat(value[key], path + _step(key, path))]
    if isinstance(value, list) and value:
        return [row for index, item in enumerate(value) for row in _flat(item, f"{path}[{index}]")]
    return [(path, json.dumps(value, ensure_ascii=False))]
