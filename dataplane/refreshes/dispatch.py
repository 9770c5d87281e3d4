"""Handing requested refreshes to Prefect. The Refresh rows are the outbox; Prefect's idempotency key makes
handing one over twice harmless, so a crash between Prefect's answer and our note of it costs nothing.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db import transaction

from console.backoff import Backoff
from console.clock import DatabaseNow, database_now
from console.faults import reach
from console.live.announce import announce
from dataplane import catalogue, contracts
from dataplane.errors import (
    DataplaneError,
    DatasetNotFound,
    DeploymentNotFound,
    PrefectAway,
    PrefectBusy,
    PrefectRefused,
)
from dataplane.models import Refresh
from dataplane.prefect_gateway import PrefectGateway
from dataplane.refreshes import standing, states

REGISTERING = timedelta(seconds=0.5)  # the runner is about to register its deployments
WAITS = Backoff(1, 30)  # while Prefect is away
LEASE = timedelta(seconds=30)  # a row is in one dispatcher's hands; longer than Prefect usually takes for its answers
logger = logging.getLogger(__name__)


def dispatch_one(prefect: PrefectGateway) -> bool:
    """Hand the oldest due refresh to Prefect; return whether one was handed over, so that more may be due.

    1. Take the row for LEASE, so that other dispatchers leave it alone. One that dies gives it up by that.
    2. Ask Prefect, in no transaction: PostgreSQL ends one that waits for 10 s.
    3. Note what came of it, unless somebody else has taken the row meanwhile; they find the same flow run.
    """
    row = _taken()
    if row is None:
        return False
    try:
        flow_run_id = _send(prefect, row)
    except (DeploymentNotFound, PrefectAway, PrefectRefused, DatasetNotFound) as exc:  # lost by the catalogue since
        _note_unsent(row, exc)
        return False
    _note_sent(row, flow_run_id)
    return True


def _taken() -> Refresh | None:
    """Return the oldest due refresh, counted as tried and due again after LEASE; None when nothing is due."""
    with transaction.atomic():
        row = (
            Refresh.objects.select_for_update(skip_locked=True)
            .filter(status=Refresh.Status.SCHEDULED, prefect_flow_run_id="", send_due_at__lte=DatabaseNow())
            .order_by("created_at")
            .first()
        )
        if row is not None:
            row.send_due_at = database_now() + LEASE
            row.send_attempts += 1
            row.save(update_fields=["send_due_at", "send_attempts"])
        return row


def _note_sent(row: Refresh, flow_run_id: str) -> None:
    """Note the flow run; it may have begun already, and a second dispatcher may have noted the same one."""
    with transaction.atomic():
        unsent = Refresh.objects.filter(pk=row.pk, prefect_flow_run_id="")
        unsent.update(prefect_flow_run_id=flow_run_id, send_error="", stand=None)
        announce("data")


def _note_unsent(taken: Refresh, why: DataplaneError) -> None:
    """Let the row be sent again later, or fail it, while it is still as it was taken."""
    with transaction.atomic():
        as_taken = Refresh.objects.filter(
            pk=taken.pk, status=Refresh.Status.SCHEDULED, prefect_flow_run_id="", send_due_at=taken.send_due_at
        )
        row = as_taken.select_for_update().first()
        if row is None:
            return
        if isinstance(why, DeploymentNotFound):
            _wait_for_deployment(row, why)
        elif isinstance(why, PrefectAway):
            asked = (why.retry_after if isinstance(why, PrefectBusy) else None) or timedelta()
            row.send_error = str(why)
            row.send_due_at = database_now() + max(asked, WAITS.delay(row.send_attempts))
            row.stand = None
            if row.send_attempts == 1:
                logger.info("refresh %s waits for Prefect: %s", row.pk, why)
        else:
            states.move(as_taken, Refresh.Status.FAILED, error=str(why), finished_at=DatabaseNow())
            logger.warning("refresh %s was refused: %s", row.pk, why)
        row.save(update_fields=["send_error", "send_due_at", "stand"])
        announce("data")


def _wait_for_deployment(row: Refresh, told: DeploymentNotFound) -> None:
    """Let the row be sent again later; fail it where nobody has deployed somebody else's deployment for ten minutes.

    Ours comes back by itself, whenever a process serves flows.
    """
    now = database_now()
    row.stand = standing.of_unknown_deployment(row.stand, now)
    wait = WAITS.delay(row.send_attempts) if row.is_registered else REGISTERING
    row.send_error, row.send_due_at = str(told), now + wait
    if row.is_registered and now - datetime.fromisoformat(row.stand["since"]) > standing.UNKNOWN_FOR:
        error = (
            f"Prefect has not known the deployment {row.flow}/{row.deployment} for ten minutes: it was removed or "
            "renamed. Deploy it again, or name another one in its registration; then refresh again under another key."
        )
        states.move(Refresh.objects.filter(pk=row.pk), Refresh.Status.FAILED, error=error, finished_at=DatabaseNow())
        logger.warning("refresh %s failed: %s", row.pk, error)


def _send(prefect: PrefectGateway, row: Refresh) -> str:
    """Return the id of the refresh's flow run, made now or earlier."""
    order = contracts.RefreshOrder(row.dataset_id, row.key, row.parameters)
    if row.is_registered:
        flow, deployment, parameters = row.flow, row.deployment, order.parameters
    else:
        entry = catalogue.entry(row.dataset_id)
        flow, deployment = entry.flow, entry.deployment
        parameters = {"key": order.key, "parameters": order.parameters}
    run = prefect.create_flow_run(
        flow=flow,
        deployment=deployment,
        parameters=parameters,
        idempotency_key=order.idempotency_key(flow, deployment),
        name=f"{order.dataset} {order.key}",
    )
    reach("dispatch.after_send", row.key)
    logger.info("refresh %s is flow run %s", row.pk, run.id)
    return run.id


def dispatch_all(prefect: PrefectGateway) -> None:
    """Hand over everything that is due."""
    while dispatch_one(prefect):
        pass


def send_soon() -> None:
    """Forget the waiting times: Prefect has just come back."""
    Refresh.objects.filter(status=Refresh.Status.SCHEDULED, prefect_flow_run_id="").update(send_due_at=DatabaseNow())
