"""How Temporal is, for the health report: asked over the gRPC health protocol's port, without the SDK."""

from __future__ import annotations

import socket
import time
from typing import Any

from console.environment import environment

_KEPT_SECONDS = 2.0
_kept: tuple[float, dict[str, Any]] | None = None


def temporal() -> dict[str, Any]:
    """Return Temporal's health; asked at most every 2 s per process, waits at most 0.5 s."""
    global _kept
    if _kept is None or time.monotonic() - _kept[0] > _KEPT_SECONDS:
        _kept = (time.monotonic(), _ask())
    return _kept[1]


def _ask() -> dict[str, Any]:
    address = environment().temporal_address or "127.0.0.1:7233"
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=0.5):
            return {"ok": True, "detail": "accepts connections", "address": address, "last_seen_at": None}
    except (OSError, ValueError) as exc:
        return {"ok": False, "detail": f"cannot be reached: {exc}", "address": address, "last_seen_at": None}
