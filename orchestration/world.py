"""The outside world, for tools: the named HTTP services of this installation and its mail system."""

from __future__ import annotations

import asyncio

import httpx
from django.core.mail import EmailMessage

from console.environment import environment
from orchestration.agents.runtime import ToolFailed

#: of an idle connection. Shorter than servers keep theirs (gunicorn 2 s, Node and uvicorn 5 s): one that the server
#: closes just as a call is sent by it leaves an effect of which nobody knows whether it was done.
KEEPS_IDLE_SECONDS = 1.0


class OutsideWorld:
    """One per worker process; keeps its connections. See `orchestration.agents.runtime.World`."""

    def __init__(self) -> None:
        self._clients: dict[str, httpx.AsyncClient] = {}

    def http(self, service: str) -> httpx.AsyncClient:
        """Return the client of a named service. Raises ToolFailed when its address is not configured."""
        address = {"shop": environment().shop_url}.get(service)
        if not address:
            raise ToolFailed(f"The service {service!r} has no address. Set SIGNALBOX_{service.upper()}_URL.")
        if service not in self._clients:
            self._clients[service] = httpx.AsyncClient(
                base_url=address,
                timeout=httpx.Timeout(20, connect=3),
                limits=httpx.Limits(
                    max_connections=100, max_keepalive_connections=20, keepalive_expiry=KEEPS_IDLE_SECONDS
                ),
            )
        return self._clients[service]

    async def send_mail(self, to: str, subject: str, body: str) -> None:
        """Hand one message to Django's mail backend, in a thread: backends block."""
        await asyncio.to_thread(EmailMessage(subject=subject, body=body, to=[to]).send)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()
