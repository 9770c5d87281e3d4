"""Keys of refreshes, and how the dispatcher is woken."""

from __future__ import annotations

import re

from django.db import connection

from console.live.announce import announce
from dataplane.errors import InvalidParameters

CHANNEL = "signalbox_refreshes"  # wakes `dataplane.refreshes.dispatch`
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
