"""The workflow beside an approval that a program asked for: it climbs the ladder, then sends the answer.

It decides nothing and keeps nothing. The approval row says what was decided, the delivery row says what was sent; a
signal or a timer only makes it look. So it may be started again at any time, and a forged signal is harmless.
No Django or database here: the worker's sandbox refuses them.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from orchestration.contracts import (
        DELIVER,
        GIVE_UP,
        WATCH,
        Carried,
        DeliverAnswer,
        GiveUpAnswer,
        StartWatch,
    )
    from orchestration.workflows.waiting import PATIENT, WaitsForPeople

_DELIVERIES = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=5))


@workflow.defn(name=WATCH)
class Watch(WaitsForPeople):
    """See the module. Signals may arrive before `run` begins, so all state is made here."""

    @workflow.init
    def __init__(self, start: StartWatch) -> None:
        self._approval_id = start.approval_id
        self._state = Carried(waiting_for=[start.approval_id])

    @workflow.run
    async def run(self, start: StartWatch) -> str:
        """Return "delivered" or "undelivered"; the answer itself is in the rows."""
        while not await self._is_closed():
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(start)  # which looks first, so that no signal is missed
            await self._woken()
        try:
            await workflow.execute_activity(
                DELIVER,
                DeliverAnswer(self._approval_id),
                start_to_close_timeout=timedelta(seconds=30),
                schedule_to_close_timeout=timedelta(seconds=start.tried_for_seconds),
                retry_policy=_DELIVERIES,
                summary="answer",
            )
        except ActivityError as exc:
            if is_cancelled_exception(exc):
                raise
            await workflow.execute_activity(
                GIVE_UP,
                GiveUpAnswer(self._approval_id),
                start_to_close_timeout=timedelta(seconds=10),
                retry_policy=PATIENT,
            )
            return "undelivered"
        return "delivered"

    async def _is_closed(self) -> bool:
        """Take the ladder steps that are due, and say whether there is an answer."""
        self._looked()
        return await self._climb(workflow.info().workflow_id)

    def _take(self, approval_id: str, decision_id: str) -> bool:
        """Keep it, again and again: looking costs little, and only the rows say whether there is an answer."""
        if approval_id != self._approval_id:
            return False
        if approval_id not in self._state.decided:
            self._state.decided.append(approval_id)
        return True

    @workflow.query
    def waits_until(self) -> str | None:
        """Return when the next ladder step is due (RFC 3339), `None` before the first look."""
        return self._state.next_step_at
