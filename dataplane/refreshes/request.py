"""What people and programs may change in the data plane."""

from __future__ import annotations

import re
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction

from console.ids import new_id
from console.live.announce import announce
from console.roles import may
from dataplane import catalogue, selectors
from dataplane.errors import InvalidParameters, RefreshKeyTaken
from dataplane.models import Dataset, Refresh

CHANNEL = "signalbox_refreshes"  # wakes `dataplane.refreshes.dispatch`
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+@/-]{0,99}")


def request_refresh(
    *, dataset: str, key: str | None = None, parameters: dict[str, Any] | None = None, user: User | None
) -> tuple[Refresh, bool]:
    """Ask for a refresh; return it and whether this call created it.

    1. Check that the user may refresh; None stands for the system itself.
    2. Check parameters and key, so that Prefect is never sent what would crash its run.
    3. Insert the row, or find the one that has the key: two clicks at once give one refresh.
    4. Announce it, and wake the dispatcher, which hands the row to Prefect. Prefect may be away for a day.

    `key`: 1 to 100 characters; None means the current schedule window's.
    Raises PermissionDenied, DatasetNotFound, InvalidParameters, RefreshKeyTaken.
    """
    if user is not None and not may(user, "refresh"):
        raise PermissionDenied("Only an admin may refresh a dataset.")
    entry = catalogue.entry(dataset)
    cleaned = entry.clean(parameters or {})
    if key is not None and not KEY.fullmatch(key):
        raise InvalidParameters(
            [("key", "must be 1 to 100 letters, digits or . _ : + @ / -, starting with a letter or digit")]
        )
    with transaction.atomic():
        Dataset.objects.get_or_create(name=entry.name, defaults={"title": entry.title, "fresh_for": entry.fresh_for})
        refresh, is_new = Refresh.objects.get_or_create(
            dataset_id=entry.name,
            key=key or selectors.window_key(entry.name),
            defaults={"id": new_id("rfr"), "parameters": cleaned, "requested_by": user},
        )
        if refresh.parameters != cleaned:
            raise RefreshKeyTaken(entry.name, refresh.key, refresh.pk)
        if is_new:
            announce("data")
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
    if is_new:
        refresh.refresh_from_db()  # the defaults that the database gave
    return refresh, is_new
