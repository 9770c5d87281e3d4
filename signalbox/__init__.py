"""What the author of an agent imports, and nothing else of the product.

from signalbox import Agent, guard
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestration.agents.guarding import effect_key, guard
    from orchestration.agents.proposals import ProposalNodes, ProposalState
    from orchestration.agents.runtime import Agent, AgentContext, Limit, ModelCalls, Tool, ToolFailed, World

__all__ = [
    "Agent",
    "AgentContext",
    "Limit",
    "ModelCalls",
    "ProposalNodes",
    "ProposalState",
    "Tool",
    "ToolFailed",
    "World",
    "effect_key",
    "guard",
]

_HOMES = {
    "effect_key": "guarding",
    "guard": "guarding",
    "ProposalNodes": "proposals",
    "ProposalState": "proposals",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: who describes an agent need not wait for LangGraph."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"orchestration.agents.{_HOMES.get(name, 'runtime')}"), name)
