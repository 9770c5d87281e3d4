from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from console.ports import AgentFault
from console.text.visible import one_line
from orchestration.agents import graphs
from orchestration.agents.hazards import hazards_of
from orchestration.agents.loading import named_graph, why
from orchestration.agents.registry import agents, faults
from orchestration.agents.runtime import Agent


class Command(BaseCommand):
    help = (
        "Load the agents that SIGNALBOX_AGENTS names, with their graphs; say what is wrong and what to write instead, "
        "and warn of what would happen twice or get lost."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a line for each agent; end with 1 when something cannot be used."""
        found = [*faults()]
        for agent in agents().values():
            fault = _graph_fault(agent)
            if fault is None:
                tools = ", ".join(_tools(agent)) or "no tools"
                self.stdout.write(one_line(f"{agent.name}: {agent.title} ({tools})"))
                for sentence in (*_hazards(agent), *_owners_without_account(agent)):
                    self.stderr.write(one_line(f"  {agent.name}, warning: {sentence}"))
            else:
                found.append(fault)
        if found:
            lines = [one_line(f"{fault.entry}: {fault.reason} {fault.advice}") for fault in found]
            raise CommandError("SIGNALBOX_AGENTS: these cannot be used.\n" + "\n".join(f"  {line}" for line in lines))


def _graph_fault(agent: Agent) -> AgentFault | None:
    """Return what is wrong with the agent's graph, which only the worker makes otherwise."""
    try:
        graphs.made_once(graphs.graph_from(agent, named_graph(agent)))
    except TypeError as exc:
        if "no graph of LangGraph" in str(exc):
            return AgentFault(agent.name, f"{exc}", "Give a StateGraph, or what its compile() returns.")
        return _cannot_be_made(agent, exc)
    except Exception as exc:  # noqa: BLE001  it is somebody's own code
        return _cannot_be_made(agent, exc)
    return None


def _tools(agent: Agent) -> list[str]:
    """Return the names of the agent's tools: those that are described here, else those that its graph holds."""
    if agent.tools:
        return [tool.name for tool in agent.tools]
    made = graphs.made_once(graphs.graph_from(agent, named_graph(agent)))
    return sorted(graphs.tools_of(graphs.compiled(made)))


def _hazards(agent: Agent) -> list[str]:
    try:
        return hazards_of(agent, graphs.made_once(graphs.graph_from(agent, named_graph(agent))))
    except Exception as exc:  # noqa: BLE001  a look at somebody's own code is no reason to refuse it
        return [f"It could not be looked into ({type(exc).__name__})."]


def _owners_without_account(agent: Agent) -> list[str]:
    """Return a warning of owners that no account has; none where the database is not there to be asked."""
    if not agent.owners:
        return []
    try:
        known = set(User.objects.filter(username__in=agent.owners).values_list("username", flat=True))
    except DatabaseError:
        return []
    unknown = [name for name in agent.owners if name not in known]
    names = ", ".join(unknown)
    return (
        [f"No account has the name of its owner {names}: a rule's four eyes keep nobody out by it."] if unknown else []
    )


def _cannot_be_made(agent: Agent, exc: Exception) -> AgentFault:
    reason, advice = why(exc, agent.graph.rpartition(".")[0])
    return AgentFault(agent.name, f"Its graph {agent.graph} cannot be made. {reason}", advice)
