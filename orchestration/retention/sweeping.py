"""Let go of what nobody needs of runs that are over, a few at a time; the relays do it.

First what the nodes of a step had written (`checkpoint_writes`), about half of all bytes: the checkpoint after it holds
the outcome, and neither a reset nor a fork reads it, for both copy a checkpoint without it. Kept are the newest
checkpoint's of every graph, and everywhere what was asked, answered, raised and sent, which pages show. A thread with a
DeltaChannel keeps all, for its state is made of these.

Then, only where `SIGNALBOX_KEEP_THREADS_DAYS` says so, whole threads: never within the audit period, and never while a
request of the run is open or nobody knows how an effect of it has ended. The rows and the record stay.

Each run is one transaction with its row held, so a reset comes before or after it. On retry: nothing is left to do.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.expressions import Combinable

from approvals.models import Approval
from approvals.record import audit
from console.clock import DatabaseNow
from console.environment import environment
from console.live.announce import announce
from orchestration.models import Effect, Rethinking, Run

AT_ONCE: Final = 20  # runs in one step
ROWS_AT_ONCE: Final = 5000  # writes of one run in one transaction

#: what tells a task of a step apart from what pages show and a later step takes up
_SWEPT = r"w.channel NOT LIKE '\_\_%%'"
_HEADS = """
SELECT DISTINCT ON (checkpoint_ns) checkpoint_ns, checkpoint_id FROM agent.checkpoints
WHERE thread_id = %(thread)s ORDER BY checkpoint_ns, checkpoint_id COLLATE "C" DESC
"""
_SWEEP = f"""
WITH heads AS ({_HEADS}), old AS (
    SELECT w.ctid AS place FROM agent.checkpoint_writes w
    WHERE w.thread_id = %(thread)s AND {_SWEPT} AND w.checkpoint_id <> %(kept)s
      AND NOT EXISTS (SELECT FROM heads h WHERE (h.checkpoint_ns, h.checkpoint_id) = (w.checkpoint_ns, w.checkpoint_id))
    LIMIT %(most)s
)
DELETE FROM agent.checkpoint_writes w USING old WHERE w.ctid = old.place
"""
#: LangGraph's own signs of a channel whose state is made of writes
_DELTA = """
SELECT EXISTS (SELECT FROM agent.checkpoints WHERE thread_id = %(thread)s
               AND (metadata ? 'counters_since_delta_snapshot' OR metadata ? 'delta_writes_versioned'))
"""
_TABLES: Final = ("checkpoint_writes", "checkpoint_blobs", "checkpoints")


def step() -> bool:
    """Sweep some runs, then delete some threads; return whether there are more."""
    swept = [run_id for run_id in due_for_sweep()[:AT_ONCE] if sweep(run_id)]
    gone = [run_id for run_id in due_for_deletion()[:AT_ONCE] if delete_thread(run_id)]
    return len(swept) == AT_ONCE or len(gone) == AT_ONCE


def due_for_sweep() -> QuerySet[Run, str]:
    """Return the ids of closed runs that have been over for long enough, the oldest first."""
    before = DatabaseNow() - timedelta(days=environment().keep_steps_days)
    rows = Run.objects.exclude(status__in=Run.OPEN).filter(swept_at=None, closed_at__lte=before)
    return rows.order_by("closed_at", "pk").values_list("pk", flat=True)


def due_for_deletion() -> QuerySet[Run, str]:
    """Return the ids of closed runs whose threads may go by the policy, the oldest first; none where it is off."""
    days = environment().keep_threads_days
    rows = Run.objects.filter(_may_go()).order_by("closed_at", "pk").values_list("pk", flat=True)
    if not days:
        return rows.none()
    before = DatabaseNow() - timedelta(days=max(days, environment().audit_days))
    return rows.filter(closed_at__lte=before)


def _may_go() -> Combinable:
    asked = Approval.objects.filter(run_id=OuterRef("pk"), status=Approval.Status.PENDING)
    unclear = Effect.objects.filter(run_id=OuterRef("pk"), status__in=(Effect.Status.EXECUTING, Effect.Status.UNKNOWN))
    thinking = Rethinking.objects.filter(run_id=OuterRef("pk"), state=Rethinking.State.WAITING)
    is_over = Q(thread_deleted_at=None) & ~Q(status__in=Run.OPEN)
    return is_over & ~Exists(asked) & ~Exists(unclear) & ~Exists(thinking)


def sweep(run_id: str) -> bool:
    """Let go of what the nodes of a closed run had written behind its head; return whether the run was due for it."""
    with transaction.atomic():
        run = Run.objects.select_for_update(no_key=True).filter(pk=run_id).first()
        if run is None or run.status in Run.OPEN or run.swept_at is not None:
            return False
        count = 0
        with connection.cursor() as cursor:
            cursor.execute(_DELTA, {"thread": run_id})
            (is_delta,) = cursor.fetchone() or (False,)
            if not is_delta:
                asked: dict[str, Any] = {"thread": run_id, "kept": run.checkpoint_id, "most": ROWS_AT_ONCE}
                cursor.execute(_SWEEP, asked)
                count = cursor.rowcount
        if count < ROWS_AT_ONCE:  # else the next step goes on with it
            Run.objects.filter(pk=run_id).update(swept_at=DatabaseNow())
    return True


def delete_thread(run_id: str) -> bool:
    """Delete all checkpoints of a closed run, on the record; return whether that was done."""
    with transaction.atomic():
        run = Run.objects.select_for_update(no_key=True).filter(pk=run_id).first()
        if run is None or not due_for_deletion().filter(pk=run_id).exists():
            return False
        counts = {}
        with connection.cursor() as cursor:
            for table in _TABLES:
                cursor.execute(f"DELETE FROM agent.{table} WHERE thread_id = %s", [run_id])
                counts[table] = cursor.rowcount
        Run.objects.filter(pk=run_id).update(thread_deleted_at=DatabaseNow(), swept_at=DatabaseNow())
        announce(f"run:{run_id}")
        audit.record(actor="relay", kind="run.thread_deleted", subject=run_id, body={"rows": counts})
    return True
