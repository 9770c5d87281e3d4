"""One run of an agent, for as long as it takes: turns of the graph, and in between waiting for people.

The workflow decides nothing. The approval rows say what was decided; a signal or a timer only wakes it, and the
next turn reads the rows. So a forged or repeated signal is harmless, and signal and timer may race in any order.
No Django, database or LangGraph here: the worker's sandbox refuses them.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from orchestration.contracts import (
        CLOSE_RUN,
        RESUMED,
        RUN_TURN,
        WORKFLOW,
        Carried,
        CloseRun,
        StartRun,
        Turn,
        TurnResult,
    )
    from orchestration.workflows.waiting import PATIENT, WaitsForPeople

SEEN_AT_MOST = 200  # decisions that are carried along


@workflow.defn(name=WORKFLOW)
class AgentRun(WaitsForPeople):
    """See the module. Signals may arrive before `run` begins, so all state is made here."""

    @workflow.init
    def __init__(self, start: StartRun) -> None:
        self._start = start
        self._state = start.carried or Carried()

    @workflow.run
    async def run(self, start: StartRun) -> str:
        """Return "finished" or "failed"; the result itself is in the Run row."""
        try:
            is_paused = False
            while True:
                if self._state.waiting_for and not is_paused:
                    await self._wait()
                result = await self._take_turn()
                if result.outcome in ("finished", "failed"):
                    return result.outcome
                is_paused = result.outcome == "paused"
                if is_paused:  # what was decided is taken up by the turn that follows, so nobody else is waited for
                    await workflow.wait_condition(lambda: self._state.is_resumed)
                    continue
                self._state.waiting_for, self._state.next_step_at = result.waiting_for, result.next_step_at
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
        self._state.turn += 1
        self._state.is_resumed = False  # what resumes from now on comes after this look at the rows
        self._looked()
        start, state = self._start, self._state
        turn = Turn(start.run_id, start.agent, state.turn, state.waiting_for, start.era)
        result: TurnResult = await workflow.execute_activity(
            RUN_TURN,
            turn,
            result_type=TurnResult,
            start_to_close_timeout=timedelta(seconds=self._start.turn_seconds),
            heartbeat_timeout=timedelta(seconds=self._start.heartbeat_seconds),
            retry_policy=PATIENT,
            summary=f"turn {self._state.turn}",
        )
        return result

    async def _wait(self) -> None:
        """Return when a signal named something we wait for, or when the ladder closed something."""
        while not self._is_woken():  # asked first: recorded histories have no timer where a signal was there already
            if not await self._woken() and await self._climb(self._start.run_id):
                return

    async def _close(self, status: Any, kind: str, message: str) -> None:
        """Close the row even while the workflow is being cancelled."""
        await asyncio.shield(
            workflow.execute_activity(
                CLOSE_RUN,
                CloseRun(self._start.run_id, status, kind, message, self._start.era),
                start_to_close_timeout=timedelta(seconds=10),
                retry_policy=PATIENT,
            )
        )

    def _carry(self) -> StartRun:
        # A signal that came during the last turn will not come again.
        decided = [approval for approval in self._state.waiting_for if approval in self._state.decided]
        state = replace(self._state, decided=decided, seen_decisions=self._state.seen_decisions[-SEEN_AT_MOST:])
        return replace(self._start, carried=state)

    def _take(self, approval_id: str, decision_id: str) -> bool:
        """Keep it even where we do not wait for it: a decision may come before its turn has reported."""
        if decision_id not in self._state.seen_decisions:
            self._state.seen_decisions.append(decision_id)
            self._state.decided.append(approval_id)
        return True

    def _heard(self, name: str) -> bool:
        """Keep that the run is resumed; a forged one makes it look at the rows once more."""
        if name == RESUMED:
            self._state.is_resumed = True
        return name == RESUMED

    @workflow.query
    def waiting_for(self) -> list[str]:
        """Return the approval ids that the run waits for."""
        return self._state.waiting_for


def _kind_of(error: ActivityError) -> str:
    cause = error.cause
    return (cause.type or "error") if isinstance(cause, ApplicationError) else type(cause).__name__


def _message_of(error: ActivityError) -> str:
    cause = error.cause
    return (cause.message if isinstance(cause, ApplicationError) else str(cause or error))[:2000]
