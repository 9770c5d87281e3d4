"""Starting somebody else's deployment: a refresh of a registered dataset, or a job.

What a person typed is held against the deployment's own schema before Prefect hears of it. A secret is never kept: a
start with one is sent at once, within the transaction that makes its row, or not at all.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction

from console import roles
from console.clock import database_now
from console.ids import new_id
from dataplane import contracts, masking
from dataplane.deployments import deployments
from dataplane.errors import PrefectAway, RefreshKeyTaken
from dataplane.models import Dataset, Refresh
from dataplane.parameters import asked, cleaned
from dataplane.prefect_gateway import gateway
from dataplane.refreshes.keys import check_key, note_requested
from dataplane.registered import Registered


def may_start(entry: Registered, user: User) -> bool:
    """Return whether the registration lets this person start it."""
    return bool(roles.roles_of(user) & entry.may_start)


def start(entry: Registered, *, key: str | None, parameters: dict[str, Any], user: User | None) -> tuple[Refresh, bool]:
    """Ask for a run of the deployment; return its refresh and whether this call made it.

    1. Check that the person may, by the registration; None stands for the system itself.
    2. Check the parameters by the deployment's schema as it is now: unknown names, formats, size.
    3. Insert the row, or find the one that has the key. With a secret, send it to Prefect before the row is seen.
    4. Record, announce, and wake the dispatcher. Prefect may be away for a day when no parameter was given.

    Raises PermissionDenied, DeploymentNotFound, InvalidParameters, RefreshKeyTaken, and PrefectAway when parameters
    cannot be checked, or a secret cannot be sent.
    """
    if user is not None and not may_start(entry, user):
        raise PermissionDenied(f"Only {' and '.join(sorted(entry.may_start))} may start {entry.name}.")
    check_key(key)
    sent, kept = _checked(entry, parameters)
    with transaction.atomic():
        Dataset.objects.get_or_create(name=entry.name, defaults={"title": entry.title, "fresh_for": entry.fresh_for})
        row, is_new = Refresh.objects.get_or_create(
            dataset_id=entry.name,
            key=key or entry.key(database_now()),
            defaults={
                "id": new_id("rfr"),
                "parameters": kept,
                "requested_by": user,
                "flow": entry.flow,
                "deployment": entry.deployment,
            },
        )
        if row.parameters != kept:
            raise RefreshKeyTaken(entry.name, row.key, row.pk)
        if is_new:
            if kept != sent:
                row.prefect_flow_run_id = _send(entry, row, sent)
                row.save(update_fields=["prefect_flow_run_id"])
            note_requested(row, sent)
    if is_new:
        row.refresh_from_db()  # the defaults that the database gave
    return row, is_new


def _checked(entry: Registered, parameters: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters as they are sent, and as they may be kept."""
    fixed = dict(entry.fixed)
    try:
        found = deployments().find(entry.flow, entry.deployment)
    except PrefectAway:
        kept = masking.kept_of(fixed, schema={}, secret=entry.secret)
        if parameters or kept != fixed:
            raise
        return fixed, kept
    sent = {**cleaned(asked(entry, found.schema, found.defaults), parameters), **fixed}
    return sent, masking.kept_of(sent, schema=found.schema, secret=entry.secret)


def _send(entry: Registered, row: Refresh, sent: dict[str, Any]) -> str:
    """Return the id of the flow run. Prefect answers a known key with the old run and drops what is sent."""
    order = contracts.RefreshOrder(row.dataset_id, row.key)
    run = gateway().create_flow_run(
        flow=entry.flow,
        deployment=entry.deployment,
        parameters=sent,
        idempotency_key=order.idempotency_key(entry.flow, entry.deployment),
        name=f"{entry.name} {row.key}",
    )
    if any(run.parameters.get(name) != value for name, value in sent.items()):
        raise RefreshKeyTaken(entry.name, row.key, row.pk)
    return run.id
