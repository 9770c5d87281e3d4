"""Prefect's events of assets: kept by their id, and taken as versions of the datasets that they are.

The flow needs nothing of ours: `@materialize` and `asset.add_metadata` are Prefect's own. Events are told at least once
and kept for a week, so they are read again from a little before the newest that is kept.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Max

from console.live.announce import announce
from console.text.stored import all_can_be_kept, storable
from dataplane import catalogue, masking, publishing
from dataplane.credentials import without_credentials
from dataplane.deployments import ASSETS, EVENTS_A_PAGE, MOST_PAGES, Event, PrefectDeployments
from dataplane.errors import DataplaneError, FlowRunNotFound
from dataplane.models import AssetEvent, Dataset, Refresh
from dataplane.refreshes import states
from dataplane.registered import Registered

AGAIN: Final = timedelta(minutes=10)  # events may be recorded in another order than they occurred in
KEPT: Final = timedelta(days=7)  # by Prefect
_MADE: Final = "prefect.asset.materialization.succeeded"
_READ: Final = "prefect.asset.referenced"
_COUNTED: Final = (("digest", str), ("rows", int))  # what a version needs of the metadata
logger = logging.getLogger(__name__)


def catch_up(prefect: PrefectDeployments, *, cut_at: datetime | None = None) -> datetime | None:
    """Keep what Prefect has told since, and take its versions. Raises PrefectAway.

    Reads 1,000 events at most. Returns where it was cut, for the next look to go on there; None when it has read all.
    `cut_at`: where the look before was cut, aware. Without it, it begins a little before the newest that is kept.
    """
    return _read_on(prefect, cut_at or _begin(datetime.now(UTC)))


def catch_up_with(flow_run_id: str, prefect: PrefectDeployments) -> None:
    """Keep what this flow run told of assets, however late it came, and take its versions. Raises PrefectAway."""
    _read_on(prefect, datetime.now(UTC) - KEPT, flow_run_id)


def _read_on(prefect: PrefectDeployments, since: datetime, flow_run_id: str = "") -> datetime | None:
    """Keep MOST_PAGES of events at most. Return where that was cut, None when all were read."""
    for _ in range(MOST_PAGES):
        page = prefect.events(since=since, prefix=ASSETS, flow_run_id=flow_run_id)
        for event in page:
            keep(event, prefect)
        if len(page) < EVENTS_A_PAGE:
            return None
        since = max(page[-1].at, since + timedelta(microseconds=1))  # also where a whole page is of one moment
    return since


def _begin(now: datetime) -> datetime:
    newest = AssetEvent.objects.aggregate(newest=Max("at"))["newest"]
    return max(now - KEPT, min(newest, now) - AGAIN) if newest else now - KEPT


def keep(event: Event, prefect: PrefectDeployments) -> bool:
    """Keep one event, and take the version it tells of; return whether it was new. Again does nothing more.

    Raises PrefectAway when Prefect cannot say what is secret in it.
    """
    if event.name not in (_MADE, _READ):
        return False
    known = AssetEvent.objects.filter(pk=event.id).first()
    kept, is_new = (known, False) if known else _kept(event, prefect)
    began_at = _began_at(kept.prefect_flow_run_id, prefect) if is_new and kept.is_made else None
    if kept.is_made and (refused := take(kept, began_at)) and is_new:
        logger.warning("the asset event %s is not taken: %s", kept.pk, refused)
    return is_new


def _kept(event: Event, prefect: PrefectDeployments) -> tuple[AssetEvent, bool]:
    runs = [one.removeprefix("prefect.flow-run.") for one in event.related_ids("flow-run")]
    run = next((one for one in runs if publishing.is_flow_run_id(one)), "")
    secrets = _secrets_of(run, prefect)
    told = event.payload
    if not all_can_be_kept(told):  # the version counts all the same, and so does every event after this one
        logger.warning("the metadata of the asset event %s holds characters that cannot be kept: left out", event.id)
        told = {}
    return AssetEvent.objects.get_or_create(
        id=event.id,
        defaults={
            "at": event.at,
            "is_made": event.name == _MADE,
            "asset": storable(_key(event.resource, secrets))[:500],
            "prefect_flow_run_id": run,
            "metadata": _without_secrets(masking.kept_of(told, schema={}), secrets),
            "upstream": _upstream(event.related_ids("asset"), secrets),
        },
    )


@dataclass(frozen=True)
class _Secrets:
    """The texts that nobody is to read of what a flow run says."""

    all: list[str]
    known: list[str]  # without those that only may be secret, while nobody can say


def _secrets_of(flow_run_id: str, prefect: PrefectDeployments) -> _Secrets | None:
    """Return the run's secrets; None when it is gone, so that nobody can say what they are."""
    if not flow_run_id:
        return _Secrets([], [])
    try:
        found = prefect.secrets_of(flow_run_id)
        return _Secrets(found, prefect.secrets_of(flow_run_id, are_known=True) if found else [])
    except FlowRunNotFound:
        return None


def _key(asset: str, secrets: _Secrets | None) -> str:
    """Return an asset's key as it is kept: without credentials, and without the secrets of the run that told of it.

    A key that a registration names holds no secret of a run: its dataset is found by it. What only may be secret, for a
    while, stays in every key, since a registration may name that key later.
    """
    is_named = any(entry.asset == asset for entry in catalogue.others().values())
    return masking.without(asset, [] if is_named or secrets is None else secrets.known)


def _upstream(keys: list[str], secrets: _Secrets | None) -> list[str]:
    """Return the keys of what an asset was made from, as they are kept; none of a run that is gone."""
    return [] if secrets is None else [storable(masking.without(one, secrets.all))[:500] for one in keys]


def _without_secrets(told: dict[str, Any], secrets: _Secrets | None) -> dict[str, Any]:
    """Return what a flow run told of an asset without its secrets; of a run that is gone only what a version needs.

    A digest that holds a secret is the SHA-256 of it: it is the same again for the same content, so what only may be
    secret, for a while, does not count.
    """
    counted = {name: told[name] for name, kind in _COUNTED if isinstance(told.get(name), kind)}
    if secrets is None:
        return counted
    without: dict[str, Any] = masking.data_without(told, secrets.all)
    digest = counted.get("digest", "")
    if any(one in digest for one in secrets.known):
        counted["digest"] = hashlib.sha256(digest.encode()).hexdigest()
    return without | counted


def _began_at(flow_run_id: str, prefect: PrefectDeployments) -> datetime | None:
    """Return since when the run has read what it tells of; None where nobody can say."""
    try:
        return prefect.began_at(flow_run_id) if flow_run_id else None
    except FlowRunNotFound:
        return None


def take(event: AssetEvent, began_at: datetime | None = None) -> str:
    """Take the version that the event tells of, if it is one of a dataset here; return why it is refused, else "".

    `began_at`: of its flow run, where nobody here has seen that. The refresh of the flow run has not done what it was
    for where it is refused: it has failed, also where it has ended before.
    """
    entry = _dataset_of(event)
    if entry is None or _is_overtaken(event):
        return ""
    try:
        publishing.publish(entry.name, publishing.told_by(event), by=None, began_at=began_at)
    except DataplaneError as exc:  # other events go on
        refused = f"The version of {entry.name} that its flow told of is refused: {exc}"
        if event.prefect_flow_run_id:
            _fail_finished(entry.name, event.prefect_flow_run_id, refused)
        return refused
    return ""


def take_newest(entry: Registered) -> None:
    """Take the newest version that was told of the entry's asset, also where it was not registered when it was told."""
    if not entry.asset or entry.is_job:
        return
    names = {entry.asset, without_credentials(entry.asset)}
    newest = AssetEvent.objects.filter(is_made=True, asset__in=names).order_by("-at").first()
    current = Dataset.objects.filter(pk=entry.name).values_list("current_version__published_at", flat=True).first()
    if newest is None or (current is not None and current > newest.at):  # what a program has told since stays
        return
    if refused := take(newest):
        logger.warning("the asset event %s is not taken: %s", newest.pk, refused)


def _is_overtaken(event: AssetEvent) -> bool:
    """Return whether its flow run has told of the same asset again since, as one does that is tried again."""
    later = AssetEvent.objects.filter(prefect_flow_run_id=event.prefect_flow_run_id, is_made=True, at__gt=event.at)
    return bool(event.prefect_flow_run_id) and later.filter(asset=event.asset).exists()


def refusal_of(refresh: Refresh) -> str:
    """Return why a version that the refresh's flow run told of is refused, "" when none is.

    Judged anew by the events that are kept, so that nobody needs to have been there when they came.
    """
    made = AssetEvent.objects.filter(prefect_flow_run_id=refresh.prefect_flow_run_id, is_made=True).order_by("at")
    of_dataset = [event for event in made if (entry := _dataset_of(event)) and entry.name == refresh.dataset_id]
    refused = [take(event) for event in of_dataset]  # all of them: a later one may be taken
    return next(filter(None, refused), "")


def _fail_finished(dataset: str, flow_run_id: str, refused: str) -> None:
    """Let the refresh of a flow run that was seen to end well fail after all, and take back what it confirmed."""
    runs = Refresh.objects.filter(dataset_id=dataset, prefect_flow_run_id=flow_run_id)
    with transaction.atomic():
        row = runs.select_for_update().filter(status=Refresh.Status.FINISHED).first()
        if row is None:
            return
        states.move(runs.filter(pk=row.pk), Refresh.Status.FAILED, error=refused)
        confirmed = Dataset.objects.filter(pk=dataset, confirmed_at=row.finished_at)  # by nobody else since
        confirmed.update(confirmed_at=_confirmed_before(row))
        announce("data")


def _confirmed_before(row: Refresh) -> datetime | None:
    """Return when the refresh before this one confirmed the version that is current, None where that is not known."""
    well = Refresh.objects.filter(dataset_id=row.dataset_id, status__in=states.ENDED_WELL, is_dry_run=False)
    before = well.exclude(pk=row.pk).select_related("dataset").order_by("-finished_at").first()
    if before is None or before.version_id is None or before.version_id != before.dataset.current_version_id:
        return None
    return before.finished_at


def _dataset_of(event: AssetEvent) -> Registered | None:
    others = [entry for entry in catalogue.others().values() if not entry.is_job]
    for entry in others:
        if entry.asset and without_credentials(entry.asset) == without_credentials(event.asset):  # as they are kept
            return entry
    names = Refresh.objects.filter(prefect_flow_run_id=event.prefect_flow_run_id).values_list("dataset_id", flat=True)
    made_by = set(names) if event.prefect_flow_run_id else set()
    return next((entry for entry in others if not entry.asset and entry.name in made_by), None)
