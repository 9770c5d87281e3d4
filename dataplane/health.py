"""How Prefect is, for the health report. One short question, its answer kept for 3 s."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from threading import Lock

import httpx

from console.environment import environment
from console.health import PartHealth
from dataplane.errors import PrefectError
from dataplane.prefect_gateway import HttpPrefectGateway

KEPT_SECONDS = 3.0
TIMEOUT = httpx.Timeout(1.0)


class PrefectHealth:
    """Asks Prefect's health endpoint, at most once in `KEPT_SECONDS` per process."""

    def __init__(self, api_url: str) -> None:
        self._api_url = api_url
        self._gateway = HttpPrefectGateway(api_url, timeout=TIMEOUT) if api_url else None
        self._lock = Lock()
        self._asked_at = float("-inf")  # monotonic seconds
        self._last_seen_at: datetime | None = None
        self._ok = False
        self._detail = "no address is known yet"

    def report(self) -> PartHealth:
        with self._lock:
            if self._gateway is not None and time.monotonic() - self._asked_at > KEPT_SECONDS:
                self._ask(self._gateway)
            return {
                "ok": self._ok,
                "detail": self._detail,
                "address": self._api_url or None,
                "last_seen_at": self._last_seen_at.isoformat() if self._last_seen_at else None,
            }

    def _ask(self, prefect: HttpPrefectGateway) -> None:
        try:
            prefect.health()
        except PrefectError:
            self._ok, self._detail = False, "does not answer; it needs 12 to 18 s for its first start"
            if self._last_seen_at is not None:
                self._detail = "does not answer; refreshes are kept and sent when it is back"
        else:
            self._ok, self._detail, self._last_seen_at = True, "answers", datetime.now(UTC)
        self._asked_at = time.monotonic()


_health: dict[str, PrefectHealth] = {}


def prefect() -> PartHealth:
    """Return how Prefect is: `{"ok", "detail", "address", "last_seen_at"}`. Takes 1 s at most."""
    api_url = environment().prefect_api_url
    return _health.setdefault(api_url, PrefectHealth(api_url)).report()
