"""What a look at a server has found, and which threads the next one reads. Each function is one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q

from approvals.models import Approval
from console.clock import DatabaseNow, database_now
from console.live.announce import announce
from orchestration.agent_servers.registered import AgentServer
from orchestration.models import AgentServerLook, ThreadQuestion
from orchestration.stops import PREFIX

State = ThreadQuestion.State
Asked = Iterable[tuple[str, Sequence[str]]]  # threads that wait, each with its interrupts; none is a stop
TROUBLES_KEPT: Final = 20  # sentences about one server
LACKS_IDS: Final = "Some of its interrupts have no id, so they cannot be answered: it needs a newer LangGraph."


def begin_look(server: AgentServer) -> bool:
    """Return whether the server is due and no other relay has it; it is not due again before its period is over."""
    AgentServerLook.objects.get_or_create(name=server.name)
    due = Q(begun_at=None) | Q(begun_at__lt=DatabaseNow() - timedelta(seconds=server.every_seconds))
    return bool(AgentServerLook.objects.filter(due, name=server.name).update(begun_at=DatabaseNow()))


def begins_at(server: AgentServer) -> int:
    """Return how many waiting threads the look leaves out: those that the looks before it have read."""
    return AgentServerLook.objects.get(name=server.name).goes_on_at


def note_away(server: AgentServer, fault: str) -> None:
    """Keep why the server did not list its threads; pages are told when it has gone."""
    with transaction.atomic():
        row = AgentServerLook.objects.select_for_update().get(name=server.name)
        if not row.fault or row.asked_at is None:
            row.since = database_now()
            announce("health")
        row.fault, row.asked_at = fault[:300], database_now()
        row.save()


def note_look(
    server: AgentServer, asked: Asked, trouble: str = "", *, goes_on_at: int = 0, threads: int | None = None
) -> None:
    """Keep what a server that is there said; pages are told when it has come, or other threads are in trouble.

    `trouble`: why the look ended early. `threads`: how many wait, `None` where the look did not begin with the first.
    """
    troubles = ([trouble] if trouble else []) + _troubles(server.name, asked)
    with transaction.atomic():
        row = AgentServerLook.objects.select_for_update().get(name=server.name)
        shown = [one[:300] for one in troubles[:TROUBLES_KEPT]]
        if row.fault or row.asked_at is None or (row.troubles, row.troubled) != (shown, len(troubles)):
            announce("health")
        row.fault, row.since, row.asked_at = "", None, database_now()
        row.troubles, row.troubled, row.goes_on_at = shown, len(troubles), goes_on_at
        if threads is not None:
            row.threads = threads
        row.save()


def _troubles(server: str, asked: Asked) -> list[str]:
    """Return why waiting threads are not asked about, or not told what was decided, in sentences."""
    threads = dict(asked)
    newest_stop: dict[str, str] = {}
    kept = []
    for row in ThreadQuestion.objects.filter(server=server, thread_id__in=threads).order_by("pk"):
        if row.interrupt_id.startswith(PREFIX):
            newest_stop[row.thread_id] = row.interrupt_id
        if row.state in (State.UNREAD, State.UNTOLD) and row.detail:
            kept.append(row)
    return [
        f"Thread {row.thread_id}: {row.detail}"
        for row in kept
        if row.state == State.UNREAD
        or row.interrupt_id in threads[row.thread_id]
        or (not threads[row.thread_id] and newest_stop.get(row.thread_id) == row.interrupt_id)
    ]


def fault_of(server: str) -> str:
    """Return why the server was away at the last look, "" when it was there."""
    return AgentServerLook.objects.filter(name=server).values_list("fault", flat=True).first() or ""


def to_read(server: str, asked: Asked) -> tuple[list[str], list[str]]:
    """Return the threads of which something may be to be opened: those to read now, and those to read after them.

    The first are what was not read yet, and what is to be asked again. The others were read and asked nothing new: the
    list does not tell whether they do now. They come in the order of their last reading, so that each has its turn.
    """
    threads = dict(asked)
    all_rows = list(ThreadQuestion.objects.filter(server=server, thread_id__in=threads))
    read_at = {row.thread_id: row.checked_at for row in all_rows if row.state == State.UNREAD}
    rows = [row for row in all_rows if row.state != State.UNREAD]
    open_ones = [row for row in rows if row.state == State.ASKED]
    opened = set(
        Approval.objects.filter(
            run_id__in={row.run_id for row in open_ones}, interrupt_id__in={row.asked_as for row in open_ones}
        ).values_list("run_id", "interrupt_id")
    )
    again = {row.thread_id for row in open_ones if (row.run_id, row.asked_as) not in opened}
    known = {(row.thread_id, row.interrupt_id) for row in rows if row.state != State.GONE}
    stopped = {row.thread_id for row in open_ones if row.interrupt_id.startswith(PREFIX)}
    wanted = [
        thread_id
        for thread_id, interrupt_ids in threads.items()
        if thread_id in again
        or any((thread_id, one) not in known for one in interrupt_ids)
        or (not interrupt_ids and thread_id not in stopped)
    ]
    return [one for one in wanted if one not in read_at], sorted(set(wanted) & read_at.keys(), key=read_at.__getitem__)


def note_read(server: AgentServer, thread_id: str, lack: str = "", *, is_new: bool = False) -> None:
    """Keep that a thread was read. `lack`: why not all of it can be asked. `is_new`: something was opened."""
    if is_new and not lack:
        ThreadQuestion.objects.filter(_whole(server, thread_id)).delete()
        return
    ThreadQuestion.objects.update_or_create(
        server=server.name,
        thread_id=thread_id,
        interrupt_id="",
        defaults={"state": State.UNREAD, "detail": lack[:500], "checked_at": DatabaseNow()},
    )


def note_unreadable(server: AgentServer, thread_id: str, why: str) -> None:
    """Keep that a thread could not be read; it is read again after the others."""
    with transaction.atomic():
        note_read(server, thread_id, why)
        of_thread = ThreadQuestion.objects.filter(server=server.name, thread_id=thread_id)
        of_thread.filter(state__in=(State.ASKED, State.SENT)).update(checked_at=DatabaseNow())


def note_readable(server: AgentServer, thread_id: str) -> None:
    """Keep that a thread can be read again, where it could not before. What else it lacks stays said."""
    rows = ThreadQuestion.objects.filter(_whole(server, thread_id))
    rows.exclude(detail__in=("", LACKS_IDS)).delete()


def _whole(server: AgentServer, thread_id: str) -> Q:
    return Q(server=server.name, thread_id=thread_id, interrupt_id="", state=State.UNREAD)
