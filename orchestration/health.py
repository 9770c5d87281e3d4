"""How Temporal is, for the health report: asked with our credentials, in our namespace, over one kept connection."""

from __future__ import annotations

import asyncio

from console.environment import environment
from console.ports import PartHealth
from orchestration.errors import OrchestrationError

DEADLINE_SECONDS = 3.0


def temporal() -> PartHealth:
    """Return Temporal's health. Takes 3 s at most."""
    address = environment().temporal_address or "127.0.0.1:7233"
    fault = asyncio.run(_fault())
    return {"ok": not fault, "detail": fault or "serves our namespace", "address": address, "last_seen_at": None}


async def _fault() -> str:
    """Return in a sentence why Temporal does not serve us, "" when it does."""
    # They import the SDK: 0.7 s that no page waits for.
    from console.temporal_connection import CannotConnect, forget, kept
    from orchestration.temporal_gateway import examine

    client = None
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            client = await kept()
            await examine(client)
    except (OrchestrationError, CannotConnect) as exc:
        fault = str(exc)
    except TimeoutError:
        fault = f"cannot be reached: no answer within {DEADLINE_SECONDS:g} s"
    else:
        return ""
    if client is not None:
        forget(client)
    return fault
