"""How Prefect is, for the health report: asked something that needs an account and a database."""

from __future__ import annotations

from functools import cache

import httpx

from console.environment import environment
from console.ports import PartHealth
from dataplane.errors import PrefectAway, PrefectBusy, PrefectError, PrefectLocked
from dataplane.prefect_gateway import HttpPrefectGateway

TIMEOUT = httpx.Timeout(2.0, connect=1.0)


def prefect() -> PartHealth:
    """Return how Prefect is. Takes 4 s at most, when it is busy."""
    api_url = environment().prefect_api_url
    if not api_url:
        return {"ok": False, "detail": "no address is known yet", "address": None, "last_seen_at": None}
    return {**_asked(_door(api_url)), "address": api_url}


def _asked(door: HttpPrefectGateway) -> PartHealth:
    ok, detail = True, "answers us"
    try:
        door.health()
    except PrefectLocked as exc:
        ok, detail = False, str(exc)
    except PrefectBusy as exc:
        ok, detail = False, f"is busy; refreshes are kept and sent when it has time. {exc}"
    except PrefectAway as exc:
        ok, detail = False, f"does not answer; refreshes are kept and sent when it is back. {exc}"
    except PrefectError as exc:
        ok, detail = False, f"answers, but not us. {exc}"
    return {"ok": ok, "detail": detail, "address": None, "last_seen_at": None}


@cache
def _door(api_url: str) -> HttpPrefectGateway:
    return HttpPrefectGateway(api_url, timeout=TIMEOUT)
