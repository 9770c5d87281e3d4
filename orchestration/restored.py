"""After an older backup of the database was restored: say so, and let nothing be done a second time.

The relay keeps the audit chain's head outside the database, once a minute. When a head that was kept is not in the
chain, the database has lost what came after the newest one that is: from then (`begin`) until the last head that was
kept (`end`) the engines went on, and the rows do not know it. Every run that was open in the backup is compared with
Temporal: one whose workflow moved in that time is closed, for what it did is unknown here and must not be done again;
one that stood still is as it was, and goes on. A run that moved less than a minute before the backup may be closed
although its row was whole; that is the safe side.

What this cannot promise: between the restore and this look a worker may go on with a turn. An effect whose tool takes
the approval's id as its key is still done once; one whose tool takes none may be asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q, QuerySet

from approvals.models import AuditEvent
from approvals.record import heads
from approvals.record.audit import Head
from console import outbox
from console.clock import DatabaseNow
from console.outbox import Kind
from orchestration import ending, findings
from orchestration.models import Finding, Run

HEADS_EVERY: Final = timedelta(seconds=60)
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Lost:
    """The time of which the database knows nothing, by the relay's clock."""

    begin: datetime
    end: datetime


def check() -> bool:
    """Look whether the database is older than the heads that were kept; return whether it was found to be just now.

    Call it before the next head is kept. What was found stays a finding, for the next heads hide it.
    """
    kept = heads.kept()
    if not kept or _is_in_chain(kept[-1]):
        return False
    last_known = next((head for head in reversed(kept) if _is_in_chain(head)), None)
    begin = datetime.fromisoformat(last_known.at) if last_known else _LONG_AGO
    end = datetime.fromisoformat(kept[-1].at) + HEADS_EVERY
    with transaction.atomic():
        open_ones = Run.objects.filter(status__in=Run.OPEN)
        run_ids = list(open_ones.order_by("pk").values_list("pk", flat=True))
        since = f"since {begin:%d %B %Y %H:%M} UTC" if last_known else "of before"
        findings.say(
            findings.DATABASE_OLDER,
            f"The database is older than the engines: a backup was restored, and what was recorded {since} is lost, at"
            f" the latest {end:%d %B %Y %H:%M} UTC. Decisions, effects and accounts of that time are not known here,"
            f" though they happened. {len(run_ids)} open run{'' if len(run_ids) == 1 else 's'} of the backup"
            f" {'is' if len(run_ids) == 1 else 'are'} compared with Temporal; those that went on meanwhile are closed.",
            begin=begin.isoformat(),
            end=end.isoformat(),
            runs=run_ids,
        )
        open_ones.update(look_due_at=DatabaseNow())
    return True


def _is_in_chain(head: Head) -> bool:
    return head.seq is not None and AuditEvent.objects.filter(seq=head.seq, digest=head.digest).exists()


def lost_for(run_id: str) -> Lost | None:
    """Return the lost time with which a run is still to be compared, `None` when it is not."""
    body = Finding.objects.filter(pk=findings.DATABASE_OLDER).values_list("body", flat=True).first()
    if not body or run_id not in body["runs"]:
        return None
    return Lost(datetime.fromisoformat(body["begin"]), datetime.fromisoformat(body["end"]))


#: said before a run that went on in the lost time begins anew
UNSURE: Final = (
    "What it did after the backup that was restored is not known here, and may be done a second time. Look at what it "
    "acts on first."
)


def is_unsure(run: Run) -> bool:
    """Return whether the run went on in the time that a restored database has lost, in this era or one before."""
    return (run.error or {}).get("kind") == ending.OLDER_DATABASE or bool((run.restart or {}).get("is_unsure"))


def unsure_runs() -> QuerySet[Run]:
    """Return those runs."""
    return Run.objects.filter(Q(error__kind=ending.OLDER_DATABASE) | Q(restart__is_unsure=True))


def compared(run_id: str, lost: Lost, moved: bool) -> None:
    """Close a run that went on in the lost time, and have its workflow terminated; either way it is not asked again."""
    with transaction.atomic():
        if moved:
            message = (
                f"The database was restored from a backup, and this run had gone on after it, until"
                f" {lost.end:%d %B %Y %H:%M} UTC at the latest. What it did is not known here: look at what it acts on."
            )
            failed = str(Run.Status.FAILED)
            if ending.close_run(
                run_id=run_id, status=failed, kind=ending.OLDER_DATABASE, message=message, actor="relay"
            ):
                outbox.enqueue(kind=Kind.TERMINATE_RUN, subject=run_id, payload={"run_id": run_id})
        finding = Finding.objects.select_for_update().filter(pk=findings.DATABASE_OLDER).first()
        if finding is not None and run_id in finding.body["runs"]:
            finding.body["runs"].remove(run_id)
            finding.save(update_fields=["body"])
