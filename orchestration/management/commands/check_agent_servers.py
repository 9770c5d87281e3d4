"""Say what is wrong with the file of agent servers, and ask each of them: `manage.py check_agent_servers`."""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.text.visible import one_line
from orchestration.agent_servers import registered
from orchestration.agent_servers.registered import AgentServer
from orchestration.errors import AgentServerAway


class Command(BaseCommand):
    requires_system_checks = ()
    help = "Check the file that names LangGraph Agent Servers, and ask each of them which of its threads wait."

    def handle(self, *args: Any, **options: Any) -> None:
        loaded = registered.load()
        faults = list(loaded.faults)
        for server in loaded.servers.values():
            try:
                waiting = asyncio.run(_waiting(server))
            except AgentServerAway as exc:
                faults.append(str(exc))
            else:
                threads = f"{waiting} thread{'' if waiting == 1 else 's'}"
                self.stdout.write(one_line(f"{server.name}: answers; {threads} of the first 100 wait for people"))
        if faults:
            raise CommandError("\n".join(["This is wrong:", *map(one_line, faults)]))
        self.stdout.write(f"{len(loaded.servers)} registered in {registered.path()}.")


async def _waiting(server: AgentServer) -> int:
    from orchestration.agent_servers.gateway import connected

    async with connected(server) as gateway:
        return sum(server.takes(one.graph) for one in await gateway.waiting(0))
