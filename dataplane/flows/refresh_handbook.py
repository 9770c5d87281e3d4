"""The flow that makes the dataset `handbook`: the order of its steps, nothing else.

On restart under the same flow run id it begins again from the top; `publishing.claim` finds what was done.
"""

from __future__ import annotations

from prefect import flow, runtime
from prefect.logging import get_run_logger

from dataplane import publishing
from dataplane.catalogue import HANDBOOK, HandbookParameters, window_key
from dataplane.contracts import Refresh
from dataplane.errors import DataplaneError
from dataplane.flows.tasks import embed, publish, read_documents, split


def run_name() -> str:
    """Name the flow run after what it refreshes, e.g. `handbook 2026-11-24`."""
    given = runtime.flow_run.parameters
    return f"{HANDBOOK.name} {given.get('key') or window_key(runtime.flow_run.scheduled_start_time)}"


@flow(name=HANDBOOK.flow, flow_run_name=run_name, timeout_seconds=600, persist_result=False, log_prints=False)
def refresh_handbook(key: str | None = None, parameters: HandbookParameters | None = None) -> str:
    """Read, split, embed and publish the handbook.

    key: which refresh this is; left out by the schedule, which refreshes the window it was scheduled for.
    parameters: what to read and how to split it.
    """
    wanted = (parameters or HandbookParameters()).model_dump(mode="json", exclude_defaults=True)
    order = Refresh(HANDBOOK.name, key or window_key(runtime.flow_run.scheduled_start_time), wanted)
    flow_run_id = str(runtime.flow_run.id)
    with publishing.claim(HANDBOOK, order, flow_run_id=flow_run_id) as claim:
        if claim.done is not None:
            get_run_logger().info(claim.done.sentence)
            return claim.done.sentence
        chosen = HandbookParameters.model_validate(claim.parameters)
        try:
            content = embed(split(read_documents(chosen.folder), chosen))
            outcome = publish(
                HANDBOOK,
                content,
                refresh_id=claim.refresh_id,
                parameters=claim.parameters,
                flow_run_id=flow_run_id,
            )
        except Exception as exc:
            publishing.fail(claim.refresh_id, in_words(exc))
            raise
    return outcome.sentence


def in_words(error: Exception) -> str:
    """Return what a person may read on the Data page; the traceback is in the flow run's logs."""
    return str(error) if isinstance(error, DataplaneError) else f"{type(error).__name__}: {error}"
