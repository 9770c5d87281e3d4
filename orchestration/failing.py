"""Turns that fail again and again: what is kept of it, when the run is stuck, when it fails for good.

A turn is tried again by Temporal for as long as its run is open. So what it fails of, since when, and when it is tried
next stands in the run's row; after STUCK_AFTER the run is stuck, which is recorded and told once. A turn that gets to
its end clears all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction

from console.clock import database_now
from console.live.announce import announce
from console.text.stored import storable
from console.text.visible import one_line
from orchestration import troubles
from orchestration.agents.registry import UnknownAgent, agent_named
from orchestration.contracts import TURNS, Turn
from orchestration.errors import AttemptLost, GaveUp
from orchestration.models import Run

STUCK_AFTER: Final = timedelta(minutes=30)
#: a turn has got to its end
OVER: Final[dict[str, Any]] = {
    "failure": None,
    "failing_since": None,
    "stuck_at": None,
    "cause": "",
    "cause_group": "",
    "cause_rank": 0,
    "cause_sentence": "",
    "cause_since": None,
}
CAUSE: Final = "turn_failing"  # its row in `orchestration.diagnosis.table`
RANK: Final = 60


@dataclass(frozen=True)
class Failed:
    """Why an attempt failed. `kinds`: the names of the error's class and those it is made from, nearest first."""

    kinds: tuple[str, ...]
    message: str
    is_permanent: bool = False
    node: str = ""  # of the graph, where it is known
    trace: str = ""

    @property
    def kind(self) -> str:
        return self.kinds[0]


def note(turn: Turn, fence: int, attempt: int, failed: Failed) -> None:
    """Keep why the newest attempt failed. An older one, or one of a closed run, changes nothing.

    Raises GaveUp when the same kind of failure came as often, or lasts as long, as the agent allows.
    """
    with transaction.atomic():
        mine = Run.objects.filter(pk=turn.run_id, fence=fence, status__in=Run.OPEN)
        run = mine.select_for_update(no_key=True).first()
        if run is None:
            return
        now = database_now()
        _keep(run, turn, attempt, failed, now)
    if not failed.is_permanent:
        _give_up(run, turn, failed, now)


def note_lost(run: Run, turn: Turn, attempt: int) -> None:
    """Keep that the attempt before this one ended without a word. The caller's transaction holds the row."""
    seconds = f"{run_seconds(turn):,}"
    message = f"The attempt ended without a word: its worker died, or it took longer than {seconds} s."
    _keep(run, turn, attempt, Failed((AttemptLost.__name__,), message), database_now())


def run_seconds(turn: Turn) -> int:
    """Return how long one attempt of the turn may take."""
    try:
        return agent_named(turn.agent).turn_seconds
    except UnknownAgent:
        return 0


def check_lost(run: Run, turn: Turn) -> None:
    """Raise GaveUp when attempts have ended without a word as often, or for as long, as the agent allows."""
    failure = run.failure or {}
    if failure.get("turn") == turn.turn and failure.get("kind") == AttemptLost.__name__:
        _give_up(run, turn, Failed((AttemptLost.__name__,), str(failure["message"])), database_now())


_CAUSE_FIELDS: Final = ("cause", "cause_group", "cause_rank", "cause_sentence", "cause_since")


def _keep(run: Run, turn: Turn, attempt: int, failed: Failed, now: datetime) -> None:
    before: dict[str, Any] = run.failure or {}
    is_same_turn = run.failing_since is not None and before.get("turn") == turn.turn
    is_same = is_same_turn and before.get("kind") == failed.kind
    run.failure = {
        "turn": turn.turn,
        "attempt": attempt,
        "at": now.isoformat(),
        "kind": failed.kind,
        "message": storable(failed.message)[:2000],
        "since": before["since"] if is_same else now.isoformat(),
        "times": before["times"] + 1 if is_same else 1,
        "next_try_at": None if failed.is_permanent else (now + TURNS.delay(attempt)).isoformat(),
        "node": failed.node[:200],
        "trace": storable(failed.trace)[-6000:],
    }
    if not is_same_turn:
        run.failing_since, run.stuck_at = now, None
    if run.stuck_at is None and run.failing_since is not None and now - run.failing_since >= STUCK_AFTER:
        run.stuck_at, run.cause, run.cause_rank, run.cause_since = now, CAUSE, RANK, run.failing_since
        run.cause_group = f"{CAUSE}:{failed.kind[:100]}"
        run.cause_sentence = f"Turn {turn.turn} fails, attempt {attempt:,}: {one_line(failed.message)[:300]}"
        body = {"turn": turn.turn, "attempt": attempt, "kind": failed.kind}
        troubles.note(run.cause_group, CAUSE, run.pk, is_due=True, actor="worker", body=body)
    run.save(update_fields=["failure", "failing_since", "stuck_at", *_CAUSE_FIELDS])
    announce("runs", f"run:{run.pk}")


def _give_up(run: Run, turn: Turn, failed: Failed, now: datetime) -> None:
    try:
        limit = agent_named(turn.agent).limit_of(failed.kinds)
    except UnknownAgent:
        return
    failure = run.failure or {}
    times, since = int(failure["times"]), datetime.fromisoformat(failure["since"])
    if limit is None or not limit.is_reached(times, (now - since).total_seconds()):
        return
    often = "once" if times == 1 else f"{times:,} times"
    raise GaveUp(
        failed.kind, f"Given up as the agent's limits say, after it failed {often} in the same way: {failed.message}"
    )


def place_of(run: Run, kind: str) -> dict[str, str]:
    """Return where in the agent's code the run's last failure came from, for its error: {"node", "trace"}."""
    failure: dict[str, Any] = run.failure or {}
    if failure.get("kind") != kind:
        return {}
    return {name: str(failure[name]) for name in ("node", "trace") if failure.get(name)}


@dataclass(frozen=True)
class Failure:
    """What the turn under way fails of, as people and programs see it."""

    attempt: int
    error: str  # the agent's or an engine's words among it: untrusted
    since: datetime  # of the same kind of failure
    next_try_at: datetime | None
    kind: str
    stuck_at: datetime | None  # when it was found to fail for too long, which was told

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("attempt", "error", "since", "next_try_at", "kind")}


def failure_of(run: Run) -> Failure | None:
    """Return what the turn under way fails of, `None` when it does not."""
    kept: dict[str, Any] | None = run.failure if run.status in Run.OPEN else None
    if kept is None or kept.get("turn") != run.turn:
        return None
    next_try_at = kept.get("next_try_at")
    return Failure(
        attempt=kept["attempt"],
        error=kept["message"],
        since=datetime.fromisoformat(kept.get("since", kept["at"])),  # rows of before say only `at`
        next_try_at=datetime.fromisoformat(next_try_at) if next_try_at else None,
        kind=kept.get("kind", ""),
        stuck_at=run.stuck_at,
    )
