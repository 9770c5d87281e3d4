"""What the relay does again and again beside its deliveries: a function for each chore, and a line in the table.

A chore that fails is logged and done again after its period; it keeps no other from its turn.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from approvals import services as approvals
from approvals.reading import stalled
from approvals.record.heads import Publisher
from console import health
from orchestration import reconciling, restored, thinking_again
from orchestration.actions import bulk
from orchestration.agent_servers import registered
from orchestration.batches import feeding
from orchestration.diagnosis import standing
from orchestration.relay.deliveries import mail_fault
from orchestration.relay.reach import Reach
from orchestration.retention import sweeping
from orchestration.threads import in_database

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

#: does the chore once; returns whether there is more to do at once
Step = Callable[[Reach], Awaitable[bool]]


@dataclass(frozen=True)
class Chore:
    """One thing that every relay does; where only one of them may do it, the function sees to that."""

    name: str  # for the log
    every: float  # seconds from the end of one step to the next
    begin: Callable[[], Step]  # called once by each relay, so that a step may remember what the one before it found
    again: float = 0.0  # seconds to the next step while there is more to do


def in_rows(function: Callable[[], bool]) -> Callable[[], Step]:
    """Return a chore's beginning for a function that needs the database only; it returns whether there is more."""

    def begin() -> Step:
        async def step(_: Reach) -> bool:
            return await in_database(function)

        return step

    return begin


def remembering(function: Callable[[_T], _T], first: _T) -> Callable[[], Step]:
    """Return a chore's beginning for a function that is given what it returned before, `first` at the start."""

    def begin() -> Step:
        known = first

        async def step(_: Reach) -> bool:
            nonlocal known
            known = await in_database(function, known)
            return False

        return step

    return begin


def _keep_heads() -> Step:
    """Write the audit chain's head down outside the database whenever it has moved."""
    publisher = Publisher()

    def keep() -> None:
        if restored.check():
            logger.warning("the database is older than what was recorded: see System")
        publisher.step()

    async def step(_: Reach) -> bool:
        await in_database(keep)
        return False

    return step


def _renew_terms() -> Step:
    """Put open requests under the policy that holds now; once all are, look no more until another one does.

    A request that was being opened while the policy changed is there by the second look.
    """
    looked_for, looks = "", 0  # a policy, and how many looks in a row have found no request under another one
    failed: set[str] = set()  # requests that could not be put under it

    async def step(_: Reach) -> bool:
        nonlocal looked_for, looks
        policy = await in_database(approvals.policy_in_force)
        if policy != looked_for:
            looked_for, looks = policy, 0
            failed.clear()
        if looks >= 2:
            return False
        has_found = await in_database(approvals.renew_under_active_policy, failed)
        looks = 0 if has_found else looks + 1
        return has_found

    return step


def _compare_with_temporal() -> Step:
    """Look at open runs and watches that nobody heard of for a while, a few each second."""
    is_first = True

    async def step(reach: Reach) -> bool:
        nonlocal is_first
        if is_first:
            await in_database(reconciling.let_go_of_closed)
            is_first = False
        return reach.temporal is not None and await reconciling.look_around(reach.temporal)

    return step


def _feed_batches() -> Step:
    """Wake the batches that have rows left and room, or whose last item has ended; tell pages how they stand."""
    stands: dict[str, dict[str, int]] = {}

    async def step(reach: Reach) -> bool:
        nonlocal stands
        wanted, stands = await in_database(feeding.hungry, stands)
        temporal = reach.temporal
        if temporal is not None:
            for batch_id in wanted:
                await temporal.feed_batch(batch_id)
        return bool(wanted)

    return step


def _look_at_agent_servers() -> Step:
    """Ask each agent server that is due, whichever relay is first, and open what its threads ask."""

    async def step(_: Reach) -> bool:
        if not registered.load().servers:
            return False
        from orchestration.agent_servers import looking  # it imports LangGraph, which most relays need not

        return await looking.look_around()

    return step


def _keep_causes() -> Step:
    """Keep why runs need somebody, with whether Temporal answers this relay."""
    is_first = True

    async def step(reach: Reach) -> bool:
        nonlocal is_first
        is_first, began = False, is_first
        fault = None if reach.temporal is not None else "it does not answer the relay"
        return await in_database(standing.step, fault, is_known=fault is None or not began)

    return step


def _knock() -> Step:
    """Notice that Temporal stopped answering also while there is nothing to deliver; not before a period is over."""
    is_first = True

    async def step(reach: Reach) -> bool:
        nonlocal is_first
        if not is_first:
            await reach.knock()
        is_first = False
        return False

    return step


def _ask_for_mail_fault() -> Step:
    """Keep in words why mails wait, for the health report."""

    async def step(reach: Reach) -> bool:
        reach.mail_fault = await in_database(mail_fault)
        return False

    return step


CHORES: Final = (
    # Parts that fall silent cannot say so themselves.
    Chore("tell pages how the parts are", every=5, begin=remembering(health.announce_changes, health.Seen())),
    # Time alone makes a decision stand still, so nothing else can say it.
    Chore("tell pages what stands still", every=5, begin=remembering(stalled.announce_changes, frozenset[str]())),
    Chore("keep the audit head", every=60, begin=_keep_heads),
    Chore("carry out actions about many runs", every=1, begin=in_rows(bulk.step)),
    Chore("have runs think again", every=1, begin=in_rows(thinking_again.step)),
    # What closes at its deadline closes whoever is alive.
    Chore("close what is past its deadline", every=5, begin=in_rows(partial(approvals.climb_overdue, all_steps=False))),
    Chore("climb overdue ladders", every=60, begin=in_rows(partial(approvals.climb_overdue, all_steps=True))),
    Chore("put open requests under a new policy", every=10, begin=_renew_terms),
    Chore("ask why mails wait", every=5, begin=_ask_for_mail_fault),
    Chore("knock at Temporal", every=5, begin=_knock),
    Chore("let go of what runs wrote", every=60, begin=in_rows(sweeping.step), again=2),
    Chore("feed batches", every=1, begin=_feed_batches, again=0.4),
    Chore("ask agent servers which threads wait", every=2, begin=_look_at_agent_servers, again=0.5),
    Chore("keep why runs need somebody", every=10, begin=_keep_causes, again=1),
    Chore("compare runs with Temporal", every=5, begin=_compare_with_temporal, again=1),
)
