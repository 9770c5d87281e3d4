"""Following other people's flow runs, which hold no lock of ours: what Prefect says, and who is still alive.

* A refresh takes over what became of its run. A version comes by `dataplane.assets` or from a program.
* A run that Prefect's schedule made gets a refresh under its window's key; of one window there is one run.
* A run whose process is gone ends by force and gives its slot back, where signs of life every 30 s had told that it
  lived at the latest 90 s after: Prefect alone believes in it for ever. It is not started again: nobody here knows
  whether that would be right.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, TypeVar

from django.db import InterfaceError, OperationalError, transaction

from console.clock import DatabaseNow
from console.ids import new_id
from console.live.announce import announce
from console.text.plain_json import plain
from dataplane import assets, catalogue, masking, publishing, selectors
from dataplane.deployments import Deployment, PrefectDeployments
from dataplane.errors import DataplaneError, DeploymentNotFound, FlowRunNotFound, PrefectAway, PrefectRefused
from dataplane.models import Dataset, Refresh
from dataplane.prefect_gateway import FlowRun, PrefectGateway
from dataplane.refreshes import due, standing, states
from dataplane.registered import Registered

CANCELLING: Final = timedelta(seconds=60)  # whoever runs it needs 15 s
SILENT: Final = timedelta(seconds=60)  # nobody has asked for the deployment's work
#: Between two signs of life: no flow of Prefect's gives them more often, by default they come every three minutes, and
#: a flow may set any number of seconds. Each attempt gives its first one as it begins.
LEAST_GAP: Final = timedelta(seconds=30)
DEFAULT_GAP: Final = timedelta(seconds=180)
GAP_UNTOLD: Final = timedelta(minutes=20)  # what is believed possible after a single one
BEATS_MISSED: Final = 1.5
#: Prefect away for this long makes its runners and workers ask less and less often, up to every 160 s
OUTAGE: Final = timedelta(seconds=20)
BACKED_OFF: Final = timedelta(seconds=180)
TRAIL: Final = timedelta(seconds=6)  # events of assets arrive after the run has ended
LATER_IS_DUE: Final = "A later window was due as well, and this deployment takes the latest only."
LOOKED_BACK: Final = timedelta(hours=1)  # runs that ended longer ago, and have no refresh, stay as they are
Looked = TypeVar("Looked", Registered, Refresh)
logger = logging.getLogger(__name__)


def dead_because(
    run: FlowRun,
    *,
    pid: str,
    beats: list[datetime],
    polled_at: datetime | None,
    now: datetime,
    back_at: datetime | None = None,
) -> str:
    """Return in words why the process of a run is taken for gone, "" while it may live. Pure but for the process table.

    `pid`: what Prefect knows of its process; `beats`: the last signs of life of this attempt, newest first;
    `polled_at`: when somebody last asked for work of its deployment; `back_at`: since when Prefect answers, where it
    was away. Nobody could give a sign of life meanwhile, or hear that it is to cancel.
    """
    age = now - run.state_at
    answers_for = now - back_at if back_at is not None else timedelta.max
    if run.state_type == "CANCELLING":
        is_unanswered = min(age, answers_for) > CANCELLING
        return "It was told to cancel, and nobody has answered for a minute." if is_unanswered else ""
    if run.state_type not in ("RUNNING", "PENDING") or age < timedelta(seconds=15):
        return ""
    if is_gone(pid):
        return "Its process is gone."
    if beats:
        silent = now - beats[0]
        gaps = [later - earlier for later, earlier in pairwise(beats)]
        if min(silent, answers_for) > BEATS_MISSED * _longest_gap(gaps) + timedelta(seconds=10):
            return f"Its process has given no sign of life for {silent.total_seconds():.0f} s."
        if silent < max([SILENT, *gaps]):
            return ""
    if polled_at is not None and now - polled_at > SILENT and age > SILENT and answers_for > BACKED_OFF:
        return "Nobody serves its deployment any more, and its process ends with who started it."
    return ""


def _longest_gap(gaps: list[timedelta]) -> timedelta:
    """Return how far apart an attempt's signs of life may be, by the gaps between those that are known. Pure.

    Two gaps say it, the longer of them where one sign was lost. One may be the rest of an attempt before, by a clock
    that is some seconds ahead of Prefect's: it makes the time longer than by default, and never shorter.
    """
    if not gaps:
        return GAP_UNTOLD
    return max(LEAST_GAP if len(gaps) > 1 else DEFAULT_GAP, *gaps)


def is_of_this_machine(pid: str) -> bool:
    """Return whether this, e.g. `host:4711`, is a process of this machine; a stranger's machine is not judged.

    Prefect 3.8 tells the bare number of a worker's process and nothing of a served one's: these are not judged either.
    """
    host, _, number = pid.rpartition(":")
    return number.isdecimal() and host == socket.gethostname()


def is_gone(pid: str) -> bool:
    """Return whether this is a process of this machine that is no more."""
    if not is_of_this_machine(pid):
        return False
    try:
        os.kill(int(pid.rpartition(":")[2]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


@dataclass
class Follower:
    """Looks at other people's runs and puts right what it finds. Several processes may look: moves are conditional.

    `back_at`: since when Prefect answers, `None` where it was never seen away.
    """

    prefect: PrefectGateway
    others: PrefectDeployments
    back_at: datetime | None = None
    _away_since: datetime | None = None
    _assets_cut_at: datetime | None = None  # where the look at events of assets was cut
    _suspected: dict[str, datetime] = field(default_factory=dict)  # flow run -> first look that found nobody
    _unheard: set[str] = field(default_factory=set)  # flow runs of which nobody here can say whether they live
    _registered: set[str] = field(default_factory=set)  # what was registered at the look before
    _said: dict[str, str] = field(default_factory=dict)  # registration or refresh -> what is wrong with it

    def look(self) -> int:
        """Look at everything that is registered, and at what was cancelled here; return how many refreshes are open.

        One call to Prefect where nothing is registered and nothing open. Raises PrefectAway.
        """
        entries = list(catalogue.others().values())
        has_open = Refresh.objects.exclude(deployment="").filter(status__in=Refresh.OPEN).exists()
        try:
            if entries or has_open:
                self._assets_cut_at = assets.catch_up(self.others, cut_at=self._assets_cut_at)
            cancelling = self.others.asked_to_cancel()
        except PrefectAway:
            self._away_since = self._away_since or datetime.now(UTC)
            raise
        now = datetime.now(UTC)
        self._note_back(now)
        self._end_unanswered(cancelling, now)
        for entry in entries:
            if entry.name not in self._registered:
                self._look_alone(assets.take_newest, entry, entry.name)
            self._look_alone(self._look_at_deployment, entry, entry.name)
        self._registered = {entry.name for entry in entries}
        sent = Refresh.objects.exclude(deployment="").exclude(prefect_flow_run_id="")
        rows = list(sent.filter(status__in=Refresh.OPEN))
        for row in rows:
            self._look_alone(self._look_at, row, row.pk)
        return len(rows)

    def _look_alone(self, look: Callable[[Looked], None], at: Looked, name: str) -> None:
        """Look at one registration or refresh; what is wrong with it alone is logged. Raises PrefectAway."""
        try:
            look(at)
        except (PrefectAway, OperationalError, InterfaceError):
            raise  # it holds for all of them
        except Exception as exc:  # what cannot be followed must not stop the others
            if self._said.get(name) != str(exc):  # once, not every few seconds
                logger.warning("%s: %s", name, exc, exc_info=not isinstance(exc, DataplaneError))
            self._said[name] = str(exc)

    def _note_back(self, now: datetime) -> None:
        if self._away_since is not None and now - self._away_since > OUTAGE:
            self.back_at = now
        self._away_since = None

    def _end_unanswered(self, runs: list[FlowRun], now: datetime) -> None:
        """End by force those of the runs asked to stop that nobody has stopped in a minute, registered or not.

        A run of an open refresh of ours is left to `watch`, which knows by its lock whether its process lives.
        """
        ours = Refresh.objects.filter(deployment="", status__in=Refresh.OPEN)
        ours = ours.filter(prefect_flow_run_id__in=[run.id for run in runs])
        watched = set(ours.values_list("prefect_flow_run_id", flat=True))
        for run in runs:
            why = dead_because(run, pid="", beats=[], polled_at=None, now=now, back_at=self.back_at)
            if not why or run.id in watched:
                continue
            try:
                self._end(run, why)
            except (FlowRunNotFound, PrefectRefused) as exc:
                logger.warning("flow run %s was not ended: %s", run.id, exc)

    def _look_at_deployment(self, entry: Registered) -> None:
        """Serve its schedules as they stand here, end what is dead, and adopt what Prefect's schedule has made."""
        deployment = self.others.find(entry.flow, entry.deployment)
        keeps_times = catalogue.keeper_of_times(entry).name == entry.name  # two would undo each other's
        row = Dataset.objects.prefetch_related("schedules").filter(name=entry.name).first()
        if keeps_times and row is not None and row.scheduled_at is not None:
            self.others.set_schedules(deployment, selectors.schedules_of(entry), entry.fixed)
        now = datetime.now(UTC)
        soon = now + timedelta(seconds=30)
        runs = self.others.runs(deployment, due_before=soon, ended_after=now - LOOKED_BACK)
        for run in runs:
            if run.is_terminal:
                self._unheard.discard(run.id)
            else:
                self._bury(run, deployment, now)
        planned = [run for run in runs if run.idempotency_key.startswith("scheduled ")]
        self._name_what_was_told(entry, planned)
        if keeps_times:
            self._adopt(entry, planned)

    def _name_what_was_told(self, entry: Registered, planned: list[FlowRun]) -> None:
        """Give a refresh that was made by a run's word the key of its window, so that nobody runs that window again.

        The word may be here first: of a run that Prefect's schedule made while nobody looked.
        """
        by_key = {publishing.key_of_flow_run(run.id): run for run in planned}
        for row in Refresh.objects.filter(dataset_id=entry.name, key__in=by_key):
            with transaction.atomic():
                key = _key(entry, by_key[row.key])
                if not Refresh.objects.filter(dataset_id=entry.name, key=key).exists():
                    Refresh.objects.filter(pk=row.pk, key=row.key).update(key=key)
                    announce("data")

    def _adopt(self, entry: Registered, planned: list[FlowRun]) -> None:
        """Give each run of Prefect's schedule its refresh: see `due`. Of missed windows the policy takes which.

        Whoever deploys anew, or changes a schedule, has Prefect delete the runs that it planned and plan them again: an
        open refresh takes the new run in place of one that was deleted.
        """
        rows = Refresh.objects.filter(prefect_flow_run_id__in=[run.id for run in planned])
        known = set(rows.values_list("prefect_flow_run_id", flat=True))
        missed = _missed(entry, planned, datetime.now(UTC)) if entry.takes == "latest" else []
        for run in missed:
            self._drop(run, LATER_IS_DUE)  # where it had a refresh, as the latest of its time, that is closed below
        for run in planned:
            if run in missed or run.id in known or run.state_type == "CANCELLED":
                continue
            row, is_new = self._row(entry, run)
            if is_new or row.prefect_flow_run_id == run.id or run.state_type != "SCHEDULED":
                continue
            if self._is_deleted(row):
                self._take_over(entry, run, row)
            else:
                self._drop(run, f"Another run does the refresh {row.key}.")

    def _take_over(self, entry: Registered, run: FlowRun, row: Refresh) -> None:
        """Let the run do an open refresh whose own run Prefect has deleted."""
        logger.info("refresh %s: flow run %s was deleted, %s does it", row.pk, row.prefect_flow_run_id, run.id)
        as_seen = Refresh.objects.filter(
            pk=row.pk, status__in=Refresh.OPEN, prefect_flow_run_id=row.prefect_flow_run_id
        )
        changes = {"prefect_flow_run_id": run.id, "parameters": _parameters(entry, run), "stand": None}
        with transaction.atomic():
            states.move(as_seen, Refresh.Status.SCHEDULED, **changes)
            announce("data")

    def _row(self, entry: Registered, run: FlowRun) -> tuple[Refresh, bool]:
        with transaction.atomic():
            Dataset.objects.get_or_create(
                name=entry.name, defaults={"title": entry.title, "fresh_for": entry.fresh_for}
            )
            row, is_new = Refresh.objects.get_or_create(
                dataset_id=entry.name,
                key=_key(entry, run),
                defaults={
                    "id": new_id("rfr"),
                    "parameters": _parameters(entry, run),
                    "prefect_flow_run_id": run.id,
                    "flow": entry.flow,
                    "deployment": entry.deployment,
                },
            )
            if is_new:
                announce("data")
        return row, is_new

    def _is_deleted(self, row: Refresh) -> bool:
        """Return whether the refresh is open and Prefect no longer knows its run."""
        if not row.is_open or not row.prefect_flow_run_id:
            return False
        try:
            self.prefect.flow_run(row.prefect_flow_run_id)
        except FlowRunNotFound:
            return True
        return False

    def _drop(self, run: FlowRun, why: str) -> None:
        """Cancel a run that has not begun; one that has meanwhile goes on, for nothing would stop its process."""
        try:
            now = self.prefect.flow_run(run.id)
        except FlowRunNotFound:
            return
        if not _waits(now):
            return
        logger.info("flow run %s is cancelled: %s", run.id, why)
        self.prefect.cancel(run.id, why)

    def _bury(self, run: FlowRun, deployment: Deployment, now: datetime) -> None:
        """End the run by force when its process is gone, at the second look that finds so."""
        pid = self.others.infrastructure_pid(run.id) if run.state_type in ("RUNNING", "PENDING") else ""
        beats = self.others.last_heartbeats(run.id, since=run.state_at) if run.state_type == "RUNNING" else []
        why = dead_because(
            run, pid=pid, beats=beats, polled_at=deployment.last_polled_at, now=now, back_at=self.back_at
        )
        if beats or is_of_this_machine(pid):
            self._unheard.discard(run.id)
        else:
            self._unheard.add(run.id)
        if not why:
            self._suspected.pop(run.id, None)
            return
        if run.state_type != "CANCELLING" and now - self._suspected.setdefault(run.id, now) < timedelta(seconds=3):
            return
        self._suspected.pop(run.id, None)
        self._end(run, why)

    def _end(self, run: FlowRun, why: str) -> None:
        logger.warning("flow run %s: %s", run.id, why)
        end(self.prefect, self.others, run, why)
        with transaction.atomic():
            announce("data")

    def look_at_flow_run(self, flow_run_id: str) -> None:
        """Look at the refresh of one flow run whose state changed, if it has one. Raises PrefectAway."""
        rows = Refresh.objects.exclude(deployment="").filter(status__in=Refresh.OPEN)
        if row := rows.filter(prefect_flow_run_id=flow_run_id).first():
            self._look_alone(self._look_at, row, row.pk)

    def _look_at(self, row: Refresh) -> None:
        """Let one open refresh take over what became of its run."""
        try:
            run = self.prefect.flow_run(row.prefect_flow_run_id)
        except FlowRunNotFound:
            _close(row, Refresh.Status.FAILED, "Prefect no longer knows its flow run: it was deleted there.")
            return
        standing.keep(row, self._stand(row, run))
        match run.state_type:
            case "RUNNING" if row.started_at is None or row.started_at < run.state_at:
                with transaction.atomic():
                    # The newest attempt's begin, for it reads anew: see `dataplane.publishing`.
                    begun = Refresh.objects.filter(pk=row.pk, status__in=Refresh.OPEN)
                    states.move(begun, Refresh.Status.RUNNING, started_at=run.state_at)
                    announce("data")
            case "COMPLETED" if datetime.now(UTC) - run.state_at > TRAIL:
                self._finish(row)
            case "FAILED":
                _close(row, Refresh.Status.FAILED, run.state_message or "The flow run failed.")
            case "CRASHED":
                _close(row, Refresh.Status.FAILED, f"Crashed. {run.state_message}".strip())
            case "CANCELLED":
                why = LATER_IS_DUE if run.state_message == LATER_IS_DUE else ""
                _close(row, Refresh.Status.CANCELLED, why)

    def _stand(self, row: Refresh, run: FlowRun) -> dict[str, Any] | None:
        now = datetime.now(UTC)
        stand = standing.stand_of(run, restarts=row.restarts, now=now, is_heard=run.id not in self._unheard)
        if stand is None or stand["kind"] != "slot_held":
            return stand
        try:
            deployment = self.others.find(row.flow, row.deployment)
            others = self.others.runs(
                deployment, due_before=now, ended_after=now - standing.KEPT, states=standing.HOLDS
            )
        except (DeploymentNotFound, PrefectRefused):
            return stand
        return standing.stand_of(run, restarts=row.restarts, now=now, others=others)

    def _finish(self, row: Refresh) -> None:
        """End a refresh whose run ended well. It confirms the dataset, whether or not the flow told of a version.

        Not where a version that it told of is refused: then nobody has the data that the run has made.
        """
        assets.catch_up_with(row.prefect_flow_run_id, self.others)
        if refused := assets.refusal_of(row):
            _close(row, Refresh.Status.FAILED, refused)
            return
        with transaction.atomic():
            moved = states.move(
                Refresh.objects.filter(pk=row.pk, status__in=Refresh.OPEN),
                Refresh.Status.FINISHED,
                error="",
                finished_at=DatabaseNow(),
            )
            if moved:
                Dataset.objects.filter(pk=row.dataset_id).update(confirmed_at=DatabaseNow())
            announce("data")


def _waits(run: FlowRun) -> bool:
    """Return whether nobody has begun the run yet; one that waits for a slot has been begun by who serves it."""
    return run.state_type == "SCHEDULED" and not run.run_count and run.state_name != "AwaitingConcurrencySlot"


def _parameters(entry: Registered, run: FlowRun) -> Any:
    """Return the run's parameters as its refresh keeps them."""
    return plain(masking.kept_of(run.parameters, schema=run.parameters_schema or None, secret=entry.secret))


def _key(entry: Registered, run: FlowRun) -> str:
    """Return the key of the refresh that a run of Prefect's schedule does."""
    when = run.first_due_at or run.expected_start_at or run.created_at
    rows = Refresh.objects.filter(dataset_id=entry.name, key__in=due.possible_keys(entry, when))
    earlier = [
        due.Earlier(row.key, row.prefect_flow_run_id, None if row.is_open else row.finished_at or row.created_at)
        for row in rows
    ]
    return due.key_when_due(entry, when, earlier, flow_run_id=run.id)


def _missed(entry: Registered, planned: list[FlowRun], now: datetime) -> list[FlowRun]:
    """Return the runs that have come due and not begun, but for those of the latest window that has come due."""
    when = {run.id: run.expected_start_at or run.created_at for run in planned}
    late = sorted((run for run in planned if _waits(run) and when[run.id] <= now), key=lambda run: when[run.id])
    return [run for run in late if entry.key(when[run.id]) != entry.key(when[late[-1].id])]


def end(prefect: PrefectGateway, others: PrefectDeployments, run: FlowRun, why: str) -> None:
    """Record that the run's process is gone, whatever Prefect believes, and give back its slot."""
    if run.state_type == "CANCELLING":
        prefect.cancel(run.id, why)
    else:
        prefect.crash(run.id, why)
    others.release_slot(run.id)


def _close(row: Refresh, status: states.Status, error: str) -> None:
    with transaction.atomic():
        states.move(
            Refresh.objects.filter(pk=row.pk, status__in=Refresh.OPEN), status, error=error, finished_at=DatabaseNow()
        )
        announce("data")
