"""Keys of refreshes, and what is done once one is asked for: recorded, announced, the dispatcher woken."""

from __future__ import annotations

import re
from collections.abc import Iterable

from django.db import connection

from console import ports
from console.live.announce import announce
from dataplane.errors import InvalidParameters
from dataplane.models import Refresh
from dataplane.plain_sql import REFRESHES_CHANNEL

CHANNEL = REFRESHES_CHANNEL
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+@/-]{0,99}")


def check_key(key: str | None) -> None:
    """Raise InvalidParameters unless the key can be one; None is the current window's."""
    if key is not None and not KEY.fullmatch(key):
        raise InvalidParameters(
            [("key", "must be 1 to 100 letters, digits or . _ : + @ / -, starting with a letter or digit")]
        )


def tell() -> None:
    """Tell open pages, and wake the dispatcher, when the current transaction commits."""
    announce("data")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])


def note_requested(refresh: Refresh, parameters: Iterable[str]) -> None:
    """Announce a new refresh, wake the dispatcher, and record who asked. `parameters`: the names that were given."""
    tell()
    if refresh.requested_by is not None:
        body = {"key": refresh.key, "refresh": refresh.pk, "parameters": sorted(parameters)}
        by = refresh.requested_by.get_username()
        ports.record().record(actor=by, kind="dataset.refresh_requested", subject=refresh.dataset_id, body=body)
