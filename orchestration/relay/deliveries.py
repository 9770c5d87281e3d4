"""How each kind of outbox entry is delivered: one function a kind, and one line in the table at the end.

A delivery happens at least once, so each is safe to repeat. It stamps its entry, in the transaction of what it has to
note besides, if anything. What it raises gives the entry back, to be tried again after the carrier's pause.
"""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import transaction

from approvals import services as approvals
from approvals.models import Approval
from approvals.services import reminders
from approvals.services.reminders import Mail
from console import faults, planned_once
from console.backoff import Backoff
from console.clock import DatabaseNow
from console.models import OutboxEntry
from console.outbox import Kind
from orchestration import reconciling, services, troubles
from orchestration.contracts import RUN_TURN, StartWatch
from orchestration.errors import (
    FailedByOperator,
    MailNotTaken,
    NotAnswered,
    OrchestrationError,
    TemporalAway,
    TemporalRefused,
    WorkflowGone,
)
from orchestration.messages import sending
from orchestration.models import LOOKED_AT_AFTER, Run, Watched
from orchestration.relay.entries import Claimed, stamp
from orchestration.relay.reach import Reach
from orchestration.temporal_protocol import TemporalGateway
from orchestration.threads import in_database

MAIL_TIMEOUT_SECONDS: Final = 10


Deliver = Callable[[Reach, Claimed], Awaitable[None]]


@dataclass(frozen=True)
class Carrier:
    """Who takes entries away. Each has its own turn, so that a slow one delays no entry of another."""

    name: str
    at_once: int  # deliveries under way, per relay
    lease: timedelta  # after it, what a killed relay had claimed is claimed again
    backoff: Backoff  # of an entry that was not taken
    needs_temporal: bool = False  # nothing is claimed while it does not answer
    rests: bool = False  # after one that was not taken, the next is tried a look later


@dataclass(frozen=True)
class Delivery:
    """How one kind is delivered."""

    by: Carrier
    deliver: Deliver


TEMPORAL: Final = Carrier("temporal", 64, timedelta(seconds=30), Backoff(1, 60), needs_temporal=True)
SERVERS: Final = Carrier("agent servers", 8, timedelta(seconds=120), Backoff(2, 60))
MAIL: Final = Carrier("mail", 1, timedelta(seconds=60), Backoff(60, 3600), rests=True)


class Signalled:
    """Stamps decisions together with all that were signalled while the stamps before were written.

    Should that fail, entries stamped by another's call come back when their lease ends; Temporal knows them.
    """

    def __init__(self) -> None:
        self._waiting: list[Claimed] = []
        self._stamping = asyncio.Lock()

    async def stamp(self, entry: Claimed) -> None:
        self._waiting.append(entry)
        async with self._stamping:
            batch, self._waiting = self._waiting, []
            if batch:
                await in_database(note_signalled, batch)


async def start_run(temporal: TemporalGateway, entry: Claimed) -> None:
    start = services.workflow_input(entry.payload)
    if await in_database(_is_closed, start.run_id):  # ended by a person before Temporal could take it
        await in_database(stamp, [entry])
        return
    temporal_run_id = await temporal.start_run(start)
    await in_database(note_started, entry, temporal_run_id)


async def start_watch(temporal: TemporalGateway, entry: Claimed) -> None:
    start = StartWatch(entry.payload["approval_id"])
    await temporal.start_watch(entry.payload["workflow_id"], start, entry.payload["again"])
    await in_database(_note_watched, entry)


async def cancel_run(temporal: TemporalGateway, entry: Claimed) -> None:
    """Have the workflow cancelled; where it is gone, the row is closed by the look that follows."""
    run_id = entry.subject
    if not await in_database(_is_over, entry):
        try:
            why = await in_database(_who_and_why, run_id)
            await temporal.cancel(run_id, why, f"cancel-{entry.id}", _era_of(entry))
        finally:
            await in_database(reconciling.look_soon, run_id)  # Temporal takes it for what has ended, too
    await in_database(stamp, [entry])


async def terminate_run(temporal: TemporalGateway, entry: Claimed) -> None:
    with suppress(WorkflowGone):  # its row is closed, so nobody starts it any more
        why = await in_database(_who_and_why, entry.subject)
        await temporal.terminate(entry.subject, why, _era_of(entry))
    await in_database(stamp, [entry])


async def restart_run(temporal: TemporalGateway, entry: Claimed) -> None:
    """Start the workflow anew, unless the run was ended meanwhile or set back once more."""
    start = services.workflow_input(entry.payload)
    if not await in_database(_is_in_era, start.run_id, start.era):
        await in_database(stamp, [entry])
        return
    temporal_run_id = await temporal.restart_run(start, entry.payload["why"])
    faults.reach("relay.after_restart", start.run_id)
    await in_database(note_started, entry, temporal_run_id)


async def resume_run(temporal: TemporalGateway, entry: Claimed) -> None:
    await _to_open_run(entry, lambda: temporal.resume(entry.subject, f"resume-{entry.id}"))


async def retry_turn(temporal: TemporalGateway, entry: Claimed) -> None:
    await _to_open_run(entry, lambda: temporal.hurry(entry.subject, RUN_TURN))


async def fail_turn(temporal: TemporalGateway, entry: Claimed) -> None:
    asked = await in_database(_asked, entry.subject)
    if asked is not None:
        message = f"Failed by {asked['by']}: {asked['reason']}"
        kind = FailedByOperator.__name__
        await _to_open_run(
            entry, lambda: temporal.fail_activity(entry.subject, RUN_TURN, kind, message, _era_of(entry))
        )
    else:
        await in_database(stamp, [entry])


async def _to_open_run(entry: Claimed, call: Callable[[], Awaitable[None]]) -> None:
    """Tell the workflow of a run that is open, and still in the era that the entry is of, if it is of one.

    Where the workflow is gone, the row is closed by the look that follows.
    """
    if not await in_database(_is_over, entry):
        try:
            await call()
        except WorkflowGone:
            await in_database(reconciling.look_soon, entry.subject)
            raise
    await in_database(stamp, [entry])


async def feed_batch(temporal: TemporalGateway, entry: Claimed) -> None:
    await temporal.feed_batch(entry.payload["batch_id"])
    await in_database(stamp, [entry])


async def send_message(temporal: TemporalGateway, entry: Claimed) -> None:
    """Send an operator's message, and keep what came of it. What is refused for good is not sent again."""
    message_id = entry.payload["message"]
    found = await in_database(sending.to_carry, message_id)
    if found is not None:
        try:
            answer = await temporal.send(sending.written(found))
        except NotAnswered:
            if found.kind != "query":  # the same again has the server tell how the first one went
                raise
            await in_database(sending.settle, message_id, "unanswered", sending.NO_ANSWER)
        except WorkflowGone:
            await in_database(sending.settle, message_id, "refused", "There is no such workflow, or it has ended.")
        except TemporalRefused as exc:
            await in_database(sending.settle, message_id, "refused", str(exc))
        else:
            await in_database(sending.settle_answered, found, answer)
    await in_database(stamp, [entry])


async def tell_decided(reach: Reach, entry: Claimed) -> None:
    """Tell the run, or a program's watch, of a decision. What is gone ends as a fact; it is not told for ever."""
    temporal = _temporal(reach)
    run_id, approval_id = entry.payload["run_id"], entry.payload["approval_id"]
    try:
        await temporal.signal_decided(run_id, approval_id, entry.payload["decision_id"])
    except WorkflowGone:
        if await in_database(_is_watched, approval_id):
            # which looks first, and finds the decision
            await temporal.start_watch(run_id, StartWatch(approval_id), again=False)
            await reach.stamp_signalled(entry)
            return
        if not await in_database(_is_closed, run_id):
            await in_database(reconciling.look_soon, run_id)  # which closes it, unless it has not begun yet
            raise
        await in_database(note_signalled, [entry], "the run had ended", within=timedelta(0))
    else:
        await reach.stamp_signalled(entry)


async def answer_thread(_: Reach, entry: Claimed) -> None:
    """Answer a thread on an agent server, unless other parts of its question are open: the last one answers."""
    from orchestration.agent_servers import answering  # it imports LangGraph, which most relays need not

    again = bool(entry.payload.get("again"))
    note = await answering.answer(entry.payload["approval_id"], again=again)
    await in_database(stamp, [entry], note)


def to_temporal(deliver: Callable[[TemporalGateway, Claimed], Awaitable[None]]) -> Delivery:
    """Return how a kind is delivered by a function that needs Temporal and nothing else."""

    async def delivered(reach: Reach, entry: Claimed) -> None:
        await deliver(_temporal(reach), entry)

    return Delivery(TEMPORAL, delivered)


def by_mail(mail_for: Callable[..., Mail | None]) -> Delivery:
    """Return how a kind is delivered whose payload, as keywords, makes one mail; `None`: nothing to tell any more."""

    async def delivered(_: Reach, entry: Claimed) -> None:
        await in_database(_mail, mail_for, entry)

    return Delivery(MAIL, delivered)


async def unknown(_: Reach, entry: Claimed) -> None:
    raise OrchestrationError(f"Nobody knows how to deliver {entry.kind!r}.")


DELIVERIES: Final[Mapping[str, Delivery]] = {
    Kind.START_RUN: to_temporal(start_run),
    Kind.DECIDED: Delivery(TEMPORAL, tell_decided),
    Kind.ANSWER_THREAD: Delivery(SERVERS, answer_thread),
    Kind.START_WATCH: to_temporal(start_watch),
    Kind.CANCEL_RUN: to_temporal(cancel_run),
    Kind.TERMINATE_RUN: to_temporal(terminate_run),
    Kind.RESTART_RUN: to_temporal(restart_run),
    Kind.RESUME_RUN: to_temporal(resume_run),
    Kind.RETRY_TURN: to_temporal(retry_turn),
    Kind.FAIL_TURN: to_temporal(fail_turn),
    Kind.FEED_BATCH: to_temporal(feed_batch),
    Kind.SEND_MESSAGE: to_temporal(send_message),
    Kind.REMIND: by_mail(reminders.mail_for),
    Kind.RUN_STUCK: by_mail(troubles.mail_for),
}


def mail_fault(deliveries: Mapping[str, Delivery] = DELIVERIES) -> str:
    """Return why the newest of the mails that wait was not taken, "" when none was refused."""
    kinds = [kind for kind, delivery in deliveries.items() if delivery.by is MAIL]
    refused = OutboxEntry.objects.filter(kind__in=kinds, delivered_at=None).exclude(last_error="")
    return refused.order_by("-id").values_list("last_error", flat=True).first() or ""


def note_started(entry: Claimed, temporal_run_id: str) -> None:
    with transaction.atomic():
        services.workflow_started(run_id=entry.subject, temporal_run_id=temporal_run_id)
        if not temporal_run_id:  # it ran before, and has ended
            reconciling.look_soon(entry.subject)
        stamp([entry])


def note_signalled(entries: list[Claimed], detail: str = "", within: timedelta | None = None) -> None:
    """Stamp decisions as told. `within`: how long the next step may take, none where none can come.

    The turn that they woke begins meanwhile, so none of this waits for the disk: what a crash of PostgreSQL takes back
    is delivered and stamped again.
    """
    approval_ids = [entry.payload["approval_id"] for entry in entries]
    with transaction.atomic(), planned_once.in_one_go(), planned_once.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
        approvals.hold_receipts(approval_ids)  # the worker may be noting the next step
        approvals.note_receipt(approval_ids=approval_ids, step="signalled", detail=detail, within=within)
        stamp(entries)


def _note_watched(entry: Claimed) -> None:
    with transaction.atomic():
        approval_id, workflow_id = entry.payload["approval_id"], entry.payload["workflow_id"]
        again = {"workflow_id": workflow_id, "look_due_at": DatabaseNow() + LOOKED_AT_AFTER}
        Watched.objects.update_or_create(pk=approval_id, defaults=again)
        stamp([entry])


def _mail(mail_for: Callable[..., Mail | None], entry: Claimed) -> None:
    """Send the mail as it is now. Raises MailNotTaken.

    A relay that is killed meanwhile leaves it to the next, so a mail may come twice, with the same Message-ID.
    """
    mail = mail_for(**entry.payload)
    if mail is not None:
        try:
            _send(mail, entry)
        except (OSError, smtplib.SMTPException) as exc:
            raise MailNotTaken(str(exc)) from exc
    stamp([entry], note="" if mail else "There was nothing to tell any more.")


def _send(mail: Mail, entry: Claimed) -> None:
    message = EmailMessage(
        mail.subject,
        mail.text,
        settings.NOTICES_FROM,
        [mail.to],
        connection=get_connection(timeout=MAIL_TIMEOUT_SECONDS),
        headers={"Message-ID": f"<reminder-{entry.id}@signalbox>", "Auto-Submitted": "auto-generated"},
    )
    message.send()


def _temporal(reach: Reach) -> TemporalGateway:
    if reach.temporal is None:  # lost since the entry was claimed
        raise TemporalAway(TemporalAway.__doc__)
    return reach.temporal


def _is_watched(approval_id: str) -> bool:
    """Return whether a program has asked for it: then its watch, not a run, hears of the decision."""
    return Approval.objects.filter(pk=approval_id, source=Approval.Source.PROGRAM).exists()


def _asked(run_id: str) -> dict[str, str] | None:
    """Return who had the run's turn failed and why, `None` when it is over or somebody has overtaken that."""
    asked = Run.objects.filter(pk=run_id, status__in=Run.OPEN).values_list("ending", flat=True).first()
    return asked if asked and asked["action"] == "fail_activity" else None


def _who_and_why(run_id: str) -> str:
    """Return who wants the run to end and why, for Temporal's own record."""
    ending = Run.objects.values_list("ending", flat=True).get(pk=run_id) or {}
    return f"Signalbox: {ending['by']}: {ending['reason']}" if ending else "Signalbox"


def _is_in_era(run_id: str, era: int) -> bool:
    return Run.objects.filter(pk=run_id, status__in=Run.OPEN, era=era).exists()


def _era_of(entry: Claimed) -> int | None:
    """Return the run's era when it was asked for; `None` for what any era may do, or what older code asked for."""
    return entry.payload.get("era")


def _is_over(entry: Claimed) -> bool:
    """Return whether the run is closed, or has been set back since the entry was made."""
    run, era = Run.objects.filter(pk=entry.subject, status__in=Run.OPEN), _era_of(entry)
    return not (run if era is None else run.filter(era=era)).exists()


def _is_closed(run_id: str) -> bool:
    return not Run.objects.filter(pk=run_id, status__in=Run.OPEN).exists()
