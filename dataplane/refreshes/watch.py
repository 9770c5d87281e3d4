"""Keeping refreshes true to what became of their flow runs, and starting dead ones again.

Prefect believes for ever in a run whose process and runner died together. The session lock that a running
flow holds on its refresh (`dataplane.refreshes.claim`) is the second witness: when Prefect says Running and
the lock is free, twice in a row, nobody is working. Then the run is recorded as crashed and the same flow run
is scheduled again, three times at most: the same key keeps the same flow run.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum, auto

from django.db import connection, transaction
from django.db.models import F

from console.clock import DatabaseNow
from console.faults import reach
from console.live.announce import announce
from dataplane import catalogue, selectors
from dataplane.errors import FlowRunNotFound
from dataplane.models import Refresh
from dataplane.prefect_gateway import FlowRun, PrefectGateway
from dataplane.refreshes import standing, states
from dataplane.refreshes.claim import lock_key

MOST_RESTARTS = 3
RESTART_AFTER = timedelta(seconds=5)  # Prefect's runner may fall over a shorter one
LONGEST_RUN = timedelta(minutes=16)  # waiting for another run's lock, and the flow's own timeout
STARTING = timedelta(seconds=10)  # Running, but the flow has not yet come to its claim
LAUNCHING = timedelta(seconds=60)  # Pending: the runner is starting the process
SURE_AFTER = timedelta(seconds=3)  # between the two looks that find nobody at work
logger = logging.getLogger(__name__)


class RefreshFinding(StrEnum):
    """What is the matter with one open refresh."""

    FINE = auto()
    SUSPECT = auto()  # nobody seems to work on it: look again
    DEAD = auto()  # its process is gone
    CANCELLED = auto()
    FAILED = auto()
    LOST = auto()  # Prefect no longer knows its flow run


def examine(run: FlowRun | None, *, is_held: bool, now: datetime) -> RefreshFinding:
    """Judge an open refresh by Prefect's word and by its lock. Pure.

    `run`: None when Prefect knows no such run. `is_held`: some process holds the refresh's lock.
    """
    if is_held:
        return RefreshFinding.FINE  # somebody is at work, whatever Prefect says
    if run is None:
        return RefreshFinding.LOST
    age = now - run.state_at
    match run.state_type:
        case "CANCELLED":
            return RefreshFinding.CANCELLED
        case "FAILED":
            return RefreshFinding.FAILED
        case "CRASHED":
            return RefreshFinding.DEAD
        case "COMPLETED":
            return RefreshFinding.SUSPECT if age < STARTING else RefreshFinding.DEAD
        case "RUNNING" if age > STARTING:
            return RefreshFinding.SUSPECT
        case "PENDING" if age > LAUNCHING:
            return RefreshFinding.SUSPECT
        case "CANCELLING" if age > LAUNCHING:
            return RefreshFinding.CANCELLED
    return RefreshFinding.FINE


@dataclass
class RefreshWatch:
    """Looks at open refreshes and puts right what it finds. One per process; several processes may look."""

    prefect: PrefectGateway
    _suspected_at: dict[str, datetime] = field(default_factory=dict)  # refresh id -> first look

    def look(self) -> int:
        """Look at every refresh that is with Prefect; return how many are open. Raises PrefectAway."""
        ours = Refresh.objects.filter(deployment="", status__in=Refresh.OPEN)  # others hold no lock: see `follow`
        rows = list(ours.exclude(prefect_flow_run_id=""))
        self._suspected_at = {row.pk: self._suspected_at[row.pk] for row in rows if row.pk in self._suspected_at}
        for row in rows:
            self.look_at(row)
        return len(rows)

    def sweep(self) -> None:
        """Put right the flow runs that no open refresh names: those of Prefect's schedule, and those that ended late.

        One whose process is gone is recorded as crashed: it died after it had published, or had found its refresh in
        the hands of another run. One that a runner took and never started, since Prefect's answer was lost on the way,
        is started again: it may be the only one of its window, and where it is not it finds the refresh done.
        Somebody else's flow may have the name of ours: only runs of our deployments are judged. Raises PrefectAway.
        """
        now = datetime.now(UTC)
        for entry in catalogue.CATALOGUE.values():
            found = self.prefect.flow_runs(states=["PENDING", "RUNNING"], flow=entry.flow, limit=100).items
            runs = [run for run in found if run.deployment == entry.deployment]
            known = selectors.refreshes_by_flow_run(run.id for run in runs)
            for run in runs:
                row = known.get(run.id)
                if (row is not None and row.is_open) or now - run.state_at <= _patience(run, row):
                    continue  # `look` cares for it, or it is early to say
                if run.state_type == "PENDING" and row is None:
                    logger.warning("flow run %s: no process has come of it, starting it again", run.id)
                    message = "No process has come of it; started again by Signalbox."
                    self.prefect.run_again(run.id, message, after=RESTART_AFTER)
                elif row is None or not _is_held(row.pk):
                    logger.warning("flow run %s: nobody works on it and nobody needs it", run.id)
                    self.prefect.crash(run.id, "Its process is gone; its refresh has ended without it.")

    def look_at_flow_run(self, flow_run_id: str) -> None:
        """Look at the refresh of one flow run whose state changed, if it has one. Raises PrefectAway."""
        rows = Refresh.objects.filter(deployment="", status__in=Refresh.OPEN)
        row = rows.filter(prefect_flow_run_id=flow_run_id).first()
        if row is not None:
            self.look_at(row)

    def look_at(self, row: Refresh) -> None:
        """Look at one open refresh. Raises PrefectAway."""
        now = datetime.now(UTC)
        try:
            run: FlowRun | None = self.prefect.flow_run(row.prefect_flow_run_id)
        except FlowRunNotFound:
            run = None
        if run is not None:
            standing.keep(row, standing.stand_of(run, restarts=row.restarts, now=now))
        finding = examine(run, is_held=_is_held(row.pk), now=now)
        if finding is RefreshFinding.SUSPECT and now - self._suspected_at.setdefault(row.pk, now) >= SURE_AFTER:
            finding = RefreshFinding.DEAD
        if finding not in {RefreshFinding.SUSPECT, RefreshFinding.DEAD}:
            self._suspected_at.pop(row.pk, None)
        match finding:
            case RefreshFinding.CANCELLED if run is not None:
                if not run.is_terminal:  # Cancelling waits for a process that is gone
                    self.prefect.cancel(run.id, "Its process is gone.")
                _close(row, Refresh.Status.CANCELLED, "")
            case RefreshFinding.FAILED if run is not None:
                _close(row, Refresh.Status.FAILED, run.state_message or "The flow run failed.")
            case RefreshFinding.LOST:
                self._hand_over_again(row)
            case RefreshFinding.DEAD if run is not None:
                self._suspected_at.pop(row.pk, None)
                self._start_again(row, run)

    def _start_again(self, row: Refresh, run: FlowRun) -> None:
        """Schedule the dead flow run again. The counter makes one of several watchers do it."""
        if row.restarts >= MOST_RESTARTS:
            if run.state_type not in {"CRASHED", "COMPLETED"}:
                self.prefect.crash(run.id, "Its process is gone.")
            _close(row, Refresh.Status.FAILED, f"Its process died {MOST_RESTARTS + 1} times.")
            return
        with transaction.atomic():
            as_seen = Refresh.objects.filter(pk=row.pk, restarts=row.restarts)
            mine = states.move(as_seen, Refresh.Status.SCHEDULED, restarts=F("restarts") + 1)
            if not mine:
                return  # another watcher was first
            logger.warning("refresh %s: nobody works on flow run %s, starting it again", row.pk, run.id)
            if run.state_type not in {"CRASHED", "COMPLETED"}:
                self.prefect.crash(run.id, "Its process is gone; Signalbox starts it again.")
            reach("watch.before_restart", row.pk)
            message = f"Started again by Signalbox, {row.restarts + 1} of {MOST_RESTARTS} times."
            self.prefect.run_again(run.id, message, after=RESTART_AFTER)
            announce("data")

    def _hand_over_again(self, row: Refresh) -> None:
        """Prefect lost the run, for instance with its database: the dispatcher sends the refresh again."""
        logger.warning("refresh %s: Prefect lost its flow run %s", row.pk, row.prefect_flow_run_id)
        as_seen = Refresh.objects.filter(pk=row.pk, prefect_flow_run_id=row.prefect_flow_run_id)
        states.move(as_seen, Refresh.Status.SCHEDULED, prefect_flow_run_id="", send_due_at=DatabaseNow())


def _patience(run: FlowRun, row: Refresh | None) -> timedelta:
    """Return for how long the run's state may stand without a refresh that is open."""
    if run.state_type == "PENDING":
        return 2 * LAUNCHING
    return LONGEST_RUN if row is None else STARTING + SURE_AFTER


def _close(row: Refresh, status: states.Status, error: str) -> None:
    """End the refresh, unless it has ended meanwhile."""
    with transaction.atomic():
        still_open = Refresh.objects.filter(pk=row.pk, status__in=Refresh.OPEN)
        states.move(still_open, status, error=error, finished_at=DatabaseNow())
        announce("data")


def _is_held(refresh_id: str) -> bool:
    """Return whether some process works on the refresh. The lock is let go again within the same statement."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [lock_key(refresh_id)])
        is_free: bool = cursor.fetchone()[0]
    return not is_free
