"""What the data plane answers to the other apps. See `console.ports`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied

from console.contracts import Contracts
from console.ids import new_id
from console.ports import RefreshNotStarted, RefreshStand
from dataplane import selectors
from dataplane.api.shapes import refresh_json
from dataplane.contracts import CONTRACTS
from dataplane.currency import told as told
from dataplane.currency import told_of_all as told_of_all
from dataplane.errors import DataplaneError
from dataplane.models import Refresh
from dataplane.refreshes import states
from dataplane.refreshes.request import request_refresh
from dataplane.refreshes.standing import troubles_of as troubles_of


def contracts() -> Contracts:
    return CONTRACTS


def refresh_for_run(dataset: str, by: User) -> str:
    # One that has not begun reads what is there now; one that runs may have read before the source changed.
    scheduled = Refresh.objects.filter(dataset_id=dataset, status=states.Status.SCHEDULED, is_dry_run=False)
    to_come = scheduled.order_by("-id").first()
    if to_come is not None:
        return to_come.pk
    try:
        key = f"{selectors.window_key(dataset)[:70]}.{new_id('run')}"
        return request_refresh(dataset=dataset, key=key, user=by, permission="refresh_for_run")[0].pk
    except PermissionDenied as exc:
        raise RefreshNotStarted(str(exc)) from exc
    except DataplaneError as exc:
        raise RefreshNotStarted(f"{dataset} cannot be refreshed: {exc}") from exc


def refreshes_told(refresh_ids: Sequence[str]) -> list[dict[str, Any]]:
    rows = Refresh.objects.select_related("version", "requested_by").filter(pk__in=refresh_ids).order_by("id")
    return [refresh_json(row) for row in rows]


def refresh_stands(refresh_ids: Sequence[str]) -> list[RefreshStand]:
    rows = Refresh.objects.filter(pk__in=refresh_ids).order_by("id")
    return [RefreshStand(row.pk, row.dataset_id, row.is_open, _fault(row)) for row in rows]


def _fault(row: Refresh) -> str:
    if row.status == states.Status.CANCELLED:
        return f"The refresh of {row.dataset_id} was cancelled."
    if row.status == states.Status.FAILED:
        return f"The refresh of {row.dataset_id} failed: {row.error}".rstrip(": .") + "."
    return ""
