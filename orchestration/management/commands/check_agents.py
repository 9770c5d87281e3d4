from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from console.ports import AgentFault
from console.text.visible import one_line
from orchestration.agents.loading import why
from orchestration.agents.registry import agents, faults
from orchestration.agents.runtime import Agent


class Command(BaseCommand):
    help = (
        "Load the agents that SIGNALBOX_AGENTS names, with their graphs; say what is wrong and what to write instead."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a line for each agent; end with 1 when something cannot be used."""
        found = [*faults()]
        for agent in agents().values():
            fault = _graph_fault(agent)
            if fault is None:
                tools = ", ".join(tool.name for tool in agent.tools) or "no tools"
                self.stdout.write(one_line(f"{agent.name}: {agent.title} ({tools})"))
            else:
                found.append(fault)
        if found:
            lines = [one_line(f"{fault.entry}: {fault.reason} {fault.advice}") for fault in found]
            raise CommandError("SIGNALBOX_AGENTS: these cannot be used.\n" + "\n".join(f"  {line}" for line in lines))


def _graph_fault(agent: Agent) -> AgentFault | None:
    """Return what is wrong with the agent's graph, which only the worker makes otherwise."""
    try:
        made = import_string(agent.graph)
        if not _is_graph(made):
            made = made(agent)
    except Exception as exc:  # noqa: BLE001  it is somebody's own code
        reason, advice = why(exc, agent.graph.rpartition(".")[0])
        return AgentFault(agent.name, f"Its graph {agent.graph} cannot be made. {reason}", advice)
    if not _is_graph(made):
        return AgentFault(
            agent.name,
            f"{agent.graph} gives a {type(made).__name__}.",
            "Give a StateGraph, or what its compile() returns.",
        )
    return None


def _is_graph(value: Any) -> bool:
    """Return whether it is a graph, compiled or not; told by what it can do, for only the worker imports LangGraph."""
    return hasattr(value, "compile") or (hasattr(value, "ainvoke") and hasattr(value, "get_subgraphs"))
