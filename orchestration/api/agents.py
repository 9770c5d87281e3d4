"""The registered agents in the JSON API."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.http import HttpRequest
from ninja import Router

from console.api_access import require
from orchestration.agents.arguments import asked_schema, input_schema_of
from orchestration.agents.registry import agents, faults
from orchestration.agents.runtime import Agent

router = Router(tags=["runs"])


@router.get("/agents")
def list_agents(request: HttpRequest) -> dict[str, Any]:
    """List the registered agents with their schemas, and what stands in SIGNALBOX_AGENTS and cannot be used."""
    require(request, "see")
    return {
        "items": [_agent_json(agent) for agent in agents().values()],
        "next": None,
        "faults": [asdict(fault) for fault in faults()],
    }


def _agent_json(agent: Agent) -> dict[str, Any]:
    return {
        "name": agent.name,
        "title": agent.title,
        "input_schema": input_schema_of(agent),
        "tools": [
            {
                "name": tool.name,
                "title": tool.title,
                "risk": tool.risk,
                "needs_approval": tool.needs_approval,
                "idempotent": tool.is_idempotent,
                "arguments_schema": asked_schema(tool),
            }
            for tool in agent.tools
        ],
    }
