"""What Temporal says of one run, as its row keeps it and as a page asks for it; none waits for one that hangs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from threading import Lock
from typing import Any, Final

from console import probes
from console.clock import database_now
from orchestration.contracts import RUN_TURN
from orchestration.errors import OrchestrationError, TemporalAway, TemporalRefused, WorkflowGone
from orchestration.temporal_protocol import Described, Pending, TemporalReads, WorkflowTaskFault

PAGE_WAITS: Final = 0.2  # seconds, for a page
ASKED_AT_ONCE: Final = 4  # questions of this process that have no answer yet
TASK_FAILS_FROM: Final = 2  # attempts of a workflow task, from which on it is worth asking why
KEPT_SECONDS: Final = 2.0
_HELD: Final = ("paused", "pause_requested")
_AT_WORK: Final = ("started", "pause_requested")


@dataclass(frozen=True)
class TurnActivity:
    """The activity of a turn that has not ended."""

    state: str  # as in temporal_protocol.Pending
    attempt: int
    since: str = ""  # RFC 3339; of the attempt under way, or when it was offered to workers
    last_failure: str = ""
    next_try_at: str = ""
    node: str = ""  # what the graph works on, as the newest heartbeat said
    node_since: str = ""

    @property
    def is_at_work(self) -> bool:
        return self.state in _AT_WORK

    @property
    def is_held(self) -> bool:
        """Return whether somebody has paused it in Temporal itself."""
        return self.state in _HELD


@dataclass(frozen=True)
class Look:
    """One answer of Temporal's about a run. JSON in the run's row."""

    at: str  # RFC 3339, the database's clock
    status: str  # as in temporal_protocol.WorkflowSeen; not_found
    reason: str = ""  # why it ended, in words of others
    closed_at: str = ""
    events: int = 0
    turn: TurnActivity | None = None
    task_attempt: int = 0
    task_since: str = ""
    fault: dict[str, str] = field(default_factory=dict)  # of the workflow task: {"cause", "words", "worker", "at"}

    @property
    def is_open(self) -> bool:
        return self.status in ("running", "paused", "continued_as_new", "unspecified")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read(kept: dict[str, Any] | None) -> Look | None:
    """Return what a row has kept, `None` when there is nothing."""
    if not kept:
        return None
    turn = TurnActivity(**kept["turn"]) if kept.get("turn") else None
    return Look(**{**kept, "turn": turn})


async def ask(temporal: TemporalReads, run_id: str, at: datetime) -> Look:
    """Ask Temporal how the run is. Two calls where its workflow task fails. Raises TemporalAway, TemporalRefused."""
    try:
        found = await temporal.describe(run_id)
        fault = None
        if found.seen.is_open and found.task_attempt >= TASK_FAILS_FROM:
            fault = await temporal.task_fault(run_id, found.temporal_run_id)
    except TemporalRefused as exc:
        if not exc.is_data_loss:
            raise
        return Look(at.isoformat(), "not_found")
    except WorkflowGone:
        return Look(at.isoformat(), "not_found")
    return look_of(found, fault, at)


def look_of(found: Described, fault: WorkflowTaskFault | None, at: datetime) -> Look:
    """Return the answer in the form that is kept."""
    turns = [one for one in found.pending if one.activity == RUN_TURN]
    return Look(
        at=at.isoformat(),
        status=found.seen.status,
        reason=found.seen.reason,
        closed_at=_told(found.closed_at),
        events=found.events,
        turn=_turn(turns[0]) if turns else None,
        task_attempt=found.task_attempt,
        task_since=_told(found.task_since),
        fault={}
        if fault is None
        else {"cause": fault.cause, "words": fault.words[:1000], "worker": fault.worker, "at": fault.at.isoformat()},
    )


def _turn(pending: Pending) -> TurnActivity:
    said: dict[str, Any] = pending.heartbeat if isinstance(pending.heartbeat, dict) else {}
    is_at_work = pending.state in _AT_WORK
    return TurnActivity(
        state=pending.state,
        attempt=pending.attempt,
        since=_told(pending.since),
        last_failure=pending.last_failure[:1000],
        next_try_at=_told(pending.next_try_at),
        node=str(said.get("node") or "")[:200] if is_at_work else "",
        node_since=str(said.get("since") or "")[:40] if is_at_work else "",
    )


def _told(moment: datetime | None) -> str:
    return moment.isoformat() if moment is not None else ""


# For a page


@dataclass(frozen=True)
class LatestLook:
    """What a page gets to know: the newest look, maybe the one that its row keeps, and why there is no newer one."""

    look: Look | None
    away: str = ""  # a sentence without its full stop; "" when Temporal has just answered


class _Asking:
    """The questions of this process that have no answer yet, and the newest answers."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._under_way = 0
        self._answers: dict[str, tuple[float, LatestLook]] = {}

    def now(self, run_id: str) -> LatestLook | None:
        """Ask, and wait for PAGE_WAITS at most; `None` without an answer in that time."""
        with self._lock:
            kept = self._answers.get(run_id)
            if kept is not None and time.monotonic() - kept[0] < KEPT_SECONDS:
                return kept[1]
            if self._under_way >= ASKED_AT_ONCE:
                return None
            self._under_way += 1

        def work() -> LatestLook:
            try:
                answer = _asked(run_id)
            finally:
                with self._lock:
                    self._under_way -= 1
            with self._lock:
                self._answers = {
                    name: one for name, one in self._answers.items() if time.monotonic() - one[0] < KEPT_SECONDS
                } | {run_id: (time.monotonic(), answer)}
            return answer

        return probes.within(PAGE_WAITS, work, None)


def _asked(run_id: str) -> LatestLook:
    at = database_now()

    async def work() -> Look:
        from orchestration.temporal_gateway import RealTemporal  # here: the web process is kept light

        return await ask(await RealTemporal.connect(), run_id, at)

    try:
        return LatestLook(asyncio.run(work()))
    except TemporalAway as exc:
        return LatestLook(None, str(exc).rstrip("."))
    except OrchestrationError as exc:
        return LatestLook(None, str(exc).rstrip("."))


_asking = _Asking()


def now(run_id: str, kept: dict[str, Any] | None) -> LatestLook:
    """Return what Temporal says of the run, asked now, or as it was kept where there is no answer in time."""
    found = _asking.now(run_id)
    if found is None:
        return LatestLook(read(kept), "it did not answer in time")
    return found if found.look is not None else replace(found, look=read(kept))
