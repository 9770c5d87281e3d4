"""The public shapes of datasets, versions and refreshes, to the letter of the API's promises."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from dataplane import masking
from dataplane.deployments import deployments
from dataplane.errors import DeploymentNotFound, PrefectAway, PrefectRefused
from dataplane.models import DatasetVersion, Refresh, SearchScore
from dataplane.parameters import asked
from dataplane.registered import Registered
from dataplane.selectors import DatasetState


def datasets_json(states: Iterable[DatasetState]) -> list[dict[str, Any]]:
    """Return the public shapes of datasets or jobs.

    Of somebody else's, the schema of the parameters is Prefect's, and `{}` while it is away. Each is one call, until
    one finds Prefect away: the list waits once, however many are registered.
    """
    is_away, shapes = False, []
    for state in states:
        schema: dict[str, Any] = {}
        if not isinstance(state.entry, Registered):
            schema = state.entry.parameters_schema()
        elif not is_away:
            try:
                schema = _schema_at_prefect(state.entry)
            except PrefectAway:
                is_away = True
        shapes.append(_dataset_json(state, schema))
    return shapes


def _schema_at_prefect(entry: Registered) -> dict[str, Any]:
    """Return the schema of what may be given; `{}` where Prefect has no such deployment. Raises PrefectAway."""
    try:
        found = deployments().find(entry.flow, entry.deployment)
    except (DeploymentNotFound, PrefectRefused):
        return {}
    return asked(entry, found.schema, found.defaults)


def _dataset_json(state: DatasetState, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": state.name,
        "title": state.title,
        "current_version": state.current.version if state.current else None,
        "fresh_until": instant(state.fresh_until),
        "is_stale": state.is_stale,
        "parameters_schema": schema,
        "is_job": state.entry.is_job,
        "deployment": f"{state.entry.flow}/{state.entry.deployment}",
        "schedules": state.scheduled,
        "versions": [
            {
                "version": version.version,
                "digest": version.digest,
                "rows": version.rows,
                "published_at": instant(version.published_at),
                "flow_run_id": version.prefect_flow_run_id or None,
            }
            for version in state.versions
        ],
        "used_by": state.used_by,
    }


def refresh_json(refresh: Refresh) -> dict[str, Any]:
    """Return the public shape of one refresh, with its instants and parameters."""
    return {
        "id": refresh.pk,
        "dataset": refresh.dataset_id,
        "key": refresh.key,
        "status": refresh.status,
        "flow_run_id": refresh.prefect_flow_run_id or None,
        "version": refresh.version.version if refresh.version else None,
        "error": refresh.error or None,
        "note": refresh.note or None,
        "dry_run": refresh.is_dry_run,
        "preview": refresh.preview,
        "parameters": masking.of_dataset(refresh.parameters, refresh.dataset_id),
        "requested_by": refresh.requested_by.get_username() if refresh.requested_by else None,
        "waiting_because": refresh.send_error or None,
        "created_at": instant(refresh.created_at),
        "started_at": instant(refresh.started_at),
        "finished_at": instant(refresh.finished_at),
    }


def version_json(version: DatasetVersion) -> dict[str, Any]:
    """Return the public shape of one version, with how it was made."""
    return {
        "dataset": version.dataset_id,
        "version": version.version,
        "digest": version.digest,
        "rows": version.rows,
        "kind": version.kind,
        "published_at": instant(version.published_at),
        "flow_run_id": version.prefect_flow_run_id or None,
        "inputs": version.shown_inputs,
        "parameters": masking.of_dataset(version.parameters, version.dataset_id),
        "code_version": version.code_version or None,
        "location": version.location or None,
        "metadata": version.metadata,
        "published_by": version.published_by or None,
    }


def search_score_json(score: SearchScore) -> dict[str, Any]:
    """Return the public shape of one way's score over the questions whose passage is known."""
    return {
        "method": score.method,
        "questions": score.questions,
        "found": score.found,
        "recall_at_5": round(score.recall, 4),
        "mean_reciprocal_rank": round(score.mean_reciprocal_rank, 4),
        "measured_at": instant(score.measured_at),
    }


def instant(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
