"""Resend: what was decided, or asked of the run, and has not arrived is delivered now.

Harmless however often: Temporal drops a signal that it knows, and the workflow a decision that it has seen.
"""

from __future__ import annotations

from typing import Any

from approvals.models import Approval
from approvals.record.closings import closing_decision
from console import outbox
from console.clock import DatabaseNow
from console.models import OutboxEntry
from console.outbox import Kind
from orchestration.actions import facts
from orchestration.actions.base import Action, Preview, Wish
from orchestration.errors import ActionRefused
from orchestration.models import Run


def preview(run: Run, _: Any) -> Preview:
    facts.check_open(run)
    entries, unheard = _entries(run), _unheard(run)
    if not entries and not unheard:
        raise ActionRefused("Everything that was decided or asked has arrived: there is nothing to send again.")
    found = []
    if entries:
        word = "message waits" if len(entries) == 1 else "messages wait"
        found.append(f"{len(entries)} {word} to be delivered, and is tried now. {entries[0].last_error}".strip())
    if unheard:
        word = "decision" if len(unheard) == 1 else "decisions"
        found.append(f"{len(unheard)} {word} that the run was told of, and has not taken up, is told again.")
    return Preview(warnings=[*found, *facts.temporal_away(facts.parts_alive())])


def _entries(run: Run) -> list[OutboxEntry]:
    return list(OutboxEntry.objects.filter(delivered_at=None, subject=run.pk).order_by("id"))


def _unheard(run: Run) -> list[Approval]:
    """Return what was decided, was told to the run as far as is known, and was not taken up."""
    on_the_way = {str(entry.payload.get("approval_id")) for entry in _entries(run)}
    rows = Approval.objects.filter(run_id=run.pk, status=Approval.Status.DECIDED, is_seeded=False)
    rows = rows.exclude(receipt__step__in=("resumed", "refused")).exclude(pk__in=on_the_way)
    return list(rows.order_by("opened_at", "pk"))


def do(run: Run, wish: Wish) -> None:
    for approval in _unheard(run):
        decision = closing_decision(approval)
        decision_id = decision.pk if decision else f"{approval.pk}:closed"
        payload = {"run_id": run.pk, "approval_id": approval.pk, "decision_id": decision_id}
        outbox.enqueue(kind=Kind.DECIDED, subject=run.pk, payload=payload)
    OutboxEntry.objects.filter(delivered_at=None, subject=run.pk, due_at__gt=DatabaseNow()).update(due_at=DatabaseNow())
    outbox.wake()


ACTION = Action(
    name="resend",
    title="Send it again",
    button="Send again",
    icon="send",
    explains="What was decided, or asked of the run, and has not arrived is delivered now. Once more is harmless.",
    said="It is being sent.",
    kind="run.resent",
    preview=preview,
    do=do,
    is_grave=False,
    may_be_repeated=True,
    overtakes=True,
    is_offered=lambda run: run.status in Run.OPEN and bool(_entries(run) or _unheard(run)),
)
