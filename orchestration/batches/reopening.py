"""A run of a batch that has ended is opened again: only while its row has no other attempt, and its batch with it.

Effects are keyed by run, so two attempts of one row that work side by side would do the same twice.
"""

from __future__ import annotations

from console import outbox
from console.live.announce import announce
from console.outbox import Kind
from orchestration.errors import ActionRefused
from orchestration.models import Batch, BatchItem, Run


def check(run: Run) -> None:
    """Raise ActionRefused where the run belongs to a batch whose row has another attempt."""
    if run.batch and not BatchItem.objects.filter(run_id=run.pk).exists():
        raise ActionRefused(
            f"The batch {run.batch} tries this run's row again in another run, and both would do the same. Act on that "
            "run instead."
        )


def reopen(run: Run) -> None:
    """Have the run's batch count on it again: one that has finished is fed until the run has ended.

    Part of the transaction that opens the run; call it before anything is recorded there. The batch is held, so its
    rows are not tried again meanwhile. Raises ActionRefused as `check` does.
    """
    if not run.batch:
        return
    batch = Batch.objects.select_for_update(no_key=True).filter(pk=run.batch).first()
    check(run)
    if batch is None or batch.status != Batch.Status.FINISHED:
        return
    batch.status, batch.closed_at = Batch.Status.FEEDING, None
    batch.save(update_fields=["status", "closed_at"])
    outbox.enqueue(kind=Kind.FEED_BATCH, subject=batch.pk, payload={"batch_id": batch.pk})
    announce("batches", f"batch:{batch.pk}")
