"""The frame of every flow that makes a dataset: claim the refresh, make the content, publish it or say why not.

On restart under the same flow run id it begins again from the top; the claim finds what was done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import psycopg
from prefect import Flow, flow, runtime
from prefect.logging import get_run_logger
from pydantic import BaseModel

from console import faults
from dataplane.catalogue import DatasetEntry
from dataplane.contents.base import Content, Withheld
from dataplane.contracts import RefreshOrder
from dataplane.errors import DataplaneError
from dataplane.flows import steps
from dataplane.flows.tasks import compare, publish, withhold
from dataplane.refreshes.claim import claim, fail, scheduled_key

P = TypeVar("P", bound=BaseModel)
Made = Content | Withheld
#: beginnings of PostgreSQL's codes: the connection is gone, the server was stopped, crashed, or is starting
LOST = ("08", "57P01", "57P02", "57P03")


def produces(entry: DatasetEntry) -> Callable[[Callable[[P], Made]], Flow[Any, str]]:
    """Turn `make(parameters) -> content` into the dataset's flow; the flow's file holds that function alone.

    The flow takes `key` and `parameters`, both optional. What the function raises fails the refresh, in words;
    `Withheld` in place of content ends it well without a version.
    """

    def framed(make: Callable[[P], Made]) -> Flow[Any, str]:
        def run(key: str | None = None, parameters: Any = None) -> str:
            return produce(entry, make, key=key, parameters=parameters)

        # Prefect makes the deployment's form from the signature, and finds the flow by its module and name.
        run.__annotations__ = {"key": str | None, "parameters": entry.parameters | None, "return": str}
        run.__name__ = run.__qualname__ = entry.flow
        run.__module__ = make.__module__
        run.__doc__ = _DESCRIPTION.format(make=make.__doc__)
        frame = flow(
            name=entry.flow,
            flow_run_name=lambda: _run_name(entry),
            timeout_seconds=600,
            persist_result=False,
            log_prints=False,
        )
        return frame(run)

    return framed


_DESCRIPTION = """{make}

key: which refresh this is; left out by the schedule, which refreshes the window it was scheduled for, also where
somebody has refreshed that window before.
parameters: what to read and how.
"""


def produce(entry: DatasetEntry, make: Callable[[P], Made], *, key: str | None, parameters: P | None) -> str:
    """Claim the refresh, make and publish its content; return in a sentence how it ended.

    `key`: None for a run of the schedule.
    """
    wanted = parameters.model_dump(mode="json", exclude_defaults=True) if parameters else {}
    flow_run_id = str(runtime.flow_run.id)
    key = key or scheduled_key(entry, _due(), wanted, flow_run_id=flow_run_id)
    faults.reach("flow.at_start", key)
    with claim(entry, RefreshOrder(entry.name, key, wanted), flow_run_id=flow_run_id) as claimed:
        if claimed.done is not None:
            get_run_logger().info(claimed.done.sentence)
            return claimed.done.sentence
        faults.about(claimed.refresh_id)
        faults.reach("flow.after_claim")
        chosen: Any = entry.parameters.model_validate(claimed.parameters)  # Any: the entry's model is the flow's
        finish = compare if claimed.is_dry_run else publish
        with steps.timed() as times:
            try:
                made = make(chosen)
                if isinstance(made, Withheld):
                    made = replace(made, confirms=made.confirms and not claimed.is_dry_run)
                    outcome = withhold(entry, made, refresh_id=claimed.refresh_id)
                else:
                    with steps.step("Compare" if claimed.is_dry_run else "Publish"):
                        outcome = finish(
                            entry,
                            steps.unvisited(made),
                            refresh_id=claimed.refresh_id,
                            parameters=claimed.parameters,
                            flow_run_id=flow_run_id,
                        )
            except Exception as exc:
                faults.reach("flow.before_fail")
                fail(claimed.refresh_id, in_words(exc))
                raise
            steps.show(times, outcome.sentence)
        faults.reach("flow.before_end")
    return outcome.sentence


def in_words(error: Exception) -> str:
    """Return what a person may read on the Data page; the traceback is in the flow run's logs."""
    if isinstance(error, psycopg.errors.DiskFull):
        return (
            "PostgreSQL's disk is full, so nothing was published and the current version stays. Make room, then "
            "refresh again."
        )
    if isinstance(error, psycopg.Error) and (error.sqlstate or "08").startswith(LOST):
        return (
            "The connection to PostgreSQL was lost, so nothing was published and the current version stays. Refresh "
            "again once PostgreSQL is back."
        )
    return str(error) if isinstance(error, DataplaneError) else f"{type(error).__name__}: {error}"


def _due() -> datetime:
    """Return when the flow run was to begin first: a retry or a restart does not move it."""
    due: datetime = runtime.flow_run.scheduled_start_time
    return due


def _run_name(entry: DatasetEntry) -> str:
    """Name the flow run after what it refreshes, e.g. `handbook 2026-11-24`; one of the schedule after its window."""
    return f"{entry.name} {runtime.flow_run.parameters.get('key') or entry.key(_due())}"
