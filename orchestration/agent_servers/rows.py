"""How far each question of a thread has got: rows, and what is done to approvals. Each function is one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Q, QuerySet

from approvals import services as approvals
from approvals.models import Approval
from approvals.reading.for_runs import Settled, settled
from approvals.record import audit
from approvals.services import Proposal
from console.clock import DatabaseNow, database_now
from console.live.announce import announce
from orchestration.agent_servers.registered import AgentServer
from orchestration.agent_servers.standing import RemoteThread
from orchestration.models import ThreadQuestion

State = ThreadQuestion.State
HELD_FOR: Final = timedelta(seconds=90)  # longer than all calls of one answer may take
#: how long a server may be taking an answer that it was given and did not confirm, before it is given again
MAY_BE_TAKEN_FOR: Final = timedelta(seconds=60)
BY_ITSELF: Final = "The thread went on by itself on its agent server before the answer came; nothing was sent."
UNHEARD: Final = (
    "The thread went on, or is no more. Its agent server was given the answer and did not confirm it, and shows no run "
    "that took it: look there whether it did."
)
NOT_ON: Final = "Its agent server took the answer, and the thread did not go on: its run ended without it."
ASKED_AGAIN: Final = "The thread held another call than the one that was approved. It is asked about again."
BESIDE: Final = "Another part of the same question may not be done any more. All of it is asked about again."


@dataclass(frozen=True)
class HeldQuestion:
    """A question that this relay answers now, with what people decided."""

    question: ThreadQuestion
    settled: tuple[Settled, ...]  # its places, in their order

    @property
    def key(self) -> str:
        """The name under which its answer is known to the server."""
        return self.question.asked_as


def asked_as(server: str, thread_id: str, interrupt_id: str) -> str | None:
    """Return the id under which approvals are to be opened for an interrupt, `None` when it is over.

    One that was taken for gone and waits is asked about again, under another id.
    """
    row = ThreadQuestion.objects.filter(server=server, thread_id=thread_id, interrupt_id=interrupt_id).first()
    if row is None:
        return interrupt_id
    if row.state == State.GONE:
        return _next_name(row.asked_as)
    return row.asked_as if row.state == State.ASKED else None


def open_questions(server: str, most: int) -> list[ThreadQuestion]:
    """Return questions whose threads are to be read again, those that were read longest ago first."""
    rows = ThreadQuestion.objects.filter(server=server, state__in=(State.ASKED, State.SENT))
    return list(rows.order_by("checked_at", "pk")[:most])


def ask(server: AgentServer, thread: RemoteThread, interrupt_id: str, proposals: list[Proposal]) -> bool:
    """Open what an interrupt asks; return whether it was not open. A repetition, by any relay, opens nothing twice."""
    run_id, name = proposals[0].run_id, proposals[0].interrupt_id
    with transaction.atomic():
        row, is_new = ThreadQuestion.objects.select_for_update().get_or_create(
            server=server.name,
            thread_id=thread.thread_id,
            interrupt_id=interrupt_id,
            defaults={"run_id": run_id, "asked_as": name, "assistant_id": thread.assistant_id},
        )
        if row.state == State.GONE:
            _open_again(row, name)
        elif (row.state, row.asked_as) != (State.ASKED, name):
            return False  # another relay was first
        is_open = not is_new and Approval.objects.filter(run_id=run_id, interrupt_id=name).exists()
        for proposal in proposals:
            approvals.open_approval(proposal)
    return not is_open


def _open_again(row: ThreadQuestion, asked_as: str) -> None:
    """Ask again what was taken for gone. An answer that its server may be taking just now keeps others waiting."""
    if not may_be_on_its_way(row):
        row.given_at = None
    row.state, row.asked_as, row.detail, row.closed_at, row.checked_at = State.ASKED, asked_as, "", None, database_now()
    row.save()


def note_unaskable(server: AgentServer, thread_id: str, interrupt_id: str, run_id: str, why: str) -> bool:
    """Keep that an interrupt cannot be shown or answered; return whether that is new.

    A question that people have is left alone: they are told when it is answered.
    """
    closed = {"state": State.UNTOLD, "detail": why[:500], "closed_at": DatabaseNow()}
    with transaction.atomic():
        row, is_new = ThreadQuestion.objects.select_for_update().get_or_create(
            server=server.name,
            thread_id=thread_id,
            interrupt_id=interrupt_id,
            defaults={"run_id": run_id, "asked_as": interrupt_id, "assistant_id": "", **closed},
        )
        if not is_new:
            opened = Approval.objects.filter(run_id=row.run_id, interrupt_id=row.asked_as)
            if row.state != State.GONE and (row.state != State.ASKED or opened.exists()):
                return False
            ThreadQuestion.objects.filter(pk=row.pk).update(**closed)
        announce("health")
        audit.record(actor="relay", kind="thread.unaskable", subject=run_id, body={"detail": why[:500]})
    return True


def hold(approval_id: str, *, again: bool) -> HeldQuestion | None:
    """Claim the question that an approval belongs to; `None`: not all of it is closed, or it needs no answer now.

    `again`: also where its server has taken an answer before, for a person wants that.
    """
    approval = Approval.objects.only("run_id", "interrupt_id").get(pk=approval_id)
    places = Approval.objects.filter(run_id=approval.run_id, interrupt_id=approval.interrupt_id)
    rows = list(places.order_by("interrupt_place").values_list("pk", "status"))
    if any(status == Approval.Status.PENDING for _, status in rows):
        return None
    wanted = (State.ASKED, State.SENT) if again else (State.ASKED,)
    questions = ThreadQuestion.objects.filter(run_id=approval.run_id, asked_as=approval.interrupt_id)
    free = Q(held_until=None) | Q(held_until__lt=DatabaseNow())
    if not questions.filter(free, state__in=wanted).update(held_until=DatabaseNow() + HELD_FOR):
        return None
    return HeldQuestion(questions.get(), tuple(settled([pk for pk, _ in rows])))


def is_held(approval_id: str) -> bool:
    """Return whether another relay answers the approval's question just now."""
    approval = Approval.objects.only("run_id", "interrupt_id").get(pk=approval_id)
    rows = ThreadQuestion.objects.filter(run_id=approval.run_id, asked_as=approval.interrupt_id, state=State.ASKED)
    return rows.filter(held_until__gte=DatabaseNow()).exists()


def let_go(held: HeldQuestion) -> None:
    """Let others answer it: this one could not."""
    _mine(held).update(held_until=None)


def refuse_what_may_not_run(held: HeldQuestion) -> bool:
    """Ask once more, before the server is given the answer, what the ledger asks before an effect of our own.

    Return whether nothing is to be given: some of it may not be done any more, so all is asked about again, or another
    relay has taken the question over.
    """
    with transaction.atomic():
        if not _mine(held).select_for_update().exists():
            return True
        refused = approvals.refuse_what_may_not_run([one.approval_id for one in held.settled])
        if refused:
            note_different(held, BESIDE)
    return bool(refused)


def begin_to_give(held: HeldQuestion) -> bool:
    """Note that the server is given the answer now; return False where another relay has taken the question over."""
    return bool(_mine(held).update(given_at=DatabaseNow()))


def note_not_given(held: HeldQuestion) -> None:
    """Note that the server has surely not taken the answer this time. What it was given before it may have taken."""
    _mine(held).update(given_at=held.question.given_at)


def may_be_on_its_way(question: ThreadQuestion) -> bool:
    """Return whether the server may be taking the answer just now that an attempt has given it."""
    since = DatabaseNow() - MAY_BE_TAKEN_FOR
    return ThreadQuestion.objects.filter(pk=question.pk, given_at__gte=since).exists()


def note_sent(held: HeldQuestion, server_run_id: str) -> None:
    """Note that the server has taken the answer; nothing where another relay has taken the question over."""
    _note_sent(_mine(held), held.question, server_run_id)


def note_found(question: ThreadQuestion) -> None:
    """Note that the server has taken an answer that no attempt lived to hear of, unless one is under way."""
    free = Q(held_until=None) | Q(held_until__lt=DatabaseNow())
    _note_sent(ThreadQuestion.objects.filter(free, pk=question.pk, state=State.ASKED), question, "")


def _note_sent(rows: QuerySet[ThreadQuestion], question: ThreadQuestion, server_run_id: str) -> None:
    with transaction.atomic():
        name = server_run_id[:100] or question.server_run_id
        changes: dict[str, Any] = {"state": State.SENT, "held_until": None, "given_at": None, "server_run_id": name}
        if not rows.update(**changes, detail="", checked_at=DatabaseNow()):
            return
        told = f"{question.server}: run {server_run_id}" if server_run_id else question.server
        places = Approval.objects.filter(run_id=question.run_id, interrupt_id=question.asked_as)
        ids = list(places.order_by("interrupt_place").values_list("pk", flat=True))
        approvals.note_receipt(approval_ids=ids, step="signalled", detail=told)
        body = {"server": question.server, "thread": question.thread_id, "run": server_run_id}
        audit.record(actor="relay", kind="thread.answered", subject=question.run_id, body=body)


def note_untold(held: HeldQuestion, why: str) -> None:
    """Note that no true answer can be given, so that the thread waits on."""
    with transaction.atomic():
        if not _mine(held).update(state=State.UNTOLD, held_until=None, detail=why[:500], closed_at=DatabaseNow()):
            return
        approvals.hold_all([one.approval_id for one in held.settled])
        for one in held.settled:
            if one.ending is not None and one.ending.decision_id:
                approvals.note_not_taken(approval_id=one.approval_id, detail=why)
        audit.record(actor="relay", kind="thread.untold", subject=held.question.run_id, body={"detail": why[:500]})


def note_different(held: HeldQuestion, why: str = ASKED_AGAIN) -> None:
    """Note that the thread is not told what was decided: it is asked about again, under another id here."""
    with transaction.atomic():
        asked_as = _next_name(held.question.asked_as)
        if not _mine(held).update(state=State.ASKED, asked_as=asked_as, held_until=None, given_at=None):
            return
        approvals.hold_all([one.approval_id for one in held.settled])
        for one in held.settled:
            approvals.note_not_taken(approval_id=one.approval_id, detail=why)


def _next_name(asked_as: str) -> str:
    """Return the id under which an interrupt is asked about again."""
    name, _, times = asked_as.partition("~")
    return f"{name}~{int(times or 1) + 1}"


def went_on(question: ThreadQuestion, *, held: bool = False) -> None:
    """Close a question whose thread does not wait for it any more; what had been decided in vain stands in the lane.

    `held`: this relay answers it, else it is left alone while another one does. Where the answer was given, or heard to
    be taken, since `question` was read, nothing is done: what was seen of the thread may be from before.
    """
    with transaction.atomic():
        rows = ThreadQuestion.objects.filter(pk=question.pk, state__in=(State.ASKED, State.SENT))
        rows = rows.filter(state=question.state, asked_as=question.asked_as, given_at=question.given_at)
        if not held:
            rows = rows.filter(Q(held_until=None) | Q(held_until__lt=DatabaseNow()))
        row = rows.select_for_update().first()
        if row is None:
            return
        places = Approval.objects.filter(run_id=row.run_id, interrupt_id=row.asked_as)
        if row.state == State.SENT:
            decided = places.filter(status=Approval.Status.DECIDED)
            ids = list(decided.order_by("pk").values_list("pk", flat=True))
            approvals.note_receipt(approval_ids=ids, step="resumed", detail=f"{row.server}: the thread went on")
            rows.update(state=State.TAKEN, detail="", closed_at=DatabaseNow(), checked_at=DatabaseNow())
            return
        approvals.hold_all(list(places.values_list("pk", flat=True)))
        pending = list(places.filter(status=Approval.Status.PENDING).values_list("pk", flat=True))
        approvals.withdraw_each(run_id=row.run_id, reason=BY_ITSELF, actor="relay", only=pending)
        why = BY_ITSELF if row.given_at is None else UNHEARD
        for approval_id in places.filter(status=Approval.Status.DECIDED).values_list("pk", flat=True):
            approvals.note_not_taken(approval_id=approval_id, detail=why)
        rows.update(state=State.GONE, held_until=None, closed_at=DatabaseNow(), checked_at=DatabaseNow())


def still_waits(question: ThreadQuestion, *, is_busy: bool) -> None:
    """Note that the thread was read and waits on. What its server has taken, and the thread has not, is told."""
    rows = ThreadQuestion.objects.filter(pk=question.pk)
    changes: dict[str, Any] = {"checked_at": DatabaseNow()}
    if question.state == State.SENT and not is_busy:
        changes["detail"] = NOT_ON
    rows.update(**changes)


def _mine(held: HeldQuestion) -> QuerySet[ThreadQuestion]:
    """Return the row, unless another relay has taken it over since: that one's word counts."""
    return ThreadQuestion.objects.filter(pk=held.question.pk, held_until=held.question.held_until)
