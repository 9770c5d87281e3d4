"""Versions in the JSON API: one of them, the difference between two, lineage, rollback and backfill."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.http import HttpRequest
from ninja import Field, Router, Schema, Status

from console.api_access import require
from dataplane import changes, lineage, selectors
from dataplane.api.shapes import search_score_json, version_json

router = Router(tags=["data"])


class RollbackIn(Schema):
    """Which version is to be current, and why."""

    model_config = {"extra": "forbid"}

    version: int = Field(ge=1, le=2_147_483_647)
    reason: str = ""
    dry_run: bool = False


class BackfillIn(Schema):
    """Windows from a date or instant to another. Dates go by the windows' own zone; the day of `to` is one of them."""

    model_config = {"extra": "forbid"}

    begin: str = Field(alias="from")
    end: str = Field(alias="to")
    limit: int = changes.USUAL_WINDOWS
    dry_run: bool = False


@router.get("/datasets/{name}/versions/{number}")
def get_version(request: HttpRequest, name: str, number: int) -> dict[str, Any]:
    """Return one version with how it was made, how it is searched, and how well that answers known questions."""
    require(request, "see")
    version = selectors.version(name, number)
    scores = selectors.search_scores([version]).get(version.pk, [])
    return {
        **version_json(version),
        "search": selectors.search_in_words(version) or None,
        "search_scores": [search_score_json(score) for score in scores],
    }


@router.get("/datasets/{name}/versions/{number}/diff")
def get_difference(request: HttpRequest, name: str, number: int, against: int | None = None) -> dict[str, Any]:
    """Compare the version with another, else the one before: how many rows were added, removed, changed, and which."""
    require(request, "see")
    return difference_json(name, number, number - 1 if against is None else against)


@router.get("/datasets/{name}/versions/{number}/lineage")
def get_lineage(request: HttpRequest, name: str, number: int) -> dict[str, Any]:
    """Return what the version was made from and what used it, as a drawing's nodes and edges."""
    require(request, "see")
    return lineage.as_json(lineage.of(selectors.version(name, number)))


@router.post("/datasets/{name}/rollback", response={200: dict[str, Any], 202: dict[str, Any]})
def post_rollback(request: HttpRequest, name: str, body: RollbackIn) -> Status[dict[str, Any]]:
    """Make another version current; with `dry_run` say who would be affected and do nothing."""
    user = require(request, "refresh")
    if body.dry_run:
        return Status(200, asdict(changes.preview_rollback(name, body.version)))
    return Status(202, asdict(changes.roll_back(dataset=name, version=body.version, reason=body.reason, user=user)))


@router.post("/datasets/{name}/backfill", response={200: dict[str, Any], 202: dict[str, Any]})
def post_backfill(request: HttpRequest, name: str, body: BackfillIn) -> Status[dict[str, Any]]:
    """Refresh the windows that have no refresh yet; with `dry_run` list them and do nothing."""
    user = require(request, "refresh")
    begin, end = changes.span_of(name, body.begin, body.end)
    if body.dry_run:
        return Status(200, asdict(changes.preview_backfill(name, begin, end, body.limit)))
    done = changes.backfill(dataset=name, begin=begin, end=end, limit=body.limit, user=user)
    return Status(202, asdict(done))


def difference_json(name: str, number: int, against: int) -> dict[str, Any]:
    """Return the public shape of a difference; names of at most 200 rows of each kind."""
    found = selectors.difference(selectors.version(name, against), selectors.version(name, number))
    kinds = (("added", found.added), ("removed", found.removed), ("changed", found.changed))
    return {
        **{kind: len(rows) for kind, rows in kinds},
        "items": [{"row": row, "kind": kind} for kind, rows in kinds for row in rows[:200]],
    }
