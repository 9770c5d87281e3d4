"""Deliver what the outbox holds: runs to start and decisions to signal, until Temporal has acknowledged each.

Woken by NOTIFY, with a look every few seconds underneath. An entry is claimed by moving its due time on (the
lease), so that two relays do not fight over it and a killed relay's entries come back by themselves. Delivery is
at least once: Temporal rejects a second start of the same id, and drops a second signal of the same decision.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import Error as DatabaseAway
from django.db import transaction
from psycopg import AsyncConnection, OperationalError

from approvals import lane
from approvals import services as approvals
from approvals.audit_heads import Publisher
from approvals.models import Approval
from console import health
from console.backoff import Backoff
from console.clock import DatabaseNow, database_now
from console.database import conninfo
from console.live import announce
from console.models import OutboxEntry
from console.outbox import CHANNEL, Kind
from orchestration import reconciling, reminding, restored, services
from orchestration.contracts import StartWatch
from orchestration.errors import OrchestrationError, TemporalAway, WorkflowGone
from orchestration.heartbeat import beating
from orchestration.models import LOOKED_AT_AFTER, Run, Watched
from orchestration.temporal_gateway import RealTemporal, TemporalGateway
from orchestration.threads import in_database

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5  # underneath the notifications
LADDER_SECONDS = 60  # between two looks at all ladders; deadlines are looked at every LOOK_SECONDS
HEAD_SECONDS = 60  # between two looks at the audit chain's head
IDLE_KNOCK_SECONDS = 5  # between two while it is believed to be there
LOOKS_SECONDS = 1  # between two handfuls of looks at runs, while some are due
KNOCK_SECONDS = 1  # between two tries while Temporal is away
IN_FLIGHT = 64
PAUSES = Backoff(1, 60)  # of an entry that was not taken
# Mails go their own way, see `orchestration.reminding`.
_MAILS = ", ".join(f"'{kind}'" for kind in reminding.MAILS)
_CLAIM = f"""
UPDATE console_outboxentry SET attempts = attempts + 1, due_at = signalbox_now() + interval '30 seconds'
WHERE id IN (SELECT id FROM console_outboxentry WHERE delivered_at IS NULL AND due_at <= signalbox_now()
             AND kind NOT IN ({_MAILS}) ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING id, kind, subject, payload, attempts
"""


@dataclass(frozen=True)
class Claimed:
    """One outbox entry that is ours for the length of its lease."""

    id: int
    kind: str
    subject: str
    payload: dict[str, Any]
    attempts: int


class Relay:
    """One relay process. Any number may run."""

    def __init__(self, temporal: TemporalGateway | None = None) -> None:
        self._temporal = temporal
        self._is_away = False  # Temporal; nothing is claimed until it answers again
        self._stopping = asyncio.Event()  # replaced by the one that `run` is given
        self._wake = asyncio.Event()
        self._flying: set[asyncio.Task[None]] = set()
        self._claiming = asyncio.Lock()  # held while entries are asked for, and while one that failed is given back
        self._signalled: list[Claimed] = []  # to be stamped together
        self._stamping = asyncio.Lock()
        self._mail_fault = ""  # why reminders wait
        self._said = ""  # why there is no connection to Temporal

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set; a lost database connection is made again."""
        self._stopping = stop
        work = (
            self._wake_at(stop),
            _watch_health(),
            _watch_lane(),
            _publish_heads(),
            _climb(all_steps=False, every_seconds=LOOK_SECONDS),
            _climb(all_steps=True, every_seconds=LADDER_SECONDS),
            self._remind(),
            self._knock(),
            self._reconcile(),
        )
        side = [asyncio.create_task(one) for one in work]
        try:
            async with beating("relay", self._state):
                while not stop.is_set():
                    try:
                        await self._deliver_until(stop)
                    except OperationalError as exc:
                        logger.warning("Postgres is away: %s", exc)
                        with suppress(TimeoutError):
                            async with asyncio.timeout(1):
                                await stop.wait()
                await asyncio.gather(*self._flying)
        finally:
            for task in side:
                task.cancel()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    def _state(self) -> tuple[bool, str]:
        """Return whether deliveries can be made now, and in words what the relay does."""
        return not (self._is_away or self._temporal is None), self._detail()

    async def _knock(self) -> None:
        """Notice that Temporal stopped answering also while there is nothing to deliver."""
        while True:
            await asyncio.sleep(IDLE_KNOCK_SECONDS)
            if self._temporal is not None and not self._is_away:
                self._is_away = not await self._temporal.is_there()

    def _detail(self) -> str:
        words = "waiting for Temporal" if self._is_away or self._temporal is None else "delivering"
        return f"{words}; reminders are not taken: {self._mail_fault}" if self._mail_fault else words

    async def _remind(self) -> None:
        """Send the mails of the ladder, one after the other."""
        while True:
            try:
                while await in_database(reminding.send_next):
                    pass
                self._mail_fault = await in_database(reminding.fault)
            except DatabaseAway as exc:
                logger.warning("reminders wait longer: %s", type(exc).__name__)
            except Exception:  # one mail that cannot be written must not keep the next
                logger.exception("a reminder comes back when its lease ends")
            await asyncio.sleep(LOOK_SECONDS)

    async def _reconcile(self) -> None:
        """Look at open runs and watches that nobody heard of for a while, a few each second."""
        is_first = True
        while True:
            looked = False
            try:
                if is_first:
                    await in_database(reconciling.let_go_of_closed)
                    is_first = False
                if self._temporal is not None and not self._is_away:
                    looked = await reconciling.look_around(self._temporal)
            except DatabaseAway as exc:
                logger.warning("runs are compared with Temporal later: %s", type(exc).__name__)
            except OrchestrationError as exc:
                logger.warning("runs are compared with Temporal later: %s", exc)
            except Exception:  # one run that cannot be looked at must not keep the others
                logger.exception("runs are compared with Temporal later")
            await asyncio.sleep(LOOKS_SECONDS if looked else LOOK_SECONDS)

    async def _deliver_until(self, stop: asyncio.Event) -> None:
        async with (
            await AsyncConnection.connect(conninfo("signalbox relay"), autocommit=True) as ear,
            await AsyncConnection.connect(conninfo("signalbox relay"), autocommit=True) as hand,
        ):
            await ear.execute(f"LISTEN {CHANNEL}")
            listening = asyncio.create_task(self._listen(ear))
            try:
                while not stop.is_set():
                    self._wake.clear()
                    if not await self._claim_and_fly(hand):
                        await self._rest(listening)
            finally:
                listening.cancel()

    async def _listen(self, ear: AsyncConnection[Any]) -> None:
        async for _ in ear.notifies():
            self._wake.set()

    async def _rest(self, listening: asyncio.Task[None]) -> None:
        """Wait for a notification; while Temporal is away notifications change nothing."""
        away = self._is_away or self._temporal is None
        with suppress(TimeoutError):
            async with asyncio.timeout(KNOCK_SECONDS if away else LOOK_SECONDS):
                await (self._stopping.wait() if away else self._wake.wait())
        if listening.done():
            raise OperationalError("the listening connection was lost")

    async def _claim_and_fly(self, hand: AsyncConnection[Any]) -> bool:
        """Claim what is due and send each on its way; say whether there was anything."""
        if not await self._reach_temporal():
            return False
        while len(self._flying) >= IN_FLIGHT:
            await asyncio.wait(self._flying, return_when=asyncio.FIRST_COMPLETED)
        async with self._claiming:
            if self._is_away:  # found out by a delivery, while this waited for what had failed to be given back
                return False
            rows = await (await hand.execute(_CLAIM, [IN_FLIGHT - len(self._flying)])).fetchall()
        for row in sorted(rows):
            task = asyncio.create_task(self._fly(Claimed(*row)))
            self._flying.add(task)
            task.add_done_callback(self._flying.discard)
        return bool(rows)

    async def _reach_temporal(self) -> bool:
        """Connect on first use, and knock while it is away; say whether Temporal is there."""
        try:
            if self._temporal is None:
                self._temporal = await RealTemporal.connect()
            elif self._is_away:
                self._is_away = not await self._temporal.is_there()
        except TemporalAway as exc:
            if str(exc) != self._said:  # once, not every second for a night
                logger.warning("the relay waits: %s", exc)
            self._said = str(exc)
            return False
        self._said = ""
        return not self._is_away

    async def _fly(self, entry: Claimed) -> None:
        try:
            await self._deliver(entry)
        except TemporalAway as exc:
            self._is_away = True
            await self._give_back(entry, str(exc), 0)
        except OrchestrationError as exc:
            await self._give_back(entry, str(exc), PAUSES.pause(entry.attempts))
        except Exception as exc:  # one entry that cannot be delivered must not stop the others
            logger.exception("outbox entry %s", entry.id)
            await self._give_back(entry, f"{type(exc).__name__}: {exc}", PAUSES.pause(entry.attempts))

    async def _give_back(self, entry: Claimed, error: str, pause: float) -> None:
        """Give a failed delivery back before more is asked for, and after what is being asked for has come.

        Else that very entry could come with it, due again, and fail a second time for one reason.
        """
        try:
            async with self._claiming:
                await in_database(_put_back, entry, error, pause)
        except DatabaseAway as exc:
            logger.warning("outbox entry %s comes back when its lease ends: %s", entry.id, exc)

    async def _deliver(self, entry: Claimed) -> None:
        assert self._temporal is not None
        if entry.kind == Kind.START_RUN:
            await self._start(self._temporal, entry)
        elif entry.kind == Kind.START_WATCH:
            start = StartWatch(entry.payload["approval_id"])
            await self._temporal.start_watch(entry.payload["workflow_id"], start, entry.payload["again"])
            await in_database(_watched, entry)
        elif entry.kind == Kind.DECIDED:
            await self._signal(self._temporal, entry)
        elif entry.kind == Kind.CANCEL_RUN:
            await self._cancel(self._temporal, entry)
        elif entry.kind == Kind.TERMINATE_RUN:
            with suppress(WorkflowGone):  # its row is closed, so nobody starts it any more
                await self._temporal.terminate(entry.subject, await in_database(_asked, entry.subject))
            await in_database(_stamp, [entry])
        else:
            raise OrchestrationError(f"Nobody knows how to deliver {entry.kind!r}.")

    async def _start(self, temporal: TemporalGateway, entry: Claimed) -> None:
        start = services.workflow_input(entry.payload)
        if await in_database(_is_closed, start.run_id):  # ended by a person before Temporal could take it
            await in_database(_stamp, [entry])
            return
        temporal_run_id = await temporal.start_run(start)
        await in_database(_started, entry, temporal_run_id)

    async def _cancel(self, temporal: TemporalGateway, entry: Claimed) -> None:
        """Have the workflow cancelled; where it is gone, the row is closed by the look that follows."""
        run_id = entry.subject
        if not await in_database(_is_closed, run_id):
            try:
                await temporal.cancel(run_id, await in_database(_asked, run_id), f"cancel-{entry.id}")
            finally:
                await in_database(reconciling.look_soon, run_id)  # Temporal takes it for what has ended, too
        await in_database(_stamp, [entry])

    async def _signal(self, temporal: TemporalGateway, entry: Claimed) -> None:
        """Tell the run, or a program's watch, of a decision. What is gone ends as a fact; it is not told for ever."""
        run_id, approval_id = entry.payload["run_id"], entry.payload["approval_id"]
        try:
            await temporal.signal_decided(run_id, approval_id, entry.payload["decision_id"])
        except WorkflowGone:
            if await in_database(_is_watched, approval_id):
                # which looks first, and finds the decision
                await temporal.start_watch(run_id, StartWatch(approval_id), again=False)
                await self._stamp_signalled(entry)
                return
            if not await in_database(_is_closed, run_id):
                await in_database(reconciling.look_soon, run_id)  # which closes it, unless it has not begun yet
                raise
            await in_database(_signalled, [entry], "the run had ended", within=timedelta(0))
        else:
            await self._stamp_signalled(entry)

    async def _stamp_signalled(self, entry: Claimed) -> None:
        """Stamp the entry together with all that were signalled while the stamps before were written.

        Should that fail, entries stamped by another's call come back when their lease ends; Temporal knows them.
        """
        self._signalled.append(entry)
        async with self._stamping:
            batch, self._signalled = self._signalled, []
            if batch:
                await in_database(_signalled, batch)


async def _watch_health() -> None:
    """Tell open pages when a part comes or goes. Parts that fall silent cannot say so themselves."""
    known: dict[str, bool] = {}
    while True:
        try:
            known = await in_database(health.announce_changes, known)
        except DatabaseAway as exc:
            logger.warning("health is not known: %s", type(exc).__name__)
        await asyncio.sleep(LOOK_SECONDS)


async def _watch_lane() -> None:
    """Tell open pages when a decision has come to stand still: time alone does that, so nothing else can say it."""
    known: frozenset[str] = frozenset()
    while True:
        try:
            known = await in_database(lane.announce_changes, known)
        except DatabaseAway as exc:
            logger.warning("what stands still is not known: %s", type(exc).__name__)
        await asyncio.sleep(LOOK_SECONDS)


async def _climb(all_steps: bool, every_seconds: float) -> None:
    """Take the ladder steps that nobody took: what closes at its deadline closes whoever is alive."""
    while True:
        try:
            while await in_database(partial(approvals.climb_overdue, all_steps=all_steps)):
                pass
        except DatabaseAway as exc:
            logger.warning("overdue ladders wait longer: %s", type(exc).__name__)
        await asyncio.sleep(every_seconds)


async def _publish_heads() -> None:
    """Write the audit chain's head down outside the database whenever it has moved."""
    publisher = Publisher()
    while True:
        try:
            if await in_database(restored.check):
                logger.warning("the database is older than what was recorded: see System")
            await in_database(publisher.step)
        except Exception as exc:  # noqa: BLE001  whatever keeps one head from being written must not keep the next
            logger.warning("the audit head is not written down, tried again in a minute: %s", exc)
        await asyncio.sleep(HEAD_SECONDS)


def _started(entry: Claimed, temporal_run_id: str) -> None:
    with transaction.atomic():
        services.workflow_started(run_id=entry.subject, temporal_run_id=temporal_run_id)
        if not temporal_run_id:  # it ran before, and has ended
            reconciling.look_soon(entry.subject)
        _stamp([entry])


def _watched(entry: Claimed) -> None:
    with transaction.atomic():
        approval_id, workflow_id = entry.payload["approval_id"], entry.payload["workflow_id"]
        again = {"workflow_id": workflow_id, "look_due_at": DatabaseNow() + LOOKED_AT_AFTER}
        Watched.objects.update_or_create(pk=approval_id, defaults=again)
        _stamp([entry])


def _signalled(entries: list[Claimed], detail: str = "", within: timedelta | None = None) -> None:
    """Stamp decisions as told. `within`: how long the next step may take, none where none can come."""
    approval_ids = [entry.payload["approval_id"] for entry in entries]
    with transaction.atomic():
        approvals.note_receipt(approval_ids=approval_ids, step="signalled", detail=detail, within=within)
        _stamp(entries)


def _stamp(entries: list[Claimed]) -> None:
    OutboxEntry.objects.filter(pk__in=[entry.id for entry in entries]).update(delivered_at=DatabaseNow(), last_error="")


def _put_back(entry: Claimed, error: str, pause: float) -> None:
    """Give the entry back, to be tried again after `pause` seconds."""
    with transaction.atomic():
        OutboxEntry.objects.filter(pk=entry.id).update(
            due_at=database_now() + timedelta(seconds=pause), last_error=error[:500]
        )
        announce(f"run:{entry.subject}")


def _is_watched(approval_id: str) -> bool:
    """Say whether a program has asked for it: then its watch, not a run, hears of the decision."""
    return Approval.objects.filter(pk=approval_id, source=Approval.Source.PROGRAM).exists()


def _asked(run_id: str) -> str:
    """Return who wants the run to end and why, for Temporal's own record."""
    asked = Run.objects.values_list("ending", flat=True).get(pk=run_id) or {}
    return f"Signalbox: {asked['by']}: {asked['reason']}" if asked else "Signalbox"


def _is_closed(run_id: str) -> bool:
    return not Run.objects.filter(pk=run_id, status__in=Run.OPEN).exists()
