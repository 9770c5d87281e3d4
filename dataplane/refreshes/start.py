"""Starting somebody else's deployment: a refresh of a registered dataset, or a job.

What a person typed is held against the deployment's own schema before Prefect hears of it. A secret is never kept: a
start with one is sent at once, within the transaction that makes its row, or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction

from console import roles
from console.clock import database_now
from console.ids import new_id
from dataplane import contracts, masking
from dataplane.deployments import deployments
from dataplane.errors import FlowRunNotFound, NotStarted, PrefectAway, RefreshKeyTaken
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
       Whether a key's secrets are the same ones only its flow run tells.
    4. Record, announce, and wake the dispatcher. Prefect may be away for a day when no parameter was given.

    Raises PermissionDenied, DeploymentNotFound, InvalidParameters, RefreshKeyTaken, and NotStarted when Prefect is
    away and parameters cannot be checked, or a secret cannot be sent or compared.
    """
    if user is not None and not may_start(entry, user):
        raise PermissionDenied(f"Only {' and '.join(sorted(entry.may_start))} may start {entry.name}.")
    check_key(key)
    try:
        row, is_new = _asked_for(entry, key, parameters, user)
    except PrefectAway as exc:
        raise NotStarted(str(exc)) from exc
    if is_new:
        row.refresh_from_db()  # the defaults that the database gave
    return row, is_new


def _asked_for(
    entry: Registered, key: str | None, parameters: dict[str, Any], user: User | None
) -> tuple[Refresh, bool]:
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
        if is_new:
            if kept != sent:
                row.prefect_flow_run_id, row.send_attempts = _send(entry, row, sent), 1
                row.save(update_fields=["prefect_flow_run_id", "send_attempts"])
            note_requested(row, sent)
    if not is_new:
        _check_same(row, sent, kept, parameters)
    return row, is_new


def _checked(entry: Registered, parameters: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters as they are sent, and as they may be kept."""
    fixed = dict(entry.fixed)
    try:
        found = deployments().find(entry.flow, entry.deployment)
    except PrefectAway:
        if parameters or not _were_plain(entry, fixed):
            raise
        return fixed, fixed
    sent = {**cleaned(asked(entry, found.schema, found.defaults), parameters), **fixed}
    return sent, masking.kept_of(sent, schema=found.schema, secret=entry.secret)


def _were_plain(entry: Registered, fixed: Mapping[str, Any]) -> bool:
    """Return whether what is fixed is known to be no secret: a refresh before was kept with it, by its schema then."""
    if not fixed:
        return True
    rows = Refresh.objects.filter(dataset_id=entry.name, flow=entry.flow, deployment=entry.deployment)
    rows = rows.filter(parameters__has_keys=list(fixed))  # not of a version that was only told
    kept = rows.order_by("-created_at").values_list("parameters", flat=True).first() or {}
    return masking.kept_of(dict(fixed), schema={}, secret=entry.secret) == fixed and fixed.items() <= kept.items()


def _check_same(row: Refresh, sent: dict[str, Any], kept: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Raise RefreshKeyTaken unless this start asks for what the row's does.

    A run that was there first has the parameters of its deployment too: only what was given here is compared.
    Raises PrefectAway where a secret is to be compared.
    """
    if row.is_adopted:
        differs = any(_differs(row.parameters, kept, name, value) for name, value in given.items())
    else:
        differs = row.parameters != kept
    if differs:
        raise RefreshKeyTaken(row.dataset_id, row.key, row.pk)
    secrets = {name: sent[name] for name in kept if kept[name] != sent[name]}
    if row.is_adopted:
        secrets = {name: value for name, value in secrets.items() if name in given}
    if secrets:
        _check_secrets(row, secrets)


def _differs(row: Mapping[str, Any], kept: Mapping[str, Any], name: str, value: Any) -> bool:
    """Return whether a row has another value than was given. What `kept` leaves out is the default."""
    return row[name] != kept.get(name, value) if name in row else name in kept


def _check_secrets(row: Refresh, secrets: Mapping[str, Any]) -> None:
    """Raise RefreshKeyTaken unless the row's flow run has these secrets: Prefect alone knows them."""
    try:
        run = gateway().flow_run(row.prefect_flow_run_id)
    except FlowRunNotFound as exc:
        gone = "whose flow run Prefect no longer knows, so nobody can say whether its secrets are these"
        raise RefreshKeyTaken(row.dataset_id, row.key, row.pk, belongs_to=f"a refresh {gone}") from exc
    if any(run.parameters.get(name) != value for name, value in secrets.items()):
        raise RefreshKeyTaken(row.dataset_id, row.key, row.pk)


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
