"""When datasets are refreshed by themselves, in the JSON API."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema

from console.api_access import require
from dataplane import scheduling
from dataplane.scheduling import Planned

router = Router(tags=["data"])


class ScheduleIn(Schema):
    """One schedule: a cron line of five fields in a zone."""

    model_config = {"extra": "forbid"}

    slug: str = "main"
    cron: str
    timezone: str = "UTC"
    is_active: bool = True


class SchedulesIn(Schema):
    """All of them; one that is left out is removed. `take_over`: also one that so far stands in Prefect alone."""

    model_config = {"extra": "forbid"}

    schedules: list[ScheduleIn]
    take_over: bool = False


@router.get("/datasets/{name}/schedules")
def get_schedules(request: HttpRequest, name: str) -> dict[str, Any]:
    """Return the dataset's schedules, each with its next ten times; those in Prefect where none are kept here."""
    require(request, "see")
    return _schedules_json(scheduling.planned(name))


@router.put("/datasets/{name}/schedules")
def put_schedules(request: HttpRequest, name: str, body: SchedulesIn) -> dict[str, Any]:
    """Let the dataset have exactly these schedules; the same ones again change nothing."""
    user = require(request, "refresh")
    schedules = [one.model_dump() for one in body.schedules]
    scheduling.replace_schedules(dataset=name, schedules=schedules, user=user, take_over=body.take_over)
    return _schedules_json(scheduling.planned(name))


def _schedules_json(planned: list[Planned]) -> dict[str, Any]:
    items = [
        {
            **asdict(one.schedule),
            "words": one.schedule.words,
            "next": [moment.isoformat() for moment in one.next_times],
            "fault": one.fault or None,
            "note": one.note or None,
        }
        for one in planned
    ]
    return {"items": items, "next": None}
