"""How a workflow waits for people: until a signal names an approval, or the next step of a ladder is due.

A mixin, so that each workflow has the signal and the ladder from here. No Django or database: workflow code.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy

with workflow.unsafe.imports_passed_through():
    from orchestration.contracts import (
        CLIMB,
        DECIDED,
        TURNS,
        Carried,
        Climb,
        Climbed,
    )
    from orchestration.workflows.signals import ids_of

PATIENT: Final = RetryPolicy(
    initial_interval=timedelta(seconds=TURNS.first), maximum_interval=timedelta(seconds=TURNS.longest)
)


class WaitsForPeople:
    """A workflow that waits for approvals. Its `workflow.init` makes `_state`: a signal may come before `run`."""

    _state: Carried

    def _take(self, approval_id: str, decision_id: str) -> bool:
        """Keep what a well-formed signal says; return whether it is about this workflow at all."""
        raise NotImplementedError

    def _heard(self, name: str) -> bool:
        """Take a signal that is its name alone; return whether it is one."""
        return False

    async def _woken(self) -> bool:
        """Wait. Return whether a signal named something that we wait for; else the next ladder step is due."""
        try:
            await workflow.wait_condition(
                self._is_woken, timeout=self._until_next_step(), timeout_summary="next ladder step"
            )
        except TimeoutError:
            return False
        return True

    def _is_woken(self) -> bool:
        return not set(self._state.decided).isdisjoint(self._state.waiting_for)

    def _until_next_step(self) -> timedelta | None:
        if self._state.next_step_at is None:
            return None
        # Never zero: the database's clock decides, and ours may run a little ahead of it.
        return max(datetime.fromisoformat(self._state.next_step_at) - workflow.now(), timedelta(seconds=1))

    def _looked(self) -> None:
        """Forget which of the approvals signals have named: the rows are about to be looked at."""
        self._state.decided = [one for one in self._state.decided if one not in self._state.waiting_for]

    async def _climb(self, subject: str) -> bool:
        """Take the ladder steps that are due; return whether something is closed. `subject`: whose ladder it is."""
        climbed: Climbed = await workflow.execute_activity(
            CLIMB,
            Climb(subject, self._state.waiting_for),
            result_type=Climbed,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=PATIENT,
            summary="ladder",
        )
        self._state.next_step_at = climbed.next_step_at
        return climbed.closed

    @workflow.signal(dynamic=True)
    async def any_signal(self, name: str, arguments: Sequence[RawValue]) -> None:
        """Take `decided {"approval_id", "decision_id"}` and what the workflow hears besides; all else is ignored.

        Dynamic on purpose: a declared signal with a wrong number of arguments would fail the workflow task
        again and again, and the workflow would hang.
        """
        if self._heard(name):
            return
        ids = ids_of(arguments) if name == DECIDED else None
        if ids is None or not self._take(*ids):
            workflow.logger.warning("ignored a signal that is no decision for us", extra={"signal": name[:50]})
