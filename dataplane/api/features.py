"""Features in the JSON API: what held at a moment, as far as it was known then."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router
from pydantic import AwareDatetime

from console.api_access import require
from console.clock import database_now
from console.text.stored import StoredText
from dataplane import selectors
from dataplane.contents.features import FEATURES
from dataplane.errors import DatasetNotFound, DatasetNotPublished

router = Router(tags=["data"])


@router.get("/features/{view}")
def get_features(
    request: HttpRequest,
    view: str,
    entity: Annotated[StoredText, Query(min_length=1, max_length=200)],
    at: AwareDatetime | None = None,
) -> dict[str, Any]:
    """Return an entity's features at a moment, now when none is given. Numbers are decimal strings.

    404 when there is no such view, or nothing is published. An entity that nobody knows has no values.
    """
    require(request, "read_features")
    try:
        version = selectors.current_version(view)
    except DatasetNotPublished as exc:
        raise DatasetNotFound(str(exc)) from exc
    if version.kind != FEATURES.name:
        raise DatasetNotFound(f"The dataset {view} holds {version.kind}, not features.")
    moment: datetime = at or database_now()
    answer = selectors.read(view, {"entity": entity, "at": moment})
    told = answer.items[0].items()
    return {
        "entity": entity,
        "at": moment.isoformat(),
        "values": {name: str(value) if isinstance(value, Decimal) else value for name, value in told},
        "version": answer.version,
    }
