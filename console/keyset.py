"""Cursors for lists that are read page by page without an offset: the last row's time and id."""

from __future__ import annotations

import base64
import json
from datetime import datetime


def make_cursor(moment: datetime, row_id: str) -> str:
    """Return a URL-safe cursor that stands behind the given row."""
    return base64.urlsafe_b64encode(json.dumps([moment.isoformat(), row_id]).encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, str] | None:
    """Return what `make_cursor` was given; `None` for an empty or unreadable cursor."""
    try:
        moment, row_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        at = datetime.fromisoformat(moment)
        return (at, str(row_id)) if at.tzinfo else None
    except (ValueError, TypeError):
        return None
