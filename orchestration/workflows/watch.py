"""The workflow beside an approval that a program asked for: it climbs the ladder, then sends the answer.

It decides nothing and keeps nothing. The approval row says what was decided, the delivery row says what was sent; a
signal or a timer only makes it look. So it may be started again at any time, and a forged signal is harmless.
No Django or database here: the worker's sandbox refuses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from orchestration.contracts import (
        CLIMB,
        DECIDED,
        DELIVER,
        GIVE_UP,
        WATCH,
        Climb,
        Climbed,
        DeliverAnswer,
        GiveUpAnswer,
        StartWatch,
    )
    from orchestration.workflows.signals import ids_of

_PATIENT = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))
_DELIVERIES = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=5))


@workflow.defn(name=WATCH)
class Watch:
    """See the module. Signals may arrive before `run` begins, so all state is made here."""

    @workflow.init
    def __init__(self, start: StartWatch) -> None:
        self._approval_id = start.approval_id
        self._is_woken = False
        self._next_step_at: str | None = None

    @workflow.run
    async def run(self, start: StartWatch) -> str:
        """Return "delivered" or "undelivered"; the answer itself is in the rows."""
        while not await self._is_closed():
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(start)  # which looks first, so that no signal is missed
            await self._wait()
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
                retry_policy=_PATIENT,
            )
            return "undelivered"
        return "delivered"

    async def _is_closed(self) -> bool:
        """Take the ladder steps that are due, and say whether there is an answer."""
        self._is_woken = False
        climbed: Climbed = await workflow.execute_activity(
            CLIMB,
            Climb(workflow.info().workflow_id, [self._approval_id]),
            result_type=Climbed,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=_PATIENT,
            summary="ladder",
        )
        self._next_step_at = climbed.next_step_at
        return climbed.closed

    async def _wait(self) -> None:
        """Return when a signal named the approval, or when the next ladder step is due."""
        try:
            await workflow.wait_condition(
                lambda: self._is_woken, timeout=self._until_next_step(), timeout_summary="next ladder step"
            )
        except TimeoutError:
            return

    def _until_next_step(self) -> timedelta | None:
        if self._next_step_at is None:
            return None
        # Never zero: the database's clock decides, and ours may run a little ahead of it.
        return max(datetime.fromisoformat(self._next_step_at) - workflow.now(), timedelta(seconds=1))

    @workflow.signal(dynamic=True)
    async def any_signal(self, name: str, arguments: Sequence[RawValue]) -> None:
        """Take `decided {"approval_id", "decision_id"}`; anything else of any shape is ignored."""
        ids = ids_of(arguments) if name == DECIDED else None
        if ids is None or ids[0] != self._approval_id:
            workflow.logger.warning("ignored a signal that is not about this approval", extra={"signal": name[:50]})
            return
        self._is_woken = True

    @workflow.query
    def waits_until(self) -> str | None:
        """Return when the next ladder step is due (RFC 3339), `None` before the first look."""
        return self._next_step_at
