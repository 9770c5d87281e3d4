"""Compare what is open here with Temporal, and close what is gone there: a run may be ended past this console.

A workflow may be terminated, time out, be deleted with its history, or be lost with its namespace; then nobody closes
its row. So each open run, and each watch of a program's request, is looked at now and again, the one that waited
longest first, at most LOOKS_AT_ONCE a second over all relays; most looks are for what waits for no person, of which
Temporal knows most. What moved within 60 seconds is not asked (a trigger of the database sees to that), nor what the
relay has not started yet. What is gone is closed under the row's lock, so a workflow that closed its row itself in the
meantime was first. A watch that is gone is started again: it keeps nothing.

"Not found" is believed of our own Temporal only. Its namespace has an id; when another one answers, an empty one or a
wrong address, that is said on every page first, and what is not found there is closed after STRANGER_IS_HOME_AFTER.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.db import connection, transaction

from approvals import services as approvals
from approvals.models import Approval
from approvals.record import audit
from approvals.services.requesting import start_watch
from console.clock import DatabaseNow, database_now
from console.live.announce import announce
from console.outbox import Kind
from orchestration import ending, findings, restored
from orchestration.diagnosis import look as asking
from orchestration.diagnosis import standing
from orchestration.errors import WorkflowGone
from orchestration.models import LOOKED_AT_AFTER, AnswerDelivery, Lookout, Run, Watched
from orchestration.temporal_protocol import TemporalGateway, WorkflowSeen
from orchestration.threads import in_database

LOOKS_AT_ONCE: Final = 5  # in one second
STRANGER_IS_HOME_AFTER: Final = timedelta(hours=1)

_DUE_RUNS = f"""
UPDATE orchestration_run SET look_due_at = signalbox_now() + %(again)s * interval '1 second'
WHERE id = ANY(ARRAY(
    SELECT r.id FROM orchestration_run r
    WHERE {{which}} AND r.look_due_at <= signalbox_now()
      AND NOT EXISTS (SELECT FROM console_outboxentry e
                      WHERE e.delivered_at IS NULL AND e.subject = r.id
                        AND e.kind IN ('{Kind.START_RUN}', '{Kind.RESTART_RUN}'))
    ORDER BY r.look_due_at LIMIT %(most)s FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING id, era
"""
_ANY: Final = "r.status IN ('starting', 'running', 'waiting', 'paused')"
#: whose next step is no person's: what Temporal knows of them is worth most
_SUSPECT: Final = "(r.status IN ('starting', 'running') OR (r.status = 'waiting' AND r.cause <> ''))"
_DUE_WATCHES = f"""
UPDATE orchestration_watched SET look_due_at = signalbox_now() + %(again)s * interval '1 second'
WHERE approval_id = ANY(ARRAY(
    SELECT w.approval_id FROM orchestration_watched w
    WHERE w.look_due_at <= signalbox_now()
      AND NOT EXISTS (SELECT FROM console_outboxentry e
                      WHERE e.delivered_at IS NULL AND e.kind = '{Kind.START_WATCH}' AND e.subject = w.workflow_id)
    ORDER BY w.look_due_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
))
RETURNING approval_id, workflow_id
"""


@dataclass(frozen=True)
class WorkflowToCheck:
    """One workflow that Temporal is to be asked about; `approval_id`: "" for a run's."""

    workflow_id: str
    approval_id: str = ""
    era: int = 0  # of the run when it was taken


async def look_around(temporal: TemporalGateway) -> bool:
    """Look at what is due, at most LOOKS_AT_ONCE; return whether there was any. Call it at most once a second.

    Raises TemporalAway, which says nothing about any run: those it was about are looked at again later.
    """
    at_home = await in_database(_recognised, await temporal.home())
    due = await in_database(claim)
    for look in due:
        await _look_at(temporal, look, at_home)
    return bool(due)


def claim() -> list[WorkflowToCheck]:
    """Take what is to be looked at now; nothing within a second after somebody, here or elsewhere, took some."""
    with transaction.atomic():
        Lookout.objects.get_or_create(pk=1)
        too_soon = DatabaseNow() - timedelta(seconds=1)
        lookout = Lookout.objects.select_for_update(skip_locked=True).filter(pk=1).exclude(looked_at__gt=too_soon)
        if not lookout.exists():
            return []
        again = LOOKED_AT_AFTER.total_seconds()
        with connection.cursor() as cursor:
            cursor.execute(_DUE_WATCHES, {"again": again, "most": LOOKS_AT_ONCE // 2})
            watches = [WorkflowToCheck(workflow_id, approval_id) for approval_id, workflow_id in cursor.fetchall()]
            runs: list[WorkflowToCheck] = []
            # One look at least is for the others, so that each of them has its turn.
            for which, most in ((_SUSPECT, LOOKS_AT_ONCE - 1), (_ANY, LOOKS_AT_ONCE)):
                asked = {"again": again, "most": max(0, most - len(watches) - len(runs))}
                cursor.execute(_DUE_RUNS.replace("{which}", which), asked)
                runs += [WorkflowToCheck(run_id, "", era) for run_id, era in cursor.fetchall()]
        if runs or watches:
            Lookout.objects.filter(pk=1).update(looked_at=DatabaseNow())
    return watches + runs


def look_soon(run_id: str) -> None:
    """Have the run looked at next: Temporal has just said that it is not there."""
    Run.objects.filter(pk=run_id, status__in=Run.OPEN, look_due_at__gt=DatabaseNow()).update(look_due_at=DatabaseNow())


async def _look_at(temporal: TemporalGateway, look: WorkflowToCheck, at_home: bool) -> None:
    """Ask Temporal about one workflow, and draw the consequences: away from home none of them is an end."""
    if not look.approval_id:
        found = await asking.ask(temporal, look.workflow_id, await in_database(database_now))
        if found.is_open:
            if lost := await in_database(restored.lost_for, look.workflow_id):
                moved = await temporal.moved_between(look.workflow_id, lost.begin, lost.end)
                await in_database(restored.compared, look.workflow_id, lost, moved)
            await in_database(standing.seen, look.workflow_id, found)
            return
    try:
        seen = await temporal.look(look.workflow_id)
    except WorkflowGone:
        seen = WorkflowSeen("not_found")
    if seen.is_open or not at_home:
        return
    if look.approval_id:
        await in_database(watch_is_gone, look.approval_id, seen)
    else:
        await in_database(run_is_gone, look.workflow_id, seen, look.era)


def _recognised(answers: str) -> bool:
    """Return whether the Temporal that answers is the one in which our runs live; the first one becomes that.

    `answers`: the id of its namespace.
    """
    with transaction.atomic():
        Lookout.objects.get_or_create(pk=1)
        lookout = Lookout.objects.select_for_update().get(pk=1)
        now = database_now()
        if not lookout.home:
            lookout.home = answers
        if lookout.home == answers:
            lookout.stranger, lookout.stranger_since = "", None
        elif lookout.stranger != answers or lookout.stranger_since is None:
            lookout.stranger, lookout.stranger_since = answers, now
        elif lookout.stranger_since + STRANGER_IS_HOME_AFTER <= now:
            lookout.home, lookout.stranger, lookout.stranger_since = answers, "", None
        lookout.save()
        if lookout.stranger_since is None:
            findings.over(findings.TEMPORAL_REPLACED)
            return True
        until = lookout.stranger_since + STRANGER_IS_HOME_AFTER
        count = Run.objects.filter(status__in=Run.OPEN, created_at__lt=lookout.stranger_since).count()
        findings.say(
            findings.TEMPORAL_REPLACED,
            f"Another Temporal answers than the one in which the runs live: {count} open run{'' if count == 1 else 's'}"
            f" may not be there. Check its address and its data. What it does not know is closed from"
            f" {until:%H:%M} UTC on, and whoever had decided is told.",
        )
        return False


def let_go_of_closed() -> int:
    """Withdraw requests that are open though their run is closed, as an older release could leave them; say how many.

    Every way to close a run withdraws them in its own transaction, so one look when a relay starts is enough.
    """
    closed = Run.objects.exclude(status__in=Run.OPEN)
    left = Approval.objects.filter(status=Approval.Status.PENDING, run_id__in=closed.values("pk"))
    run_ids = list(left.values_list("run_id", flat=True).distinct())
    return sum(approvals.withdraw(run_id=run_id, reason="the run had ended", actor="relay") for run_id in run_ids)


def run_is_gone(run_id: str, seen: WorkflowSeen, era: int) -> bool:
    """Close a run whose workflow has ended; return False when its row was closed already, or set back since the look.

    `era`: of the run when it was looked at; the workflow of a later one is another.
    """
    with transaction.atomic():
        if not Run.objects.select_for_update(no_key=True).filter(pk=run_id, era=era).exists():
            return False
        return _close_gone(run_id, seen)


def _close_gone(run_id: str, seen: WorkflowSeen) -> bool:
    status, words = _ENDS.get(seen.status, (Run.Status.FAILED, f"its workflow is {seen.status}"))
    quoted = f", “{seen.reason}”" if seen.reason else ""
    message = f"Ended outside: {words}{quoted}."
    return ending.close_run(run_id=run_id, status=status, kind=ending.ENDED_OUTSIDE, message=message, actor="relay")


_ENDS: Final = {
    "terminated": (Run.Status.CANCELLED, "terminated"),
    "canceled": (Run.Status.CANCELLED, "cancelled"),
    "timed_out": (Run.Status.FAILED, "its workflow ran out of the time it had been given"),
    "failed": (Run.Status.FAILED, "its workflow failed"),
    "completed": (Run.Status.FAILED, "its workflow has ended, and what it came to is not known here"),
    "not_found": (Run.Status.FAILED, "Temporal does not know its workflow any more"),
}


def watch_is_gone(approval_id: str, seen: WorkflowSeen) -> None:
    """Start a watch again that has ended too soon, or forget it when all is done. A pending request stays open."""
    with transaction.atomic():
        approval = Approval.objects.select_for_update(no_key=True, of=("self",)).filter(pk=approval_id).first()
        done = AnswerDelivery.objects.filter(pk=approval_id).exclude(state=AnswerDelivery.State.TRYING)
        if approval is None or done.exists():
            Watched.objects.filter(pk=approval_id).delete()
            return
        start_watch(approval)
        announce(f"approval:{approval_id}")
        found = f"{seen.status}: {seen.reason}" if seen.reason else seen.status
        audit.record(actor="relay", kind="approval.watched_again", subject=approval_id, body={"found": found[:500]})
