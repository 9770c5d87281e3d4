"""Versions that somebody else's flow has made: told by a program, or by Prefect's events of assets.

The console keeps what was told and where the rows are, never the rows. One key is one version: the refresh's row is the
guard, under the same lock that our own flows publish under.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.db.models import F

from console import ports
from console.clock import DatabaseNow
from console.ids import new_id
from console.live.announce import announce
from console.roles import may
from console.text.stored import UNKEPT, all_can_be_kept
from dataplane import catalogue, masking
from dataplane.credentials import input_without_credentials, without_credentials
from dataplane.errors import DatasetNotFound, FlowRunActionRefused, InvalidParameters, MadeHere, VersionTaken
from dataplane.models import AssetEvent, Dataset, DatasetVersion, Refresh
from dataplane.refreshes import states
from dataplane.refreshes.keys import KEY
from dataplane.registered import Registered

MOST_METADATA_BYTES: Final = 65_536
MOST_INPUTS: Final = 200


@dataclass(frozen=True)
class ToldVersion:
    """One version as somebody tells of it."""

    key: str
    digest: str
    rows: int
    location: str = ""
    inputs: list[dict[str, Any]] = field(default_factory=list)  # [{"dataset", "version"}] or [{"asset"}]
    metadata: dict[str, Any] = field(default_factory=dict)
    flow_run_id: str = ""
    code_version: str = ""


def publish(
    dataset: str, told: ToldVersion, *, by: User | None, began_at: datetime | None = None
) -> tuple[DatasetVersion, bool]:
    """Keep the version, and let it be the dataset's current one; return it and whether it is new.

    1. Check that the account may tell of this dataset; None stands for Prefect's events.
    2. Under the dataset's lock, find or make the refresh that has this key or flow run.
    3. A refresh that has a version already: the same digest is the same answer, another one is refused. But a flow run
       that was tried again and made the same asset anew has told of its newest content: that is its version now.
       The digest of an earlier version: that one becomes current again. Else a new version.
       Neither becomes current when a run that began later has told of its version already, as far as is known.
    4. End the refresh, record, announce.

    `began_at`: since when its flow run has read what it tells of, for a run whose begin nobody here has seen.
    Raises PermissionDenied, DatasetNotFound, MadeHere, InvalidParameters, VersionTaken, FlowRunActionRefused.
    """
    entry = _entry(dataset, by)
    told = _checked(told)
    with transaction.atomic():
        _hold(entry.name)
        row, _ = Dataset.objects.get_or_create(
            name=entry.name, defaults={"title": entry.title, "fresh_for": entry.fresh_for}
        )
        refresh = _refresh(entry, told)
        if refresh.started_at is None and began_at is not None:
            Refresh.objects.filter(pk=refresh.pk).update(started_at=began_at)
            refresh.started_at = began_at
        if refresh.version is not None:
            if refresh.version.digest == told.digest:
                return refresh.version, False
            is_a_programs = by is not None or bool(refresh.version.published_by)
            if is_a_programs or refresh.version.location != told.location:
                raise VersionTaken(entry.name, refresh.key, refresh.version.version)
        elif refresh.status == Refresh.Status.CANCELLED:
            raise FlowRunActionRefused(f"The refresh {refresh.key} was cancelled, so it publishes nothing.")
        version, is_new = _version(row, told, by)
        is_changed = row.current_version_id != version.pk
        note = _read_too_early(row, refresh) if is_changed else ""
        if not note:
            Dataset.objects.filter(pk=row.pk).update(current_version=version, confirmed_at=DatabaseNow())
        rows = Refresh.objects.filter(pk=refresh.pk)
        changes = {"version": version, "note": note, "finished_at": DatabaseNow()}
        if refresh.version is None:
            end = Refresh.Status.PUBLISHED if is_changed else Refresh.Status.UNCHANGED
            states.move(rows, end, error="", **changes)
        else:
            rows.update(**changes)
        announce("data")
        ports.record().record(
            actor=by.get_username() if by else "prefect",
            kind="dataset.version_told",
            subject=entry.name,
            body={"version": version.version, "key": refresh.key, "digest": told.digest, "rows": told.rows},
        )
    return version, is_new


def _entry(dataset: str, by: User | None) -> Registered:
    if dataset in catalogue.CATALOGUE:
        raise MadeHere(f"The dataset {dataset} is made by a flow of Signalbox's own: refresh it instead.")
    entry = catalogue.others().get(dataset)
    if entry is None or entry.is_job:
        raise DatasetNotFound(f"There is no dataset called {dataset}.")
    if by is not None:
        is_named = entry.publishers is None or by.get_username() in entry.publishers
        if not may(by, "publish_version") or not is_named:
            raise PermissionDenied(f"This account may not publish versions of {dataset}.")
    return entry


def _checked(told: ToldVersion) -> ToldVersion:
    """Return what was told as it is kept. Raises InvalidParameters."""
    errors: list[tuple[str, str]] = []
    if not KEY.fullmatch(told.key):
        errors.append(("key", "must be 1 to 100 letters, digits or . _ : + @ / -, starting with a letter or digit"))
    if not told.digest or len(told.digest) > 64 or not told.digest.isascii() or not told.digest.isprintable():
        errors.append(("digest", "must be 1 to 64 characters, for instance a SHA-256 in hex"))
    if not 0 <= told.rows <= 2_147_483_647:
        errors.append(("rows", "must be a number from 0 to 2,147,483,647"))
    if len(told.location) > 500:
        errors.append(("location", "must have 500 characters at most"))
    if len(json.dumps(told.metadata)) > MOST_METADATA_BYTES:
        errors.append(("metadata", f"must take {MOST_METADATA_BYTES:,} bytes at most"))
    if len(told.inputs) > MOST_INPUTS:
        errors.append(("inputs", f"must be {MOST_INPUTS} at most"))
    if told.flow_run_id and not is_flow_run_id(told.flow_run_id):
        errors.append(
            ("flow_run_id", "must be the id of a flow run of Prefect, a UUID; leave it out where none made it")
        )
    told_texts = {"location": told.location, "metadata": told.metadata, "code_version": told.code_version}
    errors += [(name, UNKEPT) for name, text in told_texts.items() if not all_can_be_kept(text)]
    errors += [(f"inputs.{number}", words) for number, one in enumerate(told.inputs) if (words := _fault_of_input(one))]
    if errors:
        raise InvalidParameters(errors)
    return ToldVersion(
        key=told.key,
        digest=told.digest,
        rows=told.rows,
        location=without_credentials(told.location)[:500],
        inputs=[input_without_credentials(one) for one in told.inputs],
        metadata=masking.kept_of(told.metadata, schema={}),
        flow_run_id=told.flow_run_id[:36],
        code_version=without_credentials(told.code_version)[:100],
    )


def is_flow_run_id(text: str) -> bool:
    """Return whether the text is an id as Prefect gives it: every page of a flow run has it in its address."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _fault_of_input(one: dict[str, Any]) -> str:
    if not all_can_be_kept(one):
        return UNKEPT
    if set(one) == {"asset"} and isinstance(one["asset"], str):
        return "" if len(one["asset"]) <= 500 else "an asset's key has 500 characters at most"
    if set(one) == {"dataset", "version"} and isinstance(one["dataset"], str) and type(one["version"]) is int:
        is_there = DatasetVersion.objects.filter(dataset_id=one["dataset"], version=one["version"]).exists()
        return "" if is_there else f"there is no version {one['version']} of a dataset called {one['dataset']}"
    return 'must be {"dataset", "version"} or {"asset"}'


def _hold(dataset: str) -> None:
    """Wait for other publishing transactions of the dataset: the lock of `dataplane.versions`."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"signalbox dataset {dataset}"])


def _read_too_early(row: Dataset, refresh: Refresh) -> str:
    """Return in a sentence that the refresh's version does not become current; "" when it does.

    A run has read what it tells of since it began. One whose begin nobody has seen is not judged.
    """
    if refresh.started_at is None or row.current_version is None:
        return ""
    later = Refresh.objects.filter(dataset=row, status__in=states.DONE, started_at__gt=refresh.started_at)
    if not later.exists():
        return ""
    return (
        f"It is kept, and version {row.current_version.version} stays current: a run that began later has told of one."
    )


def _refresh(entry: Registered, told: ToldVersion) -> Refresh:
    """Return the refresh that this version ends, locked: that of its flow run, else that of its key."""
    rows = Refresh.objects.select_for_update(of=("self",)).select_related("version").filter(dataset_id=entry.name)
    if told.flow_run_id and (found := rows.filter(prefect_flow_run_id=told.flow_run_id).first()):
        return found
    defaults = {
        "id": new_id("rfr"),
        "parameters": {},
        "prefect_flow_run_id": told.flow_run_id or _NO_RUN,
        "flow": entry.flow,
        "deployment": entry.deployment,
    }
    row, _ = Refresh.objects.get_or_create(dataset_id=entry.name, key=told.key, defaults=defaults)
    return rows.get(pk=row.pk)


_NO_RUN: Final = "none"  # so that the dispatcher sends nothing for it


def _version(row: Dataset, told: ToldVersion, by: User | None) -> tuple[DatasetVersion, bool]:
    """Return the version that has this digest, made now if there is none."""
    found = DatasetVersion.objects.filter(dataset=row, digest=told.digest).first()
    if found is not None:
        return found, False
    Dataset.objects.filter(pk=row.pk).update(last_version=F("last_version") + 1)
    number = Dataset.objects.values_list("last_version", flat=True).get(pk=row.pk)
    made = DatasetVersion.objects.create(
        dataset=row,
        version=number,
        digest=told.digest,
        rows=told.rows,
        kind="external",
        prefect_flow_run_id=told.flow_run_id,
        parameters={},
        location=told.location,
        inputs=told.inputs,
        metadata=told.metadata,
        code_version=told.code_version,
        published_by=by.get_username() if by else "",
    )
    made.refresh_from_db()
    return made, True


def key_of_flow_run(name: str) -> str:
    """Return the key of a refresh of which only a flow run's, or an event's, word is known."""
    return f"flow-run:{name}"


def told_by(event: AssetEvent) -> ToldVersion:
    """Return the version that an asset's event tells of. A flow that told no digest made something new each time."""
    metadata = dict(event.metadata)
    digest = str(metadata.pop("digest", "") or f"event:{event.pk}")
    rows = metadata.pop("rows", 0)
    return ToldVersion(
        key=key_of_flow_run(event.prefect_flow_run_id or event.pk),
        digest=digest if len(digest) <= 64 else hashlib.sha256(digest.encode()).hexdigest(),
        rows=rows if type(rows) is int and rows >= 0 else 0,
        location=event.asset,
        inputs=[{"asset": key} for key in event.upstream],
        metadata=metadata,
        flow_run_id=event.prefect_flow_run_id,
        code_version=str(metadata.get("code_version", "")),
    )
