"""What is asked of Temporal and what it answers, without Temporal's SDK: see `orchestration.temporal_gateway`.

Pages and the relay know these; the web process loads the SDK when it asks for the first time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from orchestration.contracts import HandWritten, ProgramSignal, StartRun, StartWatch


@dataclass(frozen=True)
class WorkflowSeen:
    """How a workflow is. `status`: Temporal's own word in lower case; `reason`: why it ended, in words of others."""

    status: str  # running, paused, completed, failed, canceled, terminated, timed_out, continued_as_new
    reason: str = ""

    @property
    def is_open(self) -> bool:
        return self.status in ("running", "paused", "continued_as_new", "unspecified")


@dataclass(frozen=True)
class Pending:
    """An activity that has not ended.

    `state`: scheduled, started, cancel_requested, or held in Temporal: paused, and pause_requested while an attempt of
    it is still under way.
    """

    activity: str  # its name
    state: str
    attempt: int  # from 1
    last_failure: str  # "" while none has failed
    next_try_at: datetime | None  # aware, UTC; `None` while an attempt is under way or waits for a worker
    heartbeat: Any = None  # what the attempt under way said last, JSON
    heartbeat_at: datetime | None = None
    since: datetime | None = None  # when the attempt under way began, or was offered to workers, or it was paused


@dataclass(frozen=True)
class WorkflowTaskFault:
    """Why the newest workflow task failed. `words`: the SDK's, which may quote the workflow's code."""

    cause: str  # NON_DETERMINISTIC_ERROR, WORKFLOW_WORKER_UNHANDLED_FAILURE and others
    words: str
    worker: str  # the identity of who failed it
    at: datetime


@dataclass(frozen=True)
class Described:
    """One Temporal run of a workflow as the server knows it now; instants are aware, UTC."""

    temporal_run_id: str
    seen: WorkflowSeen  # without a reason, which is in the history
    started_at: datetime
    closed_at: datetime | None
    events: int  # in its history
    pending: tuple[Pending, ...] = ()
    task_attempt: int = 0  # of the workflow task that has not ended; 0: there is none
    task_since: datetime | None = None  # when that task was first offered to workers
    workflow_type: str = ""
    task_queue: str = ""


@dataclass(frozen=True)
class HistoryPage:
    """A part of one history. `events`: Temporal's own JSON, oldest first; `after`: where the next page begins."""

    events: list[dict[str, Any]]
    after: str  # "" when there is no more


class TemporalReads(Protocol):
    """What may be asked of Temporal about workflows; it changes nothing. Every call may raise TemporalAway."""

    async def describe(self, workflow_id: str, temporal_run_id: str = "") -> Described:
        """Describe a workflow's newest run, or the one named. Raises WorkflowGone when there is none of this id."""

    async def history(
        self, workflow_id: str, temporal_run_id: str = "", *, after: str = "", most: int = 100
    ) -> HistoryPage:
        """Return a page of one run's history, the newest run's if none is named.

        `most`: batches of events that the server wrote together, so a page may hold a few more, and the last one none.
        `after`: "" for the beginning, then what the page before said. Raises WorkflowGone, and TemporalRefused for an
        `after` that no page has said.
        """

    async def history_back(
        self, workflow_id: str, temporal_run_id: str = "", *, after: str = "", most: int = 100
    ) -> HistoryPage:
        """Do as `history` does, from the newest event on: what a page holds is newest first."""

    async def task_fault(self, workflow_id: str, temporal_run_id: str = "") -> WorkflowTaskFault | None:
        """Say why the workflow task under way failed before, `None` when none has failed. Raises WorkflowGone."""


class TemporalGateway(TemporalReads, Protocol):
    """What the relay needs of Temporal."""

    async def start_run(self, start: StartRun) -> str:
        """Start the run's workflow, once; return its Temporal run id, "" when it ran before and has ended."""

    async def signal_decided(self, run_id: str, approval_id: str, decision_id: str) -> None:
        """Wake the run. Raises WorkflowGone when it has ended or never was."""

    async def start_watch(self, workflow_id: str, start: StartWatch, again: bool) -> None:
        """Start a program's watch; one that runs stays, unless it is `again` to be started in its place."""

    async def feed_batch(self, batch_id: str) -> None:
        """Have the workflow of a batch look at its rows; it is started where it is not there."""

    async def signal_program(self, signal: ProgramSignal) -> None:
        """Signal a workflow of somebody else's. Raises WorkflowGone when it is not there or has ended."""

    async def look(self, workflow_id: str) -> WorkflowSeen:
        """Say how the newest workflow of this id is. Raises WorkflowGone when there is none, or nothing left of it."""

    async def moved_between(self, workflow_id: str, begin: datetime, end: datetime) -> bool:
        """Return whether its history has an event of that time. Raises WorkflowGone."""

    async def cancel(self, workflow_id: str, reason: str, request_id: str, era: int | None) -> None:
        """Ask a workflow to cancel; the server takes that for one that has ended, too. Raises WorkflowGone.

        `era`: of the run whose workflow is meant; that of another era is gone or not there yet. `None`: any era's.
        """

    async def terminate(self, workflow_id: str, reason: str, era: int | None) -> None:
        """End a workflow at once. Raises WorkflowGone when it has ended or never was. `era`: as of `cancel`."""

    async def restart_run(self, start: StartRun, reason: str) -> str:
        """Start the run's workflow anew for its era, in the place of the one of before; return its Temporal run id.

        Once for each era: a repetition finds what the first has started, also when that has ended. Raises
        TemporalRefused when another one was started meanwhile: look at the run's era again.
        """

    async def resume(self, run_id: str, request_id: str) -> None:
        """Tell a run's workflow that it is resumed. Raises WorkflowGone."""

    async def hurry(self, run_id: str, activity: str) -> None:
        """Begin the next attempt of an activity now that waits for it; without such a one nothing is done.

        On retry: an activity that was left paused on the way is let go on. Raises WorkflowGone.
        """

    async def fail_activity(self, run_id: str, activity: str, kind: str, message: str, era: int | None) -> None:
        """Fail an activity's attempt that is under way, for good, or begin the next one now. Raises WorkflowGone.

        `era`: as of `cancel`.
        """

    async def send(self, written: HandWritten) -> Any:
        """Send an operator's message; return the answer, `None` for a signal.

        Raises WorkflowGone, TemporalRefused also where the workflow or its worker says no, and NotAnswered.
        """

    async def home(self) -> str:
        """Return the id of the namespace: another one under the same name is another Temporal."""

    async def is_there(self) -> bool:
        """Return whether the server answers, lets us in, and has our namespace."""
