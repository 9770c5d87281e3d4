"""Answer one thread: claim its question, read how the thread stands, check the answer, send it once.

What may end an attempt at any point: the relay is killed, the server hangs or answers late. That the server is given
the answer is noted before it is, and the next attempt reads the thread first. Where one of its runs carries the
question's name the answer has landed, whatever the thread does now. Where none does and the thread waits on, the answer
is given again, once the server can be taking it no more. Where it does not wait, somebody else has let it go on.
"""

from __future__ import annotations

from console import faults
from orchestration.agent_servers import looks, rows
from orchestration.agent_servers.asked import answer_of
from orchestration.agent_servers.gateway import AgentServerGateway, connected
from orchestration.agent_servers.looking import Connect
from orchestration.agent_servers.registered import server_named
from orchestration.agent_servers.rows import HeldQuestion
from orchestration.dialects.base import Untellable
from orchestration.errors import AgentServerAway, AgentServerRefused, ThreadBusy, ThreadGone, UnknownDialect
from orchestration.stops import Stop
from orchestration.threads import in_database


async def answer(approval_id: str, *, again: bool = False, connect: Connect = connected) -> str:
    """Answer what the approval belongs to, unless it is answered or parts of it are open; return what to note of it.

    Raises AgentServerAway when it is to be tried again.
    """
    held = await in_database(rows.hold, approval_id, again=again)
    if held is None:
        if await in_database(rows.is_held, approval_id):
            raise ThreadBusy("Another relay answers the thread just now.")  # which may die
        return ""
    is_over = False
    try:
        server = server_named(held.question.server)
        if fault := await in_database(looks.fault_of, server.name):
            raise AgentServerAway(fault)  # the look that finds it back comes first
        async with connect(server) as gateway:
            await _answer(gateway, held)
        is_over = True
    finally:
        if not is_over:
            await in_database(rows.let_go, held)
    return ""


async def _answer(gateway: AgentServerGateway, held: HeldQuestion) -> None:
    question = held.question
    try:
        thread = await gateway.thread(question.thread_id)
    except ThreadGone:
        await in_database(rows.went_on, question, held=True)
        return
    interrupt = thread.waits_for(question.interrupt_id)
    may_have_landed = question.is_in_doubt or interrupt is None or thread.is_busy
    if may_have_landed and await gateway.has_run_for(question.thread_id, held.key):
        await in_database(rows.note_sent, held, question.server_run_id)  # by an attempt that could not say so
        return
    if thread.is_busy:
        raise ThreadBusy("A run of the thread is under way on its agent server.")
    if interrupt is None:
        await in_database(rows.went_on, question, held=True)
        return
    if await in_database(rows.may_be_on_its_way, question):
        raise ThreadBusy("Its agent server did not confirm the answer and may be taking it; it is given again later.")
    server = server_named(question.server)
    try:
        ready = answer_of(server, thread, interrupt, held.settled)
    except (Untellable, UnknownDialect) as exc:
        await in_database(rows.note_untold, held, f"{exc} The thread waits on, on {question.server}.")
        return
    if ready.different:
        await in_database(rows.note_different, held)
        return
    if await in_database(rows.refuse_what_may_not_run, held):
        return
    resume = None if isinstance(interrupt, Stop) else {interrupt.id: ready.value}
    if not await in_database(rows.begin_to_give, held):
        raise ThreadBusy("Another relay answers the thread just now.")  # this one was asleep for too long
    faults.reach("thread.before_answer", question.run_id)
    try:
        run_id = await gateway.answer(thread, resume, held.key)
    except (ThreadBusy, AgentServerRefused):
        await in_database(rows.note_not_given, held)
        raise
    faults.reach("thread.after_answer", question.run_id)
    await in_database(rows.note_sent, held, run_id)
    faults.reach("thread.after_note", question.run_id)
