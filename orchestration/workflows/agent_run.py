"""One run of an agent, for as long as it takes: turns of the graph, and in between waiting for people.

The workflow decides nothing. The approval rows say what was decided; a signal or a timer only wakes it, and the
next turn reads the rows. So a forged or repeated signal is harmless, and signal and timer may race in any order.
No Django, database or LangGraph here: the worker's sandbox refuses them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from orchestration.contracts import (
        CLIMB,
        CLOSE_RUN,
        DECIDED,
        FIRST_PAUSE_SECONDS,
        LONGEST_PAUSE_SECONDS,
        RUN_TURN,
        WORKFLOW,
        Carried,
        Climb,
        Climbed,
        CloseRun,
        StartRun,
        Turn,
        TurnResult,
    )
    from orchestration.workflows.signals import ids_of

_PATIENT = RetryPolicy(
    initial_interval=timedelta(seconds=FIRST_PAUSE_SECONDS), maximum_interval=timedelta(seconds=LONGEST_PAUSE_SECONDS)
)


@workflow.defn(name=WORKFLOW)
class AgentRun:
    """See the module. Signals may arrive before `run` begins, so all state is made here."""

    @workflow.init
    def __init__(self, start: StartRun) -> None:
        carried = start.carried or Carried(turn=0, waiting_for=[], seen_decisions=[], next_step_at=None)
        self._start = start
        self._turn = carried.turn
        self._waiting_for = list(carried.waiting_for)
        self._seen = list(carried.seen_decisions)
        self._next_step_at = carried.next_step_at
        self._decided = set(carried.decided)  # approvals that a signal named and no turn has looked at

    @workflow.run
    async def run(self, start: StartRun) -> str:
        """Return "finished" or "failed"; the result itself is in the Run row."""
        try:
            while True:
                if self._waiting_for:
                    await self._wait()
                result = await self._take_turn()
                if result.outcome in ("finished", "failed"):
                    return result.outcome
                self._waiting_for, self._next_step_at = result.waiting_for, result.next_step_at
                if workflow.info().is_continue_as_new_suggested():
                    workflow.continue_as_new(self._carry())
        except BaseException as exc:
            if is_cancelled_exception(exc):
                await self._close("cancelled", "cancelled", "The run was cancelled.")
                raise
            if isinstance(exc, ActivityError):
                await self._close("failed", _kind_of(exc), _message_of(exc))
                return "failed"
            raise

    async def _take_turn(self) -> TurnResult:
        self._turn += 1
        self._decided.difference_update(self._waiting_for)
        turn = Turn(self._start.run_id, self._start.agent, self._turn, self._waiting_for)
        result: TurnResult = await workflow.execute_activity(
            RUN_TURN,
            turn,
            result_type=TurnResult,
            start_to_close_timeout=timedelta(seconds=self._start.turn_seconds),
            heartbeat_timeout=timedelta(seconds=self._start.heartbeat_seconds),
            retry_policy=_PATIENT,
            summary=f"turn {self._turn}",
        )
        return result

    async def _wait(self) -> None:
        """Return when a signal named something we wait for, or when the ladder closed something."""
        while not self._is_woken():
            try:
                await workflow.wait_condition(
                    self._is_woken, timeout=self._until_next_step(), timeout_summary="next ladder step"
                )
            except TimeoutError:
                if await self._climb():
                    return

    def _is_woken(self) -> bool:
        return not self._decided.isdisjoint(self._waiting_for)

    def _until_next_step(self) -> timedelta | None:
        if self._next_step_at is None:
            return None
        # Never zero: the database's clock decides, and ours may run a little ahead of it.
        return max(datetime.fromisoformat(self._next_step_at) - workflow.now(), timedelta(seconds=1))

    async def _climb(self) -> bool:
        climbed: Climbed = await workflow.execute_activity(
            CLIMB,
            Climb(self._start.run_id, self._waiting_for),
            result_type=Climbed,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=_PATIENT,
            summary="ladder",
        )
        self._next_step_at = climbed.next_step_at
        return climbed.closed

    async def _close(self, status: Any, kind: str, message: str) -> None:
        """Close the row even while the workflow is being cancelled."""
        await asyncio.shield(
            workflow.execute_activity(
                CLOSE_RUN,
                CloseRun(self._start.run_id, status, kind, message),
                start_to_close_timeout=timedelta(seconds=10),
                retry_policy=_PATIENT,
            )
        )

    def _carry(self) -> StartRun:
        # A signal that came during the last turn will not come again.
        decided = [approval for approval in self._waiting_for if approval in self._decided]
        carried = Carried(self._turn, self._waiting_for, self._seen[-200:], self._next_step_at, decided)
        return replace(self._start, carried=carried)

    @workflow.signal(dynamic=True)
    async def any_signal(self, name: str, arguments: Sequence[RawValue]) -> None:
        """Take `decided {"approval_id", "decision_id"}`; anything else of any shape is ignored.

        Dynamic on purpose: a declared signal with a wrong number of arguments would fail the workflow task
        again and again, and the run would hang.
        """
        ids = ids_of(arguments) if name == DECIDED else None
        if ids is None:
            workflow.logger.warning("ignored a signal that is not a decision", extra={"signal": name[:50]})
            return
        approval_id, decision_id = ids
        if decision_id not in self._seen:
            self._seen.append(decision_id)
            self._decided.add(approval_id)

    @workflow.query
    def waiting_for(self) -> list[str]:
        """Return the approval ids that the run waits for."""
        return self._waiting_for


def _kind_of(error: ActivityError) -> str:
    cause = error.cause
    return (cause.type or "error") if isinstance(cause, ApplicationError) else type(cause).__name__


def _message_of(error: ActivityError) -> str:
    cause = error.cause
    return (cause.message if isinstance(cause, ApplicationError) else str(cause or error))[:2000]
