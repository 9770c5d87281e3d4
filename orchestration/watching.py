"""What the worker does for the watch beside a program's approval."""

from __future__ import annotations

from temporalio import activity
from temporalio.exceptions import ApplicationError

from orchestration import deliveries, webhook_gateway
from orchestration.contracts import DELIVER, GIVE_UP, DeliverAnswer, GiveUpAnswer
from orchestration.errors import OrchestrationError, SignalHeld
from orchestration.temporal_protocol import TemporalGateway
from orchestration.threads import in_database


class WatchActivities:
    """What the worker does for a program's watch besides climbing its ladder."""

    def __init__(self, temporal: TemporalGateway) -> None:
        self._temporal = temporal

    @activity.defn(name=DELIVER)
    async def deliver_answer(self, deliver: DeliverAnswer) -> None:
        """Send the answer once. On retry: what was taken is not sent again; an attempt cut off in between is.

        Raises a retryable error for everything but an admin's missing yes: addresses come back, workflows start late.
        """
        try:
            parcel = await in_database(deliveries.begin, deliver.approval_id)
            if parcel is None:
                return
            if parcel.signal is not None:
                await self._temporal.signal_program(parcel.signal)
                taken_by = f"signal {parcel.signal.signal} to workflow {parcel.signal.workflow_id}"
            else:
                taken_by = await webhook_gateway.post(parcel.url, parcel.id, parcel.body, parcel.keys)
        except SignalHeld as exc:  # an admin's yes starts the watch once more, and the time to deliver from then
            raise ApplicationError(str(exc), type=type(exc).__name__, non_retryable=True) from exc
        except OrchestrationError as exc:
            await in_database(deliveries.failed, deliver.approval_id, str(exc))
            raise ApplicationError(str(exc), type=type(exc).__name__) from exc
        await in_database(deliveries.delivered, deliver.approval_id, taken_by)

    @activity.defn(name=GIVE_UP)
    async def give_up_answer(self, give_up: GiveUpAnswer) -> None:
        """Show the answer as undelivered. On retry: it is shown already."""
        await in_database(deliveries.give_up, give_up.approval_id)
