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
from dataplane.errors import DatasetNotFound, DeploymentNotFound, PrefectAway, PrefectRefused
from dataplane.models import Refresh
from dataplane.prefect_gateway import PrefectGateway
from dataplane.refreshes import standing, states

REGISTERING = timedelta(seconds=0.5)  # the runner is about to register its deployments
WAITS = Backoff(1, 30)  # while Prefect is away
logger = logging.getLogger(__name__)


def dispatch_one(prefect: PrefectGateway) -> bool:
    """Hand the oldest due refresh to Prefect; say whether one was handed over, so that more may be due.

    The row stays locked during the call, so that two dispatchers never send the same one; others are skipped.
    """
    with transaction.atomic():
        row = (
            Refresh.objects.select_for_update(skip_locked=True)
            .filter(status=Refresh.Status.SCHEDULED, prefect_flow_run_id="", send_due_at__lte=DatabaseNow())
            .order_by("created_at")
            .first()
        )
        if row is None:
            return False
        try:
            row.prefect_flow_run_id = _send(prefect, row)
            row.send_error, row.stand = "", None
        except DeploymentNotFound as exc:
            _wait_for_deployment(row, exc)
        except PrefectAway as exc:
            row.send_error, row.send_due_at = str(exc), database_now() + WAITS.delay(row.send_attempts + 1)
            row.stand = None
            if not row.send_attempts:
                logger.info("refresh %s waits for Prefect: %s", row.pk, exc)
        except (PrefectRefused, DatasetNotFound) as exc:  # the catalogue may have lost it since
            refused = Refresh.objects.filter(pk=row.pk)
            states.move(refused, Refresh.Status.FAILED, error=str(exc), finished_at=DatabaseNow())
            logger.warning("refresh %s was refused: %s", row.pk, exc)
        row.send_attempts += 1
        row.save(update_fields=["prefect_flow_run_id", "send_error", "send_due_at", "send_attempts", "stand"])
        announce("data")
        return bool(row.prefect_flow_run_id)


def _wait_for_deployment(row: Refresh, told: DeploymentNotFound) -> None:
    """Let the row be sent again later; fail it where nobody has deployed somebody else's deployment for ten minutes.

    Ours comes back by itself, whenever a process serves flows.
    """
    now = database_now()
    row.stand = standing.of_unknown_deployment(row.stand, now)
    wait = WAITS.delay(row.send_attempts + 1) if row.is_registered else REGISTERING
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
