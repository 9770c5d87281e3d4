"""Why a refresh under way does not go on, kept in its row, so that a run's page tells it without asking Prefect.

Whoever looks at the refresh's flow run (`watch`, `follow`) keeps what it sees: late, waiting for a slot, crashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction

from console.clock import database_now
from console.live.announce import announce
from console.ports import DataTrouble
from dataplane.models import Refresh
from dataplane.prefect_gateway import FlowRun

LATE: Final = timedelta(seconds=15)  # Prefect's own patience
UNHEARD: Final = timedelta(minutes=5)  # Prefect's default is a sign of life every three
UNKNOWN_FOR: Final = timedelta(minutes=10)  # then a refresh of a deployment that Prefect does not know fails
KEPT: Final = timedelta(minutes=5)  # a slot of a run that is gone; Prefect's lease
_WAITS_FOR_SLOT: Final = "AwaitingConcurrencySlot"
_UNKNOWN: Final = "deployment_unknown"
HOLDS: Final = ("RUNNING", "PENDING", "CANCELLING")


def stand_of(
    run: FlowRun, *, restarts: int, now: datetime, others: Sequence[FlowRun] = (), is_heard: bool = True
) -> dict[str, Any] | None:
    """Return how a flow run stands that does not go on, `None` for one that does. Pure.

    `others`: of its deployment, one of which may hold the slot that it waits for. `is_heard`: its process is known to
    have lived, by a sign of life or as one of this machine.
    """
    if run.state_name == _WAITS_FOR_SLOT:
        holder = _holder(run, others, now)
        found = {"kind": "slot_held", "since": run.state_at.isoformat()}
        return found | ({"holder": holder.id, "holder_state": holder.state_name} if holder else {})
    due = run.expected_start_at or run.created_at
    if run.state_type == "CRASHED" or (restarts and run.state_type == "SCHEDULED"):
        return {"kind": "flow_crashed", "since": run.state_at.isoformat(), "restarts": restarts}
    if run.state_type == "SCHEDULED" and now - due > LATE:
        return {"kind": "flow_late", "since": due.isoformat()}
    if run.state_type in ("RUNNING", "PENDING") and not is_heard and now - run.state_at > UNHEARD:
        return {"kind": "flow_unheard", "since": run.state_at.isoformat()}
    return None


def _holder(run: FlowRun, others: Sequence[FlowRun], now: datetime) -> FlowRun | None:
    """Return the run that holds the slot: one at work, or one that has ended with its slot in hand."""
    candidates = [one for one in others if one.id != run.id and one.started_at is not None]
    at_work = [one for one in candidates if one.state_type in HOLDS]
    ended = [one for one in candidates if one.is_terminal and now - one.state_at < KEPT]
    return next(iter([*at_work, *ended]), None)


def of_unknown_deployment(stand: dict[str, Any] | None, now: datetime) -> dict[str, Any]:
    """Return how an unsent refresh stands whose deployment Prefect does not know; `stand`: as it stood before. Pure."""
    if stand is not None and stand["kind"] == _UNKNOWN:
        return stand
    return {"kind": _UNKNOWN, "since": now.isoformat()}


def keep(row: Refresh, stand: dict[str, Any] | None) -> None:
    """Keep it with the refresh, and tell pages where it is another one."""
    if row.stand == stand:
        return
    with transaction.atomic():
        Refresh.objects.filter(pk=row.pk).update(stand=stand)
        announce("data")
    row.stand = stand


def troubles_of(datasets: Sequence[str]) -> dict[str, DataTrouble]:
    """Return what keeps the newest refresh of each dataset from going on; nothing for those that go on. Two queries."""
    rows = Refresh.objects.filter(dataset_id__in=datasets).order_by("dataset_id", "-id").distinct("dataset_id")
    now = database_now() if datasets else None
    return {row.dataset_id: found for row in rows if now and (found := told(row, now)) is not None}


def told(row: Refresh, now: datetime) -> DataTrouble | None:
    """Return why a refresh does not go on, `None` for one that does or has ended. Pure."""
    if not row.is_open:
        return None
    if not row.prefect_flow_run_id:
        return _unsent(row, now)
    stand = row.stand or {}
    name, run = row.dataset_id, row.prefect_flow_run_id
    since = datetime.fromisoformat(stand["since"]) if stand.get("since") else row.created_at
    clock = f"{since:%-d %b %H:%M} UTC"
    if stand.get("kind") == "slot_held":
        holder = stand.get("holder", "")
        held = f"flow run {holder} ({stand.get('holder_state')}) holds it" if holder else "another run holds it"
        words = (
            f"The refresh of {name} waits for a place of its deployment since {clock}: {held}. A run that is gone "
            "loses it within five minutes; an admin gives it back at once."
        )
        return DataTrouble("slot_held", words, since, holder or run)
    if stand.get("kind") == "flow_crashed":
        again = int(stand.get("restarts", 0))
        words = f"The flow run that refreshes {name} crashed at {clock}; it is started again by itself"
        return DataTrouble("flow_crashed", f"{words}{f', {again} of 3 times' if again else ''}.", since, run)
    if stand.get("kind") == "flow_late":
        words = f"The refresh of {name} is late since {clock}: nobody has taken its flow run up. Is its runner alive?"
        return DataTrouble("flow_late", words, since, run)
    if stand.get("kind") == "flow_unheard":
        words = (
            f"The flow run that refreshes {name} has given no sign of life since it was taken up at {clock}, so nobody "
            "here can say whether it lives. If it does not, an admin cancels it: it ends by force a minute later."
        )
        return DataTrouble("flow_unheard", words, since, run)
    return None


def _unsent(row: Refresh, now: datetime) -> DataTrouble | None:
    if now - row.created_at <= LATE:
        return None
    why = f": {row.send_error}".rstrip(" .") if row.send_error else ""
    if (row.stand or {}).get("kind") != _UNKNOWN:
        what_comes = "It is sent as soon as Prefect answers."
    elif row.is_registered:
        what_comes = (
            "Deploy it again, or name another one in its registration: the refresh fails when Prefect has said so for "
            f"{UNKNOWN_FOR.seconds // 60} minutes."
        )
    else:
        what_comes = "It is sent once the process that serves flows has told Prefect of it, which it does as it starts."
    words = (
        f"The refresh of {row.dataset_id} has not reached Prefect since {row.created_at:%-d %b %H:%M} UTC{why}. "
        f"{what_comes}"
    )
    return DataTrouble("flow_late", words, row.created_at, "")
