"""How a run ends without a result: by its workflow's word, outside, or because an operator says so.

One transaction closes the row, withdraws what it had asked, lets decisions that nobody carries out stand in the lane,
tells who had decided, and records it. A run that is closed stays as it is: whoever comes first is right.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from approvals import services as approvals
from approvals.record import audit
from console.clock import DatabaseNow
from console.live.announce import announce
from console.text.stored import storable
from orchestration import failing
from orchestration.models import Effect, Run

MESSAGE_LIMIT = 2000  # characters
ENDED_OUTSIDE = "ended_outside"  # the kind of what was ended in Temporal, past this console
ENDED = "ended"  # the kind of what an operator ended here
OLDER_DATABASE = "older_database"  # the kind of what went on after the backup that was restored
_TELLING = (ENDED_OUTSIDE, ENDED, OLDER_DATABASE)  # kinds whose message says more than the run's status
_DONE = {"cancel": "Cancelled", "end": "Ended", "fail_activity": "Failed"}


def begun(run_id: str) -> list[str]:
    """Return the ids of a run's approvals whose effect has begun; nobody here knows how those end."""
    return list(Effect.objects.filter(run_id=run_id).values_list("pk", flat=True))


def close_run(*, run_id: str, status: str, kind: str, message: str, actor: str) -> bool:
    """Close a run as failed or cancelled; return False when it was closed before.

    `kind`: why, for programs. `message`: why, for people; it may quote others. What an operator has asked for is named
    in the message and in the record.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update(no_key=True).filter(pk=run_id, status__in=Run.OPEN).first()
        if run is None:
            return False
        if run.ending and kind in ("cancelled", ENDED):
            message = f"{_DONE[run.ending['action']]} by {run.ending['by']}: {run.ending['reason']}"
        message = storable(message)[:MESSAGE_LIMIT]
        error = {"kind": kind, "message": message, **failing.place_of(run, kind)}
        Run.objects.filter(pk=run_id).update(status=status, error=error, closed_at=DatabaseNow(), **failing.OVER)
        announce("runs", f"run:{run_id}")
        tells_why = kind in _TELLING
        reason = message[:500] if tells_why else f"the run {status}"
        left = approvals.let_go(run_id=run_id, reason=reason, actor=actor, begun=begun(run_id))
        body: dict[str, Any] = {"kind": kind}
        if tells_why:
            body["message"] = message[:500]
        if left.voided:
            body["voided"] = left.voided
        if left.told:
            body["told"] = left.told
        audit.record(actor=actor, kind=f"run.{status}", subject=run_id, body=body)
    return True
