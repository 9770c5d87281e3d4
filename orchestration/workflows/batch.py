"""One batch: feeds it while there is room. It starts no run itself and waits for none.

The rows say what is left and where there is room; a signal or a timer only wakes it, and the next step looks. So a
signal that is lost, forged or repeated changes nothing but when it looks. No Django or database here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from orchestration.contracts import BATCH, FEED, Fed, FeedBatch
    from orchestration.workflows.waiting import PATIENT


@workflow.defn(name=BATCH)
class BatchFeed:
    """See the module. Signals may arrive before `run` begins, so all state is made here."""

    @workflow.init
    def __init__(self, batch: FeedBatch) -> None:
        self._is_poked = False

    @workflow.run
    async def run(self, batch: FeedBatch) -> None:
        """Return when every item has ended; how, is in the rows."""
        while True:
            self._is_poked = False
            fed: Fed = await workflow.execute_activity(
                FEED,
                batch,
                result_type=Fed,
                start_to_close_timeout=timedelta(seconds=15),  # the next worker takes it up so soon
                retry_policy=PATIENT,
                summary="feed",
            )
            if fed.is_over and not self._is_poked:  # else rows may have been put back meanwhile
                return
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(batch)  # which looks first, so that no signal is missed
            with suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: self._is_poked, timeout=timedelta(seconds=fed.look_after), timeout_summary="next look"
                )

    @workflow.signal(dynamic=True)
    async def any_signal(self, name: str, arguments: Sequence[RawValue]) -> None:
        """Look again, whatever was signalled in whatever shape."""
        self._is_poked = True
