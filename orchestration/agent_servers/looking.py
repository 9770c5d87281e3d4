"""Ask each agent server which of its threads wait, and open what they ask; see whether earlier questions still stand.

One relay at a time asks a server, once a period. One look does a bounded amount of work and goes on with the rest at
the next, and a server that hangs delays no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from orchestration.agent_servers import rows
from orchestration.agent_servers.asked import proposals_of, run_id_of
from orchestration.agent_servers.gateway import PAGE, AgentServerGateway, WaitingThread, connected
from orchestration.agent_servers.registered import AgentServer, load
from orchestration.agent_servers.standing import RemoteThread
from orchestration.errors import AgentServerAway, ThreadGone, UnknownDialect
from orchestration.models import ThreadQuestion
from orchestration.threads import in_database

PAGES: Final = 20  # of the list, at one look
READ_AT_ONCE: Final = 50  # threads whose state is read at one look, for new questions and for open ones each
SECONDS: Final = 120.0  # for one look

Connect = Callable[[AgentServer], AbstractAsyncContextManager[AgentServerGateway]]


async def look_around(connect: Connect = connected) -> bool:
    """Ask every server that is due; return whether one of them has more than one look could do."""
    looks = await asyncio.gather(*(_look(server, connect) for server in load().servers.values()))
    return any(looks)


async def _look(server: AgentServer, connect: Connect) -> bool:
    if not await in_database(rows.begin_look, server):
        return False
    try:
        async with asyncio.timeout(SECONDS), connect(server) as gateway:
            waiting = await _waiting(server, gateway)
            fault, is_more = await _open(server, gateway, waiting)
            await _compare(server, gateway)
    except AgentServerAway as exc:
        await in_database(rows.note_look, server, str(exc))
        return False
    except TimeoutError:
        told = f"{server.name} is slow: a look took more than {SECONDS:.0f} seconds."
        await in_database(rows.note_look, server, told)
        return False
    await in_database(rows.note_look, server, fault, len(waiting))
    return is_more


async def _waiting(server: AgentServer, gateway: AgentServerGateway) -> list[WaitingThread]:
    found: dict[str, WaitingThread] = {}
    for page in range(PAGES):
        threads = await gateway.waiting(page * PAGE)
        found.update({one.thread_id: one for one in threads if server.takes(one.graph)})
        if len(threads) < PAGE:
            break
    return list(found.values())


async def _open(server: AgentServer, gateway: AgentServerGateway, waiting: list[WaitingThread]) -> tuple[str, bool]:
    """Open what is new; return what is wrong with the server as a whole, "" when nothing is, and whether more waits."""
    asked = [(one.thread_id, one.interrupt_ids) for one in waiting]
    new = await in_database(rows.unknown_of, server.name, asked)
    fault = ""
    for thread_id in new[:READ_AT_ONCE]:
        try:
            thread = await gateway.thread(thread_id)
        except ThreadGone:
            continue
        if thread.lacks_ids:
            fault = rows.LACKS_IDS
        if not thread.is_busy:
            await in_database(_ask, server, thread)
    return fault, len(new) > READ_AT_ONCE


def _ask(server: AgentServer, thread: RemoteThread) -> None:
    for interrupt in thread.asked:
        asked_as = rows.asked_as(server.name, thread.thread_id, interrupt.id)
        if asked_as is None:
            continue
        try:
            proposals = proposals_of(server, thread, interrupt, asked_as)
        except UnknownDialect as exc:
            run_id = run_id_of(server, thread.thread_id)
            rows.note_unaskable(server, thread.thread_id, interrupt.id, run_id, str(exc))
            continue
        rows.ask(server, thread, interrupt.id, proposals)


async def _compare(server: AgentServer, gateway: AgentServerGateway) -> None:
    """Read again the threads whose questions are open, and close those that they do not wait for any more."""
    questions = await in_database(rows.open_questions, server.name, READ_AT_ONCE)
    threads: dict[str, RemoteThread | None] = {}
    for question in questions:
        if question.thread_id not in threads:
            try:
                threads[question.thread_id] = await gateway.thread(question.thread_id)
            except ThreadGone:
                threads[question.thread_id] = None
        thread = threads[question.thread_id]
        if thread is not None and await _took_it_unheard(gateway, question, thread):
            await in_database(rows.note_found, question)
        else:
            await in_database(_compared, question, thread)


async def _took_it_unheard(gateway: AgentServerGateway, question: ThreadQuestion, thread: RemoteThread) -> bool:
    """Return whether the thread went on with an answer that it was given and that no relay lived to hear confirmed."""
    if not question.is_in_doubt or thread.is_busy or thread.waits_for(question.interrupt_id) is not None:
        return False
    try:
        return await gateway.has_run_for(question.thread_id, question.asked_as)
    except ThreadGone:
        return False


def _compared(question: ThreadQuestion, thread: RemoteThread | None) -> None:
    if thread is None:
        rows.went_on(question)
    elif thread.is_busy or thread.waits_for(question.interrupt_id) is not None:
        rows.still_waits(question, is_busy=thread.is_busy)
    else:
        rows.went_on(question)
