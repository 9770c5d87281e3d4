"""The dataset versions that the run has read, and the flow runs that made them."""

from __future__ import annotations

from typing import Final

from django.urls import reverse

from dataplane.models import DatasetVersion, Refresh
from orchestration.models import Run
from orchestration.timeline.entries import Entry, State, StoryWish

_MOST: Final = 50  # versions that one run can have read
_STATES: Final[dict[str, State]] = {"running": "running", "scheduled": "running", "failed": "failed"}


def reads(run: Run, wish: StoryWish) -> list[Entry]:
    """Return the versions that the run has read, and the flow runs that made them. Two queries at most."""
    read = [(str(one["dataset"]), int(one["version"])) for one in run.dataset_versions][:_MOST]
    if not read:
        return []
    found = DatasetVersion.objects.filter(
        dataset__in={name for name, _ in read}, version__in={number for _, number in read}
    ).select_related("dataset")
    versions = [row for row in found if (row.dataset_id, row.version) in read]
    runs = {row.prefect_flow_run_id for row in versions if row.prefect_flow_run_id}  # a version may be told without
    makers = Refresh.objects.filter(prefect_flow_run_id__in=runs)
    rows = [_published(row) for row in versions]
    return wish.takes([*rows, *(_made(row) for row in makers)])


def _published(version: DatasetVersion) -> Entry:
    return Entry(
        at=version.published_at,
        layer="prefect",
        kind="dataset",
        title=f"{version.dataset_id} version {version.version} published",
        detail="this run has read it",
        reference=f"{version.dataset_id}@{version.version}",
        url=reverse("dataplane:version", args=[version.dataset_id, version.version]),
    )


def _made(refresh: Refresh) -> Entry:
    began = refresh.started_at or refresh.created_at
    return Entry(
        at=began,
        layer="prefect",
        kind="flow_run",
        title=f"Flow run made {refresh.dataset_id}",
        detail=refresh.error,
        reference=refresh.prefect_flow_run_id,
        state=_STATES.get(refresh.status, "done"),
        began_at=began,
        ended_at=refresh.finished_at,
        url=reverse("dataplane:flow_run", args=[refresh.prefect_flow_run_id]),
    )
