"""Note how far a decision has travelled."""

from __future__ import annotations

from django.db import transaction

from approvals import audit
from approvals.models import ReceiptStep
from console.live import announce


def note_receipt(*, approval_ids: list[str], step: str, detail: str = "", topics: tuple[str, ...] = ()) -> None:
    """Note how far the decisions have travelled; a step is noted once, repetitions change nothing.

    `topics`: what the caller announces besides the approvals, in the same statement.
    """
    steps = [ReceiptStep(approval_id=approval_id, step=step, detail=detail[:500]) for approval_id in approval_ids]
    with transaction.atomic(savepoint=False):
        ReceiptStep.objects.bulk_create(steps, ignore_conflicts=True)
        announce(*topics, *(f"approval:{approval_id}" for approval_id in approval_ids))


def note_effect(*, approval_id: str, step: str, detail: str) -> None:
    """Note the start or the end of an approved effect, on the receipt and in the record.

    `step`: effect_started, effect_finished, or "" when its outcome is not known, which only the record tells.
    """
    kind = {"effect_started": "effect.started", "effect_finished": "effect.finished", "": "effect.unknown"}[step]
    with transaction.atomic(savepoint=False):
        if step:
            note_receipt(approval_ids=[approval_id], step=step, detail=detail)
        audit.record(actor="worker", kind=kind, subject=approval_id, body={"detail": detail[:500]})
