"""Send mails one by one, as a relay does."""

from __future__ import annotations

import asyncio

from psycopg import AsyncConnection

from console.database import conninfo
from orchestration.relay.deliveries import MAIL
from orchestration.relay.loop import Relay
from tests.fakes import FakeTemporal


def send_next() -> bool:
    """Let a relay send the next mail that is due; return whether one was taken, so that there may be another."""

    async def step() -> bool:
        (mails,) = (one for one in Relay(FakeTemporal()).rounds if one.carrier is MAIL)
        async with await AsyncConnection.connect(conninfo("signalbox relay"), autocommit=True) as hand:
            claimed = await mails.claim_and_fly(hand)
            await mails.landed()
            return claimed and not mails.was_refused

    return asyncio.run(step())
