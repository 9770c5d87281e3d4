"""What a thread asks, as proposals; and the answer in the thread's own form, checked before it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel

from approvals.proposal.canonical import read_canonical
from approvals.reading.for_runs import Settled
from approvals.services import Proposal
from orchestration.agent_servers.registered import AgentServer
from orchestration.agent_servers.standing import RemoteThread
from orchestration.agents.runtime import Agent
from orchestration.dialects import dialect_of
from orchestration.pausing import Stand
from orchestration.turns.asked import Around


def run_id_of(server: AgentServer, thread_id: str) -> str:
    """Return what stands in the place of a run's id in the thread's approvals."""
    return f"thread-{server.name}-{thread_id}"


def proposals_of(server: AgentServer, thread: RemoteThread, interrupt: Any, asked_as: str) -> list[Proposal]:
    """Return what one interrupt asks. Raises UnknownDialect for what cannot be shown or answered.

    `asked_as`: the interrupt's id in the approvals.
    """
    agent = server.agent_of(thread.graph)
    run_id = run_id_of(server, thread.thread_id)
    places = _around(server, thread).places_of(interrupt)
    known = vars(places[0]).keys() - {"is_tracked"}
    return [
        Proposal(
            **{name: value for name, value in vars(place).items() if name in known},
            is_tracked=False,  # whatever its form: it runs there
            external_id=f"{run_id}:{asked_as}{f':{number}' if number else ''}",
            agent=agent,
            agent_owners=server.owners,
            run_id=run_id,
            interrupt_id=asked_as,
            interrupt_place=number,
            checkpoint_id=thread.checkpoint_id,
            requested_by_id=None,
            dialect=dialect_of(interrupt).name,
            places=len(places),
            server=server.name,
            thread_id=thread.thread_id,
        )
        for number, place in enumerate(places)
    ]


@dataclass(frozen=True)
class ReadyAnswer:
    """The answer to one interrupt. `different`: approvals of another call than the thread holds; nothing is sent."""

    value: Any = None
    different: tuple[str, ...] = ()


def answer_of(server: AgentServer, thread: RemoteThread, interrupt: Any, settled: Sequence[Settled]) -> ReadyAnswer:
    """Return what the thread is answered with. Raises Untellable, UnknownDialect."""
    around, dialect = _around(server, thread), dialect_of(interrupt)
    places = dialect.proposals_of(interrupt)
    if [one.place for one in settled] != list(range(len(places))):
        return ReadyAnswer(different=tuple(one.approval_id for one in settled))
    pairs = zip(settled, places, strict=True)
    if others := [one.approval_id for one, place in pairs if around.is_other(interrupt, one, place)]:
        return ReadyAnswer(different=tuple(others))
    around.check_tellable(interrupt, settled)
    return ReadyAnswer(dialect.answer(interrupt, settled, server.on_silence))


def tool_of(proposal: Proposal) -> str:
    return read_canonical(proposal.canonical)[0]


def _around(server: AgentServer, thread: RemoteThread) -> Around:
    asked_by = {
        name: (None, SimpleNamespace(values={"messages": list(messages)})) for name, messages in thread.messages.items()
    }
    agent = Agent(name=server.agent_of(thread.graph), title=server.name, input=_Nothing, on_silence=server.on_silence)
    return Around(agent, {}, Stand(asked_by=asked_by, asked_in=dict(thread.asked_in)))


class _Nothing(BaseModel):
    """The input of a run that is not started here."""
