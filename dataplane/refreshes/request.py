"""What people and programs may change in the data plane."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction

from console.ids import new_id
from console.roles import may
from dataplane import catalogue, selectors
from dataplane.errors import DryRunRefused, RefreshKeyTaken
from dataplane.models import Dataset, Refresh
from dataplane.refreshes.keys import check_key, note_requested
from dataplane.refreshes.start import start
from dataplane.registered import Registered


def request_refresh(
    *,
    dataset: str,
    key: str | None = None,
    parameters: dict[str, Any] | None = None,
    user: User | None,
    permission: str = "refresh",
    is_dry_run: bool = False,
) -> tuple[Refresh, bool]:
    """Ask for a refresh; return it and whether this call created it.

    1. Check that the user may refresh; None stands for the system itself.
    2. Check parameters and key, so that Prefect is never sent what would crash its run.
    3. Insert the row, or find the one that has the key: two clicks at once give one refresh.
    4. Announce it, and wake the dispatcher, which hands the row to Prefect. Prefect may be away for a day.

    `permission`: what the person needs; another one than "refresh" where a caller has checked more than the role.
    `key`: 1 to 100 characters; None means the current schedule window's, of a dry run one of its own.
    `is_dry_run`: its flow run says what would change, and publishes nothing.
    Somebody else's deployment is started by its registration: see `dataplane.refreshes.start`.
    Raises PermissionDenied, DatasetNotFound, InvalidParameters, RefreshKeyTaken, DryRunRefused.
    """
    if is_dry_run:
        check_can_be_tried(dataset)
    if other := catalogue.others().get(dataset):
        return start(other, key=key, parameters=parameters or {}, user=user)
    if user is not None and not may(user, permission):
        raise PermissionDenied("Only an admin may refresh a dataset.")
    entry = catalogue.of_ours(dataset)
    cleaned = entry.clean(parameters or {})
    check_key(key)
    with transaction.atomic():
        Dataset.objects.get_or_create(name=entry.name, defaults={"title": entry.title, "fresh_for": entry.fresh_for})
        refresh, is_new = Refresh.objects.get_or_create(
            dataset_id=entry.name,
            key=key or (new_id("dry-run") if is_dry_run else selectors.window_key(entry.name)),
            defaults={
                "id": new_id("rfr"),
                "parameters": cleaned,
                "requested_by": user,
                "is_dry_run": is_dry_run,
            },
        )
        if refresh.parameters != cleaned or refresh.is_dry_run != is_dry_run:
            raise RefreshKeyTaken(entry.name, refresh.key, refresh.pk)
        if is_new:
            note_requested(refresh, cleaned)
    if is_new:
        refresh.refresh_from_db()  # the defaults that the database gave
    return refresh, is_new


def check_can_be_tried(dataset: str) -> None:
    """Raise DryRunRefused unless a dry run of the dataset can say what would change."""
    entry = catalogue.entry(dataset)
    if isinstance(entry, Registered):
        raise DryRunRefused(f"Only the flow of {dataset}, which is somebody else's, could say what it would change.")
    if not entry.can_be_tried:
        raise DryRunRefused(f"A dry run of {dataset} would do all of its work. Refresh it: it replaces nothing unseen.")
