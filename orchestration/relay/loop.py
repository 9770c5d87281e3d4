"""Deliver what the outbox holds, until whoever it is for has acknowledged each entry, and do the chores beside it.

What is delivered stands in `relay.deliveries`, what is done beside it in `relay.chores`; here is one loop for each.
Woken by NOTIFY, with a look every few seconds underneath. Delivery is at least once: Temporal rejects a second start of
the same id, and drops a second signal of the same decision.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from django.db import Error as DatabaseAway
from psycopg import AsyncConnection, OperationalError

from console.database import conninfo
from console.outbox import CHANNEL
from orchestration.errors import OrchestrationError, TemporalAway
from orchestration.heartbeat import beating
from orchestration.relay.chores import CHORES, Chore
from orchestration.relay.deliveries import DELIVERIES, TEMPORAL, Carrier, Delivery, Signalled, unknown
from orchestration.relay.entries import CLAIM, Claimed, put_back
from orchestration.temporal_gateway import RealTemporal
from orchestration.temporal_protocol import TemporalGateway
from orchestration.threads import in_database

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5  # underneath the notifications
GRACE_SECONDS = 2  # for the chores in hand when the relay stops
KNOCK_SECONDS = 1  # between two tries while Temporal is away


class Relay:
    """One relay process. Any number may run."""

    def __init__(
        self,
        temporal: TemporalGateway | None = None,
        *,
        deliveries: Mapping[str, Delivery] = DELIVERIES,
        chores: Sequence[Chore] = CHORES,
    ) -> None:
        self.mail_fault = ""
        self._temporal = temporal
        self._is_away = False  # Temporal; nothing is claimed for it until it answers again
        self._said = ""  # why there is no connection to Temporal
        self._signalled = Signalled()
        self._chores = chores
        carriers = dict.fromkeys([TEMPORAL, *(delivery.by for delivery in deliveries.values())])
        self.rounds = [Round(self, carrier, deliveries) for carrier in carriers]

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set; a lost database connection is made again."""
        chores = [asyncio.create_task(self._repeat(chore, stop)) for chore in self._chores]
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
                for one_round in self.rounds:
                    await one_round.landed()
            if chores:
                await asyncio.wait(chores, timeout=GRACE_SECONDS)
        finally:
            for task in chores:
                task.cancel()

    async def _repeat(self, chore: Chore, stop: asyncio.Event) -> None:
        """Do a chore again and again until told to stop; the step in hand is done to its end."""
        step = chore.begin()
        while not stop.is_set():
            is_more = False
            try:
                is_more = await step(self)
            except (DatabaseAway, OrchestrationError, OSError) as exc:
                words = exc if isinstance(exc, OrchestrationError) else type(exc).__name__
                logger.warning("done later: %s: %s", chore.name, words)
            except Exception:  # whatever keeps one step from its end must not keep the next
                logger.exception("done later: %s", chore.name)
            with suppress(TimeoutError):
                async with asyncio.timeout(chore.again if is_more else chore.every):
                    await stop.wait()

    async def _deliver_until(self, stop: asyncio.Event) -> None:
        """Let every carrier make its rounds. Raises OperationalError when a database connection is lost."""
        async with (
            await AsyncConnection.connect(conninfo("signalbox relay"), autocommit=True) as ear,
            await AsyncConnection.connect(conninfo("signalbox relay"), autocommit=True) as hand,
        ):
            await ear.execute(f"LISTEN {CHANNEL}")
            # It only claims, and what a crash of PostgreSQL takes back is claimed again: no decision waits for a disk.
            await hand.execute("SET synchronous_commit = off")
            over = asyncio.Event()  # told to stop, or a connection is lost
            rounds = [asyncio.create_task(one_round.go(hand, over)) for one_round in self.rounds]
            listening, stopping = asyncio.create_task(self._listen(ear)), asyncio.create_task(stop.wait())
            try:
                await asyncio.wait([*rounds, listening, stopping], return_when=asyncio.FIRST_COMPLETED)
                over.set()
                self._wake("")
                await asyncio.gather(*rounds, return_exceptions=True)  # each ends what it has in hand
                for done in rounds:
                    done.result()
            finally:
                for task in (*rounds, listening, stopping):
                    task.cancel()
            if not stop.is_set():
                reason = listening.exception() if listening.done() else None
                raise OperationalError("the listening connection was lost") from reason

    async def _listen(self, ear: AsyncConnection[Any]) -> None:
        async for told in ear.notifies():
            self._wake(told.payload)

    def _wake(self, kind: str) -> None:
        """Wake whoever delivers entries of this kind, all for "": the others would ask in vain, and before them."""
        for one_round in self.rounds:
            if not kind or one_round.takes(kind):
                one_round.wake.set()

    # Temporal, as deliveries and chores reach it; see `relay.reach`.

    @property
    def temporal(self) -> TemporalGateway | None:
        return None if self._is_away else self._temporal

    async def knock(self) -> None:
        if self._temporal is not None and not self._is_away:
            self._is_away = not await self._temporal.is_there()

    async def stamp_signalled(self, entry: Claimed) -> None:
        await self._signalled.stamp(entry)

    def lost_temporal(self) -> None:
        """Take it for away, until it answers again."""
        self._is_away = True

    async def reach_temporal(self) -> bool:
        """Connect on first use, and knock while it is away; return whether Temporal is there."""
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

    def _state(self) -> tuple[bool, str]:
        """Return whether deliveries can be made now, and in words what the relay does."""
        return self.temporal is not None, self._detail()

    def _detail(self) -> str:
        words = "waiting for Temporal" if self.temporal is None else "delivering"
        return f"{words}; reminders are not taken: {self.mail_fault}" if self.mail_fault else words


class Round:
    """One carrier of one relay: claims what one carrier takes, and sends each entry on its way."""

    def __init__(self, relay: Relay, carrier: Carrier, deliveries: Mapping[str, Delivery]) -> None:
        self.wake = asyncio.Event()
        self._relay = relay
        self.carrier = carrier
        self._deliveries = deliveries
        self._flying: set[asyncio.Task[None]] = set()
        self._claiming = asyncio.Lock()  # held while entries are asked for, and while one that failed is given back
        self.was_refused = False  # by a carrier that rests then

    async def go(self, hand: AsyncConnection[Any], over: asyncio.Event) -> None:
        """Deliver until it is over. Raises OperationalError when the connection is lost."""
        while not over.is_set():
            self.wake.clear()
            if not await self.claim_and_fly(hand):
                await self._rest(over)

    def takes(self, kind: str) -> bool:
        """Return whether entries of this kind are claimed here; what nobody knows is claimed for Temporal."""
        known = self._deliveries.get(kind)
        return (known.by if known else TEMPORAL).name == self.carrier.name

    async def landed(self) -> None:
        """Return when nothing is under way any more."""
        await asyncio.gather(*self._flying)

    @property
    def _lacks_temporal(self) -> bool:
        return self.carrier.needs_temporal and self._relay.temporal is None

    async def _rest(self, over: asyncio.Event) -> None:
        """Wait for a notification; while the carrier takes nothing, notifications change nothing."""
        is_deaf = self._lacks_temporal or self.was_refused
        self.was_refused = False
        with suppress(TimeoutError):
            async with asyncio.timeout(KNOCK_SECONDS if self._lacks_temporal else LOOK_SECONDS):
                await (over.wait() if is_deaf else self.wake.wait())

    async def claim_and_fly(self, hand: AsyncConnection[Any]) -> bool:
        """Claim what is due and send each on its way; return whether there may be more than there was room for."""
        if self.carrier.needs_temporal and not await self._relay.reach_temporal():
            return False
        while len(self._flying) >= self.carrier.at_once:
            await asyncio.wait(self._flying, return_when=asyncio.FIRST_COMPLETED)
        async with self._claiming:
            if self._lacks_temporal or self.was_refused:  # found out while this waited for room or a giving back
                return False
            asked = self.claim()
            rows = await (await hand.execute(CLAIM, asked)).fetchall()
        for row in sorted(rows):
            task = asyncio.create_task(self._fly(Claimed(*row)))
            self._flying.add(task)
            task.add_done_callback(self._flying.discard)
        return bool(len(rows) == asked["most"])  # whatever comes from now on wakes this round again

    def claim(self) -> dict[str, Any]:
        """Return what CLAIM takes. What nobody knows is claimed for Temporal, and given back with an error."""
        is_others = self.carrier.name == TEMPORAL.name
        mine = {str(kind) for kind, known in self._deliveries.items() if known.by.name == self.carrier.name}
        kinds = sorted(set(map(str, self._deliveries)) - mine if is_others else mine)
        most = self.carrier.at_once - len(self._flying)
        return {"lease": self.carrier.lease, "kinds": kinds, "is_one_of": not is_others, "most": most}

    async def _fly(self, entry: Claimed) -> None:
        known = self._deliveries.get(entry.kind)
        try:
            await (known.deliver if known else unknown)(self._relay, entry)
        except TemporalAway as exc:
            self._relay.lost_temporal()
            await self._give_back(entry, str(exc), 0)
        except OrchestrationError as exc:
            await self._give_back(entry, str(exc), self.carrier.backoff.pause(entry.attempts))
        except Exception as exc:  # one entry that cannot be delivered must not stop the others
            logger.exception("outbox entry %s", entry.id)
            await self._give_back(entry, f"{type(exc).__name__}: {exc}", self.carrier.backoff.pause(entry.attempts))

    async def _give_back(self, entry: Claimed, error: str, pause: float) -> None:
        """Give a failed delivery back before more is asked for, and after what is being asked for has come.

        Else that very entry could come with it, due again, and fail a second time for one reason.
        """
        self.was_refused = self.carrier.rests
        try:
            async with self._claiming:
                await in_database(put_back, entry, error, pause)
        except DatabaseAway as exc:
            logger.warning("outbox entry %s comes back when its lease ends: %s", entry.id, exc)
