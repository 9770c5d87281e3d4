"""Ask each agent server which of its threads wait, and open what they ask; see whether earlier questions still stand.

One relay at a time asks a server, once a period. One look does a bounded amount of work and goes on with the rest at
the next; a server that hangs delays no other, and a thread that cannot be read delays no other thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from orchestration.agent_servers import looks, rows
from orchestration.agent_servers.asked import proposals_of, run_id_of
from orchestration.agent_servers.gateway import PAGE, AgentServerGateway, WaitingThread, connected
from orchestration.agent_servers.registered import AgentServer, load
from orchestration.agent_servers.standing import RemoteThread
from orchestration.errors import AgentServerAway, ThreadGone, UnknownDialect
from orchestration.models import ThreadQuestion
from orchestration.stops import Stop
from orchestration.threads import in_database

logger = logging.getLogger(__name__)

PAGES: Final = 20  # of the list, at one look
#: threads whose state is read at one look: for new questions, for open ones, and of those that asked nothing each
READ_AT_ONCE: Final = 50
SECONDS: Final = 120.0  # for one look

Connect = Callable[[AgentServer], AbstractAsyncContextManager[AgentServerGateway]]


@dataclass(frozen=True)
class ListedThreads:
    """Threads that wait, of the graphs that are asked about."""

    threads: list[WaitingThread]
    begun_at: int  # how many threads of the list were left out before them
    goes_on_at: int  # after them, 0 at the end of the list

    @property
    def asked(self) -> list[tuple[str, Sequence[str]]]:
        return [(one.thread_id, one.interrupt_ids) for one in self.threads]


async def look_around(connect: Connect = connected) -> bool:
    """Ask every server that is due; return whether one of them has more than one look could do."""
    return any(await asyncio.gather(*(_look(server, connect) for server in load().servers.values())))


async def _look(server: AgentServer, connect: Connect) -> bool:
    """Ask one server and note how it is. It is away where its threads cannot be listed; what comes after is told."""
    if not await in_database(looks.begin_look, server):
        return False
    listed: ListedThreads | None = None
    fault, is_more = "", False
    try:
        async with asyncio.timeout(SECONDS), connect(server) as gateway:
            listed = await _list(server, gateway, await in_database(looks.begins_at, server))
            new, again = await in_database(looks.to_read, server.name, listed.asked)
            is_more = len(new) > READ_AT_ONCE
            await _open(server, gateway, new)
            await _compare(server, gateway)
            await _open(server, gateway, again)
    except AgentServerAway as exc:
        fault = str(exc)
    except TimeoutError:
        fault = f"{server.name} is slow: a look took more than {SECONDS:.0f} seconds."
    except Exception as exc:
        logger.exception("a look at the agent server %s failed", server.name)
        fault = f"The look at {server.name} failed: {type(exc).__name__}."
    if listed is None:
        await in_database(looks.note_away, server, fault)
        return False
    goes_on_at = listed.begun_at if is_more else listed.goes_on_at
    threads = None if listed.begun_at else len(listed.threads)
    await in_database(looks.note_look, server, listed.asked, fault, goes_on_at=goes_on_at, threads=threads)
    return is_more or bool(goes_on_at)


async def _list(server: AgentServer, gateway: AgentServerGateway, begun_at: int) -> ListedThreads:
    found: dict[str, WaitingThread] = {}
    offset = begun_at
    for _ in range(PAGES):
        threads = await gateway.waiting(offset)
        found.update({one.thread_id: one for one in threads if server.takes(one.graph)})
        offset += PAGE
        if len(threads) < PAGE:
            offset = 0
            break
    return ListedThreads(list(found.values()), begun_at, offset)


async def _open(server: AgentServer, gateway: AgentServerGateway, thread_ids: list[str]) -> None:
    """Open what the threads ask and is not asked yet."""
    for thread_id in thread_ids[:READ_AT_ONCE]:
        async with _noting_what_goes_wrong(server, thread_id):
            with suppress(ThreadGone):
                await _open_thread(server, await gateway.thread(thread_id))


async def _open_thread(server: AgentServer, thread: RemoteThread) -> None:
    is_new = not thread.is_busy and await in_database(_ask, server, thread)
    if is_new or thread.status == "interrupted":  # else the list does not have it next time
        lack = looks.LACKS_IDS if thread.lacks_ids else ""
        await in_database(looks.note_read, server, thread.thread_id, lack, is_new=is_new)


@asynccontextmanager
async def _noting_what_goes_wrong(server: AgentServer, thread_id: str) -> AsyncIterator[None]:
    """Keep what goes wrong with one thread from the others: it is noted, and the thread is read again after them."""
    try:
        yield
        return
    except AgentServerAway as exc:
        why = str(exc)
    except Exception as exc:
        logger.exception("the thread %s of the agent server %s could not be read", thread_id, server.name)
        why = f"It could not be read: {type(exc).__name__}."
    await in_database(looks.note_unreadable, server, thread_id, why)


def _ask(server: AgentServer, thread: RemoteThread) -> bool:
    """Open what the thread asks; return whether some of it was not known yet."""
    is_new = False
    for interrupt in thread.asked:
        if thread.was_cut_short and isinstance(interrupt, Stop):  # nobody stopped it to be asked
            continue
        asked_as = rows.asked_as(server.name, thread.thread_id, interrupt.id)
        if asked_as is None:
            continue
        try:
            proposals = proposals_of(server, thread, interrupt, asked_as)
        except UnknownDialect as exc:
            run_id = run_id_of(server, thread.thread_id)
            is_new |= rows.note_unaskable(server, thread.thread_id, interrupt.id, run_id, str(exc))
            continue
        is_new |= rows.ask(server, thread, interrupt.id, proposals)
    return is_new


async def _compare(server: AgentServer, gateway: AgentServerGateway) -> None:
    """Read again the threads whose questions are open, and close those that they do not wait for any more."""
    questions = await in_database(rows.open_questions, server.name, READ_AT_ONCE)
    of_threads: dict[str, list[ThreadQuestion]] = {}
    for question in questions:
        of_threads.setdefault(question.thread_id, []).append(question)
    for thread_id, its_questions in of_threads.items():
        async with _noting_what_goes_wrong(server, thread_id):
            await _compare_thread(gateway, thread_id, its_questions)
            await in_database(looks.note_readable, server, thread_id)


async def _compare_thread(gateway: AgentServerGateway, thread_id: str, questions: list[ThreadQuestion]) -> None:
    try:
        thread = await gateway.thread(thread_id)
    except ThreadGone:
        thread = None
    for question in questions:
        if thread is not None and await _took_it_unheard(gateway, question, thread):
            await in_database(rows.note_found, question)
        else:
            await in_database(_compared, question, thread)


async def _took_it_unheard(gateway: AgentServerGateway, question: ThreadQuestion, thread: RemoteThread) -> bool:
    """Return whether the thread went on with an answer that it was given and that no relay lived to hear confirmed."""
    if not question.is_in_doubt or thread.is_busy or thread.waits_for(question.interrupt_id) is not None:
        return False
    return await gateway.has_run_for(question.thread_id, question.asked_as)


def _compared(question: ThreadQuestion, thread: RemoteThread | None) -> None:
    if thread is None:
        rows.went_on(question)
    elif thread.is_busy or thread.waits_for(question.interrupt_id) is not None:
        rows.still_waits(question, is_busy=thread.is_busy)
    else:
        rows.went_on(question)
