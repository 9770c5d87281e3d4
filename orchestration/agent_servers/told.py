"""How the agent servers are, for pages and programs: as a relay found them last. Nothing is asked here."""

from __future__ import annotations

from console.ports import ShownServer
from orchestration.agent_servers import registered
from orchestration.models import AgentServerLook


def servers() -> list[ShownServer]:
    """Return every server of the file, by name, and what is wrong in the file as one more. One query at most."""
    loaded = registered.load()
    if not loaded.servers and not loaded.faults:
        return []
    looks = AgentServerLook.objects.in_bulk(list(loaded.servers))
    found = []
    for name in sorted(loaded.servers):
        server, look = loaded.servers[name], looks.get(name)
        found.append(
            ShownServer(
                name=name,
                address=server.url,
                fault=look.fault if look else "",
                asked_at=look.asked_at if look else None,
                since=look.since if look else None,
                threads=look.threads if look else 0,
                troubles=tuple(look.troubles) if look and not look.fault else (),
                troubled=look.troubled if look and not look.fault else 0,
            )
        )
    where = registered.path().name
    return found + [ShownServer(where, "", fault, None, None, 0) for fault in loaded.faults]
