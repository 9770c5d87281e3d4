"""The agent servers whose waiting threads become requests, in the JSON API."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router

from console.api_access import require
from orchestration.agent_servers import told

router = Router(tags=["agent servers"])


@router.get("/agent-servers")
def list_servers(request: HttpRequest) -> dict[str, Any]:
    """List the servers and how each was when a relay asked it last; what is wrong in their file is an item too.

    `troubles`: what keeps requests from being asked or answered, in sentences, 20 at most; `troubled`: how many.
    """
    require(request, "see")
    items = [
        {
            "name": server.name,
            "address": server.address,
            "fault": server.fault or None,
            "since": server.since,
            "asked_at": server.asked_at,
            "threads": server.threads,
            "troubles": list(server.troubles),
            "troubled": server.troubled,
        }
        for server in told.servers()
    ]
    return {"items": items, "next": None}
