"""The outside world, for tools: the named HTTP services of this installation and its mail system."""

from __future__ import annotations

import asyncio

import httpx
from django.core.mail import EmailMessage

from console.environment import environment
from orchestration.agents.runtime import ToolFailed


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
            self._clients[service] = httpx.AsyncClient(base_url=address, timeout=httpx.Timeout(20, connect=3))
        return self._clients[service]

    async def send_mail(self, to: str, subject: str, body: str) -> None:
        """Hand one message to Django's mail backend, in a thread: backends block."""
        await asyncio.to_thread(EmailMessage(subject=subject, body=body, to=[to]).send)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()
