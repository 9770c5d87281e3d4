"""Prefect's events of assets: kept by their id, and taken as versions of the datasets that they are.

The flow needs nothing of ours: `@materialize` and `asset.add_metadata` are Prefect's own. Events are told at least once
and kept for a week, so they are read again from a little before the newest that is kept.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import Max

from console.text.stored import all_can_be_kept, storable
from dataplane import catalogue, masking, publishing
from dataplane.deployments import ASSETS, EVENTS_A_PAGE, MOST_PAGES, Event, PrefectDeployments
from dataplane.errors import DataplaneError, FlowRunNotFound
from dataplane.models import AssetEvent, Refresh
from dataplane.registered import Registered

AGAIN: Final = timedelta(minutes=2)  # events may be recorded in another order than they occurred in
KEPT: Final = timedelta(days=7)  # by Prefect
_MADE: Final = "prefect.asset.materialization.succeeded"
_READ: Final = "prefect.asset.referenced"
_COUNTED: Final = (("digest", str), ("rows", int))  # what a version needs of the metadata
logger = logging.getLogger(__name__)


def catch_up(prefect: PrefectDeployments) -> int:
    """Keep what Prefect has told since, and take its versions; return how many events were new. Raises PrefectAway."""
    newest = AssetEvent.objects.aggregate(newest=Max("at"))["newest"]
    since = max(datetime.now(UTC) - KEPT, newest - AGAIN) if newest else datetime.now(UTC) - KEPT
    new = 0
    for _ in range(MOST_PAGES):
        page = prefect.events(since=since, prefix=ASSETS)
        new += sum(keep(event, prefect) for event in page)
        if len(page) < EVENTS_A_PAGE or page[-1].at <= since:
            break
        since = page[-1].at
    return new


def keep(event: Event, prefect: PrefectDeployments) -> bool:
    """Keep one event, and take the version it tells of; return whether it was new. Again does nothing more.

    Raises PrefectAway when Prefect cannot say what is secret in it.
    """
    if event.name not in (_MADE, _READ):
        return False
    known = AssetEvent.objects.filter(pk=event.id).first()
    kept, is_new = (known, False) if known else _kept(event, prefect)
    if kept.is_made:
        take(kept)
    return is_new


def _kept(event: Event, prefect: PrefectDeployments) -> tuple[AssetEvent, bool]:
    upstream = [storable(one)[:500] for one in event.related_ids("asset")]
    runs = [one.removeprefix("prefect.flow-run.") for one in event.related_ids("flow-run")]
    runs = [one for one in runs if publishing.is_flow_run_id(one)]
    told = event.payload
    if not all_can_be_kept(told):  # the version counts all the same, and so does every event after this one
        logger.warning("the metadata of the asset event %s holds characters that cannot be kept: left out", event.id)
        told = {}
    return AssetEvent.objects.get_or_create(
        id=event.id,
        defaults={
            "at": event.at,
            "is_made": event.name == _MADE,
            "asset": storable(event.resource)[:500],
            "prefect_flow_run_id": runs[0] if runs else "",
            "metadata": _without_secrets(masking.kept_of(told, schema={}), runs[0] if runs else "", prefect),
            "upstream": upstream,
        },
    )


def _without_secrets(told: dict[str, Any], flow_run_id: str, prefect: PrefectDeployments) -> dict[str, Any]:
    """Return what a flow run told of an asset without its secrets; of a run that is gone only what a version needs.

    A digest that holds a secret is the SHA-256 of it: it is the same again for the same content.
    """
    counted = {name: told[name] for name, kind in _COUNTED if isinstance(told.get(name), kind)}
    try:
        secrets = prefect.secrets_of(flow_run_id) if flow_run_id else []
    except FlowRunNotFound:
        return counted
    without: dict[str, Any] = masking.data_without(told, secrets)
    digest = counted.get("digest", "")
    if any(secret in digest for secret in secrets):
        counted["digest"] = hashlib.sha256(digest.encode()).hexdigest()
    return without | counted


def take(event: AssetEvent) -> None:
    """Take the version that the event tells of, if it is one of a dataset here."""
    entry = _dataset_of(event)
    if entry is None:
        return
    try:
        publishing.publish(entry.name, publishing.told_by(event), by=None)
    except DataplaneError as exc:  # told on the refresh's own page; other events go on
        logger.warning("the asset event %s of %s is not taken: %s", event.pk, entry.name, exc)


def _dataset_of(event: AssetEvent) -> Registered | None:
    others = [entry for entry in catalogue.others().values() if not entry.is_job]
    for entry in others:
        if entry.asset and entry.asset == event.asset:
            return entry
    names = Refresh.objects.filter(prefect_flow_run_id=event.prefect_flow_run_id).values_list("dataset_id", flat=True)
    made_by = set(names) if event.prefect_flow_run_id else set()
    return next((entry for entry in others if not entry.asset and entry.name in made_by), None)
